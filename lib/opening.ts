/** How a generation comes by a sequence that has read what stands before its text. */
import type { ScoredToken } from "./logprobs.js";
import { fittingPrompt, type Speaker } from "./prompt.js";
import type { ForwardOptions, Sequence } from "./sequence.js";
import type { Window } from "./window.js";

/** What reading a prompt gives. */
export interface PromptRead {
  /** [vocab], after its last token. */
  logits: Float32Array;
  scores?: ScoredToken[] | undefined;
}

/** Reads tokens at the end of a sequence. */
export type PromptReader = (sequence: Sequence, tokens: Int32Array) => Promise<PromptRead>;

export interface Opened extends PromptRead {
  readonly sequence: Sequence;
  /** The prompt's tokens. */
  readonly prompt: Int32Array;
  /** All tokens before the text, the prompt's among them; valid until the sequence reads on. */
  readonly before: Int32Array;
  /** Whether the text continues another, so that a space that it begins with is its own. */
  readonly continuation: boolean;
  /** What ends the text beside what its options say, where what stands before it says so. */
  readonly ends?: { readonly stops: readonly string[]; readonly stopTokens: readonly number[] };
  /** Takes the sequence back when the text has ended, for whatever reason: its tokens, and what was given out of it. */
  close(tokens: readonly number[], text: string): void;
}

/** How a generation reads. */
export interface ReadingOptions extends Pick<ForwardOptions, "signal" | "priority"> {
  /** What it forgets tokens by, if it does. */
  readonly window: Window | undefined;
}

export interface Opening {
  open(read: PromptReader, options: ReadingOptions): Promise<Opened>;
}

/** A prompt in a sequence of its own. */
export class PromptOpening implements Opening {
  readonly #speaker: Speaker;
  readonly #prompt: Int32Array;
  readonly #continuation: boolean;

  /** @throws as {@link fittingPrompt} */
  constructor(speaker: Speaker, prompt: string | Int32Array) {
    this.#speaker = speaker;
    this.#prompt = fittingPrompt(speaker, prompt);
    this.#continuation = prompt.length > 0;
  }

  async open(read: PromptReader): Promise<Opened> {
    const sequence = this.#speaker.runtime.sequence();
    try {
      return {
        ...(await read(sequence, this.#prompt)),
        sequence,
        prompt: this.#prompt,
        before: this.#prompt,
        continuation: this.#continuation,
        close: () => sequence.dispose(),
      };
    } catch (error) {
      sequence.dispose();
      throw error;
    }
  }
}
