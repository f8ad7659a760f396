import { describe, expect, it } from "vitest";

import { mergeReports } from "../../bench/merge.js";
import { sampleReport } from "../support/bench-report.js";

const sample = sampleReport({ models: ["7b"], isas: ["avx2"], tokens: [1], ops: ["add"] });
const [one, two] = sample.results as [(typeof sample.results)[0], (typeof sample.results)[0]];

describe("mergeReports", () => {
  it("of what was measured twice the later figure, of the limits the best", () => {
    const first = { ...sample, results: [one, two], command: "first" };
    const second = {
      ...sample,
      results: [{ ...two, value: 2 * two.value }],
      command: "second",
      date: "2026-03-15T00:00:00.000Z",
      limits: { ...sample.limits, readGBs: 40, copyGBs: 1, dpbusdGops: null },
    };
    const merged = mergeReports([first, second]);
    expect(merged.results).toEqual([one, second.results[0]]);
    expect(merged.limits).toEqual({ ...sample.limits, readGBs: 40 });
    expect(merged).toMatchObject({ command: "first\nsecond", commit: sample.commit, date: second.date });
    expect(merged.ratios).toEqual(sample.ratios);
  });

  it("names each command and commit once", () => {
    const other = { ...sample, commit: "feedface" };
    expect(mergeReports([sample, other, sample])).toMatchObject({
      command: sample.command,
      commit: `${sample.commit}, feedface`,
    });
  });

  it("one report alone stays as it is", () => {
    expect(mergeReports([sample])).toBe(sample);
  });

  it("refuses reports of two machines", () => {
    const other = { ...sample, machine: { ...sample.machine, cores: 64 } };
    expect(() => mergeReports([sample, other])).toThrow(
      expect.objectContaining({
        code: "ERR_CRIA_ARGUMENT",
        message:
          'from: must be reports of one machine, AMD EPYC 9R14 (Zen 4), 2 cores, not "AMD EPYC 9R14 (Zen 4), 64 cores"',
      }),
    );
  });
});
