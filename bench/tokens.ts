/**
 * Tokens per second of a whole model, and how far that is from what the machine can do.
 *
 * Decoding reads every weight once a step, and the keys and values of all tokens before it: its limit is the read
 * bandwidth. Reading a prompt multiplies every weight with every token: its limit is the peak of the instruction that
 * does it. Both are measured in the same run.
 */
import { performance } from "node:perf_hooks";

import { Device } from "../lib/device.js";
import { blockBytes, blockTokens } from "../lib/kv-block.js";
import { weightBytesPerToken } from "../lib/llama.js";
import { loadIndexed, type ModelOptions } from "../lib/model.js";
import type { Runtime } from "../lib/runtime.js";
import { argmax } from "../lib/sampling/ranking.js";
import { tokenizerOf } from "../lib/text/tokenizer.js";
import { readModel } from "../lib/weights/model-file.js";
import { type LlamaConfig, type TensorInfo, type WeightType, weightBytes } from "../lib/weights/source.js";
import { batchOf, fillCache } from "./cache.js";
import { Cleanup } from "./cleanup.js";
import { betterOf, limitsOf, multiplierOf, peakOf, readGBs, withReads } from "./limits.js";
import { cpuOf } from "./machine.js";
import { alternate } from "./peers/alternate.js";
import type { Limits, Result } from "./schema.js";
import { shapeOf } from "./shapes.js";
import { best, median, spread } from "./statistics.js";
import { syntheticModel } from "./synthetic.js";

/** Rounds of prefill and decode: as many as fit the time, so that a shared machine's bad moments can be told apart. */
const rounds = { least: 3, most: 5, seconds: 20 };

export interface TokensOptions extends ModelOptions {
  /** The file of a model; without one, random weights are made of the shape and in the format. */
  model?: string;
  /** That the results give the model. Default: the file's path, or the shape's name. */
  name?: string;
  shape: string;
  format: WeightType;
  /** Tokens of the prompt. */
  prompt: number;
  /** Steps of decoding. */
  gen: number;
  /** Tokens in the cache before the first of them. Default: as many as the prompt has. */
  context?: number;
  /** That are decoded together. Default: 1. */
  sequences?: number;
}

/** What one round measured. */
export interface Round {
  /** Tokens a second. */
  prefill: number;
  /** Tokens a second, of all sequences together. */
  decode: number;
  /** The best of plain reads just before and just after. */
  readGBs: number;
}

/** Loads or makes the model, and measures it. */
export async function measureTokens(options: TokensOptions): Promise<{ limits: Limits; results: Result[] }> {
  using bench = await TokensBench.open(options);
  const { device } = bench;
  await bench.warmUp();
  const before = await limitsOf(device);
  const [measured] = await alternate([bench] as const, rounds, options.signal);
  const limits = limitsBeside(betterOf(before, await limitsOf(device)), measured);
  return { limits, results: bench.results(measured, limits) };
}

/** The limits of a run, in whose rounds memory was read too. */
export const limitsBeside = (limits: Limits, rounds: readonly Round[]): Limits =>
  withReads(
    limits,
    rounds.map((round) => round.readGBs),
  );

export interface Opened {
  name: string;
  runtime: Runtime;
  /** That most of the weights have. */
  format: WeightType;
  /** Bytes of weights that one step reads. */
  weightBytes: number;
  /** Bytes of all its weights. */
  modelBytes: number;
  /** Of a file, with the resident memory that it took over the weights' bytes. */
  loaded?: { seconds: number; resident: number };
  dispose: () => void;
}

/** A model that is measured round by round, so that others can be measured in between. */
export class TokensBench implements Disposable {
  readonly #opened: Opened;
  readonly #options: Required<Pick<TokensOptions, "prompt" | "gen" | "context" | "sequences">>;
  readonly #signal: AbortSignal | undefined;
  /** The blocks of each sequence that is decoded. */
  readonly #tables: number[][];
  #prompts = 0;

  /** Use {@link open}. */
  private constructor(opened: Opened, options: TokensOptions) {
    this.#opened = opened;
    this.#options = withDefaults(options);
    this.#signal = options.signal;
    const { context, gen, sequences } = this.#options;
    const blocks = Math.ceil((context + gen) / blockTokens);
    this.#tables = Array.from({ length: sequences }, () => opened.runtime.pool.allocate(blocks));
  }

