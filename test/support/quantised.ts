/** GGML's blocks (ggml-common.h) to values, exactly: a second reading of the formats, beside csrc/core/decode.cc. */
import { type QuantisedType, type WeightType, weightFormats } from "../../lib/weights/source.js";
import { fromHalf } from "./half.js";

export const isQuantised = (type: WeightType): type is QuantisedType => weightFormats[type].block > 1;

/** The value of each binary16: a table, for decoding is most of the reference's time. */
export const halves = Float64Array.from({ length: 65_536 }, (_, bits) => fromHalf(bits));

export const halfAt = (bytes: Uint8Array, at: number) => halves[bytes[at]! | (bytes[at + 1]! << 8)]!;

/** Where a block has its binary16s: the scale, and the minimum if there is one. */
export const halvesOf: Readonly<Record<QuantisedType, readonly number[]>> = {
  q8_0: [0],
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q2_K: [80, 82],
  q3_K: [108],
  q4_K: [0, 2],
  q5_K: [0, 2],
  q6_K: [208],
  iq4_nl: [0],
  q4_z: [0, 2],
};

const nlValues = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** The value of weight `k` of the block at `at`. */
type Weight = (bytes: Uint8Array, at: number, k: number) => number;

const signed = (byte: number) => (byte << 24) >> 24;

/** Of a block of 32 whose nibbles begin at `at`: weight k in the low one of byte k, weight k + 16 in the high one. */
const nibble = (bytes: Uint8Array, at: number, k: number) => (bytes[at + (k % 16)]! >> (k < 16 ? 0 : 4)) & 15;

/** Bit k of the 32-bit word at `at`. */
const fifth = (bytes: Uint8Array, at: number, k: number) => ((bytes[at + (k >> 3)]! >> (k & 7)) & 1) << 4;

/** Of a block of 256 whose 64 bytes of bit pairs begin at `at`. */
const pair = (bytes: Uint8Array, at: number, k: number) =>
  (bytes[at + 32 * (k >> 7) + (k & 31)]! >> (2 * ((k >> 5) & 3))) & 3;

/** Of a block of 256 whose 32 bytes, a bit for each of 8 groups of 32, begin at `at`. */
const groupBit = (bytes: Uint8Array, at: number, k: number) => (bytes[at + (k & 31)]! >> (k >> 5)) & 1;

/** Scale and minimum, of 6 bits each, of group `j` of 32, from the 12 bytes at `at`. */
function sixBits(bytes: Uint8Array, at: number, j: number): [scale: number, minimum: number] {
  const b = (i: number) => bytes[at + i]!;
  if (j < 4) return [b(j) & 63, b(j + 4) & 63];
  return [(b(j + 4) & 15) | ((b(j - 4) >> 6) << 4), (b(j + 4) >> 4) | ((b(j) >> 6) << 4)];
}

/** Of Q4_K and Q5_K, whose quant is given. */
function affine(bytes: Uint8Array, at: number, k: number, quant: number): number {
  const [scale, minimum] = sixBits(bytes, at + 4, k >> 5);
  return halfAt(bytes, at) * scale * quant - halfAt(bytes, at + 2) * minimum;
}

const groupNibble = (bytes: Uint8Array, at: number, k: number) =>
  (bytes[at + 32 * (k >> 6) + (k & 31)]! >> (4 * ((k >> 5) & 1))) & 15;

const weights: Readonly<Record<QuantisedType, { block: number; bytes: number; weight: Weight }>> = {
  q4_0: { block: 32, bytes: 18, weight: (b, at, k) => halfAt(b, at) * (nibble(b, at + 2, k) - 8) },
  q4_1: { block: 32, bytes: 20, weight: (b, at, k) => halfAt(b, at) * nibble(b, at + 4, k) + halfAt(b, at + 2) },
  q5_0: {
    block: 32,
    bytes: 22,
    weight: (b, at, k) => halfAt(b, at) * ((nibble(b, at + 6, k) | fifth(b, at + 2, k)) - 16),
  },
  q5_1: {
    block: 32,
    bytes: 24,
    weight: (b, at, k) => halfAt(b, at) * (nibble(b, at + 8, k) | fifth(b, at + 4, k)) + halfAt(b, at + 2),
  },
  q8_0: { block: 32, bytes: 34, weight: (b, at, k) => halfAt(b, at) * signed(b[at + 2 + k]!) },
  iq4_nl: { block: 32, bytes: 18, weight: (b, at, k) => halfAt(b, at) * nlValues[nibble(b, at + 2, k)]! },
  q4_z: { block: 32, bytes: 20, weight: (b, at, k) => halfAt(b, at) * (nibble(b, at + 4, k) - halfAt(b, at + 2)) },
  q2_K: {
    block: 256,
    bytes: 84,
    weight(b, at, k) {
      const scales = b[at + (k >> 4)]!;
      return halfAt(b, at + 80) * (scales & 15) * pair(b, at + 16, k) - halfAt(b, at + 82) * (scales >> 4);
    },
  },
  q3_K: {
    block: 256,
    bytes: 110,
    weight(b, at, k) {
      const j = k >> 4;
      const low = (b[at + 96 + (j & 7)]! >> (j < 8 ? 0 : 4)) & 15;
      const high = (b[at + 104 + (j & 3)]! >> (2 * (j >> 2))) & 3;
      const quant = pair(b, at + 32, k) - (groupBit(b, at, k) === 1 ? 0 : 4);
      return halfAt(b, at + 108) * ((low | (high << 4)) - 32) * quant;
    },
  },
  q4_K: { block: 256, bytes: 144, weight: (b, at, k) => affine(b, at, k, groupNibble(b, at + 16, k)) },
  q5_K: {
    block: 256,
    bytes: 176,
    weight: (b, at, k) => affine(b, at, k, groupNibble(b, at + 48, k) | (groupBit(b, at + 16, k) << 4)),
  },
  q6_K: {
    block: 256,
    bytes: 210,
    weight(b, at, k) {
      const low = (b[at + 64 * (k >> 7) + (k & 63)]! >> (4 * ((k >> 6) & 1))) & 15;
      const quant = (low | (pair(b, at + 128, k) << 4)) - 32;
      return halfAt(b, at + 208) * signed(b[at + 192 + (k >> 4)]!) * quant;
    },
  },
};

/** As many weights as `out` has room for. */
export function decodeQuantised(type: QuantisedType, bytes: Uint8Array, out: Float64Array): void {
  const { block, bytes: blockBytes, weight } = weights[type];
  for (let i = 0, at = 0; i < out.length; i += block, at += blockBytes) {
    for (let k = 0; k < block; k++) out[i + k] = weight(bytes, at, k);
  }
}
