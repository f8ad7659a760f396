import { type PackedWeights, packWeights, type WeightType } from "../../lib/kernels.js";
import { native } from "../../lib/native.js";
import { Xoshiro128 } from "../../lib/random.js";
import { weightBytes } from "../../lib/weights/source.js";

/** Random numbers in [-1, 1), the same for the same seed. */
export function randomFloats(length: number, seed = 1): Float32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Float32Array.from({ length }, () => random.next() / 2 ** 31 - 1);
}

/** The bits of random binary16s of magnitudes in [2⁻¹⁴, 2), the same for the same seed. */
export function randomHalves(length: number, seed = 1): Uint16Array {
  const random = Xoshiro128.fromSeed(seed);
  return Uint16Array.from({ length }, () => {
    const bits = random.next();
    const exponent = 1 + ((bits >>> 16) % 15);
    return (bits & 0x83ff) | (exponent << 10);
  });
}

export async function randomWeights(type: WeightType, rows: number, cols: number): Promise<PackedWeights> {
  const bytes = new ArrayBuffer(weightBytes(type, rows, cols));
  const data =
    type === "f32"
      ? new Float32Array(bytes)
      : type === "f16" || type === "bf16"
        ? new Uint16Array(bytes)
        : new Uint8Array(bytes);
  const weights = packWeights({ type, rows, cols, data });
  await native.tensorFillRandom(weights.handle, 1, 1 / Math.sqrt(cols));
  return weights;
}
