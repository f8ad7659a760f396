/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Each kernel by itself, on typed arrays: what a runtime of your own would call.
 *
 * The calls are synchronous and run on the pool's threads. Arrays are row-major, without padding; the caller supplies
 * the outputs, which must not overlap the inputs unless their docs say so. A result's bits depend on its own row alone:
 * not on the other rows, the instruction set or the threads.
 *
 * Every call throws a TypeError for an argument of the wrong type or a detached array, a RangeError for one outside its
 * range, an array of the wrong length or an overlap (all with the code ERR_CRIA_ARGUMENT), and a CriaError otherwise:
 * ERR_CRIA_UNSUPPORTED for an instruction set that is absent, ERR_CRIA_DISPOSED for weights that were disposed. It has
 * then written nothing.
 */
import { Device, type DeviceKind, type Isa } from "./device.js";
import { integer, outOfRange, wrongType } from "./errors.js";
import { blockTokens } from "./kv-block.js";
import { type CacheType, type DeviceHandle, type NativeBatch, native, type TensorHandle } from "./native.js";
import { type WeightType, weightBytes, weightFormats } from "./weights/source.js";

export type { CacheType, DeviceKind, Isa, WeightType };

/**
 * How a kernel runs. No bit of its results depends on the instruction set or the threads; a GPU's differ from a CPU's
 * in products with f16 and bf16 weights, sums over slices of columns, RMSNorm and attention, as its headers in `cuda/`
 * say.
 */
export interface Execution {
  /** Arrays travel to a GPU and back with each call, which is for trying its kernels, not for speed. Default: "cpu". */
  device?: DeviceKind | undefined;
  /** Of the CPU. Default: the best that the processor has. */
  isa?: Isa | undefined;
  /** From 1 to 256. Default: the physical cores that this process may use. */
  threads?: number | undefined;
}

export interface RmsNormOptions extends Execution {
  /** [rows, dim] */
  x: Float32Array;
  /** [dim] */
  weight: Float32Array;
  /** [rows, dim]; may be `x` itself. */
  out: Float32Array;
  /** Above 0; 1e-6 in LLaMA 7B to 33B, 1e-5 in 65B and Llama 2. */
  eps: number;
}

/**
 * RMSNorm (Zhang and Sennrich 2019, eq. 4): out = x / sqrt(mean(x²) + eps) · weight, row by row.
 *
 * @example
 * ```js
 * import { rmsNorm } from "cria/kernels";
 *
 * const x = Float32Array.of(3, 4);
 * rmsNorm({ x, weight: Float32Array.of(1, 1), eps: 1e-5, out: x });
 * console.log(x); // 0.8485…, 1.1313…
 * ```
 */
export function rmsNorm(options: RmsNormOptions): void {
  const device = deviceFor(options);
  const { x, weight, out, eps } = options;
  native.rmsnorm(device, x, weight, eps, out);
}

export interface QuantizeOptions extends Execution {
  /** [rows, dim] */
  x: Float32Array;
  /** Columns of a row, at least 1. */
  dim: number;
  /** [rows, stride], stride being `dim` rounded up to a multiple of 64; filled up with zeros. */
  quants: Int8Array;
  /** [rows, stride / 32] */
  scales: Float32Array;
  /** [rows, stride / 32], of each block its quants added up. */
  sums: Int32Array;
}

/**
 * Activations to int8, as the products with quantised weights take them (GGML's Q8_0, with scales in float32). In
 * blocks of 32 columns: y = x · (127 / max|x|), quant = y to the nearest integer, ties to even, and
 * scale = max|x| / 127 · (Σ y quant / Σ quant²), which leaves the least squared error for these quants.
 *
 * A block that holds NaN or an infinity gets the scale NaN, one whose max|x| is below 2⁻¹¹⁹ the scale 0; both get
 * quants of 0.
 *
 * @example
 * ```js
 * import { quantize } from "cria/kernels";
 *
 * const [dim, stride] = [32, 64];
 * const x = Float32Array.from({ length: dim }, (_, i) => i - 16);
 * const quants = new Int8Array(stride);
 * const scales = new Float32Array(stride / 32);
 * quantize({ x, dim, quants, scales, sums: new Int32Array(stride / 32) });
 * console.log(quants[0] * scales[0]); // -16, or nearly
 * ```
 */
