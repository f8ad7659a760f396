import { CriaError, integer, outOfRange, wrongType } from "../errors.js";
import { blockTokens } from "../kv-block.js";
import { optionsOf } from "../options.js";
import type { Speaker } from "../prompt.js";
import { Runtime } from "../runtime.js";

/** How tokens are guessed before they are chosen. */
export interface SpeculateOptions {
  /**
   * A smaller model with the same vocabulary, which guesses. Without it what followed the last tokens where they were
   * said before is the guess, in the prompt or since (prompt lookup).
   */
  readonly draft?: Speaker | undefined;
  /** At most this many at a time, 1 to 15. Default: 15, or 8 of a draft's, each of which takes a run of it. */
  readonly tokens?: number | undefined;
  /**
   * Guess fewer at a time, or none for a while, where that is faster by the times measured so far. With a draft and a
   * temperature above 0 it depends on them which of the equally distributed texts comes. Default: true.
   */
  readonly adaptive?: boolean | undefined;
}

/** A generation's speculation, as it is used. */
export interface SpeculationPlan {
  readonly draft: Speaker | undefined;
  readonly tokens: number;
  readonly adaptive: boolean;
}

/** With the token before them they are still a short read, which the scheduler lets go before longer ones. */
const mostTokens = blockTokens - 1;

/** Of a draft's: Leviathan et al. 2023 (figure 3) find no more to pay but where nearly all are right. */
const mostDrafted = 8;

/** @throws TypeError or RangeError for an option that is not what {@link SpeculateOptions} says */
export function speculationOf(speculate: "prompt" | SpeculateOptions | undefined): SpeculationPlan | undefined {
  if (speculate === undefined) return undefined;
  if (speculate === "prompt") return { draft: undefined, tokens: mostTokens, adaptive: true };
  if (typeof speculate !== "object") throw wrongType("speculate", 'an object or "prompt"', speculate);
  const known = optionsOf("generate", speculate, ["draft", "tokens", "adaptive"], "speculate");
  const { draft, adaptive = true } = known;
  const { tokens = draft === undefined ? mostTokens : mostDrafted } = known;
  if (draft !== undefined && !(draft?.runtime instanceof Runtime)) throw wrongType("speculate.draft", "a model", draft);
  if (typeof adaptive !== "boolean") throw wrongType("speculate.adaptive", "a boolean", adaptive);
  return { draft, tokens: integer("speculate.tokens", tokens, 1, mostTokens), adaptive };
}

/**
 * @throws RangeError where a draft has another vocabulary than the model that it guesses for
 * @throws CriaError ERR_CRIA_DISPOSED where it was disposed
 */
export function checkDraft({ draft }: SpeculationPlan, { config }: Runtime): void {
  if (draft === undefined) return;
  if (draft.runtime.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "speculate.draft: was disposed");
  const { vocab } = draft.runtime.config;
  if (vocab === config.vocab) return;
  throw outOfRange("speculate.draft", `a model of ${config.vocab} tokens, as the one that it guesses for`, vocab);
}
