/// <reference lib="esnext.disposable" preserve="true" />
import { type CacheSize, poolTokens } from "./cache-size.js";
import { type CacheOption, cacheTypesOf } from "./cache-types.js";
import type { Device } from "./device.js";
import { KvPool } from "./kv-pool.js";
import { type LlamaWeights, llamaCache, llamaRope, recordLlama } from "./llama.js";
import { native } from "./native.js";
import type { Program } from "./program.js";
import { Scheduler } from "./scheduler.js";
import { Sequence } from "./sequence.js";
import type { LlamaConfig } from "./weights/source.js";

export interface RuntimeOptions {
  /** The type of the cached keys and values, of both or of each. Default: "f16". */
  cache?: CacheOption;
  /** Tokens that one sequence may have. Default: the context that the model was trained with. */
  contextLength?: number;
  /**
   * What the KV cache holds over all sequences. Default: `contextLength` tokens. Where it holds less than one sequence
   * may have, that one ends earlier, with ERR_CRIA_CACHE_FULL.
   */
  cacheSize?: CacheSize;
  /**
   * Where the KV cache is full, let the youngest sequence give its blocks back and be read again later, to the same bits.
   * Default: false, which makes it wait for others to end, or throw ERR_CRIA_CACHE_FULL where none can.
   */
  preempt?: boolean;
}

/** A recorded model and its cache: from token ids to logits. */
export class Runtime {
  readonly device: Device;
  readonly config: LlamaConfig;
  /** Tokens that one sequence may have. The pool, made of whole blocks, may hold a few more. */
  readonly contextLength: number;
  readonly pool: KvPool;
  readonly program: Program;
  readonly scheduler: Scheduler;
  #disposed = false;

  constructor(device: Device, config: LlamaConfig, weights: LlamaWeights, options: RuntimeOptions = {}) {
    const { cache, contextLength = config.contextLength, cacheSize, preempt = false } = options;
    const shape = llamaCache(config, cacheTypesOf(cache));
    this.device = device;
    this.config = config;
    this.contextLength = contextLength;
    this.program = recordLlama(device, config, weights, shape);
    const { availableBytes } = native.deviceInfo(device.handle);
    this.pool = new KvPool(device, shape, poolTokens(shape, contextLength, cacheSize, availableBytes));
    this.scheduler = new Scheduler(this, llamaRope(config), preempt);
  }

  /** An empty sequence. */
  sequence(): Sequence {
    return new Sequence(this);
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  dispose(): void {
    this.#disposed = true;
    this.program.dispose();
    this.pool.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