export function quantize(options: QuantizeOptions): void {
  const device = deviceFor(options);
  const { x, dim, quants, scales, sums } = options;
  native.quantize(device, dim, x, quants, scales, sums);
}

/** f32 is a Float32Array, f16 and bf16 the bits in a Uint16Array, q8_0 and q4_0 GGML's blocks in a Uint8Array. */
export type WeightData = Float32Array | Uint16Array | Uint8Array;

/** A matrix that {@link packWeights} packs. */
export interface PackWeightsOptions {
  type: WeightType;
  /** Outputs, at least 1. */
  rows: number;
  /** Inputs, at least 1; of q8_0 and q4_0 a multiple of 32. */
  cols: number;
  /** [rows, cols], as a GGUF file holds it. It is copied. */
  data: WeightData;
  /** Whose kernels will read it. Default: "cpu". */
  device?: DeviceKind | undefined;
}

/**
 * A copy of a matrix in the layout that {@link matmul} and {@link embed} read, made once and used often.
 *
 * @example
 * ```js
 * import { matmul, packWeights } from "cria/kernels";
 *
 * const weight = packWeights({ type: "f32", rows: 2, cols: 3, data: Float32Array.of(1, 0, 0, 0, 1, 1) });
 * const out = new Float32Array(2);
 * matmul({ weight, x: Float32Array.of(5, 6, 7), out });
 * console.log(out); // 5, 13
 * weight.dispose();
 * ```
 */
export function packWeights(options: PackWeightsOptions): PackedWeights {
  if (typeof options !== "object" || options === null) throw wrongType("options", "an object", options);
  return new PackedWeights(options);
}

/** A packed matrix; see {@link packWeights}. */
export class PackedWeights {
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  /** @internal */
  readonly handle: TensorHandle;

  /** @internal */
  constructor({ type, rows, cols, data, device = "cpu" }: PackWeightsOptions) {
    if (typeof type !== "string" || !Object.hasOwn(weightFormats, type)) {
      throw outOfRange("type", `one of ${Object.keys(weightFormats).join(", ")}`, type);
    }
    integer("rows", rows, 1, 2 ** 31 - 1);
    integer("cols", cols, 1, 2 ** 31 - 1);
    const { block } = weightFormats[type];
    if (cols % block !== 0) throw outOfRange("cols", `a multiple of ${block} in ${type}`, cols);
    const ArrayType = arrayTypeOf(type);
    if (!(data instanceof ArrayType)) throw wrongType("data", `a ${ArrayType.name}`, data);
    const length = weightBytes(type, rows, cols) / ArrayType.BYTES_PER_ELEMENT;
    if (data.length !== length) throw outOfRange("data.length", String(length), data.length);

    this.type = type;
    this.rows = rows;
    this.cols = cols;
    this.handle = native.matrixCreate(deviceFor({ device }), type, rows, cols);
    native.tensorPack(this.handle, 0, rows, asBytes(data));
  }

  /** The memory that it takes: that of the data, its rows rounded up to 16 and of q8_0 and q4_0 its columns to 64. */
  get bytes(): number {
    return native.tensorBytes(this.handle);
  }

  /** What was packed, bit for bit, as an array of the same type. */
  unpack(): WeightData {
    const ArrayType = arrayTypeOf(this.type);
    const data = new ArrayType(weightBytes(this.type, this.rows, this.cols) / ArrayType.BYTES_PER_ELEMENT);
    native.tensorUnpack(this.handle, 0, this.rows, asBytes(data));
    return data;
  }

