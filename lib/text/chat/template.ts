import type { Tokenizer } from "../tokenizer.js";
import type { ChatMessage } from "./messages.js";
import type { Segment } from "./segments.js";

/** A prompt, and what belongs to its answer. */
export interface Prepared {
  readonly segments: readonly Segment[];
  /** Tokens that end the answer, beside EOS. */
  readonly stopTokens: readonly number[];
  /** Strings that end it. */
  readonly stops: readonly string[];
  /** Whether a space that it begins with belongs to the template, which puts it before each answer. */
  readonly spaced: boolean;
}

/** How a model was taught to read a chat. */
export type ChatTemplate = ImmediateTemplate | RenderedTemplate;

/** One that is built in. */
export interface ImmediateTemplate {
  readonly name: string;
  readonly immediate: true;
  /**
   * The prompt for an answer to messages.
   *
   * @throws TypeError or RangeError where a message has no place in the template
   * @throws CriaError ERR_CRIA_UNSUPPORTED where it needs a token that the vocabulary has not
   */
  prepare(messages: readonly ChatMessage[], tokenizer: Tokenizer): Prepared;
}

/** One that takes another thread to render. */
export interface RenderedTemplate {
  readonly name: string;
  readonly immediate: false;
  /**
   * The same.
   *
   * @throws CriaError ERR_CRIA_TEMPLATE where the template fails or refuses the messages, ERR_CRIA_ABORTED when
   *   `signal` stops it
   */
  prepare(messages: readonly ChatMessage[], tokenizer: Tokenizer, signal?: AbortSignal): Promise<Prepared>;
}
