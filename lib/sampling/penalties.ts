import { integer } from "../errors.js";

/** How much less likely tokens become that were said before. */
export interface PenaltyOptions {
  /**
   * Logits of recent tokens, the prompt's among them, are divided by it where above 0 and multiplied by it elsewhere.
   * 0.01 to 100, so that no logit below 1e36 leaves float32's range; 1 for no penalty. Default: 1.
   */
  readonly repeatPenalty?: number | undefined;
  /** How many of the last tokens are recent. Default: 64. */
  readonly repeatLastN?: number | undefined;
  /** Subtracted from the logits of the tokens that were generated, not the prompt's. -100 to 100. Default: 0. */
  readonly presencePenalty?: number | undefined;
  /** The same, for each time that a token was generated. -100 to 100. Default: 0. */
  readonly frequencyPenalty?: number | undefined;
}

/** The same with none left out. */
type Penalising = Readonly<Record<keyof PenaltyOptions, number>>;

/**
 * The tokens of a text, and the penalties for them: repetition (Keskar et al. 2019, CTRL) over the last tokens of the
 * prompt and what was generated, as llama.cpp has it; then presence and frequency over all that was generated and
 * nothing else, as OpenAI and vLLM have them (llama.cpp counts the prompt, and only the last tokens, in these too):
 *
 *     logit -= frequencyPenalty * count + (count > 0 ? presencePenalty : 0)
 */
export class Penalties {
  readonly #options: Penalising;
  /** All tokens, the prompt's as their complements, so that any can be taken back. */
  #history: number[] = [];
  /** How often each token is among the recent ones. */
  #recent = new Map<number, number>();
  /** How often each token was generated. */
  #generated = new Map<number, number>();

  constructor({ repeatPenalty, repeatLastN, presencePenalty, frequencyPenalty }: Penalising) {
    this.#options = { repeatPenalty, repeatLastN, presencePenalty, frequencyPenalty };
  }

  /** Adds a token that was generated. */
  accept(token: number): void {
    this.#push(integer("token", token, 0), token);
    increment(this.#generated, token);
  }

  /** Adds tokens of a prompt. */
  acceptPrompt(tokens: Int32Array): void {
    for (const token of tokens) this.#push(integer("token", token, 0), ~token);
  }

  /** Takes the last tokens back. */
  retract(count: number): void {
    integer("count", count, 0, this.#history.length);
    for (let i = 0; i < count; i++) this.#pop();
  }

  /** Changes the logits. Tokens that they do not have are ignored. */
  apply(logits: Float32Array): void {
    const { repeatPenalty, presencePenalty, frequencyPenalty } = this.#options;
    if (repeatPenalty !== 1) {
      for (const token of this.#recent.keys()) {
        if (token >= logits.length) continue;
        const logit = logits[token]!;
        logits[token] = logit > 0 ? logit / repeatPenalty : logit * repeatPenalty;
      }
    }
    if (presencePenalty === 0 && frequencyPenalty === 0) return;
    for (const [token, count] of this.#generated) {
      if (token < logits.length) logits[token]! -= frequencyPenalty * count + presencePenalty;
    }
  }

  fork(): Penalties {
    const fork = new Penalties(this.#options);
    fork.#history = this.#history.slice();
    fork.#recent = new Map(this.#recent);
    fork.#generated = new Map(this.#generated);
    return fork;
  }

  #push(token: number, entry: number): void {
    this.#history.push(entry);
    increment(this.#recent, token);
    const left = this.#history.length - 1 - this.#options.repeatLastN;
    if (left >= 0) decrement(this.#recent, tokenOf(this.#history[left]!));
  }

  #pop(): void {
    const back = this.#history.length - 1 - this.#options.repeatLastN;
    if (back >= 0) increment(this.#recent, tokenOf(this.#history[back]!));
    const entry = this.#history.pop()!;
    decrement(this.#recent, tokenOf(entry));
    if (entry >= 0) decrement(this.#generated, entry);
  }
}

const tokenOf = (entry: number): number => (entry < 0 ? ~entry : entry);

const increment = (counts: Map<number, number>, token: number) => counts.set(token, (counts.get(token) ?? 0) + 1);

function decrement(counts: Map<number, number>, token: number): void {
  const count = counts.get(token)! - 1;
  if (count > 0) counts.set(token, count);
  else counts.delete(token);
}
