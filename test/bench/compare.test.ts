import { describe, expect, it } from "vitest";

import { compare, compareText } from "../../bench/compare.js";
import type { Report, Result } from "../../bench/schema.js";

const result = (changes: Partial<Result> = {}): Result => ({
  name: "decode",
  by: "cria",
  isa: "avx2",
  threads: 2,
  value: 10,
  unit: "tok/s",
  limit: null,
  share: null,
  spread: 0.1,
  samples: 5,
  ...changes,
});

const report = (results: Result[]): Report => ({
  version: 1,
  date: "2026-11-22T00:00:00.000Z",
  command: "npm run bench --",
  machine: { processor: "one", cores: 2, memoryBytes: 1e9, system: "Linux", node: "v20" },
  limits: { readGBs: 1, copyGBs: 1, fmaGflops: 1, maddubsGops: null, dpbusdGops: null, bf16dotGflops: null },
  results,
});

const verdict = (old: Partial<Result>, now: Partial<Result>) =>
  compare([result(old)], [result(now)]).changes[0]!.verdict;

describe("compare", () => {
  it("a change counts that is past the spreads of both", () => {
    expect(verdict({}, { value: 11.2 })).toBe("faster");
    expect(verdict({}, { value: 10.9 })).toBe("noise");
    expect(verdict({}, { value: 8.9 })).toBe("slower");
    expect(verdict({ spread: 0.4 }, { value: 11.2 })).toBe("noise");
    expect(verdict({}, { value: 11.2, spread: 0.4 })).toBe("noise");
  });

  it("less is better of seconds and of shares of memory", () => {
    const load = { name: "load", unit: "s" } as const;
    expect(verdict(load, { ...load, value: 5 })).toBe("faster");
    expect(verdict(load, { ...load, value: 20 })).toBe("slower");
    expect(verdict({ unit: "x" }, { unit: "x", value: 20 })).toBe("slower");
  });

  it("one sample has a noise too", () => {
    expect(verdict({ spread: 0 }, { spread: 0, value: 10.1 })).toBe("noise");
    expect(verdict({ spread: 0 }, { spread: 0, value: 10.3 })).toBe("faster");
  });

  it("only what was read at the same place is the same result", () => {
    const old = [result({ at: { prompt: 128, shape: "7b" } }), result({ isa: "avx512" }), result({ by: "another" })];
    const now = [result({ at: { shape: "7b", prompt: 128 } }), result({ threads: 1 })];
    const { changes, onlyOld, onlyNew } = compare(old, now);
    expect(changes.map(({ result }) => result)).toEqual([now[0]]);
    expect(onlyOld).toEqual(old.slice(1));
    expect(onlyNew).toEqual([now[1]]);
  });

  it("what got slower comes first, and a line sums up", () => {
    const old = [result({ name: "a" }), result({ name: "b", unit: "s" }), result({ name: "c" }), result({ name: "d" })];
    const now = [
      result({ name: "a", value: 20 }),
      result({ name: "b", unit: "s", value: 40 }),
      result({ name: "c", value: 10.1 }),
      result({ name: "e" }),
    ];
    const lines = compareText("old.json", report(old), compare(old, now)).split("\n");
    expect(lines).toEqual([
      "b  10.00 → 40.00 s      × 4.000  slower            cria, avx2, 2 threads",
      "c  10.00 → 10.10 tok/s  × 1.010  within the noise  cria, avx2, 2 threads",
      "a  10.00 → 20.00 tok/s  × 2.000  faster            cria, avx2, 2 threads",
      "against old.json of 2026-11-22T00:00:00.000Z: 1 faster, 1 slower, 1 within the noise; 1 only there, 1 only here",
      "",
    ]);
  });
});
