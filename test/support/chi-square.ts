/**
 * Whether counts can be those of draws with these probabilities: Pearson's statistic, against the value that chance
 * exceeds once in some 30,000 times (mean + 4 deviations of the normal distribution, by Wilson and Hilferty's
 * approximation). Outcomes that are expected fewer than 5 times count as one.
 */
export function chiSquare(
  counts: ReadonlyMap<string, number>,
  probabilities: ReadonlyMap<string, number>,
): { statistic: number; limit: number } {
  const draws = [...counts.values()].reduce((sum, count) => sum + count, 0);
  let [statistic, cells, rare, rareExpected] = [0, 0, draws, draws];
  for (const [outcome, probability] of probabilities) {
    const expected = probability * draws;
    if (!(expected >= 5)) continue;
    const count = counts.get(outcome) ?? 0;
    statistic += (count - expected) ** 2 / expected;
    cells += 1;
    rare -= count;
    rareExpected -= expected;
  }
  if (rareExpected >= 5) {
    statistic += (rare - rareExpected) ** 2 / rareExpected;
    cells += 1;
  } else if (rare > rareExpected + 20) {
    statistic = Number.POSITIVE_INFINITY; // what can hardly be came often
  }
  const freedom = cells - 1;
  const limit = freedom * (1 - 2 / (9 * freedom) + 4 * Math.sqrt(2 / (9 * freedom))) ** 3;
  return { statistic, limit };
}
