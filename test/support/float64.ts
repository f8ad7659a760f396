import { readFileSync } from "node:fs";

import type { Rope } from "../../lib/rope-scaling.js";
import {
  type FileTensor,
  type FloatType,
  type LlamaConfig,
  type TensorInfo,
  type WeightType,
  weightBytes,
} from "../../lib/weights/source.js";
import { decodeQuantised, halves, isQuantised } from "./quantised.js";

/**
 * LLaMA's forward pass (Touvron et al. 2023, §2.2) in float64, a reference that shares nothing with the kernels: it reads
 * weights as a file lays them out, decodes each row once and exactly, and rounds nowhere unless told to.
 */
export interface Reference {
  readonly config: LlamaConfig;
  readonly weights: WeightRows;
  /**
   * "int8": what meets a quantised matrix is rounded first, as csrc/cpu/quantize.h specifies, each block of 32 to
   * multiples of a scale near max|x| / 127. What is left between the kernels and this reference is float32's rounding.
   */
  readonly activations?: "exact" | "int8";
  /** LLaMA-Adapter's prefixes, by the layer (Zhang et al. 2023, §3.2). Default: none. */
  readonly prefixes?: ReadonlyMap<number, GatedPrefix>;
  /** Only each so many-th row of the output matrix is computed, from row 0. Default: 1, all of them. */
  readonly logitStride?: number;
}

/** What keys and values that belong to no token are made of, and for each head how much of them is added. */
export interface GatedPrefix {
  readonly prompts: readonly Float64Array[];
  readonly gates: ArrayLike<number>;
}

/** Weights under GGUF's names, in GGUF's bytes. */
export interface WeightRows {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The bytes of `rows` rows of a tensor from `row` on, valid until the next call. */
  read(name: string, row: number, rows: number): Uint8Array;
}

/** The weights of a file's index. */
export function fileRows(tensors: ReadonlyMap<string, FileTensor>): WeightRows {
  const files = new Map<string, Uint8Array>();
  return {
    tensors,
    read(name, row, rows) {
      const { file, offset, type, cols } = tensors.get(name)!;
      const bytes = files.get(file) ?? readFileSync(file);
      files.set(file, bytes);
      const from = offset + weightBytes(type, row, cols);
      return bytes.subarray(from, from + weightBytes(type, rows, cols));
    },
  };
}

/** Σ(x − ref)² / Σref². NaN or an infinity in `x`, or another length, is an error: a bound must not pass it by. */
export function nmse(x: ArrayLike<number>, ref: ArrayLike<number>): number {
  if (x.length !== ref.length) throw new Error(`${x.length} values cannot be compared with ${ref.length}`);
  let error = 0;
  let power = 0;
  for (let i = 0; i < ref.length; i++) {
    error += (x[i]! - ref[i]!) ** 2;
    power += ref[i]! ** 2;
  }
  if (!Number.isFinite(error) || !(power > 0)) throw new Error(`an error of ${error} over a power of ${power}`);
  return error / power;
}

/** The logits after each token of a text that begins at position 0. */
export function forward64(reference: Reference, tokens: ArrayLike<number>): Float64Array[] {
  const { config, weights, prefixes, logitStride = 1 } = reference;
  const { layers, heads, kvHeads, headDim, eps } = config;
  const linear = (name: string, xs: readonly Float64Array[], stride = 1) => product(reference, name, xs, stride);
  const norm = (name: string, xs: readonly Float64Array[]) => {
    const weight = decodeRow(weights, name, 0);
    return xs.map((x) => rmsNorm(x, weight, eps));
  };

  let xs = Array.from(tokens, (token) => decodeRow(weights, "token_embd.weight", token));
  for (let layer = 0; layer < layers; layer++) {
    const name = (part: string) => `blk.${layer}.${part}.weight`;

    const normed = norm(name("attn_norm"), xs);
    const queries = linear(name("attn_q"), normed).map((q, position) => rotate(q, position, config));
    const keys = linear(name("attn_k"), normed).map((k, position) => rotate(k, position, config));
    const values = linear(name("attn_v"), normed);
    let attended = queries.map((query, position) =>
      attend(query, keys.slice(0, position + 1), values.slice(0, position + 1), { heads, kvHeads, headDim }),
    );
    const prefix = prefixes?.get(layer);
    if (prefix !== undefined) {
      const [prefixKeys, prefixValues] = [
        linear(name("attn_k"), prefix.prompts),
        linear(name("attn_v"), prefix.prompts),
      ];
      const added = queries.map((query) => attend(query, prefixKeys, prefixValues, { heads, kvHeads, headDim }));
      attended = sums(
        attended,
        added.map((row) => row.map((x, i) => prefix.gates[Math.floor(i / headDim)]! * x)),
      );
    }
    xs = sums(xs, linear(name("attn_output"), attended));

    const ffnNormed = norm(name("ffn_norm"), xs);
    const gates = linear(name("ffn_gate"), ffnNormed);
    const ups = linear(name("ffn_up"), ffnNormed);
    const hidden = gates.map((gate, t) => gate.map((g, i) => silu(g) * ups[t]![i]!));
    xs = sums(xs, linear(name("ffn_down"), hidden));
  }
  const output = weights.tensors.has("output.weight") ? "output.weight" : "token_embd.weight";
  return linear(output, norm("output_norm.weight", xs), logitStride);
}

