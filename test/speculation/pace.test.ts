import { describe, expect, test } from "vitest";

import { Xoshiro128 } from "../../lib/random.js";
import { Pace } from "../../lib/speculation/pace.js";

/** A model and a text: what steps cost, and how often a guess is right, each by itself. */
interface World {
  plainMs: number;
  extraMs: number;
  share: number;
}

/** Runs steps. Returns what was proposed in each, and the tokens and the time of all. */
function run(pace: Pace, { plainMs, extraMs, share }: World, steps: number, random = Xoshiro128.fromSeed(1)) {
  const proposals: number[] = [];
  let [tokens, ms] = [0, 0];
  for (let i = 0; i < steps; i++) {
    const proposed = pace.next();
    let accepted = 0;
    while (accepted < proposed && random.next() / 2 ** 32 < share) accepted++;
    const step = { proposed, accepted, ms: plainMs + proposed * extraMs };
    pace.record(step);
    proposals.push(proposed);
    tokens += accepted + 1;
    ms += step.ms;
  }
  return { proposals, msPerToken: ms / tokens };
}

const mean = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length;

describe("the pace of speculation", () => {
  test("knows a plain step's time before it proposes", () => {
    const pace = new Pace(15, true);
    expect(pace.next()).toBe(0);
    pace.record({ proposed: 0, accepted: 0, ms: 10 });
    expect(pace.next()).toBe(3);
  });

  test("proposes all that it may where all are right and cost little", () => {
    const { proposals, msPerToken } = run(new Pace(15, true), { plainMs: 10, extraMs: 0.5, share: 1 }, 200);
    expect(Math.max(...proposals)).toBe(15);
    expect(msPerToken).toBeLessThan(10 / 6);
  });

  test("keeps on measuring plain steps", () => {
    const { proposals } = run(new Pace(15, true), { plainMs: 10, extraMs: 0.5, share: 1 }, 200);
    const plain = proposals.filter((count) => count === 0).length;
    expect(plain).toBeGreaterThanOrEqual(5);
    expect(plain).toBeLessThanOrEqual(8);
  });

  test("proposes fewer where they cost more or are right less often", () => {
    const lengths = (world: World) => mean(run(new Pace(15, true), world, 400).proposals.slice(50));
    const [cheap, dear] = [0.5, 3].map((extraMs) => lengths({ plainMs: 10, extraMs, share: 0.8 }));
    expect(dear).toBeGreaterThan(0.5);
    expect(dear).toBeLessThan(cheap! - 1);
    expect(lengths({ plainMs: 10, extraMs: 1, share: 0.6 })).toBeLessThan(
      lengths({ plainMs: 10, extraMs: 1, share: 0.95 }),
    );
  });

  test.for([
    ["nothing is right", { plainMs: 10, extraMs: 1, share: 0 }],
    ["guessing costs as much as choosing", { plainMs: 10, extraMs: 12, share: 0.9 }],
  ] as const)("is off, but for a trial now and then, where %s", ([, world]) => {
    const pace = new Pace(15, true);
    const { proposals, msPerToken } = run(pace, world, 1000);
    expect(pace.off).toBeGreaterThanOrEqual(3);
    expect(pace.off).toBeLessThanOrEqual(8);
    expect(proposals.slice(500).filter((count) => count > 0).length).toBeLessThanOrEqual(25);
    expect(msPerToken).toBeLessThan(10 * 1.15);
  });

  test("comes back when the text comes to what can be guessed", () => {
    const pace = new Pace(15, true);
    run(pace, { plainMs: 10, extraMs: 1, share: 0 }, 500);
    const { proposals } = run(pace, { plainMs: 10, extraMs: 1, share: 0.98 }, 400);
    expect(mean(proposals.slice(300))).toBeGreaterThan(5);
  });

  test("is not misled by steps in which something else took the time", () => {
    const pace = new Pace(15, true);
    const lengths: number[] = [];
    for (let i = 0; i < 300; i++) {
      const proposed = pace.next();
      pace.record({ proposed, accepted: proposed, ms: 10 + proposed + (i % 5 === 4 ? 200 : 0) });
      lengths.push(proposed);
    }
    expect(pace.off).toBe(0);
    expect(mean(lengths.slice(50))).toBeGreaterThan(12);
  });

  test("proposes in every step what it is told to where it does not adapt", () => {
    const pace = new Pace(4, false);
    expect(new Set(run(pace, { plainMs: 10, extraMs: 100, share: 0 }, 100).proposals)).toEqual(new Set([4]));
    expect(pace.off).toBe(0);
  });
});
