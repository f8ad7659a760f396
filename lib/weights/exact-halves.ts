import type { SafetensorsType } from "./safetensors.js";

/**
 * Elements of type F16, BF16 or F32 as binary16s, at the beginning of whose bytes they stand: undefined where one of
 * them is not finite, or would be rounded.
 */
export function halvesOf(bytes: Uint8Array, dtype: SafetensorsType): Uint16Array | undefined {
  const { buffer, byteOffset, byteLength } = bytes;
  if (dtype === "F16") return new Uint16Array(buffer, byteOffset, byteLength / 2);
  const floats = dtype === "F32" ? new Float32Array(buffer, byteOffset, byteLength / 4) : widened(bytes);
  return floats.every(isHalf) ? Uint16Array.from(floats, halfOf) : undefined;
}

/** bfloat16s are the upper halves of float32s. */
function widened({ buffer, byteOffset, byteLength }: Uint8Array): Float32Array {
  const uppers = new Uint16Array(buffer, byteOffset, byteLength / 2);
  return new Float32Array(Uint32Array.from(uppers, (bits) => bits << 16).buffer);
}

/** Whether binary16 has a float32: it has 11 bits, the last of at least 2^-24. */
const isHalf = (x: number) => Math.abs(x) <= 65_504 && Number.isInteger(x * 2 ** 24) && isElevenBits(x);

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

const bitsOf = (x: number): number => {
  scratch[0] = x;
  return scratchBits[0]!;
};

const isElevenBits = (x: number): boolean => (bitsOf(x) & 0x1fff) === 0;

/** 2^-14, binary16's smallest normal number. */
const leastNormal = 2 ** -14;

/** What the exponents of the two differ by, 127 - 15, in binary16's place. */
const rebias = 112 << 10;

/** The bits of a float32 that binary16 has. Below its normal numbers a binary16's bits count steps of 2^-24. */
function halfOf(x: number): number {
  const sign = (bitsOf(x) >>> 16) & 0x8000;
  const size = Math.abs(x);
  return sign | (size < leastNormal ? size * 2 ** 24 : (bitsOf(size) >>> 13) - rebias);
}