/** x / √(mean(x²) + eps) · weight (Zhang and Sennrich 2019). */
function rmsNorm(x: Float64Array, weight: Float64Array, eps: number): Float64Array {
  const meanSquare = x.reduce((sum, v) => sum + v * v, 0) / x.length;
  const scale = 1 / Math.sqrt(meanSquare + eps);
  return x.map((v, i) => v * scale * weight[i]!);
}

/** Rotary positions (Su et al. 2021). The context in use is the model's own. */
function rotate(x: Float64Array, position: number, { headDim, rope, contextLength }: LlamaConfig): Float64Array {
  const out = x.slice();
  const { magnitude = 1 } = rope;
  for (let head = 0; head < x.length; head += headDim) {
    for (let i = 0; i < rope.dim / 2; i++) {
      const angle = position * frequency64(rope, i, contextLength);
      const [a, b] =
        rope.pairing === "adjacent" ? [head + 2 * i, head + 2 * i + 1] : [head + i, head + i + rope.dim / 2];
      out[a] = magnitude * (x[a]! * Math.cos(angle) - x[b]! * Math.sin(angle));
      out[b] = magnitude * (x[a]! * Math.sin(angle) + x[b]! * Math.cos(angle));
    }
  }
  return out;
}

/** What pair i turns by from one position to the next, as the authors of each scaling wrote it down. */
export function frequency64(rope: Rope, i: number, contextLength: number): number {
  const { theta, dim, scale, scaling, divisors } = rope;
  const wave = (base: number) => 2 * Math.PI * base ** ((2 * i) / dim) * (divisors?.[i] ?? 1);
  const f = (2 * Math.PI) / wave(theta) / scale;
  if (scaling === undefined) return f;
  const { factor: s, originalContextLength: original } = scaling;
  if (scaling.type === "dynamic") {
    // "NTK-aware", with a factor that grows with the length (Peng et al. 2023, eq. 16 and §3.3): s' = s L / L₀ − (s − 1).
    const stretch = s * (Math.max(contextLength, original) / original) - s + 1;
    return (2 * Math.PI) / wave(theta * stretch ** (dim / (dim - 2))) / scale;
  }
  if (scaling.type === "llama3") {
    const { lowFrequencyFactor: low, highFrequencyFactor: high } = scaling;
    const length = wave(theta);
    if (length < original / high) return f;
    if (length > original / low) return f / s;
    const smooth = (original / length - low) / (high - low);
    return ((1 - smooth) * f) / s + smooth * f;
  }
  // d(r), of Peng et al. 2023, eq. 17 solved for the dimension, at which there are r turns in the original context.
  const d = (turns: number) => (dim / 2) * (Math.log(original / (2 * Math.PI * turns)) / Math.log(theta));
  let [from, to] = [d(scaling.betaFast), d(scaling.betaSlow)];
  if (scaling.truncate) [from, to] = [Math.floor(from), Math.ceil(to)];
  [from, to] = [Math.max(from, 0), Math.min(to, dim - 1)];
  if (i <= from) return f;
  if (i >= to) return f / s;
  const ramp = (i - from) / (to - from);
  return f * (1 - ramp) + (f / s) * ramp;
}

/** softmax(q kᵀ / √headDim) v for each head (Vaswani et al. 2017); a key head serves heads / kvHeads query heads. */
function attend(
  query: Float64Array,
  keys: readonly Float64Array[],
  values: readonly Float64Array[],
  { heads, kvHeads, headDim }: Pick<LlamaConfig, "heads" | "kvHeads" | "headDim">,
): Float64Array {
  const out = new Float64Array(heads * headDim);
  for (let head = 0; head < heads; head++) {
    const q = query.subarray(head * headDim, (head + 1) * headDim);
    const kvAt = Math.floor((head * kvHeads) / heads) * headDim;
    const scores = keys.map((key) => q.reduce((sum, v, i) => sum + v * key[kvAt + i]!, 0) / Math.sqrt(headDim));
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let i = 0; i < headDim; i++) {
      out[head * headDim + i] = values.reduce((sum, value, t) => sum + (weights[t]! / total) * value[kvAt + i]!, 0);
    }
  }
  return out;
}

