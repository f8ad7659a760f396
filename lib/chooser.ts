import type { GenerationPlan } from "./generate-options.js";
import { type ScoredToken, scoreToken } from "./logprobs.js";
import type { Distribution, Sampler } from "./sampling/sampler.js";
import { acceptOrReplace } from "./speculation/acceptance.js";

/** A token that was chosen. */
export interface Choice {
  readonly token: number;
  /** Where log-probabilities were asked for. */
  readonly score: ScoredToken | undefined;
}

/** A token that was drawn from a distribution, other than the one that it is to be chosen from. */
export interface Drawn {
  readonly token: number;
  readonly from: Distribution;
}

/** Chooses the tokens of one text, one after another. */
export class Chooser {
  readonly #sampler: Sampler;
  readonly #plan: Pick<GenerationPlan, "minTokens" | "stopTokens" | "ignoreEos" | "logprobs">;
  readonly #ends: readonly number[];
  #said = 0;

  /**
   * @param sampler has accepted the prompt; it accepts what is chosen
   * @param ends the tokens by which a model ends a text of this kind
   */
  constructor(
    sampler: Sampler,
    plan: Pick<GenerationPlan, "minTokens" | "stopTokens" | "ignoreEos" | "logprobs">,
    ends: readonly number[],
  ) {
    this.#sampler = sampler;
    this.#plan = plan;
    this.#ends = ends;
  }

  /**
   * Whether each choice is the likeliest token, whatever came before, and nothing more is told of it than which it is.
   */
  get greedy(): boolean {
    const { logprobs, ignoreEos, minTokens } = this.#plan;
    return this.#sampler.greedy && logprobs === undefined && !ignoreEos && minTokens === 0;
  }

  /**
   * Chooses the next token.
   *
   * @param logits [vocab], after the token before
   * @param drawn is chosen, or another is in its place, so that the choice has the distribution that it has without it
   */
  choose(logits: Float32Array, drawn?: Drawn): Choice {
    const { logprobs } = this.#plan;
    const token = this.#choose(logits, drawn);
    this.#sampler.accept(token);
    this.#said += 1;
    return { token, score: logprobs === undefined ? undefined : scoreToken(logits, token, logprobs) };
  }

  #choose(logits: Float32Array, drawn: Drawn | undefined): number {
    const banned = this.#banned();
    if (drawn === undefined) return this.#sampler.sample(logits, banned);
    return acceptOrReplace(this.#sampler.distribution(logits, banned), drawn.from, drawn.token, this.#sampler);
  }

  /** The tokens that must not come next. */
  #banned(): readonly number[] {
    const { ignoreEos, minTokens, stopTokens } = this.#plan;
    const early = this.#said < minTokens;
    return [...(ignoreEos || early ? this.#ends : []), ...(early ? stopTokens : [])];
  }
}
