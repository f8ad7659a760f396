import { describe, expect, it } from "vitest";

import { modelsText, reportText } from "../../bench/report.js";
import { sampleReport } from "../support/bench-report.js";

const sample = sampleReport({ models: ["7b"], isas: ["avx2"], tokens: [1, 16], ops: ["add"] });
const decode = sample.results.find(({ name }) => name === "decode")!;
const textWith = (...results: object[]) =>
  reportText({ ...sample, results: results.map((result) => ({ ...decode, ...result })), ratios: [] });

describe("reportText", () => {
  it("says how far rounds lie apart, and nothing of a single one's", () => {
    expect(textWith({ spread: 0.08, samples: 4 })).toMatch(/^decode .* {2}± 4 %, 4 rounds {2}\(/m);
    expect(textWith({ spread: 0, samples: 1 })).not.toContain("±");
  });

  it("says how each figure follows from what was measured, where that is told", () => {
    const text = textWith({ model: "weights read once" }, { name: "prefix/warm", model: "a prompt" }, { name: "load" });
    expect(text).toMatch(/^decode +weights read once\nprefix\/warm +a prompt\n$/m);
  });

  it("warns of samples that spread so far that something else was measured too, and of no others", () => {
    expect(textWith({ spread: 0.2 }, { spread: 3, unit: "µs" })).not.toContain("disturbed");
    expect(textWith({ spread: 0.2 }, { spread: 0.345 })).toMatch(
      /^disturbed: +samples spread by up to 3[45] %; run again on an idle machine before trusting medians, shares or ratios\n$/m,
    );
  });
});

describe("modelsText", () => {
  it("names an op once", () => {
    const adds = sample.results.filter(({ name }) => name.startsWith("add/"));
    expect(adds.length).toBeGreaterThan(1);
    expect(modelsText(adds)).toBe(`add              ${adds[0]!.model}\n`);
  });
});
