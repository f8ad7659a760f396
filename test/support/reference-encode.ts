/**
 * How GGML chooses scales (ggml-quants.c, quantize_row_*_ref, and for IQ4_NL quantize_row_iq4_nl_impl, all without an
 * importance matrix), as formulas: what our encoder's errors are held against. Scales are rounded to binary16 where the
 * formats keep them so; all else is in float64.
 *
 *     q8_0        d = max|x| / 127
 *     q4_0 q5_0   d = x* / -8, x* / -16, x* being the weight of the largest magnitude
 *     q4_1 q5_1   m = min, d = (max - m) / 15, 31
 *     iq4_nl      d is the best of some around x* / -127, by errors weighed with x^2; then a regression
 *     q6_K        16 scales, found as iq4_nl's, in 8 bits of the largest / -128
 *     q3_K        16 scales: quants by x* / -4, then each weight's quant moved while the fit, by x^2, gains; in 6 bits
 *     q4_K q5_K   8 lines, the best of some around (max - min) / 15, 31, by errors weighed with rms + |x|; in 6 bits each
 *     q2_K        16 lines, as those, by absolute errors weighed with |x|; in 4 bits each
 */
import type { QuantisedType } from "../../lib/weights/source.js";
import { fromHalf, toHalf } from "./half.js";

type Numbers = Float64Array | Float32Array;

const half = (x: number) => fromHalf(toHalf(x));
const clamp = (x: number, low: number, high: number) => Math.min(high, Math.max(low, x));

/** To the nearest whole number, ties to even. */
function nearest(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

/** The first weight of the largest magnitude. */
const extremeOf = (x: Numbers) =>
  Array.from(x).reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);

const sumOf = (count: number, term: (i: number) => number) => {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += term(i);
  return sum;
};

/** What blocks of one type become: the weights that their bytes stand for. */
type Reference = (x: Numbers, out: Numbers) => void;

const centred =
  (most: number): Reference =>
  (x, out) => {
    const scale = extremeOf(x) / -most;
    const stored = half(scale);
    // Halves go up here, not to even.
    x.forEach((value, i) => {
      const quant = scale === 0 ? 0 : clamp(Math.floor(value / scale + most + 0.5), 0, 2 * most - 1) - most;
      out[i] = stored * quant;
    });
  };

const between =
  (most: number): Reference =>
  (x, out) => {
    const [least, greatest] = [Math.min(...x), Math.max(...x)];
    const scale = (greatest - least) / most;
    x.forEach((value, i) => {
      const quant = scale === 0 ? 0 : clamp(Math.floor((value - least) / scale + 0.5), 0, most);
      out[i] = half(scale) * quant + half(least);
    });
  };

const bytes: Reference = (x, out) => {
  const scale = Math.abs(extremeOf(x)) / 127;
  x.forEach((value, i) => {
    out[i] = half(scale) * (scale === 0 ? 0 : Math.sign(value) * Math.floor(Math.abs(value / scale) + 0.5));
  });
};

/** The regression's scale of quants, by errors weighed with x^2, and how much it gains. */
function weighed(x: Numbers, quant: (value: number) => number) {
  const products = sumOf(x.length, (i) => x[i]! ** 3 * quant(x[i]!));
  const squares = sumOf(x.length, (i) => x[i]! ** 2 * quant(x[i]!) ** 2);
  const scale = squares > 0 ? products / squares : 0;
  return { scale, gain: scale * products };
}

/** The best of scales in steps of `step` to both sides of the one that makes the extreme weight `low`. */
function searched(x: Numbers, low: number, step: number, tries: number, quant: (value: number) => number): number {
  const extreme = extremeOf(x);
  if (Math.abs(extreme) < 1e-15) return 0;
  let best = { scale: 0, gain: -1 };
  for (const i of [0, ...Array.from({ length: 2 * tries + 1 }, (_, k) => k - tries)]) {
    const found = weighed(x, (value) => quant(((low + step * i) / extreme) * value));
    if (found.gain > best.gain) best = found;
  }
  return best.scale;
}

const steps = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
const nearestStep = (x: number) =>
  steps.reduce((best, step) => (Math.abs(step - x) < Math.abs(best - x) ? step : best));

const unevenSteps: Reference = (x, out) => {
  const scale = searched(x, steps[0]!, 1, 7, nearestStep);
  x.forEach((value, i) => {
    out[i] = half(scale) * (scale === 0 ? 0 : nearestStep(value / scale));
  });
};

/** Quants from -most on, each moved to where the others would have it while that gains, five times round at most. */
function moved(x: Numbers, most: number): number {
  const extreme = extremeOf(x);
  if (Math.abs(extreme) < 1e-15) return 0;
  const quants = Array.from(x, (value) => clamp(nearest((-most / extreme) * value), -most, most - 1));
  let products = sumOf(x.length, (i) => x[i]! ** 3 * quants[i]!);
  let squares = sumOf(x.length, (i) => x[i]! ** 2 * quants[i]! ** 2);
  for (let round = 0, changed = true; round < 5 && changed; round++) {
    changed = false;
    x.forEach((value, i) => {
      const weight = value ** 2;
      const product = products - weight * value * quants[i]!;
      const square = squares - weight * quants[i]! ** 2;
      if (!(product > 0)) return;
      const quant = clamp(nearest((value * square) / product), -most, most - 1);
      const [newProducts, newSquares] = [product + weight * value * quant, square + weight * quant ** 2];
      if (quant === quants[i] || !(newSquares > 0)) return;
      if (!(newProducts ** 2 * squares > products ** 2 * newSquares)) return;
      [quants[i], products, squares, changed] = [quant, newProducts, newSquares, true];
    });
  }
  return products / squares;
}

