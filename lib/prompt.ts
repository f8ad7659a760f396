import { CriaError, wrongType } from "./errors.js";
import type { Runtime } from "./runtime.js";
import { afterBos, type Tokenizer } from "./text/tokenizer.js";
import { tokensOf } from "./tokens.js";

/** What reads a prompt, and may go on from there: a model. */
export interface Speaker {
  readonly runtime: Runtime;
  readonly tokenizer: Tokenizer;
}

/**
 * {@link promptTokens} that fit the context.
 *
 * @throws CriaError ERR_CRIA_CONTEXT where they do not
 */
export function fittingPrompt(speaker: Speaker, prompt: string | Int32Array): Int32Array {
  const { contextLength } = speaker.runtime;
  const tokens = promptTokens(speaker.tokenizer, prompt);
  if (tokens.length <= contextLength) return tokens;
  throw new CriaError(
    "ERR_CRIA_CONTEXT",
    `prompt: must be at most ${contextLength} tokens, the context, not ${tokens.length}`,
  );
}

/**
 * BOS, where the vocabulary wants it or nothing else is there, and the text's tokens; tokens as they are.
 *
 * @throws TypeError or RangeError where it is neither a text nor tokens
 */
export function promptTokens(tokenizer: Tokenizer, prompt: string | Int32Array): Int32Array {
  const tokens = textTokens(tokenizer, "prompt", prompt);
  if (typeof prompt !== "string" && tokens.length > 0) return tokens;
  const { bos } = tokenizer;
  if (bos === undefined || (!tokenizer.addBos && tokens.length > 0)) {
    if (tokens.length > 0) return tokens;
    throw new CriaError("ERR_CRIA_UNSUPPORTED", "prompt: must not be empty with a vocabulary that has no BOS");
  }
  return afterBos(bos, tokens);
}

/** A text's own tokens, or a copy of tokens. @throws TypeError or RangeError where it is neither */
export function textTokens(tokenizer: Tokenizer, name: string, text: string | Int32Array): Int32Array {
  if (typeof text === "string") return tokenizer.encode(text);
  if (text instanceof Int32Array) return tokensOf(name, text, tokenizer.size);
  throw wrongType(name, "a string or an Int32Array", text);
}
