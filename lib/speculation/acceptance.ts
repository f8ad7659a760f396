import type { Distribution, Sampler } from "../sampling/sampler.js";

/**
 * Speculative sampling of one token (Leviathan et al. 2023, algorithm 1; Chen et al. 2023, algorithm 2): the token that
 * was drawn from q is taken with probability min(1, p / q), and otherwise another is drawn from max(0, p - q), so that
 * what comes has the distribution p.
 *
 * @param p what to choose from; may be a view of the sampler's memory
 * @param q what `token` was drawn from: with random numbers that are not the sampler's
 * @returns `token`, or another in its place
 */
export function acceptOrReplace(
  p: Distribution,
  q: Distribution,
  token: number,
  sampler: Pick<Sampler, "draw" | "random">,
): number {
  if (sampler.random() * probability(q, token) < probability(p, token)) return token;
  return sampler.draw(residual(p, q));
}

/** max(0, p - q), but for its sum. */
export function residual(p: Distribution, q: Distribution): Distribution {
  const weights = new Map<number, number>();
  for (let i = 0; i < q.ids.length; i++) weights.set(q.ids[i]!, q.probabilities[i]!);
  const probabilities = p.probabilities.map((weight, i) => Math.max(0, weight - (weights.get(p.ids[i]!) ?? 0)));
  // Of p = q nothing is left, and nothing was refused but by rounding.
  return probabilities.some((weight) => weight > 0) ? { ids: p.ids, probabilities } : p;
}

function probability({ ids, probabilities }: Distribution, token: number): number {
  const at = ids.indexOf(token);
  return at < 0 ? 0 : probabilities[at]!;
}