const groupsOf = (x: Numbers, size: number) =>
  Array.from({ length: x.length / size }, (_, group) => x.subarray(group * size, (group + 1) * size));

/** 16 scales that are whole numbers from `lowest` on, times one. */
const scaled =
  (most: number, lowest: number, scaleOf: (x: Numbers) => number): Reference =>
  (x, out) => {
    const groups = groupsOf(x, 16);
    const scales = groups.map(scaleOf);
    const block = half(extremeOf(Float64Array.from(scales)) / lowest);
    groups.forEach((group, j) => {
      const scale = block === 0 ? 0 : block * clamp(nearest(scales[j]! / block), lowest, -lowest - 1);
      group.forEach((value, i) => {
        out[16 * j + i] = scale === 0 ? 0 : scale * clamp(nearest(value / scale), -most, most - 1);
      });
    });
  };

interface Search {
  most: number;
  first: number;
  tries: number;
  weigh: (x: Numbers) => (value: number) => number;
  error: (difference: number) => number;
}

/** The line, x being about scale q - minimum, that the weighed errors are least of. */
function lineOf(x: Numbers, { most, first, tries, weigh, error }: Search): { scale: number; minimum: number } {
  const least = Math.min(0, ...x);
  const range = Math.max(...x) - least;
  if (range === 0) return { scale: 0, minimum: -least };
  const weights = Float64Array.from(x, weigh(x));
  const total = (term: (i: number) => number) => sumOf(x.length, (i) => weights[i]! * term(i));
  const quantsOf = (inverse: number) => Float64Array.from(x, (v) => clamp(nearest(inverse * (v - least)), 0, most));
  const errorOf = (q: Numbers, scale: number, low: number) => total((i) => error(scale * q[i]! + low - x[i]!));

  let best = { scale: range / most, low: least };
  let bestError = errorOf(quantsOf(most / range), best.scale, best.low);
  const [weight, sum] = [total(() => 1), total((i) => x[i]!)];
  for (let i = 0; i < tries; i++) {
    const q = quantsOf((most + first + 0.1 * i) / range);
    const [qs, squares, products] = [total((k) => q[k]!), total((k) => q[k]! ** 2), total((k) => q[k]! * x[k]!)];
    const spread = weight * squares - qs ** 2;
    if (!(spread > 0)) continue;
    let line = { scale: (weight * products - sum * qs) / spread, low: (squares * sum - qs * products) / spread };
    if (line.low > 0) line = { scale: products / squares, low: 0 };
    const found = errorOf(q, line.scale, line.low);
    if (found >= bestError) continue;
    [best, bestError] = [line, found];
  }
  return { scale: best.scale, minimum: -best.low };
}

/** Lines of groups of `size`, both numbers of which are whole numbers to `highest` times one. */
const lines =
  (size: number, highest: number, search: Search): Reference =>
  (x, out) => {
    const groups = groupsOf(x, size);
    const found = groups.map((group) => lineOf(group, search));
    const block = half(Math.max(0, ...found.map(({ scale }) => scale)) / highest);
    const minimumBlock = half(Math.max(0, ...found.map(({ minimum }) => minimum)) / highest);
    const whole = (value: number, step: number) => (step === 0 ? 0 : step * clamp(nearest(value / step), 0, highest));
    groups.forEach((group, j) => {
      const scale = whole(found[j]!.scale, block);
      const minimum = whole(found[j]!.minimum, minimumBlock);
      group.forEach((value, i) => {
        const quant = scale === 0 ? 0 : clamp(nearest((value + minimum) / scale), 0, search.most);
        out[size * j + i] = scale * quant - minimum;
      });
    });
  };

const meanAndMagnitude = (x: Numbers) => {
  const mean = Math.sqrt(sumOf(x.length, (i) => x[i]! ** 2) / x.length);
  return (value: number) => mean + Math.abs(value);
};
const square = (difference: number) => difference ** 2;

const references: Readonly<Record<QuantisedType, { block: number; encode: Reference }>> = {
  q8_0: { block: 32, encode: bytes },
  q4_0: { block: 32, encode: centred(8) },
  q4_z: { block: 32, encode: centred(8) },
  q5_0: { block: 32, encode: centred(16) },
  q4_1: { block: 32, encode: between(15) },
  q5_1: { block: 32, encode: between(31) },
  iq4_nl: { block: 32, encode: unevenSteps },
  q2_K: {
    block: 256,
    encode: lines(16, 15, { most: 3, first: -0.5, tries: 16, weigh: () => Math.abs, error: Math.abs }),
  },
  q3_K: { block: 256, encode: scaled(4, -32, (x) => moved(x, 4)) },
  q4_K: {
    block: 256,
    encode: lines(32, 63, { most: 15, first: -1, tries: 21, weigh: meanAndMagnitude, error: square }),
  },
  q5_K: {
    block: 256,
    encode: lines(32, 63, { most: 31, first: -0.5, tries: 16, weigh: meanAndMagnitude, error: square }),
  },
  q6_K: {
    block: 256,
    encode: scaled(32, -128, (x) => searched(x, -32, -0.1, 9, (value) => clamp(nearest(value), -32, 31))),
  },
};

/** What a row becomes. */
export function referenceEncode(type: QuantisedType, x: Numbers): Float64Array {
  const out = new Float64Array(x.length);
  const { block, encode } = references[type];
  for (let at = 0; at < x.length; at += block) encode(x.subarray(at, at + block), out.subarray(at, at + block));
  return out;
}