  /** Gives the memory back at once; otherwise the garbage collector does. Again is no error. */
  dispose(): void {
    native.free(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

export interface EmbedOptions extends Execution {
  /** [vocabulary, dim], of any type. */
  table: PackedWeights;
  /** [count], each at least 0 and below the table's rows. */
  tokens: Int32Array;
  /** [count, dim] */
  out: Float32Array;
}

/**
 * Embedding: out[t] = table[tokens[t]], as float32; a quantised weight is its scale times its integer.
 *
 * @example
 * ```js
 * import { embed, packWeights } from "cria/kernels";
 *
 * const table = packWeights({ type: "f32", rows: 2, cols: 2, data: Float32Array.of(1, 2, 3, 4) });
 * const out = new Float32Array(6);
 * embed({ table, tokens: Int32Array.of(1, 0, 1), out });
 * console.log(out); // 3, 4, 1, 2, 3, 4
 * ```
 */
export function embed(options: EmbedOptions): void {
  const device = deviceFor(options);
  const { table, tokens, out } = options;
  native.embed(device, handleOf("table", table), tokens, out);
}

export interface MatmulOptions extends Execution {
  /** [rows, cols], of any type. */
  weight: PackedWeights;
  /** [tokens, cols] */
  x: Float32Array;
  /** [tokens, rows] */
  out: Float32Array;
}

/**
 * out = x · weightᵀ, summed in float32. For q8_0 and q4_0 weights x is quantised first, as {@link quantize} does it,
 * and blocks of 32 are multiplied exactly, in int32. {@link packWeights} has an example.
 */
export function matmul(options: MatmulOptions): void {
  const device = deviceFor(options);
  const { weight, x, out } = options;
  native.matmul(device, handleOf("weight", weight), x, out);
}

export type KvData = Float32Array | Uint16Array | Uint8Array;

/**
 * One layer of a KV cache, in arrays of the caller's, cut into blocks of 16 tokens.
 *
 * In q8_0 each block and head has its elements as int8, and behind them its scales, [ceil(headDim / 32), 16] of
 * binary16: one for each 32 dimensions, or what is left of them, of each of the 16 tokens. An element is its int8 times
 * its scale.
 */
export interface KvLayer {
  /** Of `k`: "f32" is a Float32Array, "f16" the bits in a Uint16Array, "q8_0" a Uint8Array. */
  keys: CacheType;
  /** Of `v`. */
  values: CacheType;
  /** [blocks, kvHeads, headDim, 16] */
  k: KvData;
  /** [blocks, kvHeads, 16, headDim] */
  v: KvData;
  blocks: number;
  kvHeads: number;
  /** A multiple of 8, at most 256. */
  headDim: number;
}

/** What a batch holds of one sequence, and where the cache holds the rest. */
export interface KernelSequence {
  /** New tokens, which follow those of the sequence before in the batch's arrays. */
  length: number;
  /** Tokens that the cache holds already. */
  past: number;
  /** The block table: token i of the sequence lives at place i % 16 of block `blocks[floor(i / 16)]`. */
  blocks: ArrayLike<number>;
}

export interface RopeOptions extends Execution {
  /** [tokens, (heads + 2 kvHeads) headDim], of each token its q, k and v. q and k are turned in place. */
  qkv: Float32Array;
  /** [tokens], each at least 0. */
  positions: Int32Array;
  /** Their lengths add up to `tokens`. No block that is written to may stand twice in their tables. */
  sequences: readonly KernelSequence[];
  /** Where k, turned, and v are written to, each token's at its place in its sequence. */
  cache: KvLayer;
  /** Of q: a multiple of the cache's kvHeads. */
  heads: number;
  /** Dimensions of a head that turn, the first ones: even, from 2 to headDim. Default: headDim. */
  rotaryDim?: number | undefined;
  /**
   * Pairs are (2i, 2i + 1), as Meta and GGUF store them, or (i, i + rotaryDim / 2), as Hugging Face does. Default:
   * "adjacent".
   */
  pairing?: "adjacent" | "halves" | undefined;
  /** The base of the frequencies, above 0. Default: 10000, LLaMA's. */
  theta?: number | undefined;
  /** Positions are divided by it (linear scaling); above 0. Default: 1. */
  scale?: number | undefined;
  /**
   * [rotaryDim / 2], finite and at least 0: radians that each pair turns by from one position to the next, in place of
   * what `theta` and `scale` say.
   */
  frequencies?: Float64Array | undefined;
  /** What q and k are multiplied by, where they turn (YaRN's attention factor); above 0. Default: 1. */
  magnitude?: number | undefined;
}

/**
 * Rotary position embedding (Su et al. 2021, §3.2.2), fused with the write of k and v to the cache: pair i turns by
 * position / scale · theta^(−2i / rotaryDim) radians, or by position · frequencies[i]. {@link attention} has an
 * example.
 */
export function rope(options: RopeOptions): void {
  const device = deviceFor(options);
  const { qkv, positions, sequences, cache, heads, pairing = "adjacent", theta = 10_000, scale = 1 } = options;
  requireCache(cache);
  const { rotaryDim = cache.headDim } = options;
  const batch = batchOf(sequences, cache);
  batch.positions = checkedPositions(positions, sum(batch.lengths));
  requireWrittenOnce(sequences);
  requireHeads(heads, cache);
  integer("rotaryDim", rotaryDim, 2, cache.headDim);
  if (rotaryDim % 2 !== 0) throw outOfRange("rotaryDim", "even", rotaryDim);
  if (pairing !== "adjacent" && pairing !== "halves") throw outOfRange("pairing", "adjacent or halves", pairing);
  requirePositive("theta", theta);
  requirePositive("scale", scale);
  const { frequencies, magnitude = 1 } = options;
  if (frequencies !== undefined) requireFrequencies(frequencies, rotaryDim / 2);
  requirePositive("magnitude", magnitude);
  const turn = { heads, rotaryDim, halves: pairing === "halves", theta, scale, magnitude };
  native.rope(device, batch, frequencies === undefined ? turn : { ...turn, frequencies }, cache, qkv);
}

function requireFrequencies(frequencies: Float64Array, pairs: number): void {
  if (!(frequencies instanceof Float64Array)) throw wrongType("frequencies", "a Float64Array", frequencies);
  if (frequencies.length !== pairs)
    throw outOfRange("frequencies.length", `rotaryDim / 2, ${pairs}`, frequencies.length);
  const wrong = frequencies.findIndex((frequency) => !(frequency >= 0 && frequency < Number.POSITIVE_INFINITY));
  if (wrong >= 0) throw outOfRange(`frequencies[${wrong}]`, "finite, and at least 0", frequencies[wrong]);
}

export interface AttentionOptions extends Execution {
  /** [tokens, qStride], each row beginning with the [heads, headDim] of a token's q. */
  q: Float32Array;
  /** Default: heads · headDim; of a fused qkv, (heads + 2 kvHeads) headDim. */
  qStride?: number | undefined;
  /** Their lengths add up to `tokens`. The cache holds the keys and values of all tokens, the new ones too. */
  sequences: readonly KernelSequence[];
  cache: KvLayer;
  /** Of q: a multiple of the cache's kvHeads (Ainslie et al. 2023, grouped queries). */
  heads: number;
  /** [tokens, heads · headDim] */
  out: Float32Array;
}

/**
 * Causal attention (Vaswani et al. 2017, eq. 1), in the flash style (Dao 2023): out = softmax(q · k / √headDim) · v
 * over a token's own key and those before it in its sequence. Query head h reads kv head floor(h · kvHeads / heads).
 *
 * @example
 * ```js
 * import { attention, rope } from "cria/kernels";
 *
 * const [heads, headDim, tokens] = [1, 8, 3];
 * const block = 16 * headDim; // of 16 tokens, with one head of keys and values
 * const cache = { keys: "f32", values: "f32", k: new Float32Array(block), v: new Float32Array(block), blocks: 1 };
 * const layer = { ...cache, kvHeads: 1, headDim };
 * const sequences = [{ length: tokens, past: 0, blocks: [0] }];
 *
 * const qkv = Float32Array.from({ length: tokens * 3 * headDim }, (_, i) => Math.sin(i));
 * rope({ qkv, positions: Int32Array.of(0, 1, 2), sequences, cache: layer, heads }); // k and v go into the cache
 * const out = new Float32Array(tokens * headDim);
 * attention({ q: qkv, qStride: 3 * headDim, sequences, cache: layer, heads, out });
 * console.log(out.subarray(0, headDim)); // the first token sees its own value alone
 * ```
 */
export function attention(options: AttentionOptions): void {
  const device = deviceFor(options);
  const { q, sequences, cache, heads, out } = options;
  requireCache(cache);
  const batch = batchOf(sequences, cache);
  requireHeads(heads, cache);
  const width = heads * cache.headDim;
  const { qStride = width } = options;
  native.attention(device, batch, heads, cache, q, integer("qStride", qStride, width), out);
}

export interface SwiGluOptions extends Execution {
  /** [rows, 2 dim], of each row its gate, then its up. */
  gateUp: Float32Array;
  /** At least 1. */
  dim: number;
  /** [rows, dim] */
  out: Float32Array;
}

/**
 * SwiGLU (Shazeer 2020): out = silu(gate) · up, with silu(g) = g / (1 + exp(−g)).
 *
 * @example
 * ```js
 * import { swiGlu } from "cria/kernels";
 *
 * const out = new Float32Array(2);
 * swiGlu({ gateUp: Float32Array.of(0, 1, 3, 2), dim: 2, out });
 * console.log(out); // 0, 1.4621…
 * ```
 */
export function swiGlu(options: SwiGluOptions): void {
  const device = deviceFor(options);
  const { gateUp, dim, out } = options;
  native.swiglu(device, dim, gateUp, out);
}

export interface AddOptions extends Execution {
  /** [count] */
  x: Float32Array;
  /** [count] */
  y: Float32Array;
  /** [count]; may be `x` or `y` itself. */
  out: Float32Array;
}

/**
 * out = x + y
 *
 * @example
 * ```js
 * import { add } from "cria/kernels";
 *
 * const x = Float32Array.of(1, 2);
 * add({ x, y: Float32Array.of(3, 4), out: x });
 * console.log(x); // 4, 6
 * ```
 */
export function add(options: AddOptions): void {
  const device = deviceFor(options);
  const { x, y, out } = options;
  native.add(device, x, y, out);
}

const opened: { readonly asked: Execution; readonly handle: DeviceHandle }[] = [];

/** Devices that differ in nothing are opened once. */
function deviceFor(options: Execution): DeviceHandle {
  if (typeof options !== "object" || options === null) throw wrongType("options", "an object", options);
  const { device = "cpu", isa, threads } = options;
  const known = opened.find(({ asked }) => asked.device === device && asked.isa === isa && asked.threads === threads);
  if (known !== undefined) return known.handle;
  const asked = { device, ...(isa !== undefined && { isa }), ...(threads !== undefined && { threads }) };
  const { handle } = new Device(asked);
  opened.push({ asked, handle });
  return handle;
}

const arrayTypes = { f32: Float32Array, f16: Uint16Array, bf16: Uint16Array } as const;
const arrayTypeOf = (type: WeightType) =>
  Object.hasOwn(arrayTypes, type) ? arrayTypes[type as keyof typeof arrayTypes] : Uint8Array;

const asBytes = ({ buffer, byteOffset, byteLength }: WeightData) => new Uint8Array(buffer, byteOffset, byteLength);

function handleOf(name: string, weights: PackedWeights): TensorHandle {
  if (!(weights instanceof PackedWeights)) throw wrongType(name, "PackedWeights", weights);
  return weights.handle;
}

// The addon checks all that follows again, but names it as bindings.d.ts has it: "batch.blocks", "options.rotaryDim".

function requireCache(cache: KvLayer): void {
  if (typeof cache !== "object" || cache === null) throw wrongType("cache", "an object", cache);
  integer("cache.kvHeads", cache.kvHeads, 1);
  integer("cache.headDim", cache.headDim, 1);
  integer("cache.blocks", cache.blocks, 0);
}

function requireHeads(heads: number, { kvHeads }: KvLayer): void {
  integer("heads", heads, 1, 2 ** 31 - 1);
  if (heads % kvHeads !== 0) throw outOfRange("heads", `a multiple of cache.kvHeads ${kvHeads}`, heads);
}

function requirePositive(name: string, value: number): void {
  if (typeof value !== "number") throw wrongType(name, "a number", value);
  if (!(value > 0 && value < Number.POSITIVE_INFINITY)) throw outOfRange(name, "above 0 and finite", value);
}

function checkedPositions(positions: Int32Array, tokens: number): Int32Array {
  if (!(positions instanceof Int32Array)) throw wrongType("positions", "an Int32Array", positions);
  if (positions.length !== tokens) throw outOfRange("positions.length", `the sequences' ${tokens}`, positions.length);
  const negative = positions.findIndex((position) => position < 0);
  if (negative >= 0) throw outOfRange(`positions[${negative}]`, "at least 0", positions[negative]);
  return positions;
}

function batchOf(sequences: readonly KernelSequence[], cache: KvLayer): NativeBatch {
  if (!Array.isArray(sequences)) throw wrongType("sequences", "an array", sequences);
  sequences.forEach((sequence, s) => {
    requireSequence(`sequences[${s}]`, sequence, cache);
  });
  const none = new Int32Array(0);
  return {
    tokens: none,
    positions: none,
    lengths: Int32Array.from(sequences, ({ length }) => length),
    pasts: Int32Array.from(sequences, ({ past }) => past),
    blockCounts: Int32Array.from(sequences, ({ blocks }) => blocks.length),
    blocks: Int32Array.from(sequences.flatMap(({ blocks }) => Array.from(blocks))),
    outputs: none,
  };
}

function requireSequence(name: string, sequence: KernelSequence, cache: KvLayer): void {
  if (typeof sequence !== "object" || sequence === null) throw wrongType(name, "an object", sequence);
  const { length, past, blocks } = sequence;
  integer(`${name}.length`, length, 0, 2 ** 31 - 1);
  integer(`${name}.past`, past, 0, 2 ** 31 - 1);
  if (!Array.isArray(blocks) && !ArrayBuffer.isView(blocks)) throw wrongType(`${name}.blocks`, "an array", blocks);
  const needed = Math.ceil((past + length) / blockTokens);
  if (blocks.length < needed) throw outOfRange(`${name}.blocks.length`, `at least ${needed}`, blocks.length);
  for (let i = 0; i < blocks.length; i++) integer(`${name}.blocks[${i}]`, blocks[i], 0, cache.blocks - 1);
}

/** A block that two tokens' keys were written to at once would hold either, by chance. */
function requireWrittenOnce(sequences: readonly KernelSequence[]): void {
  const written = new Set<number>();
  sequences.forEach(({ length, past, blocks }, s) => {
    if (length === 0) return;
    for (let i = Math.floor(past / blockTokens); i < Math.ceil((past + length) / blockTokens); i++) {
      const block = blocks[i]!;
      if (written.has(block)) {
        throw outOfRange(`sequences[${s}].blocks[${i}]`, "a block that no other new tokens are written to", block);
      }
      written.add(block);
    }
  });
}

const sum = (values: Int32Array): number => values.reduce((total, value) => total + value, 0);
