/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "./device.js";
import { CriaError, integer } from "./errors.js";
import { type CacheHandle, type CacheShape, native } from "./native.js";

/** Tokens in a block of the cache. */
export const blockTokens = 16;

/** Bytes of K and V for one block of `shape`, over all layers. */
export function blockBytes({ type, layers, kvHeads, headDim }: CacheShape): number {
  return 2 * layers * kvHeads * headDim * blockTokens * (type === "f32" ? 4 : 2);
}

/**
 * The KV cache: a fixed arena, cut into blocks of 16 tokens that sequences hold by reference count. Its address space is
 * reserved at once, its pages are taken as blocks are first written.
 */
export class KvPool {
  readonly shape: CacheShape;
  readonly blocks: number;
  readonly #cache: CacheHandle;
  readonly #references: Uint32Array; // of each block; 0: free
  readonly #free: number[]; // a stack: the block freed last, whose memory is warm, is taken first

  /** A pool that holds at least `tokens` tokens. */
  constructor(device: Device, shape: CacheShape, tokens: number) {
    this.shape = shape;
    this.blocks = Math.ceil(integer("tokens", tokens, 1) / blockTokens);
    this.#cache = native.cacheCreate(device.handle, shape, this.blocks);
    this.#references = new Uint32Array(this.blocks);
    this.#free = Array.from({ length: this.blocks }, (_, i) => this.blocks - 1 - i);
  }

  /** For programs. */
  get cache(): CacheHandle {
    return this.#cache;
  }

  /** Tokens that all blocks hold together. */
  get capacity(): number {
    return this.blocks * blockTokens;
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** Takes `count` blocks, each with one reference; all of them or, where there are fewer, none. */
  allocate(count: number): number[] {
    integer("count", count, 0);
    if (count > this.#free.length) {
      throw new CriaError(
        "ERR_CRIA_CACHE_FULL",
        `the KV pool is full: ${count} more blocks of ${blockTokens} tokens were asked for, ${this.#free.length} of ${this.blocks} are free`,
      );
    }
    const taken = this.#free.splice(this.#free.length - count, count).reverse();
    for (const block of taken) this.#references[block] = 1;
    return taken;
  }

  /** Adds a reference to blocks that are held already. */
  retain(blocks: readonly number[]): void {
    for (const block of blocks) this.#requireHeld(block, 1);
    for (const block of blocks) this.#references[block]! += 1;
  }

  /**
   * Drops a reference to each block, as many as it is named; those without another are free again. Where one has not as
   * many, none changes.
   */
  release(blocks: readonly number[]): void {
    const drops = new Map<number, number>();
    for (const block of blocks) drops.set(block, (drops.get(block) ?? 0) + 1);
    for (const [block, count] of drops) this.#requireHeld(block, count);
    for (const block of blocks) {
      this.#references[block]! -= 1;
      if (this.#references[block] === 0) this.#free.push(block);
    }
  }

  #requireHeld(block: number, times: number): void {
    integer("block", block, 0, this.blocks - 1);
    const references = this.#references[block]!;
    if (references >= times) return;
    throw new CriaError(
      "ERR_CRIA_INTERNAL",
      `block ${block} of the KV pool must be held ${times} times, not ${references}`,
    );
  }

  /** Gives the memory back when the runs in progress are done. */
  dispose(): void {
    native.free(this.#cache);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A sequence's place in the pool: its tokens so far, and the table of its blocks. */
export class KvSequence {
  readonly #pool: KvPool;
  readonly #blocks: number[] = [];
  #length = 0;

  constructor(pool: KvPool) {
    this.#pool = pool;
  }

  /** Tokens whose keys and values the cache holds. */
  get length(): number {
    return this.#length;
  }

  /** The block of tokens 16i to 16i + 15, for each i. */
  get blockTable(): readonly number[] {
    return this.#blocks;
  }

  /** Makes room for `count` tokens after those that are there. */
  reserve(count: number): void {
    const needed = Math.ceil((this.#length + count) / blockTokens) - this.#blocks.length;
    if (needed > 0) this.#blocks.push(...this.#pool.allocate(needed));
  }

  /** Counts `count` tokens in that a run has written, where {@link reserve} made room. */
  commit(count: number): void {
    integer("count", count, 0, this.#blocks.length * blockTokens - this.#length);
    this.#length += count;
  }

  /** Gives all blocks back. */
  free(): void {
    this.#pool.release(this.#blocks);
    this.#blocks.length = 0;
    this.#length = 0;
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
