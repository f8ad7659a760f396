import type { FloatType } from "./source.js";

/** Weights as a file has them: each rounded to the nearest of the type, ties to the even one. */
export function encodeFloats(type: FloatType, floats: Float32Array): Uint8Array {
  if (type === "f32") return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  const bits = new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
  const encoded = new Uint16Array(floats.length);
  const encode = type === "f16" ? halfOf : brainHalfOf;
  for (let i = 0; i < bits.length; i++) encoded[i] = encode(bits[i]!);
  return new Uint8Array(encoded.buffer);
}

const infinity = 0x7f800000;

/** A binary32's bits as bfloat16's: its upper half. */
function brainHalfOf(bits: number): number {
  if ((bits & 0x7fffffff) > infinity) return (bits >>> 16) | 0x40;
  // What is added carries into the upper half where the lower one is above its middle, or on it and the upper one odd.
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** Halfway from binary16's largest to what would follow it: from there on all is infinite. */
const halfOverflow = 0x477ff000;

/** 2^-14, binary16's smallest normal number. */
const halfNormal = 0x38800000;

/** What the exponents of the two differ by, 127 - 15, in binary32's place. */
const rebias = 112 << 23;

const scratch = new Float32Array(1);
const scratchBits = new Uint32Array(scratch.buffer);

/** A binary32's bits as binary16's. */
function halfOf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > infinity) return sign | 0x7e00;
  if (magnitude >= halfOverflow) return sign | 0x7c00;
  if (magnitude >= halfNormal) return sign | ((magnitude - rebias + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  // Beside 1/2, binary32's steps are of 2^-24, as binary16's are below its smallest normal number.
  scratchBits[0] = magnitude;
  scratch[0]! += 0.5;
  return sign | (scratchBits[0]! - 0x3f000000);
}
