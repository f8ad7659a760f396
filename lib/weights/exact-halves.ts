import { encodeFloats } from "./encode.js";
import type { SafetensorsType } from "./safetensors.js";

/**
 * Elements of type F16, BF16 or F32 as binary16s, at the beginning of whose bytes they stand: undefined where one of them
 * is not finite, or would be rounded.
 */
export function halvesOf(bytes: Uint8Array, dtype: SafetensorsType): Uint16Array | undefined {
  const { buffer, byteOffset, byteLength } = bytes;
  if (dtype === "F16") return new Uint16Array(buffer, byteOffset, byteLength / 2);
  const floats = dtype === "F32" ? new Float32Array(buffer, byteOffset, byteLength / 4) : widened(bytes);
  return floats.every(isHalf) ? new Uint16Array(encodeFloats("f16", floats).buffer) : undefined;
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

function isElevenBits(x: number): boolean {
  scratch[0] = x;
  return (scratchBits[0]! & 0x1fff) === 0;
}
