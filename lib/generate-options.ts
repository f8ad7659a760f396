import { finite, integer, outOfRange, wrongType } from "./errors.js";
import { alternatives } from "./logprobs.js";
import { optionalFlag, optionalFunction, optionalSignal } from "./options.js";
import { type SamplerOptions, samplerOptions } from "./sampling/sampler.js";
import type { Priority } from "./scheduler.js";
import { type SpeculateOptions, type SpeculationPlan, speculationOf } from "./speculation/options.js";
import type { WindowOptions } from "./window.js";

export interface GenerateOptions extends SamplerOptions {
  /** At most this many tokens. Default: until the model ends the text, or the context is full. */
  maxTokens?: number | undefined;
  /**
   * Neither the token that ends the text nor one of `stopTokens` is chosen before there are this many tokens, at most
   * `maxTokens`. A stop string, or the end of the context, ends the text all the same. Default: 0.
   */
  minTokens?: number | undefined;
  /** Strings that end the text, before them. They may begin and end within tokens. */
  stop?: string | readonly string[] | undefined;
  /** Tokens that end the text, before them. */
  stopTokens?: readonly number[] | undefined;
  /**
   * Never choose the token that ends the text, nor one by which a chat's template ends an answer, or an infilling ends.
   */
  ignoreEos?: boolean | undefined;
  /**
   * The result tells the log-probability of each token, and this many most probable tokens in its place, 0 to 20: by
   * the model's own distribution, before any bias, ban, penalty, filter or temperature. Default: it tells of none.
   */
  logprobs?: number | undefined;
  /** The result tells the same of the prompt's tokens, with as many alternatives as `logprobs` says, or none. */
  echo?: boolean | undefined;
  /**
   * Guess tokens, by prompt lookup or by a smaller model, and read them in one run; those that are not what the model
   * chooses are forgotten. The text is that of plain decoding, token for token; with a smaller model and a temperature
   * above 0 it is another of the same distribution. Default: guess none.
   */
  speculate?: "prompt" | SpeculateOptions | undefined;
  /**
   * Lets the text go on past the context: its first tokens stay, and the older ones after them are forgotten. Without
   * it the text ends where the context does. Not together with `speculate`. Once it has forgotten some it keeps the
   * blocks that it has, and cannot give way to others (`preempt`).
   */
  window?: WindowOptions | undefined;
  /** Among texts that wait for their turn the higher goes first. Default: 0. */
  priority?: Priority | undefined;
  /**
   * Called as the prompt is read, with the tokens read so far, those before the prompt among them, and all there are.
   */
  onProgress?: ((read: number, total: number) => void) | undefined;
  /** Stops the generation within an op; the iteration then throws ERR_CRIA_ABORTED. */
  signal?: AbortSignal | undefined;
}

/** All of them. */
export const generateOptions = [
  ...samplerOptions,
  ...(["maxTokens", "minTokens", "stop", "stopTokens", "ignoreEos", "logprobs", "echo", "speculate"] as const),
  ...(["window", "priority", "onProgress", "signal"] as const),
] as const satisfies readonly (keyof GenerateOptions)[];

/** The options of a generation, but for the sampler's, as they are used. */
export interface GenerationPlan {
  readonly maxTokens: number;
  readonly minTokens: number;
  readonly stops: readonly string[];
  readonly stopTokens: readonly number[];
  readonly ignoreEos: boolean;
  /** How many alternatives each token is told with; undefined where not even its own log-probability is. */
  readonly logprobs: number | undefined;
  readonly echo: boolean;
  /** Undefined where nothing is guessed. */
  readonly speculation: SpeculationPlan | undefined;
  readonly priority: Priority;
  readonly onProgress: ((read: number, total: number) => void) | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * @param vocab how many tokens there are; that of a model, once it is known
 * @throws TypeError or RangeError for an option that is not what {@link GenerateOptions} says
 */
export function planOf(options: GenerateOptions, vocab: number = Number.MAX_SAFE_INTEGER): GenerationPlan {
  const { maxTokens = Number.MAX_SAFE_INTEGER, minTokens = 0, stop = [], stopTokens = [], logprobs, signal } = options;
  const { priority = 0, onProgress } = options;
  integer("maxTokens", maxTokens, 1);
  return {
    maxTokens,
    minTokens: integer("minTokens", minTokens, 0, maxTokens),
    stops: stopStrings(stop),
    stopTokens: stopIds(stopTokens, vocab),
    ignoreEos: optionalFlag("ignoreEos", options.ignoreEos),
    logprobs: logprobs === undefined ? undefined : alternatives("logprobs", logprobs),
    echo: optionalFlag("echo", options.echo),
    speculation: speculationOf(options.speculate),
    priority: finite("priority", priority, -Number.MAX_VALUE),
    onProgress: optionalFunction("onProgress", onProgress),
    signal: optionalSignal(signal),
  };
}

function stopStrings(stop: string | readonly string[]): readonly string[] {
  if (typeof stop === "string") return [stopString("stop", stop)];
  if (!Array.isArray(stop)) throw wrongType("stop", "a string or an array of strings", stop);
  return Array.from(stop, (one, i) => stopString(`stop[${i}]`, one));
}

function stopString(name: string, stop: unknown): string {
  if (typeof stop !== "string") throw wrongType(name, "a string", stop);
  if (stop === "") throw outOfRange(name, "at least one character long", stop);
  return stop;
}

function stopIds(tokens: readonly number[], vocab: number): readonly number[] {
  if (!Array.isArray(tokens)) throw wrongType("stopTokens", "an array of numbers", tokens);
  return Array.from(tokens, (token, i) => integer(`stopTokens[${i}]`, token, 0, vocab - 1));
}

/** @throws RangeError where a bias is for what is no token of a vocabulary */
export function checkBias(tokens: Iterable<number>, vocab: number): void {
  for (const token of tokens) {
    if (token >= vocab) throw outOfRange("logitBias", `for tokens from 0 to ${vocab - 1}`, token);
  }
}
