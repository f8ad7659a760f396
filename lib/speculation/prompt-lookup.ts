import type { Proposal, Proposer } from "./proposer.js";

/** The longest match that is looked for: longer ones propose the same nearly always (Saxena 2023 has 3, too). */
const longestMatch = 3;

/**
 * Prompt lookup (Saxena 2023): the last three tokens of a text, or else two, or one, are found where they came last
 * before, and what followed them there is proposed. Where that runs into the text's end it goes on with what it has
 * proposed, as LZ77 copies: a text that repeats itself is proposed whole.
 *
 * Each token is entered once: the cost of a proposal does not grow with the text.
 */
export class PromptLookup implements Proposer {
  /** By the hash of up to three tokens: where in the text they were followed last. */
  readonly #after = new Map<number, number>();
  #entered = 1;

  async propose(text: readonly number[], most: number): Promise<Proposal> {
    this.#enter(text);
    const from = this.#find(text);
    if (from === undefined) return { tokens: [] };
    const tokens: number[] = [];
    for (let at = from; tokens.length < most; at++) {
      tokens.push(at < text.length ? text[at]! : tokens[at - text.length]!);
    }
    return { tokens };
  }

  dispose(): void {}

  /** Enters what came since the last call. What ends with the last token has nothing after it yet. */
  #enter(text: readonly number[]): void {
    for (; this.#entered < text.length; this.#entered++) {
      for (let length = 1; length <= Math.min(longestMatch, this.#entered); length++) {
        this.#after.set(hashBefore(text, this.#entered, length), this.#entered);
      }
    }
  }

  #find(text: readonly number[]): number | undefined {
    for (let length = Math.min(longestMatch, text.length - 1); length > 0; length--) {
      const after = this.#after.get(hashBefore(text, text.length, length));
      if (after !== undefined && alikeBefore(text, after, text.length, length)) return after;
    }
    return undefined;
  }
}

/** Of the `length` tokens before `end`, and of `length`. Two that collide hide one another, and are told apart. */
function hashBefore(text: readonly number[], end: number, length: number): number {
  let hash = 0x811c9dc5 + length;
  for (let i = end - length; i < end; i++) {
    hash = Math.imul(hash ^ text[i]!, 0x01000193); // FNV-1a, over words
    hash ^= hash >>> 15; // a product carries upwards only
  }
  return hash;
}

/** Whether the `length` tokens before a and b are the same. */
function alikeBefore(text: readonly number[], a: number, b: number, length: number): boolean {
  for (let i = 1; i <= length; i++) {
    if (text[a - i] !== text[b - i]) return false;
  }
  return true;
}
