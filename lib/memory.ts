/** The memory that a model takes, told before it is loaded. What Node.js takes for itself is not in it. */
import { showBytes } from "./bytes.js";
import { type CacheSize, poolTokens } from "./cache-size.js";
import { cacheTypesOf } from "./cache-types.js";
import { Device, type DeviceInfo, type DeviceOptions, deviceOptions } from "./device.js";
import { CriaError, integer } from "./errors.js";
import { pathOf } from "./files.js";
import { blockBytes, blockTokens } from "./kv-block.js";
import { llamaCache, llamaValues } from "./llama.js";
import { optionalFlag, optionsOf } from "./options.js";
import { type RuntimeOptions, runtimeOptions } from "./runtime.js";
import { chunkTokens } from "./scheduler.js";
import { readModel } from "./weights/model-file.js";
import { type PackedTensor, planPacked } from "./weights/packed.js";
import { type LlamaConfig, type ModelIndex, type Vocabulary, weightFormats } from "./weights/source.js";
import type { LoadOptions } from "./weights/store.js";

/**
 * What a model takes of a device's memory, in bytes, with one text at a time: a step then gives the logits of one
 * token.
 *
 * Not in it are the logits of more: each text that is made at the same time has a row of them, and a text that is
 * scored (`logprobs`, `echo`, `score`) 256. A row is 4 · vocabulary bytes, in the device's workspace and in copies of
 * JavaScript's until they are collected: with a vocabulary of 32,000 some 1 MB a text (64 at once: 68 MB), and 110 MB
 * where one is scored.
 */
export interface MemoryEstimate {
  /** The weights, in the kernels' layout; those of adapters that a model is loaded with among them. */
  weights: number;
  /** Of these, what is mapped from a packed file: memory that processes share, and that the system can read again. */
  mapped: number;
  /** The whole cache. It takes its memory as it fills. */
  cache: number;
  /** Tokens that the cache holds. */
  cacheTokens: number;
  /** What the forward pass of a full chunk of a prompt writes between its ops, with the logits of one token. */
  activations: number;
  /** The vocabulary's strings and tables, in JavaScript: a rough figure, of some tens of MB at most. */
  vocabulary: number;
  /** Of weights, cache, activations and vocabulary. */
  total: number;
  /** What the device has for them now. */
  available: number;
  /** Whether the total is available. */
  fits: boolean;
}

/** What a model's memory follows from. The matrices of a mappable one are mapped; weights alone have no vocabulary. */
export type Weighed = Pick<ModelIndex, "config" | "tensors"> & {
  readonly vocabulary?: Vocabulary;
  readonly mappable?: boolean;
  /** Of adapters that are set beside the weights. */
  readonly adapterBytes?: number;
};

/**
 * What JavaScript's heap grows by for each piece of a vocabulary. Of 32,000 pieces it was 420 bytes after loading, and
 * 780 after the first text, for which the tokenizer makes its tables (Node 20).
 */
const pieceBytes = 600;

const estimateOptions = [...deviceOptions, ...runtimeOptions, "mmap", "tokenizer", "quantize"] as const;

/**
 * The memory that a model will take, once loaded with these options and with its cache full. Only the file's index is
 * read.
 *
 * @example
 * ```js
 * import { estimateMemory, tinyModel } from "cria";
 *
 * const { total, available, fits } = await estimateMemory(tinyModel, { cacheSize: { tokens: 1024 } });
 * console.log(fits, total, available);
 * ```
 *
 * @throws CriaFileError, TypeError or RangeError as {@link loadModel}
 */
export async function estimateMemory(
  file: string | URL,
  options: DeviceOptions & RuntimeOptions & Pick<LoadOptions, "mmap" | "tokenizer" | "quantize"> = {},
): Promise<MemoryEstimate> {
  const path = pathOf("path", file);
  const known = optionsOf("estimateMemory", options, estimateOptions);
  checkRuntimeOptions(known);
  optionalFlag("mmap", known.mmap);
  const index = await readModel(path, known);
  using device = new Device(known);
  return await memoryOf(index, known, device.info);
}

/** @throws TypeError or RangeError for a wrong option */
export function checkRuntimeOptions({ cache, contextLength, preempt }: RuntimeOptions): void {
  cacheTypesOf(cache);
  optionalFlag("preempt", preempt);
  if (contextLength !== undefined) integer("contextLength", contextLength, 1, 2 ** 24);
}

