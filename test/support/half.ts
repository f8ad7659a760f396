/** The value of binary16 bits (IEEE 754-2019, §3.4). */
export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = (bits & 0x3ff) / 1024;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * 2 ** -14 * fraction : sign * 2 ** (exponent - 15) * (1 + fraction);
}

/** Every finite binary16 of a positive sign is its bits' place in this order, and so is infinity. */
const magnitudes = Float64Array.from({ length: 0x7c01 }, (_, bits) => fromHalf(bits));

/** The bits of the binary16 nearest to `x`, ties to even; beyond the largest by half a step or more, infinity. */
export function toHalf(x: number): number {
  const sign = Object.is(Math.sign(x), -0) || x < 0 ? 0x8000 : 0;
  const size = Math.abs(x);
  let below = 0;
  for (let step = 0x4000; step > 0; step >>= 1) {
    if (below + step < 0x7c00 && magnitudes[below + step]! <= size) below += step;
  }
  const next = below === 0x7bff ? 65536 : magnitudes[below + 1]!;
  const middle = (magnitudes[below]! + next) / 2;
  return sign | (size > middle || (size === middle && below % 2 === 1) ? below + 1 : below);
}

/** The bits of the bfloat16 nearest to a finite `x`, ties to even: the upper half of its float32. */
export function toBrainHalf(x: number): number {
  const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
