/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "./device.js";
import { CriaError, integer } from "./errors.js";
import { blockTokens } from "./kv-block.js";
import { type CacheHandle, type CacheShape, native } from "./native.js";
import { type CachedBlock, PrefixCache } from "./prefix-cache.js";

/** What a pool's blocks are doing, and how often the prefix cache had what was asked for. */
export interface KvPoolStatistics {
  readonly blocks: number;
  /** Held by no sequence, and holding nothing that could be found again. */
  readonly free: number;
  /** Held by no sequence, but found again by a text that begins alike, until they are needed. */
  readonly cached: number;
  /** Held by more than one sequence. */
  readonly shared: number;
  /** Full blocks that a text wanted and found, and did not find. */
  readonly hits: number;
  readonly misses: number;
  /** Cached blocks that were given to another text. */
  readonly evictions: number;
}

/**
 * The KV cache: a fixed arena, cut into blocks of 16 tokens that sequences hold by reference count. Its address space
 * is reserved at once, its pages are taken as blocks are first written.
 *
 *     free ──allocate──► held, references ≥ 1 ──release──► free, or
 *      ▲                    ▲                              cached, where full blocks are found again by their tokens
 *      └────evict, the least recently held──┴──take────────┘
 */
export class KvPool {
  readonly device: Device;
  readonly shape: CacheShape;
  readonly blocks: number;
  readonly #cache: CacheHandle;
  readonly #references: Uint32Array; // of each block; 0: free or cached
  readonly #free: number[]; // a stack: the block freed last, whose memory is warm, is taken first
  readonly #cached = new Set<number>(); // in the order in which they were released
  readonly #prefixes = new PrefixCache();
  #hits = 0;
  #misses = 0;
  #evictions = 0;

  /** A pool that holds at least `tokens` tokens. */
  constructor(device: Device, shape: CacheShape, tokens: number) {
    this.device = device;
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

  /** Blocks that no sequence holds. */
  get freeBlocks(): number {
    return this.#free.length + this.#cached.size;
  }

  get statistics(): KvPoolStatistics {
    return {
      blocks: this.blocks,
      free: this.#free.length,
      cached: this.#cached.size,
      shared: this.#references.reduce((count, references) => count + (references > 1 ? 1 : 0), 0),
      hits: this.#hits,
      misses: this.#misses,
      evictions: this.#evictions,
    };
  }

  /**
   * Takes `count` blocks, each with one reference; all of them or, where there are fewer, none. Free ones first, then
   * those cached that were held least recently.
   *
   * @throws CriaError ERR_CRIA_CACHE_FULL
   */
  allocate(count: number): number[] {
    integer("count", count, 0);
    if (count > this.freeBlocks) throw this.full(count);
    const taken: number[] = [];
    while (taken.length < count) taken.push(this.#free.pop() ?? this.#evict());
    for (const block of taken) this.#references[block] = 1;
    return taken;
  }

  /** The error where `count` more blocks were wanted and are not there. */
  full(count: number): CriaError {
    return new CriaError(
      "ERR_CRIA_CACHE_FULL",
      `the KV pool is full: ${count} more blocks of ${blockTokens} tokens were asked for, ${this.freeBlocks} of ${this.blocks} are free`,
    );
  }

  #evict(): number {
    const [block] = this.#cached as Iterable<number> as [number];
    this.#cached.delete(block);
    this.#prefixes.remove(block);
    this.#evictions += 1;
    return block;
  }

  /** Adds a reference to blocks that are held already. */
  retain(blocks: readonly number[]): void {
    for (const block of blocks) this.#requireHeld(block, 1);
    for (const block of blocks) this.#references[block]! += 1;
  }

  /**
   * Drops a reference to each block, as many as it is named; those without another are free or cached. Where one has
   * not as many, none changes.
   */
  release(blocks: readonly number[]): void {
    for (const [i, block] of blocks.entries()) {
      const references = this.#references[block];
      if (references === undefined || references === 0) {
        for (const before of blocks.slice(0, i)) this.#references[before]! += 1;
        for (const each of blocks) this.#requireHeld(each, blocks.filter((other) => other === each).length);
      }
      this.#references[block]! -= 1;
    }
    for (const block of new Set(blocks)) {
      if (this.#references[block] !== 0) continue;
      if (this.#prefixes.has(block)) this.#cached.add(block);
      else this.#free.push(block);
    }
  }

  /** The block that holds `tokens` after `parent`, with one more reference; undefined where there is none. */
  take(parent: CachedBlock | undefined, tokens: Int32Array): CachedBlock | undefined {
    const found = this.#prefixes.find(parent, tokens);
    if (found === undefined) {
      this.#misses += 1;
      return undefined;
    }
    this.#hits += 1;
    this.#cached.delete(found.block);
    this.#references[found.block]! += 1;
    return found;
  }

  /** The block that {@link take} would give, for those who only want to know, and whether a sequence holds it. */
  look(parent: CachedBlock | undefined, tokens: Int32Array): { found: CachedBlock; held: boolean } | undefined {
    const found = this.#prefixes.find(parent, tokens);
    return found && { found, held: this.#references[found.block]! > 0 };
  }

  /**
   * Makes a held, full block to be found by its tokens. Where another holds them already, that one, whose bits are the
   * same, takes its place: `block` loses a reference, and the other, which is returned, has one more.
   */
  share(parent: CachedBlock | undefined, tokens: Int32Array, block: number): CachedBlock {
    const known = this.#prefixes.find(parent, tokens);
    if (known === undefined) return this.#prefixes.add(parent, tokens, block);
    this.#cached.delete(known.block);
    this.#references[known.block]! += 1;
    this.release([block]);
    return known;
  }

  /** Makes no block be found by its tokens any more: those that are cached are free. */
  forget(): void {
    for (const block of this.#cached) this.#free.push(block);
    this.#cached.clear();
    this.#prefixes.clear();
  }

  /** Whether a held block may be written to: one holder has it, and it is then no longer found by its tokens. */
  own(block: number): boolean {
    if (!this.single(block)) return false;
    this.#prefixes.remove(block);
    return true;
  }

  /** Whether a held block has one holder. */
  single(block: number): boolean {
    this.#requireHeld(block, 1);
    return this.#references[block] === 1;
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