  /** Loads or makes the model, and fills its cache. */
  static async open(options: TokensOptions): Promise<TokensBench> {
    const { prompt, gen, context, sequences } = withDefaults(options);
    // Each sequence's blocks are whole, and so are the prompt's.
    const whole = (tokens: number) => Math.ceil(tokens / blockTokens) * blockTokens;
    const contextLength = whole(prompt) + sequences * whole(context + gen);
    // A cache for many sequences exceeds what a model was trained for, and needs no warning.
    const wanted = { ...options, contextLength, onWarning: () => undefined };
    using made = new Cleanup();
    const opened = await openModel(wanted);
    made.defer(opened.dispose);
    const bench = new TokensBench(opened, options);
    const { device, pool } = opened.runtime;
    await fillCache(device, pool.cache, pool.shape, bench.#tables.flat());
    made.move();
    return bench;
  }

  get device(): Device {
    return this.#opened.runtime.device;
  }

  get config(): LlamaConfig {
    return this.#opened.runtime.config;
  }

  /** Of its weights. */
  get modelBytes(): number {
    return this.#opened.modelBytes;
  }

  /** Touches the memory and wakes the threads. */
  async warmUp(): Promise<void> {
    const { prompt, gen } = this.#options;
    await this.#prefill(Math.min(prompt, 8));
    await this.#decode(Math.min(gen, 2));
  }

  async round(): Promise<Round> {
    const before = await readGBs(this.device);
    const { prompt, gen, sequences } = this.#options;
    const prefill = (prompt / (await this.#prefill(prompt))) * 1e3;
    const decode = ((gen * sequences) / (await this.#decode(gen))) * 1e3;
    return { prefill, decode, readGBs: best([...before, ...(await readGBs(this.device))]) };
  }

  /** Milliseconds of a prompt, as a model's user has it read. */
  async #prefill(count: number): Promise<number> {
    const { runtime } = this.#opened;
    using sequence = runtime.sequence();
    // Another prompt each time: the prefix cache would know the last one's blocks.
    const first = this.#prompts++;
    const tokens = Int32Array.from({ length: count }, (_, i) => scattered(first + i, runtime.config));
    const started = performance.now();
    await sequence.forward(tokens, "last", { signal: this.#signal });
    return performance.now() - started;
  }

  /** Milliseconds of that many steps, each sequence's token being chosen greedily as a caller would. */
  async #decode(steps: number): Promise<number> {
    const { runtime } = this.#opened;
    const { vocab } = runtime.config;
    const rows = this.#tables.map((_, row) => row);
    let tokens = rows.map((row) => scattered(row, runtime.config));
    const started = performance.now();
    for (let step = 0; step < steps; step++) {
      const past = this.#options.context + step;
      const parts = this.#tables.map((blocks) => ({ length: 1, past, blocks }));
      const logits = await runtime.program.run(
        runtime.pool.cache,
        batchOf(parts, (row) => tokens[row]!, rows),
        this.#signal,
      );
      tokens = rows.map((row) => argmax(logits.subarray(row * vocab, (row + 1) * vocab)));
    }
    return performance.now() - started;
  }

  /** What the rounds come to, each with its limit. */
  results(measured: readonly Round[], limits: Limits): Result[] {
    const { name, format, loaded } = this.#opened;
    const { prompt, gen, context, sequences } = this.#options;
    const { isa, threads } = cpuOf(this.device);
    const common = { by: "cria", isa, threads };
    const at = { model: name, format };
    const prefill = measured.map((round) => round.prefill);
    const decode = measured.map((round) => round.decode);
    const read = median(measured.map((round) => round.readGBs));
    const results: Result[] = [
      {
        name: "prefill",
        ...common,
        ...judged(prefill, this.prefillLimit(read, limits)),
        unit: "tok/s",
        model:
          "2 · weights operations a token; of the output, and of the last layer past its keys and values, once; the " +
          `weights, ${gigabytes(this.#opened.weightBytes)}, read once`,
        at: { ...at, prompt },
      },
      {
        name: "decode",
        ...common,
        ...judged(decode, this.decodeLimit(read, limits)),
        unit: "tok/s",
        model:
          `weights, ${gigabytes(this.#opened.weightBytes)}, and keys and values, ${(this.#cacheBytes / 1e6).toFixed(1)} MB a ` +
          `sequence, read once a step, at ${read.toFixed(1)} GB/s: the median over the rounds of the best plain read ` +
          "just before and after each",
        at: { ...at, context, gen, sequences },
      },
    ];
    if (loaded === undefined) return results;
    results.push({ name: "load", ...common, ...judged([loaded.seconds], null), unit: "s", at });
    // Memory that was freed meanwhile can be more than a tiny model takes, and the difference then says nothing.
    if (loaded.resident > 0) {
      const model = "resident memory that loading took, over the bytes of the weights";
      results.push({ name: "resident", ...common, ...judged([loaded.resident], null), unit: "x", model, at });
    }
    return results;
  }

  /** Tokens a second at the peak of the instruction that multiplies; or at the bandwidth, of a short prompt. */
  prefillLimit(readGBs: number, limits: Limits): number | null {
    const peak = this.#peak(limits);
    if (peak === null) return null;
    const { prompt } = this.#options;
    const { config } = this.#opened.runtime;
    const memory = (readGBs * 1e9 * prompt) / this.#opened.weightBytes;
    return Math.min(memory, (peak * 1e9 * prompt) / promptOperations(config, prompt));
  }

  /** Tokens a second, of all sequences, at the bandwidth; or at the peak, where many sequences share the weights. */
  decodeLimit(readGBs: number, limits: Limits): number {
    const { sequences } = this.#options;
    const { config } = this.#opened.runtime;
    const bytes = this.#opened.weightBytes + sequences * this.#cacheBytes;
    const peak = this.#peak(limits) ?? Number.POSITIVE_INFINITY;
    return Math.min((readGBs * 1e9 * sequences) / bytes, (peak * 1e9) / tokenOperations(config));
  }

  #peak(limits: Limits): number | null {
    return peakOf(cpuOf(this.device).isa, multiplierOf(this.#opened.format), limits);
  }

  /** Of keys and values that one sequence's token reads, on average: its own, the context's, and those since. */
  get #cacheBytes(): number {
    const { context, gen } = this.#options;
    return (blockBytes(this.#opened.runtime.pool.shape) / blockTokens) * (context + (gen + 1) / 2);
  }

  dispose(): void {
    this.#opened.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Operations of one token in a layer's product with qkv, in its others, and with the output; a multiply-add is two. */
function productOperations({ dim, heads, kvHeads, headDim, ffn, vocab }: LlamaConfig) {
  const qkv = 2 * dim * (heads + 2 * kvHeads) * headDim;
  const others = 2 * dim * (heads * headDim + 3 * ffn);
  return { qkv, others, output: 2 * dim * vocab };
}

/** Of a prompt's products: past the keys and values of the last layer, its last token alone goes on. */
export function promptOperations(config: LlamaConfig, tokens: number): number {
  const { qkv, others, output } = productOperations(config);
  return tokens * (config.layers * qkv + (config.layers - 1) * others) + others + output;
}

/** Of a decoded token's. */
export const tokenOperations = (config: LlamaConfig): number => promptOperations(config, 1);

export function withDefaults({ prompt, gen, context = prompt, sequences = 1 }: TokensOptions) {
  return { prompt, gen, context, sequences };
}

const judged = (samples: readonly number[], limit: number | null) => {
  const value = median(samples);
  const share = limit === null ? null : value / limit;
  return { value, limit, share, spread: spread(samples), samples: samples.length };
};

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(3)} GB`;

/** A token for each i: by a prime's steps, so that neighbours are not alike, and lie all over the embedding's table. */
export const scattered = (i: number, { vocab }: Pick<LlamaConfig, "vocab">) => (i * 7919 + 1) % vocab;

/** What decides which model is measured. */
export type ModelWanted = Pick<TokensOptions, "model" | "name" | "shape" | "format"> & ModelOptions;

/** Loads or makes it. */
export const openModel = (options: ModelWanted): Promise<Opened> =>
  options.model === undefined ? make(options) : load(options.model, options);

async function load(path: string, options: ModelWanted): Promise<Opened> {
  const started = performance.now();
  // Node's own memory, which is more than that of a tiny model.
  const residentBefore = process.memoryUsage.rss();
  const index = await readModel(path, options);
  const tokenizer = tokenizerOf(options.tokenizer ?? path, index.vocabulary);
  const model = await loadIndexed(index, tokenizer, options, started);
  return {
    name: options.name ?? path,
    runtime: model.runtime,
    format: mainFormat(index.tensors.values()),
    weightBytes: model.weightBytesPerToken,
    modelBytes: model.weightBytes,
    loaded: {
      seconds: model.loadMs / 1e3,
      resident: (process.memoryUsage.rss() - residentBefore) / model.weightBytes,
    },
    dispose: () => model.dispose(),
  };
}

async function make(options: ModelWanted): Promise<Opened> {
  const { shape, format } = options;
  using made = new Cleanup();
  const device = made.use(new Device(options));
  const { config, tied } = shapeOf(shape);
  const { runtime, store } = await syntheticModel(device, config, format, { ...options, tied });
  made.use(store);
  made.use(runtime);
  return {
    name: options.name ?? shape,
    runtime,
    format,
    weightBytes: weightBytesPerToken(store),
    modelBytes: store.bytes,
    dispose: made.move(),
  };
}

/** The type that most bytes of the weights have. */
function mainFormat(tensors: Iterable<TensorInfo>): WeightType {
  const bytes = new Map<WeightType, number>();
  for (const { type, rows, cols } of tensors) bytes.set(type, (bytes.get(type) ?? 0) + weightBytes(type, rows, cols));
  return [...bytes].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
}
