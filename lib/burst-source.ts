import type { Choice, Chooser } from "./chooser.js";
import { aborted, CriaError } from "./errors.js";
import type { Runtime } from "./runtime.js";
import type { Sequence } from "./sequence.js";
import type { SourceLimits, TokenSource } from "./token-source.js";

/**
 * Has the device draw the tokens, many in a run, of a text whose every token is the likeliest ({@link Chooser.greedy}).
 *
 * The sequence may be ahead of the text, and may have read on past its end: when the source is disposed it holds what
 * it would hold of tokens read one by one.
 */
export class BurstSource implements TokenSource {
  readonly #sequence: Sequence;
  readonly #runtime: Runtime;
  readonly #chooser: Pick<Chooser, "choose">;
  readonly #limits: Omit<SourceLimits, "contextLength">;
  /** Drawn, and not given out yet. */
  #ready: Int32Array = new Int32Array(0);
  /** Tokens of the sequence that stand before the last one given out. */
  #held: number;
  #left: number;

  /**
   * @param sequence has read the prompt, after which a token was chosen; whoever made it disposes of it
   * @param runtime the sequence's
   * @param chooser a greedy one
   */
  constructor(
    sequence: Sequence,
    runtime: Runtime,
    chooser: Pick<Chooser, "choose">,
    limits: Omit<SourceLimits, "contextLength">,
  ) {
    this.#sequence = sequence;
    this.#runtime = runtime;
    this.#chooser = chooser;
    this.#limits = limits;
    this.#held = sequence.length;
    this.#left = limits.maxTokens - 1;
  }

  async next(last: number): Promise<Choice> {
    this.#check();
    if (this.#ready.length === 0) this.#ready = await this.#draw(last);
    else this.#runtime.scheduler.keepPlace(this.#sequence);
    const token = this.#ready[0]!;
    if (token === 0) return this.#chooseAgain(last);
    this.#ready = this.#ready.subarray(1);
    this.#count();
    return { token, score: undefined };
  }

  dispose(): void {
    if (!this.#sequence.disposed) this.#sequence.truncate(this.#held);
  }

  /** Token 0 is what the device draws of logits that are no numbers, too: the chooser tells which it is. */
  async #chooseAgain(last: number): Promise<Choice> {
    const { signal, priority } = this.#limits;
    this.#ready = new Int32Array(0);
    this.#sequence.truncate(this.#held);
    const logits = await this.#sequence.forward(Int32Array.of(last), "last", { signal, priority });
    this.#count();
    return this.#chooser.choose(logits);
  }

  #count(): void {
    this.#held += 1;
    this.#left -= 1;
  }

  /** What was drawn already is not given out where reading would be refused. */
  #check(): void {
    const { signal } = this.#limits;
    if (signal?.aborted) throw aborted("the run", signal);
    if (this.#sequence.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "sequence: was disposed");
    if (this.#runtime.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "model: was disposed");
  }

  /** No more than the text, or the context, has room for: the last one drawn is not read. */
  #draw(last: number): Promise<Int32Array> {
    const { signal, priority } = this.#limits;
    const most = Math.min(this.#left, this.#runtime.contextLength - this.#sequence.length);
    return this.#sequence.decode(last, most, { signal, priority });
  }
}