/** The memory of a model on a device. @throws TypeError or RangeError for a wrong `cacheSize` */
export async function memoryOf(
  model: Weighed,
  options: RuntimeOptions & Pick<LoadOptions, "mmap">,
  { availableBytes: available }: DeviceInfo,
): Promise<MemoryEstimate> {
  const { config, tensors } = model;
  const { cache: types, contextLength = config.contextLength, cacheSize, mmap = true } = options;
  const plan = await planPacked(config, tensors);
  const { adapterBytes = 0 } = model;
  const weights = bytesOf(plan) + adapterBytes;
  const mapped = model.mappable !== true || !mmap ? 0 : bytesOf(plan.filter(({ kind }) => kind === "matrix"));
  const split = splitGates(plan) || adapterBytes > 0;
  const chunk = Math.min(chunkTokens, contextLength);
  const activations = activationBytes(config, plan, split, chunk) + gatheredBytes(tensors, chunk);
  const shape = llamaCache(config, cacheTypesOf(types));
  const vocabulary = (model.vocabulary?.pieces.length ?? 0) * pieceBytes;
  const rest = weights + activations + vocabulary;
  const cacheTokens = poolTokens(shape, contextLength, cacheSize, Math.max(0, available - rest));
  const cache = (cacheTokens / blockTokens) * blockBytes(shape);
  const total = rest + cache;
  const fits = total <= available;
  return { weights, mapped, cache, cacheTokens, activations, vocabulary, total, available, fits };
}

const bytesOf = (plan: readonly PackedTensor[]) => plan.reduce((sum, { bytes }) => sum + bytes, 0);

/**
 * The workspace of csrc/cpu/executor.cc after a batch of `tokens` tokens of which the last one's logits are wanted: its
 * values, the rows that it quantises, and RoPE's angles. What it keeps of an attention that is split over the threads
 * is left out: it is less than a thousandth of the cache. So are the values between an adapter's two products, of a
 * width of its rank.
 *
 * @param split whether gate and up have a value of their own
 */
function activationBytes(config: LlamaConfig, plan: readonly PackedTensor[], split: boolean, tokens: number): number {
  const values = llamaValues(config, split);
  const floats = (widths: object) => Object.values(widths).reduce((sum, width) => sum + stride(width), 0);
  const quantised = plan.filter(({ type }) => weightFormats[type].block > 1).map(({ cols }) => cols);
  // Two blocks of 32 at a time: int8 each, and for each block a float and two int32 (csrc/cpu/quantize.h).
  const quantisedRow = Math.ceil(Math.max(0, ...quantised) / 64) * (64 + 2 * (4 + 4 + 4));
  // A cosine and a sine for each pair of dimensions.
  const angles = 4 * config.rope.dim;
  return 4 * (tokens * floats(values.tokens) + floats(values.outputs)) + tokens * (quantisedRow + angles);
}

/** The values that activations are gathered into, for weights whose columns are not in order: one for each width. */
function gatheredBytes(tensors: ModelIndex["tensors"], tokens: number): number {
  const widths = new Set([...tensors.values()].filter(({ columns }) => columns !== undefined).map(({ cols }) => cols));
  return 4 * (tokens + 1) * [...widths].reduce((sum, width) => sum + stride(width), 0);
}

/**
 * Floats from one row of a value to the next: rows that were a multiple of 4 KiB long have a cache line between them.
 */
const stride = (width: number) => width + ((width * 4) % 4096 === 0 ? 16 : 0);

/** Whether a layer's gate and up, of different types, are two matrices. */
const splitGates = (plan: readonly PackedTensor[]) =>
  plan.some(({ names }) => names.length === 1 && names[0]!.endsWith(".ffn_gate.weight"));

/**
 * The memory of a model that is about to be loaded.
 *
 * @param name what the error begins with
 * @throws CriaError ERR_CRIA_MEMORY where the device has not the memory: it tells how much more is needed, and what
 *   contextLength, or `cacheSize` where one was given, would fit
 * @throws TypeError or RangeError for a wrong `cacheSize`
 */
export async function checkMemory(
  name: string,
  model: Weighed,
  { info }: Device,
  options: RuntimeOptions & Pick<LoadOptions, "mmap">,
): Promise<MemoryEstimate> {
  const estimate = await memoryOf(model, options, info);
  if (estimate.fits) return estimate;
  const { weights, cache, activations, total, available } = estimate;
  throw new CriaError(
    "ERR_CRIA_MEMORY",
    `${name}: must fit the ${showBytes(available)} of memory available${info.kind === "cpu" ? "" : ` on ${info.name}`}, but it takes ${showBytes(total - available)} more: ` +
      `weights ${showBytes(weights)}, cache ${showBytes(cache)}, activations ${showBytes(activations)}; ` +
      remedy(estimate, options.cacheSize) +
      (info.kind === "cpu" ? "" : '; device "cpu" has the memory of the machine'),
  );
}

/** What is advised leaves this share of the memory free: how much there is changes from one moment to the next. */
const margin = 1 / 32;

/** What would fit instead. */
function remedy({ total, available, cache, cacheTokens }: MemoryEstimate, cacheSize: CacheSize | undefined): string {
  const blocks = Math.floor((available * (1 - margin) - (total - cache)) / ((cache / cacheTokens) * blockTokens));
  if (blocks < 1) return `not even a cache of ${blockTokens} tokens would fit`;
  const tokens = blocks * blockTokens;
  return `${cacheSize === undefined ? `a contextLength of ${tokens}` : `a cacheSize of ${tokens} tokens`} would fit`;
}
