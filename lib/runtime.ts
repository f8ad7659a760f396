/// <reference lib="esnext.disposable" preserve="true" />
import { type CacheSize, poolTokens } from "./cache-size.js";
import { type CacheOption, cacheTypesOf } from "./cache-types.js";
import type { Device } from "./device.js";
import { KvPool } from "./kv-pool.js";
import { type LlamaAdapters, type LlamaWeights, llamaCache, llamaRope, recordLlama } from "./llama.js";
import { native } from "./native.js";
import type { Program } from "./program.js";
import { ropeInContext } from "./rope-scaling.js";
import { Scheduler } from "./scheduler.js";
import { Sequence } from "./sequence.js";
import type { LlamaConfig } from "./weights/source.js";

/** The cache of a model, and who gives way where it is full. */
export interface RuntimeOptions {
  /** The type of the cached keys and values, of both or of each. Default: "f16". */
  cache?: CacheOption | undefined;
  /** Tokens that one sequence may have. Default: the context that the model was trained with. */
  contextLength?: number | undefined;
  /**
   * What the KV cache holds over all sequences. Default: `contextLength` tokens, enough for one text alone; for several
   * at once give as many times that. Where it holds less than one sequence may have, that one ends earlier, with
   * ERR_CRIA_CACHE_FULL.
   */
  cacheSize?: CacheSize | undefined;
  /**
   * Where the KV cache is full, let sequences give their blocks back and be read again later, to the same bits: the
   * youngest of those that are idle, or whose text nobody has asked on for a second; else the youngest of those that
   * are younger than the one in need. Those that were loaded, or of which a range was removed, cannot.
   *
   * Default: false. What finds no room then waits, as long as others read tokens or texts are being made, for these
   * end. Where only idle sequences hold the blocks, or all that wait stand in one another's way, the youngest that
   * waits throws ERR_CRIA_CACHE_FULL. A text is being made until its iteration ends, or is left: who waits for another
   * text before he asks on for the one that he has begun may wait for ever.
   */
  preempt?: boolean | undefined;
}

export const runtimeOptions = [
  "cache",
  "contextLength",
  "cacheSize",
  "preempt",
] as const satisfies readonly (keyof RuntimeOptions)[];

/** A recorded model and its cache: from token ids to logits. */
export class Runtime {
  readonly device: Device;
  /** The model's, with RoPE's base as `contextLength` makes it where the model has dynamic scaling. */
  readonly config: LlamaConfig;
  /** Tokens that one sequence may have. The pool, made of whole blocks, may hold a few more. */
  readonly contextLength: number;
  readonly pool: KvPool;
  readonly scheduler: Scheduler;
  /** @internal */
  readonly weights: LlamaWeights;
  #program: Program;
  #disposed = false;

  constructor(device: Device, config: LlamaConfig, weights: LlamaWeights, options: RuntimeOptions = {}) {
    const { cache, contextLength = config.contextLength, cacheSize, preempt = false } = options;
    const shape = llamaCache(config, cacheTypesOf(cache));
    this.device = device;
    this.config = { ...config, rope: ropeInContext(config.rope, contextLength) };
    this.contextLength = contextLength;
    this.weights = weights;
    this.#program = recordLlama(device, this.config, weights, shape);
    const { availableBytes } = native.deviceInfo(device.handle);
    this.pool = new KvPool(device, shape, poolTokens(shape, contextLength, cacheSize, availableBytes));
    this.scheduler = new Scheduler(this, llamaRope(this.config), preempt);
  }

  /** Of the weights, and of the adapters that are set. */
  get program(): Program {
    return this.#program;
  }

  /**
   * Puts adapters beside the weights, or with undefined none, for whatever is read from now on. What the cache holds is
   * of other weights: sequences read their tokens again when they go on, and no text finds a prefix of another's from
   * before.
   *
   * @internal
   * @throws as {@link Scheduler.forget}, and nothing changes then
   */
  adapt(adapters: LlamaAdapters | undefined): void {
    const program = recordLlama(this.device, this.config, this.weights, this.pool.shape, adapters);
    try {
      this.scheduler.forget();
    } catch (error) {
      program.dispose();
      throw error;
    }
    this.pool.forget();
    this.#program.dispose();
    this.#program = program;
  }

  /** An empty sequence. */
  sequence(): Sequence {
    return new Sequence(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** Gives the memory back. Sequences cannot be used afterwards. Again is no error. */
  dispose(): void {
    this.#disposed = true;
    this.scheduler.dispose();
    this.#program.dispose();
    this.pool.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