const silu = (x: number) => x / (1 + Math.exp(-x));

const sums = (xs: readonly Float64Array[], ys: readonly Float64Array[]) =>
  xs.map((x, t) => x.map((v, i) => v + ys[t]![i]!));

/** x Wᵀ for each x, of every `stride`-th row of W. */
function product(
  { weights, activations = "exact" }: Reference,
  name: string,
  xs: readonly Float64Array[],
  stride: number,
): Float64Array[] {
  const { type, rows, cols, columns } = weights.tensors.get(name)!;
  const ordered = columns === undefined ? xs : xs.map((x) => Float64Array.from(columns, (column) => x[column] ?? 0));
  const rounded = activations === "int8" && isQuantised(type);
  const inputs = fours(rounded ? ordered.map(roundToInt8) : ordered, cols);
  const outs = xs.map(() => new Float64Array(Math.ceil(rows / stride)));
  const w = new Float64Array(cols);
  const sum4 = new Float64Array(4);
  for (let row = 0; row < rows; row += stride) {
    decode(type, weights.read(name, row, 1), w);
    for (let four = 0; four < inputs.length; four++) {
      dot4(w, inputs[four]!, sum4);
      for (let t = 4 * four; t < Math.min(4 * four + 4, xs.length); t++) outs[t]![row / stride] = sum4[t % 4]!;
    }
  }
  return outs;
}

/** The inputs four by four, the four's k-th values side by side: a weight is loaded once for four sums. */
function fours(xs: readonly Float64Array[], cols: number): Float64Array[] {
  return Array.from({ length: Math.ceil(xs.length / 4) }, (_, four) => {
    const out = new Float64Array(4 * cols);
    for (let t = 0; t < Math.min(4, xs.length - 4 * four); t++) {
      const x = xs[4 * four + t]!;
      for (let k = 0; k < cols; k++) out[4 * k + t] = x[k]!;
    }
    return out;
  });
}

function dot4(w: Float64Array, x: Float64Array, out: Float64Array): void {
  let [a, b, c, d] = [0, 0, 0, 0];
  for (let k = 0; k < w.length; k++) {
    const weight = w[k]!;
    a += weight * x[4 * k]!;
    b += weight * x[4 * k + 1]!;
    c += weight * x[4 * k + 2]!;
    d += weight * x[4 * k + 3]!;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

/** Each block of 32 to integers in units of max|x| / 127, times the scale that leaves them the least squared error. */
function roundToInt8(x: Float64Array): Float64Array {
  const out = new Float64Array(x.length);
  for (let block = 0; block < x.length; block += 32) {
    const values = x.subarray(block, block + 32);
    const most = values.reduce((max, v) => Math.max(max, Math.abs(v)), 0);
    if (most === 0) continue;
    const quants = values.map((v) => Math.round((v * 127) / most));
    const scale = sumOf(quants, (q, k) => q * values[k]!) / sumOf(quants, (q) => q * q);
    out.set(
      quants.map((q) => q * scale),
      block,
    );
  }
  return out;
}

const sumOf = (values: Float64Array, term: (value: number, index: number) => number) =>
  values.reduce((sum, value, index) => sum + term(value, index), 0);

/** A row of a tensor, or a vector, dequantised exactly. */
export function decodeRow(weights: WeightRows, name: string, row: number): Float64Array {
  const { type, cols } = weights.tensors.get(name)!;
  const out = new Float64Array(cols);
  decode(type, weights.read(name, row, 1), out);
  return out;
}

function decode(type: WeightType, bytes: Uint8Array, out: Float64Array): void {
  if (isQuantised(type)) decodeQuantised(type, bytes, out);
  else decodeFloats[type](bytes, out);
}

/** From little-endian bytes to values, of each type that is not in blocks. */
const decodeFloats: Record<FloatType, (bytes: Uint8Array, out: Float64Array) => void> = {
  f32(bytes, out) {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let i = 0; i < out.length; i++) out[i] = view.getFloat32(4 * i, true);
  },
  f16(bytes, out) {
    for (let i = 0; i < out.length; i++) out[i] = halves[bytes[2 * i]! | (bytes[2 * i + 1]! << 8)]!;
  },
  /** The upper half of a binary32. */
  bf16(bytes, out) {
    const word = new DataView(new ArrayBuffer(4));
    for (let i = 0; i < out.length; i++) {
      word.setUint8(2, bytes[2 * i]!);
      word.setUint8(3, bytes[2 * i + 1]!);
      out[i] = word.getFloat32(0, true);
    }
  },
};
