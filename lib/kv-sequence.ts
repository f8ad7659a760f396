/// <reference lib="esnext.disposable" preserve="true" />
import { integer } from "./errors.js";
import { blockTokens } from "./kv-block.js";
import type { KvPool } from "./kv-pool.js";
import type { CachedBlock } from "./prefix-cache.js";

/** Keys and values to be copied within the pool before the next run: from slot to slot, 16 · block + place. */
export interface KvMoves {
  readonly from: Int32Array;
  readonly to: Int32Array;
  /** Positions that the keys turn by. */
  readonly shift: number;
}

/**
 * A sequence's place in the pool: how many of its tokens are there, and the table of its blocks.
 *
 * Blocks may be shared with other sequences; one that is to be written to is made this sequence's own first.
 */
export class KvSequence {
  readonly #pool: KvPool;
  readonly #blocks: number[] = [];
  readonly #entries: CachedBlock[] = []; // of the first blocks, those in the prefix cache
  #length = 0;
  #edited = Number.POSITIVE_INFINITY; // keys and values from here on do not follow from the tokens alone

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

  /** Whether reading the tokens again would give the same keys and values. */
  get repeatable(): boolean {
    return this.#edited === Number.POSITIVE_INFINITY;
  }

  /**
   * Takes the blocks of an empty sequence that the prefix cache has of `tokens`, with which it begins; at most `most`
   * tokens of them.
   */
  find(tokens: Int32Array, most: number): void {
    if (this.#length > 0 || this.#blocks.length > 0) return;
    for (let end = blockTokens; end <= most; end += blockTokens) {
      const found = this.#pool.take(this.#entries.at(-1), tokens.subarray(end - blockTokens, end));
      if (found === undefined) break;
      this.#entries.push(found);
      this.#blocks.push(found.block);
      this.#length = end;
    }
  }

  /** Of the blocks that {@link find} would take those that others hold: they cost the pool nothing. */
  countShared(tokens: Int32Array, most: number): number {
    let shared = 0;
    let parent: CachedBlock | undefined;
    for (let end = blockTokens; end <= most; end += blockTokens) {
      const seen = this.#pool.look(parent, tokens.subarray(end - blockTokens, end));
      if (seen === undefined) break;
      parent = seen.found;
      if (seen.held) shared += 1;
    }
    return shared;
  }

  /** Blocks that {@link reserve} would take. */
  needs(count: number): number {
    const last = this.#begun(count);
    const copied = last !== undefined && !this.#pool.single(last);
    return Math.max(0, this.#missing(count)) + (copied ? 1 : 0);
  }

  /** Blocks that `count` more tokens need beside those that are there. */
  #missing(count: number): number {
    return Math.ceil((this.#length + count) / blockTokens) - this.#blocks.length;
  }

  /** The block that has tokens already and that the next of `count` is written to, if there is one. */
  #begun(count: number): number | undefined {
    if (this.#length % blockTokens === 0 || count === 0) return undefined;
    return this.#blocks[Math.floor(this.#length / blockTokens)]!;
  }

  /**
   * Makes room for `count` tokens after those that are there, in blocks of its own. Where it fails it holds what it
   * held; a block that it wrote to last may then no longer be found by its tokens.
   *
   * @returns what must be copied before the room is written to
   * @throws CriaError ERR_CRIA_CACHE_FULL
   */
  reserve(count: number): KvMoves | undefined {
    const kept = this.#length % blockTokens;
    const last = this.#begun(count);
    const copied = last !== undefined && !this.#pool.own(last);
    if (last !== undefined) this.#forget(Math.floor(this.#length / blockTokens));
    const needed = this.#missing(count);
    if (needed <= 0 && !copied) return undefined;

    const taken = this.#pool.allocate(Math.max(0, needed) + (copied ? 1 : 0));
    const moves = copied ? copyOf(last!, taken[0]!, kept) : undefined;
    if (copied) {
      this.#blocks[Math.floor(this.#length / blockTokens)] = taken.shift()!;
      this.#pool.release([last!]);
    }
    this.#blocks.push(...taken);
    return moves;
  }

  /**
   * Counts `count` tokens in that a run has written, where {@link reserve} made room.
   *
   * @param tokens all of the sequence's, by which full blocks can then be found by others; without them they cannot
   */
  commit(count: number, tokens?: Int32Array): void {
    integer("count", count, 0, this.#blocks.length * blockTokens - this.#length);
    this.#length += count;
    if (tokens === undefined) {
      this.#edited = Math.min(this.#edited, this.#length - count);
      return;
    }
    const full = Math.floor(Math.min(this.#length, this.#edited) / blockTokens);
    for (let i = this.#entries.length; i < full; i++) {
      const held = tokens.subarray(i * blockTokens, (i + 1) * blockTokens);
      const entry = this.#pool.share(this.#entries[i - 1], held, this.#blocks[i]!);
      this.#entries.push(entry);
      this.#blocks[i] = entry.block;
    }
  }

  /**
   * A sequence with the same tokens and the same blocks. Either gets blocks of its own as it goes on; those that were
   * reserved and hold nothing yet stay this one's alone.
   */
  fork(): KvSequence {
    const fork = new KvSequence(this.#pool);
    const blocks = this.#blocks.slice(0, Math.ceil(this.#length / blockTokens));
    this.#pool.retain(blocks);
    fork.#blocks.push(...blocks);
    fork.#entries.push(...this.#entries);
    fork.#length = this.#length;
    fork.#edited = this.#edited;
    return fork;
  }

  /** Forgets the tokens from `length` on. */
  truncate(length: number): void {
    integer("length", length, 0, this.#length);
    const blocks = Math.ceil(length / blockTokens);
    this.#pool.release(this.#blocks.splice(blocks).reverse());
    this.#forget(blocks);
    this.#length = length;
    if (length <= this.#edited) this.#edited = Number.POSITIVE_INFINITY;
  }

  /**
   * Forgets the tokens [begin, end); those after them slide down to `begin`, their keys turned to the new positions.
   * Where it fails it holds what it held; the blocks from `begin` on may then no longer be found by their tokens.
   *
   * @param keep keeps as many blocks as it has, for tokens to come
   * @returns what must be moved before the sequence is read again, in this order
   * @throws CriaError ERR_CRIA_CACHE_FULL where blocks that are shared cannot be copied
   */
  removeRange(begin: number, end: number, keep: boolean = false): KvMoves[] {
    integer("begin", begin, 0, this.#length);
    integer("end", end, begin, this.#length);
    if (end === this.#length || begin === end) {
      if (begin < end) this.truncate(begin);
      return [];
    }
    const first = Math.floor(begin / blockTokens);
    const old = [...this.#blocks];
    const length = this.#length - (end - begin);
    const blocks = this.#keptBlocks(length, keep);
    const foreign = old.flatMap((block, i) => (i >= first && i < blocks && !this.#pool.own(block) ? i : []));
    this.#forget(first);
    const taken = this.#pool.allocate(foreign.length);
    for (const [i, index] of foreign.entries()) this.#blocks[index] = taken[i]!;

    const moves: KvMoves[] = [];
    const kept = begin % blockTokens;
    if (this.#blocks[first] !== old[first] && kept > 0) moves.push(copyOf(old[first]!, this.#blocks[first]!, kept));
    const count = length - begin;
    moves.push({
      from: slots(old, end, count),
      to: slots(this.#blocks, begin, count),
      shift: begin - end,
    });
    this.#pool.release([...foreign.map((index) => old[index]!), ...this.#blocks.splice(blocks)].reverse());
    this.#length = length;
    this.#edited = Math.min(this.#edited, begin);
    return moves;
  }

  /** Blocks that {@link removeRange} would take. */
  removalNeeds(begin: number, end: number, keep: boolean = false): number {
    if (end >= this.#length || begin === end) return 0;
    const blocks = this.#keptBlocks(this.#length - (end - begin), keep);
    const written = this.#blocks.slice(Math.floor(begin / blockTokens), blocks);
    return written.filter((block) => !this.#pool.single(block)).length;
  }

  #keptBlocks(length: number, keep: boolean): number {
    return keep ? this.#blocks.length : Math.ceil(length / blockTokens);
  }

  /** Gives all blocks back: the last first, so that of a text's cached blocks the first stay longest. */
  free(): void {
    this.truncate(0);
  }

  [Symbol.dispose](): void {
    this.free();
  }

  /** Blocks from `block` on are not found by their tokens any more, at least not through this sequence. */
  #forget(block: number): void {
    if (this.#entries.length > block) this.#entries.length = block;
  }
}

/** The slots of tokens [first, first + count). */
function slots(blocks: readonly number[], first: number, count: number): Int32Array {
  return Int32Array.from({ length: count }, (_, i) => {
    const token = first + i;
    return blocks[Math.floor(token / blockTokens)]! * blockTokens + (token % blockTokens);
  });
}

/** The first `count` tokens of a block, to another. */
const copyOf = (from: number, to: number, count: number): KvMoves => ({
  from: slots([from], 0, count),
  to: slots([to], 0, count),
  shift: 0,
});
