import type { Choice, Chooser } from "./chooser.js";
import type { Priority } from "./scheduler.js";
import type { ForwardOptions, Sequence } from "./sequence.js";
import type { SpeculationStatistics } from "./speculation/speculative-source.js";
import type { Window } from "./window.js";

/** Where the tokens of a text come from, after the one that follows the prompt. */
export interface TokenSource {
  /**
   * @param last the token chosen last, which is to be read
   * @throws as {@link Sequence.forward}
   */
  next(last: number): Promise<Choice>;
  /** Of a source that speculates. */
  readonly speculation?: SpeculationStatistics;
  dispose(): void;
}

/** What bounds the tokens that a source chooses, and stops it. */
export interface SourceLimits {
  readonly contextLength: number;
  readonly maxTokens: number;
  readonly signal: AbortSignal | undefined;
  readonly priority?: Priority;
}

/** Reads a token, and chooses the next. */
export class PlainSource implements TokenSource {
  readonly #sequence: Sequence;
  readonly #chooser: Pick<Chooser, "choose">;
  readonly #options: Pick<ForwardOptions, "signal" | "priority">;
  readonly #window: Window | undefined;

  /**
   * @param sequence has read the prompt; whoever made it disposes of it
   * @param options of each reading
   * @param window makes room for each token, if there is one
   */
  constructor(
    sequence: Sequence,
    chooser: Pick<Chooser, "choose">,
    options: Pick<ForwardOptions, "signal" | "priority">,
    window: Window | undefined,
  ) {
    this.#sequence = sequence;
    this.#chooser = chooser;
    this.#options = options;
    this.#window = window;
  }

  async next(last: number): Promise<Choice> {
    await this.#window?.makeRoom(this.#sequence, 1, this.#options);
    return this.#chooser.choose(await this.#sequence.forward(Int32Array.of(last), "last", this.#options));
  }

  dispose(): void {}
}
