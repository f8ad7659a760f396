import { describe, expect, test } from "vitest";

import { Xoshiro128 } from "../../lib/random.js";
import { type Distribution, Sampler } from "../../lib/sampling/sampler.js";
import { acceptOrReplace, residual } from "../../lib/speculation/acceptance.js";
import { chiSquare } from "../support/chi-square.js";

const distribution = (probabilities: Record<number, number>): Distribution => ({
  ids: Int32Array.from(Object.keys(probabilities), Number),
  probabilities: Float64Array.from(Object.values(probabilities)),
});

const entries = ({ ids, probabilities }: Distribution) =>
  new Map(Array.from(ids, (id, i) => [String(id), probabilities[i]!]));

/** Random, some of the tokens without a share. */
function randomDistribution(random: Xoshiro128, tokens: number): Distribution {
  const ids = Array.from({ length: tokens }, (_, id) => id).filter((id) => id === 0 || random.next() % 4 > 0);
  const weights = ids.map(() => (random.next() / 2 ** 32) ** 3 + 1e-3);
  const sum = weights.reduce((a, b) => a + b);
  return { ids: Int32Array.from(ids.reverse()), probabilities: Float64Array.from(weights, (weight) => weight / sum) };
}

/** How often each token comes, and how often the one that was drawn. */
function choose(p: Distribution, q: Distribution, draws: number) {
  const [drafting, choosing] = [new Sampler({ seed: 1 }), new Sampler({ seed: 2 })];
  const counts = new Map<string, number>();
  let accepted = 0;
  for (let i = 0; i < draws; i++) {
    const drawn = drafting.draw(q);
    const token = acceptOrReplace(p, q, drawn, choosing);
    accepted += Number(token === drawn);
    counts.set(String(token), (counts.get(String(token)) ?? 0) + 1);
  }
  return { counts, accepted };
}

describe("speculative sampling", () => {
  const cases: [name: string, p: Distribution, q: Distribution][] = [
    ["alike", distribution({ 0: 0.5, 1: 0.3, 2: 0.2 }), distribution({ 0: 0.4, 1: 0.4, 2: 0.2 })],
    ["the same", distribution({ 0: 0.5, 1: 0.5 }), distribution({ 0: 0.5, 1: 0.5 })],
    ["of different tokens", distribution({ 0: 0.7, 1: 0.3 }), distribution({ 2: 0.6, 3: 0.4 })],
    ["sure of a token that the other hardly has", distribution({ 0: 0.05, 1: 0.95 }), distribution({ 0: 1 })],
    ["sure where the other is not", distribution({ 0: 1 }), distribution({ 0: 0.2, 1: 0.8 })],
  ];
  for (let seed = 0; seed < 8; seed++) {
    const random = Xoshiro128.fromSeed(seed);
    cases.push([`random ${seed}`, randomDistribution(random, 9), randomDistribution(random, 9)]);
  }

  test.for(cases)("gives p from draws of q: %s", ([, p, q]) => {
    const draws = 20_000;
    const { counts, accepted } = choose(p, q, draws);
    for (const token of counts.keys()) expect([...entries(p).keys()]).toContain(token);
    if (p.ids.length > 1) {
      const { statistic, limit } = chiSquare(counts, entries(p));
      expect(statistic).toBeLessThan(limit);
    }
    // Leviathan et al. 2023, corollary 3.6: Σ min(p, q) of the draws are accepted.
    const share = [...entries(p)].reduce(
      (sum, [token, weight]) => sum + Math.min(weight, entries(q).get(token) ?? 0),
      0,
    );
    expect(Math.abs(accepted / draws - share)).toBeLessThan(4 * Math.sqrt(0.25 / draws));
  });

  test("the chi-square would tell q from p", () => {
    const [, p, q] = cases[0]!;
    const sampler = new Sampler({ seed: 3 });
    const counts = new Map<string, number>();
    for (let i = 0; i < 20_000; i++) {
      const token = String(sampler.draw(q));
      counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    const { statistic, limit } = chiSquare(counts, entries(p));
    expect(statistic).toBeGreaterThan(limit);
  });

  test("what is left is where p exceeds q", () => {
    const left = residual(distribution({ 3: 0.5, 1: 0.3, 7: 0.2 }), distribution({ 1: 0.6, 3: 0.1, 9: 0.3 }));
    expect([...left.ids].map((id, i) => [id, left.probabilities[i]])).toEqual([
      [1, 0],
      [3, 0.4],
      [7, 0.2],
    ]);
  });

  test("of p = q, where only rounding refuses, p is left", () => {
    const p = distribution({ 0: 0.25, 1: 0.75 });
    expect(residual(p, distribution({ 0: 0.25, 1: 0.75 }))).toEqual(p);
  });
});
