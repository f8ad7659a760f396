import { chunkTokens } from "./scheduler.js";
import type { ForwardOptions, Sequence } from "./sequence.js";

/**
 * The logits after each of the tokens that follow in a sequence, a chunk of tokens at a time: those of all tokens of a
 * long text, with a vocabulary of 32,000, would take 128 KB each.
 *
 * @yields [tokens of the chunk, vocab], chunk after chunk
 * @throws as {@link Sequence.forward}
 */
export async function* logitsInChunks(
  sequence: Sequence,
  tokens: Int32Array,
  options: ForwardOptions = {},
): AsyncGenerator<Float32Array> {
  const { onProgress } = options;
  const total = sequence.length + tokens.length;
  const chunkOptions = { ...options, onProgress: onProgress && ((read: number) => onProgress(read, total)) };
  for (let from = 0; from < tokens.length; from += chunkTokens) {
    yield await sequence.forward(tokens.subarray(from, from + chunkTokens), "all", chunkOptions);
  }
}

/**
 * The same, token by token.
 *
 * @param vocab the length of each
 * @yields [vocab], as many times as there are tokens
 */
export async function* logitsByToken(
  sequence: Sequence,
  tokens: Int32Array,
  vocab: number,
  options: ForwardOptions = {},
): AsyncGenerator<Float32Array> {
  for await (const logits of logitsInChunks(sequence, tokens, options)) {
    for (let row = 0; row < logits.length; row += vocab) yield logits.subarray(row, row + vocab);
  }
}
