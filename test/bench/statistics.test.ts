import { describe, expect, it } from "vitest";

import { best, median, percentile, spread } from "../../bench/statistics.js";

describe("statistics", () => {
  it("of an odd and an even number of samples, in any order", () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([7])).toBe(7);
    expect(best([3, 9, 2])).toBe(9);
  });

  it("percentiles lie between the samples", () => {
    const samples = [50, 10, 30, 20, 40];
    expect(percentile(samples, 0)).toBe(10);
    expect(percentile(samples, 0.1)).toBe(14);
    expect(percentile(samples, 0.9)).toBe(46);
    expect(percentile(samples, 1)).toBe(50);
    expect(samples).toEqual([50, 10, 30, 20, 40]);
  });

  it("the spread is the middle four fifths over the median", () => {
    expect(spread([50, 10, 30, 20, 40])).toBeCloseTo((46 - 14) / 30, 12);
    expect(spread([5, 5, 5])).toBe(0);
  });

  it.each([[[]], [[1, Number.NaN]]])("refuses %j", (samples) => {
    for (const statistic of [median, spread, best]) expect(() => statistic(samples)).toThrow(RangeError);
  });
});
