/**
 * Natural log-probabilities of tokens, by the model's own distribution: the softmax of its logits as they are, before
 * any bias, ban, penalty, filter or temperature.
 */
import { integer } from "./errors.js";
import { logitsByToken } from "./logits.js";
import { optionalSignal, optionsOf } from "./options.js";
import { fittingPrompt, type Speaker } from "./prompt.js";
import { argmax, selectBest, sortBestFirst } from "./sampling/ranking.js";
import type { ForwardOptions, Sequence } from "./sequence.js";

/** Of {@link ScoredToken.top}: as many as OpenAI's interface gives. */
export const mostAlternatives = 20;

/** A token, and how probable it is in its place. */
export interface TokenLogprob {
  token: number;
  /** ln of its probability after the tokens before it. */
  logprob: number;
}

/** A token of a text. */
export interface ScoredToken extends TokenLogprob {
  /** The most probable tokens in its place, the best first: as many as were asked for, itself perhaps among them. */
  top: TokenLogprob[];
}

/** Options of {@link Model.logprobs}. */
export interface ScoreOptions {
  /** How many of the most probable tokens in each one's place are told, 0 to 20. Default: 0. */
  top?: number | undefined;
  /** Stops the work within an op; ERR_CRIA_ABORTED is then thrown. */
  signal?: AbortSignal | undefined;
}

/**
 * @returns `count` if it is a number of alternatives that can be asked for; throws a TypeError or RangeError otherwise
 */
export const alternatives = (name: string, count: number): number => integer(name, count, 0, mostAlternatives);

/** ln softmax(logits)[token], in float64: the sum over a corpus keeps more digits than float32 has. */
export const logProbability = (logits: Float32Array, token: number): number => logits[token]! - logSumExp(logits);

/** @param top how many alternatives, too */
export function scoreToken(logits: Float32Array, token: number, top: number): ScoredToken {
  const total = logSumExp(logits);
  return { token, logprob: logits[token]! - total, top: mostProbable(logits, top, total) };
}

/**
 * The `count` most probable tokens, or all that can come, the best first.
 *
 * @param total ln Σ exp(logit)
 */
export function mostProbable(logits: Float32Array, count: number, total: number = logSumExp(logits)): TokenLogprob[] {
  const best = new Int32Array(Math.min(count, logits.length));
  const found = selectBest(logits, best);
  sortBestFirst(logits, best, found);
  return Array.from(best.subarray(0, found), (token) => ({ token, logprob: logits[token]! - total }));
}

/** What {@link readScored} gives. */
export interface ScoredText {
  /** The tokens after the first, which nothing stands before. */
  scores: ScoredToken[];
  /** [vocab], after the last token. */
  logits: Float32Array;
}

/**
 * Reads tokens, at least one, as `sequence.forward` does, and scores them on the way.
 *
 * @throws as {@link Sequence.forward}
 */
export async function readScored(
  sequence: Sequence,
  tokens: Int32Array,
  { vocab, top, ...options }: ForwardOptions & { vocab: number; top: number },
): Promise<ScoredText> {
  const scores: ScoredToken[] = [];
  let logits: Float32Array = new Float32Array(0);
  let next = 1;
  for await (const row of logitsByToken(sequence, tokens, vocab, options)) {
    if (next < tokens.length) scores.push(scoreToken(row, tokens[next++]!, top));
    logits = row;
  }
  return { scores, logits };
}

/**
 * Scores a text by a model: how probable each of its tokens is after those before it.
 *
 * @param prompt a text, or tokens as they are
 * @returns of each token, BOS among them, but the first, which nothing stands before
 * @throws TypeError or RangeError for a wrong argument
 * @throws CriaError ERR_CRIA_CONTEXT where the text is longer than the context, and as {@link Sequence.forward}
 */
export async function scoreText(
  speaker: Speaker,
  prompt: string | Int32Array,
  options: ScoreOptions = {},
): Promise<ScoredToken[]> {
  const { top = 0, signal } = optionsOf("logprobs", options, ["top", "signal"]);
  alternatives("top", top);
  optionalSignal(signal);
  const tokens = fittingPrompt(speaker, prompt);
  const sequence = speaker.runtime.sequence();
  try {
    return (await readScored(sequence, tokens, { vocab: speaker.tokenizer.size, top, signal })).scores;
  } finally {
    sequence.dispose();
  }
}

/** ln Σ exp(logit). */
function logSumExp(logits: Float32Array): number {
  const max = logits[argmax(logits)] ?? Number.NaN;
  let sum = 0;
  for (let id = 0; id < logits.length; id++) sum += Math.exp(logits[id]! - max);
  return max + Math.log(sum);
}
