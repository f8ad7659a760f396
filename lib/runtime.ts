/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "./device.js";
import { CriaError, integer, wrongType } from "./errors.js";
import { KvPool, KvSequence } from "./kv-pool.js";
import { type LlamaWeights, llamaCache, recordLlama } from "./llama.js";
import type { CacheType } from "./native.js";
import type { Program } from "./program.js";
import type { LlamaConfig } from "./weights/source.js";

/**
 * Tokens that go through the program at a time: enough that a weight, once read, serves many, few enough that the
 * activations of a 7B model stay within some 40 MB.
 */
export const chunkTokens = 256;

export interface RuntimeOptions {
  /** The type of the cached keys and values. Default: "f16". */
  cache?: CacheType;
  /** Tokens that the KV cache holds, over all sequences. Default: the context that the model was trained with. */
  contextLength?: number;
}

/** A recorded model and its cache: from token ids to logits. */
export class Runtime {
  readonly device: Device;
  readonly config: LlamaConfig;
  /** Tokens that one sequence may have. The pool, made of whole blocks, may hold a few more. */
  readonly contextLength: number;
  readonly pool: KvPool;
  readonly program: Program;

  constructor(device: Device, config: LlamaConfig, weights: LlamaWeights, options: RuntimeOptions = {}) {
    const { cache = "f16", contextLength = config.contextLength } = options;
    const shape = llamaCache(config, cache);
    this.device = device;
    this.config = config;
    this.contextLength = contextLength;
    this.program = recordLlama(device, config, weights, shape);
    this.pool = new KvPool(device, shape, contextLength);
  }

  /** An empty sequence. */
  sequence(): Sequence {
    return new Sequence(this);
  }

  dispose(): void {
    this.program.dispose();
    this.pool.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A sequence of tokens that the model has read, and whose keys and values the cache holds. */
export class Sequence {
  readonly #runtime: Runtime;
  readonly #kv: KvSequence;
  #running = false;
  #disposed = false;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#kv = new KvSequence(runtime.pool);
  }

  /** Tokens that the model has read. */
  get length(): number {
    return this.#kv.length;
  }

  /**
   * Reads the tokens that follow.
   *
   * @param wanted the tokens after which logits are wanted; "last" is the last of `tokens`
   * @returns [tokens, vocab] logits for "all", [vocab] for "last"
   * @throws TypeError where `tokens` is no Int32Array, RangeError where it is empty or holds what is no token
   * @throws CriaError ERR_CRIA_CONTEXT where they exceed the context, ERR_CRIA_STATE while others are read; none is then
   *   read
   * @throws CriaError ERR_CRIA_CACHE_FULL where the pool has no room for them, ERR_CRIA_ABORTED when `signal` stops it,
   *   ERR_CRIA_DISPOSED after `dispose`; the tokens of chunks that were read by then stay read
   */
  async forward(tokens: Int32Array, wanted: "all" | "last", signal?: AbortSignal): Promise<Float32Array> {
    if (!(tokens instanceof Int32Array)) throw wrongType("tokens", "an Int32Array", tokens);
    if (this.#running) throw new CriaError("ERR_CRIA_STATE", "sequence: must have read the tokens before first");
    integer("tokens.length", tokens.length, 1);
    const { contextLength, config } = this.#runtime;
    const left = contextLength - this.length;
    if (tokens.length > left) {
      throw new CriaError(
        "ERR_CRIA_CONTEXT",
        `tokens: must be at most ${left}, what is left of the context's ${contextLength}, not ${tokens.length}`,
      );
    }
    const { vocab } = config;
    const all = tokens.slice(); // the caller's may change meanwhile
    const logits = new Float32Array((wanted === "all" ? all.length : 1) * vocab);
    this.#running = true;
    try {
      for (let from = 0; from < all.length; from += chunkTokens) {
        const chunk = all.subarray(from, from + chunkTokens);
        const last = from + chunk.length === all.length;
        const rows =
          wanted === "all" ? iota(0, chunk.length) : last ? Int32Array.of(chunk.length - 1) : new Int32Array(0);
        const part = await this.#run(chunk, rows, signal);
        logits.set(part, wanted === "all" ? from * vocab : 0);
      }
    } finally {
      this.#running = false;
      if (this.#disposed) this.#kv.free();
    }
    return logits;
  }

  async #run(tokens: Int32Array, outputs: Int32Array, signal: AbortSignal | undefined): Promise<Float32Array> {
    if (this.#disposed) throw new CriaError("ERR_CRIA_DISPOSED", "sequence: was disposed");
    const { program, pool } = this.#runtime;
    const past = this.#kv.length;
    this.#kv.reserve(tokens.length);
    const batch = {
      tokens,
      positions: iota(past, tokens.length),
      lengths: Int32Array.of(tokens.length),
      pasts: Int32Array.of(past),
      blockCounts: Int32Array.of(this.#kv.blockTable.length),
      blocks: Int32Array.from(this.#kv.blockTable),
      outputs,
    };
    const result = await program.run(pool.cache, batch, signal);
    this.#kv.commit(tokens.length);
    return result;
  }

  /** Gives the cache's blocks back, for other sequences: at once, or when the run that writes to them is done. */
  dispose(): void {
    this.#disposed = true;
    if (!this.#running) this.#kv.free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const iota = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i);
