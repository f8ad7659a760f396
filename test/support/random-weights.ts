import { native } from "../../lib/native.js";
import { Xoshiro128 } from "../../lib/random.js";
import { typedLlamaTensors } from "../../lib/weights/llama-tensors.js";
import {
  type LlamaConfig,
  type TensorInfo,
  type WeightType,
  weightBytes,
  weightFormats,
} from "../../lib/weights/source.js";
import type { WeightSource } from "../../lib/weights/store.js";
import type { WeightRows } from "./float64.js";
import { halvesOf, isQuantised } from "./quantised.js";

/** Random weights that the device packs and the float64 reference reads. */
export type RandomWeights = WeightSource & WeightRows;

export interface RandomOptions {
  seed: number;
  /** Of the matrices; vectors are f32. */
  type: WeightType | ((name: string) => WeightType);
  /** Without output.weight. */
  tied?: boolean;
}

/** Weights that a row's window moves in steps of: a block of the quantised formats, or as many floats. */
const granuleOf = (type: WeightType) => Math.max(32, weightFormats[type].block);

/** Windows that a row can begin at. More than a LLaMA's matrices have rows, so that none comes twice, and a prime. */
const windows = 32_771;

/** Bytes that are made and packed at a time. */
const chunkBytes = 4 << 20;

/**
 * Random weights for a LLaMA of a shape, the same for the same seed, and never in memory as a whole.
 *
 * Each row is a window into one random line of its tensor's format: row r begins at granule (start + r · step) mod 32,771,
 * start and step drawn from the seed and the tensor's name. Any two rows and any two columns of a matrix differ, so what
 * confuses them changes the result; and a row costs a copy.
 */
export function randomLlama(config: LlamaConfig, { seed, type, tied = false }: RandomOptions): RandomWeights {
  const tensors = typedLlamaTensors(config, tied, typeof type === "string" ? () => type : type);
  const lines = new Map<string, Buffer>();
  const chunk = Buffer.alloc(chunkBytes);

  const line = (info: TensorInfo) => {
    const [exponent, key] = [scaleExponent(info), `${info.type} ${scaleExponent(info)}`];
    const made = lines.get(key) ?? randomLine(info.type, exponent, config, Xoshiro128.fromSeed(seed));
    lines.set(key, made);
    return made;
  };
  const read = (name: string, row: number, rows: number) => {
    const info = tensors.get(name)!;
    const source = line(info);
    const rowBytes = weightBytes(info.type, 1, info.cols);
    const { start, step } = windowsOf(name, seed);
    for (let i = 0; i < rows; i++) {
      const at = weightBytes(info.type, (start + (row + i) * step) % windows, granuleOf(info.type));
      source.copy(chunk, i * rowBytes, at, at + rowBytes);
    }
    return chunk.subarray(0, rows * rowBytes);
  };
  return {
    tensors,
    read,
    async pack({ name, type, rows, cols }, into, row) {
      const most = Math.floor(chunkBytes / weightBytes(type, 1, cols));
      for (let from = 0; from < rows; from += most) {
        const count = Math.min(most, rows - from);
        native.tensorPack(into, row + from, count, read(name, from, count));
      }
    },
  };
}

/**
 * The exponent e of a tensor's scales or largest weights, which lie in [2^e, 2^(e+1)).
 *
 * Matrices keep the variance of what goes through them: their deviation is about 1 / √cols. The embedding's is 2^-8, so
 * that its mean square is of the size of RMSNorm's epsilon, and a wrong epsilon shows. A norm's weights are about 1.
 */
function scaleExponent({ name, type, rows, cols }: TensorInfo): number {
  if (rows === 1) return 0;
  const deviation = name === "token_embd.weight" ? 2 ** -8 : 1 / Math.sqrt(cols);
  return Math.max(-14, Math.round(Math.log2(deviation / units[type])));
}

/**
 * The root mean square of each type's weights whose scales lie in [1, 2), which themselves have 1.53. Weights of four
 * equally likely exponents, the largest 0, have 0.88. Minima are of the scales' size.
 */
const units: Readonly<Record<WeightType, number>> = {
  f16: 0.88,
  bf16: 0.88,
  f32: 0.88,
  q8_0: 113,
  q4_0: 7,
  q4_1: 14,
  q5_0: 14,
  q5_1: 28,
  iq4_nl: 103,
  q4_z: 13, // its zeros are of the scales' size, and so next to nothing beside the quants
  q2_K: 26,
  q3_K: 66,
  q4_K: 500,
  q5_K: 1000,
  q6_K: 2090,
};

/** A line of `type` that holds a window of the widest row at each of its places. */
function randomLine(type: WeightType, exponent: number, { dim, ffn }: LlamaConfig, random: Xoshiro128): Buffer {
  const granule = granuleOf(type);
  const granules = windows + Math.ceil(Math.max(dim, ffn) / granule);
  const { block, blockBytes } = weightFormats[type];
  const words = Uint32Array.from({ length: (granules * granule * blockBytes) / block / 4 + 1 }, () => random.next());
  const line = Buffer.from(words.buffer, 0, (granules * granule * blockBytes) / block);
  if (isQuantised(type)) {
    for (let at = 0; at < line.length; at += blockBytes) {
      for (const half of halvesOf[type]) setExponent(line, at + half, "f16", exponent, 0);
    }
  } else {
    for (let at = 0; at < line.length; at += blockBytes) {
      setExponent(line, at, type, exponent - (line[at]! & 3), line[at + blockBytes - 1]! & 0x80);
    }
  }
  return line;
}

/** Gives the random bits of the float at `at` an exponent, and the sign that `sign` has as its top bit. */
function setExponent(line: Buffer, at: number, type: "f32" | "f16" | "bf16", exponent: number, sign: number): void {
  const { bytes, fractionBits, bias } = floatFormats[type];
  const top = at + bytes - 2;
  const bits = ((exponent + bias) << fractionBits) | (line.readUInt16LE(top) & ((1 << fractionBits) - 1)) | (sign << 8);
  line.writeUInt16LE(bits, top);
}

/** Of each format the bytes, the bits of the fraction in the upper 16 bits, and the exponent's bias. */
const floatFormats = {
  f32: { bytes: 4, fractionBits: 7, bias: 127 },
  bf16: { bytes: 2, fractionBits: 7, bias: 127 },
  f16: { bytes: 2, fractionBits: 10, bias: 15 },
} as const;

/** Where a tensor's rows stand in the line. */
function windowsOf(name: string, seed: number): { start: number; step: number } {
  const named = [...name].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, seed);
  const random = Xoshiro128.fromSeed(named);
  return { start: random.next() % windows, step: 1 + (random.next() % (windows - 1)) };
}
