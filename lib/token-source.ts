import type { Choice, Chooser } from "./chooser.js";
import type { Sequence } from "./sequence.js";
import type { SpeculationStatistics } from "./speculation/speculative-source.js";

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

/** Reads a token, and chooses the next. */
export class PlainSource implements TokenSource {
  readonly #sequence: Sequence;
  readonly #chooser: Pick<Chooser, "choose">;
  readonly #signal: AbortSignal | undefined;

  /** @param sequence has read the prompt; whoever made it disposes of it */
  constructor(sequence: Sequence, chooser: Pick<Chooser, "choose">, signal: AbortSignal | undefined) {
    this.#sequence = sequence;
    this.#chooser = chooser;
    this.#signal = signal;
  }

  async next(last: number): Promise<Choice> {
    return this.#chooser.choose(await this.#sequence.forward(Int32Array.of(last), "last", { signal: this.#signal }));
  }

  dispose(): void {}
}
