/** A full block of the KV cache, found again by the tokens from the start of a text to its end. */
export interface CachedBlock {
  readonly block: number;
  /** The block of the tokens before; undefined for the first of a text. */
  readonly parent: CachedBlock | undefined;
  readonly tokens: Int32Array;
  readonly hash: number;
}

/**
 * The index of full blocks by what they hold: keys and values of a block follow from its tokens and all before them. A
 * block is looked up by a hash chained from its parent's (vLLM, Kwon et al. 2023, §4.3), and taken for the same only
 * where its parent is the same entry and its tokens are equal: a collision costs time, never a wrong text.
 */
export class PrefixCache {
  readonly #byHash = new Map<number, CachedBlock[]>();
  readonly #byBlock = new Map<number, CachedBlock>();

  /** The block that holds `tokens` after `parent`. */
  find(parent: CachedBlock | undefined, tokens: Int32Array): CachedBlock | undefined {
    return this.#byHash
      .get(hashTokens(parent, tokens))
      ?.find((entry) => entry.parent === parent && equal(entry.tokens, tokens));
  }

  /** Enters a block that holds `tokens`, which are copied, after `parent`. */
  add(parent: CachedBlock | undefined, tokens: Int32Array, block: number): CachedBlock {
    const entry = { block, parent, tokens: tokens.slice(), hash: hashTokens(parent, tokens) };
    const alike = this.#byHash.get(entry.hash);
    if (alike === undefined) this.#byHash.set(entry.hash, [entry]);
    else alike.push(entry);
    this.#byBlock.set(block, entry);
    return entry;
  }

  has(block: number): boolean {
    return this.#byBlock.has(block);
  }

  /** Forgets what every block holds. */
  clear(): void {
    this.#byHash.clear();
    this.#byBlock.clear();
  }

  /** Forgets what a block holds, if it is known. */
  remove(block: number): void {
    const entry = this.#byBlock.get(block);
    if (entry === undefined) return;
    this.#byBlock.delete(block);
    const others = this.#byHash.get(entry.hash)!.filter((other) => other !== entry);
    if (others.length === 0) this.#byHash.delete(entry.hash);
    else this.#byHash.set(entry.hash, others);
  }
}

/** FNV-1a over words instead of bytes, from the parent's hash on. */
function hashTokens(parent: CachedBlock | undefined, tokens: Int32Array): number {
  let hash = parent === undefined ? 0x811c9dc5 : parent.hash;
  for (const token of tokens) {
    hash = Math.imul(hash ^ token, 0x01000193);
    hash ^= hash >>> 15; // a product carries upwards only
  }
  return hash;
}

function equal(a: Int32Array, b: Int32Array): boolean {
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return false;
  }
  return a.length === b.length;
}
