import { CriaError, wrongType } from "./errors.js";
import type { Runtime } from "./runtime.js";
import { afterBos, type Tokenizer } from "./text/tokenizer.js";

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

/** BOS, where the vocabulary wants it or nothing else is there, and the text's tokens. */
export function promptTokens(tokenizer: Tokenizer, prompt: string | Int32Array): Int32Array {
  if (prompt instanceof Int32Array && prompt.length > 0) return prompt.slice();
  if (typeof prompt !== "string" && !(prompt instanceof Int32Array))
    throw wrongType("prompt", "a string or an Int32Array", prompt);
  const tokens = typeof prompt === "string" ? tokenizer.encode(prompt) : prompt;
  const { bos } = tokenizer;
  if (bos === undefined || (!tokenizer.addBos && tokens.length > 0)) {
    if (tokens.length > 0) return tokens;
    throw new CriaError("ERR_CRIA_UNSUPPORTED", "prompt: must not be empty with a vocabulary that has no BOS");
  }
  return afterBos(bos, tokens);
}
