/**
 * How well a model predicts a text (Jelinek et al. 1977). Of N scored tokens, each with the probability p that the
 * model gave it, nll = -Σ ln p, and the perplexity is exp(nll / N): it compares models of one vocabulary. Bits per
 * byte, nll / ln 2 over the bytes of the scored text, compares all.
 */
import { CriaError, integer, outOfRange } from "./errors.js";
import { logitsByToken } from "./logits.js";
import { logProbability } from "./logprobs.js";
import type { Model } from "./model.js";
import { afterBos, type Tokenizer } from "./text/tokenizer.js";

/** What stands between the documents of a corpus (GPT-2's token, which TinyStories' files have as text). */
export const documentSeparator = "<|endoftext|>";

export interface PerplexityOptions {
  /**
   * Tokens that the model sees at most, BOS among them; at least 2. Default: the context that it was trained with, or
   * loaded with where that is shorter.
   */
  context?: number;
  /** Stops the work within an op; ERR_CRIA_ABORTED is then thrown. */
  signal?: AbortSignal;
  /** Called after each window with the tokens scored so far, and all that will be. */
  onProgress?: (scored: number, total: number) => void;
}

export interface Perplexity {
  /** Tokens scored: all but each window's BOS. */
  tokens: number;
  /** Of the text that these tokens say, in UTF-8. */
  bytes: number;
  /** Negative log-likelihood of them all, in nats. */
  nll: number;
  perplexity: number;
  bitsPerByte: number;
}

/**
 * Scores a text. Where it is of documents with {@link documentSeparator} between them, each is begun with BOS, without
 * its leading white space, and as much of it is scored as fits the context. Any other is scored whole, in windows of
 * the context's size that are each begun with BOS and know nothing of the others.
 *
 * @throws RangeError where there is nothing to score, TypeError or RangeError for a wrong option
 * @throws CriaError ERR_CRIA_CONTEXT where the model was loaded with a shorter context than the one asked for
 * @throws CriaError ERR_CRIA_UNSUPPORTED for a vocabulary without BOS
 */
export async function measurePerplexity(
  model: Model,
  text: string,
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { contextLength } = model.runtime;
  const { context = Math.min(model.config.contextLength, contextLength), signal, onProgress } = options;
  integer("context", context, 2);
  if (context > contextLength) {
    throw new CriaError(
      "ERR_CRIA_CONTEXT",
      `context: must be at most ${contextLength}, the context that the model was loaded with, not ${context}`,
    );
  }
  const { bos } = model.tokenizer;
  if (bos === undefined)
    throw new CriaError("ERR_CRIA_UNSUPPORTED", "vocabulary: must have a BOS to begin a text with");

  const { windows, bytes } = split(model.tokenizer, text, context - 1);
  const total = windows.reduce((sum, window) => sum + window.length, 0);
  if (total === 0) throw outOfRange("text", "at least one token long", text);

  let nll = 0;
  let scored = 0;
  for (const window of windows) {
    nll += await windowNll(model, bos, window, signal);
    scored += window.length;
    onProgress?.(scored, total);
  }
  return perplexityOf({ tokens: total, bytes, nll });
}

/** What follows from the sums over some texts' tokens. */
export function perplexityOf({ tokens, bytes, nll }: Pick<Perplexity, "tokens" | "bytes" | "nll">): Perplexity {
  return { tokens, bytes, nll, perplexity: Math.exp(nll / tokens), bitsPerByte: nll / Math.LN2 / bytes };
}

/** The tokens to score, at most `size` of them at a time, and the bytes of their text. */
function split(tokenizer: Tokenizer, text: string, size: number): { windows: Int32Array[]; bytes: number } {
  const bytesOf = (tokens: Int32Array) => Buffer.byteLength(tokenizer.decode(tokens));
  if (!text.includes(documentSeparator)) {
    const tokens = tokenizer.encode(text);
    const count = Math.ceil(tokens.length / size);
    const windows = Array.from({ length: count }, (_, i) => tokens.subarray(i * size, (i + 1) * size));
    return { windows, bytes: bytesOf(tokens) };
  }
  const windows = text
    .split(documentSeparator)
    .map((document) => tokenizer.encode(document.trimStart()).subarray(0, size))
    .filter((tokens) => tokens.length > 0);
  return { windows, bytes: windows.reduce((sum, tokens) => sum + bytesOf(tokens), 0) };
}

/** -Σ ln p of a window's tokens, each after BOS and those before it. */
async function windowNll(model: Model, bos: number, tokens: Int32Array, signal?: AbortSignal): Promise<number> {
  const { vocab } = model.config;
  const sequence = model.sequence();
  let nll = 0;
  let next = 0;
  try {
    const read = afterBos(bos, tokens.subarray(0, -1)); // nothing follows the last
    for await (const logits of logitsByToken(sequence, read, vocab, { signal })) {
      nll -= logProbability(logits, tokens[next++]!);
    }
  } finally {
    sequence.dispose();
  }
  return nll;
}
