import type { Distribution } from "../sampling/sampler.js";

/** Tokens that a text may go on with. */
export interface Proposal {
  readonly tokens: readonly number[];
  /** What each token was drawn from. Without them each is a guess that nothing was drawn for. */
  readonly distributions?: readonly Distribution[];
}

/** Guesses how one text goes on. */
export interface Proposer {
  /**
   * @param text the prompt's tokens and those chosen since; what it held in the last call it still begins with
   * @param most how many tokens to propose, at least 1; fewer may come, or none
   */
  propose(text: readonly number[], most: number): Promise<Proposal>;
  dispose(): void;
}
