import { CriaError, integer } from "./errors.js";
import { blockTokens } from "./kv-block.js";
import { optionsOf } from "./options.js";
import type { RemoveOptions, Sequence } from "./sequence.js";

/** What a text without end keeps in the cache. */
export interface WindowOptions {
  /** Tokens that the cache holds of the text. Default: the context, which is the most there can be. */
  size?: number | undefined;
  /** Tokens at the start that are never forgotten. Default: 4, or `size` - 1 where that is less. */
  sinks?: number | undefined;
}

/** As many as Xiao et al. found to be enough for the models that they tried (table 2). */
const defaultSinks = 4;

/**
 * Lets a text go on past the context, with attention sinks (Xiao et al. 2024, "Efficient streaming language models with
 * attention sinks", §3.2): its first tokens, on which attention rests whatever they say, stay; of those after them the
 * older ones are forgotten, and the later ones take their positions.
 *
 * Some half of the text goes at a time, so that the move of what stays, which costs about as much as it takes to read
 * it once, is shared by as many tokens that follow.
 */
export class Window {
  readonly #size: number;
  readonly #sinks: number;
  #removed = 0;

  /**
   * @param most the context's length
   * @throws TypeError or RangeError where an option is not what {@link WindowOptions} says
   */
  constructor(options: WindowOptions, most: number) {
    const { size = most, sinks } = optionsOf("generate", options, ["size", "sinks"], "window");
    this.#size = integer("window.size", size, 1, most);
    this.#sinks = integer("window.sinks", sinks === undefined ? Math.min(defaultSinks, size - 1) : sinks, 0, size - 1);
  }

  /** Tokens forgotten so far: those after the sinks. */
  get removed(): number {
    return this.#removed;
  }

  /**
   * Forgets as many tokens of a sequence as must go before `count` more are read.
   *
   * @throws CriaError ERR_CRIA_CONTEXT where they do not fit though all but the sinks went
   * @param options of {@link Sequence.removeRange}
   * @throws as it
   */
  async makeRoom(sequence: Sequence, count: number, options: RemoveOptions = {}): Promise<void> {
    const excess = sequence.length + count - this.#size;
    if (excess <= 0) return;
    const removable = Math.max(0, sequence.length - this.#sinks);
    if (excess > removable) {
      const most = this.#size - Math.min(this.#sinks, sequence.length);
      throw new CriaError(
        "ERR_CRIA_CONTEXT",
        `text: must be at most ${most} tokens, the window without its sinks, not ${count}`,
      );
    }
    const half = Math.max(1, Math.floor(removable / 2));
    // What stays keeps its place within its block, where that is possible: whole runs of a block are moved.
    const whole = half - (half % blockTokens);
    const removed = Math.max(excess, whole > 0 ? whole : half);
    // It cannot give way any more. That such texts do not wait for one another for ever, each keeps what it will need.
    await sequence.removeRange(this.#sinks, this.#sinks + removed, { ...options, keepBlocks: true });
    this.#removed += removed;
  }

  /** Where a text that began at `position` before anything was forgotten, or what is left of it, begins now. */
  now(position: number): number {
    return position <= this.#sinks ? position : Math.max(this.#sinks, position - this.#removed);
  }
}

/** @throws as the constructor of {@link Window} */
export const windowOf = (options: WindowOptions | undefined, most: number): Window | undefined =>
  options === undefined ? undefined : new Window(options, most);
