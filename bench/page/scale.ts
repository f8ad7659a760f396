/** From values to places in a plot. */
export interface Scale {
  (value: number): number;
  /** Values worth a line across the plot and a number beside it. */
  readonly ticks: readonly number[];
}

export type Interval = readonly [low: number, high: number];

/** Equal ratios are equal distances. Ticks are the powers of ten, and 2 and 5 times them where those are fewer than 3. */
export function logScale([low, high]: Interval, [from, to]: Interval): Scale {
  const perUnit = (to - from) / Math.log(high / low);
  const place = (value: number) => from + perUnit * Math.log(value / low);
  const decades = [1, 2, 5].map((digit) => multiples(digit, low, high));
  const few = decades[0]!.length < 3;
  return Object.assign(place, { ticks: few ? decades.flat().sort((a, b) => a - b) : decades[0]! });
}

/** digit · 10ᵏ for all k that stay in the interval. */
function multiples(digit: number, low: number, high: number): number[] {
  const first = Math.ceil(Math.log10(low / digit) - tiny);
  const last = Math.floor(Math.log10(high / digit) + tiny);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(`${digit}e${first + i}`));
}

/** So that 0.1 and 1000 are found to be powers of ten in spite of rounding. */
const tiny = 1e-9;

/** From 0. Ticks are 3 to 6 multiples of 1, 2 or 5 times a power of ten; the scale ends at the last of them. */
export function linearScale(high: number, [from, to]: Interval): Scale {
  const decade = 10 ** Math.floor(Math.log10(high));
  const step = [0.2, 0.5, 1, 2].map((digit) => digit * decade).find((size) => high / size <= 5)!;
  const count = Math.ceil(high / step - tiny);
  const top = count * step;
  const place = (value: number) => from + ((to - from) * value) / top;
  return Object.assign(place, {
    ticks: Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12))),
  });
}

/** The interval of values, widened at both ends by a factor. */
export function widened(values: readonly number[], factor: number): Interval {
  return [Math.min(...values) / factor, Math.max(...values) * factor];
}
