import fc from "fast-check";

import { Xoshiro128 } from "../../lib/random.js";

/** A function that gives random 32-bit integers: whole arrays of them cost fast-check too much time. */
export type Random = () => number;

export const random: fc.Arbitrary<Random> = fc.integer().map((seed) => {
  const generator = Xoshiro128.fromSeed(seed >>> 0);
  return () => generator.next();
});

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** A finite float32: most of everyday size, the rest zeros of both signs, subnormals and 2^-60 to 2^20. */
function awkward(next: Random): number {
  const kind = next() % 20;
  const sign = (next() & 1) << 31;
  const fraction = next() >>> 9;
  const exponent = 67 + (next() % 80);
  if (kind > 3) return Math.fround(next() / 2 ** 30 - 2);
  bits[0] = kind === 0 ? sign : kind === 1 ? sign | fraction : sign | (exponent << 23) | fraction;
  return float[0]!;
}

/** `n` finite values of awkward magnitudes. Their squares are finite too, and so are the sums of many. */
export const floats = (n: number): fc.Arbitrary<Float32Array> => random.map((next) => randomFloats(n, next));

export const randomFloats = (n: number, next: Random): Float32Array =>
  Float32Array.from({ length: n }, () => awkward(next));

/** `n` values from -1 to 1, evenly spread. */
export const unitFloats = (n: number): fc.Arbitrary<Float32Array> =>
  random.map((next) => Float32Array.from({ length: n }, () => next() / 2 ** 31 - 1));

/** A finite binary16, of any magnitude, as bits. */
export function randomHalf(next: Random): number {
  const half = next() & 0xffff;
  return (half & 0x7c00) === 0x7c00 ? half & ~0x4000 : half;
}
