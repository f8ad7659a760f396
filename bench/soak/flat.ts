import { median } from "../statistics.js";
import { type Allowance, type Amounts, allowanceOf } from "./resources.js";

/** One amount over a soak, and whether it is flat. */
export interface Verdict extends Allowance {
  readonly name: string;
  readonly flat: boolean;
  /** Over the second half, by {@link growth}. */
  readonly growth: number;
  /** In the order in which stock was taken. */
  readonly samples: readonly number[];
}

/** Fewer would leave a third without a sample to take a median of beside one that is disturbed. */
const leastSamples = 12;

/**
 * How much a series grows over its second half, by the slope of Tukey's resistant line (1977, "Exploratory data analysis",
 * §5): through the medians of the half's outer thirds, which a few disturbed samples, the last one among them, do not move.
 * The first half is left out: pools, caches and compiled code fill while it lasts.
 */
export function growth(series: readonly number[]): number {
  if (series.length < leastSamples)
    throw new RangeError(`samples: must be ${leastSamples} or more, not ${series.length}`);
  const half = series.slice(Math.floor(series.length / 2));
  const third = Math.floor(half.length / 3);
  const rise = median(half.slice(-third)) - median(half.slice(0, third));
  // The thirds' middles are this far apart, in samples.
  return (rise / (half.length - third)) * (half.length - 1);
}

/** Of each amount that stock was taken of. One that falls is no leak. */
export function judge(stocks: readonly Amounts[]): Verdict[] {
  return Object.keys(stocks[0]!).map((name) => {
    const samples = stocks.map((stock) => stock[name]!);
    const allowance = allowanceOf(name);
    const grown = growth(samples);
    return { name, ...allowance, flat: grown <= allowance.allowed, growth: grown, samples };
  });
}
