import type { CriaError } from "../errors.js";
import type { Speaker } from "../prompt.js";
import type { Distribution, Sampler } from "../sampling/sampler.js";
import type { ForwardOptions, Sequence } from "../sequence.js";
import type { Proposal, Proposer } from "./proposer.js";

/** From a text's seed to its draft's: 2^32 / golden ratio, so that neighbouring seeds do not meet. */
const seedStep = 0x9e3779b9;

/**
 * A smaller model of the same vocabulary, which says by itself what may come (Leviathan et al. 2023; Chen et al. 2023).
 * It chooses as the larger one does, by the same options, and with random numbers of its own.
 */
export class DraftModel implements Proposer {
  readonly #contextLength: number;
  readonly #target: Sampler;
  readonly #options: ForwardOptions;
  /** None where the draft's cache had no room for it. */
  #sequence: Sequence | undefined;
  /**
   * A fork of the target's, made when it is first needed. It has accepted the text as it was, and what was proposed.
   */
  #sampler: Sampler | undefined;
  #textLength = 0;
  #proposed: number[] = [];

  /**
   * @param target the sampler that chooses the text; at each proposal it has accepted all of it
   * @param options of each reading
   */
  constructor({ runtime }: Speaker, target: Sampler, options: ForwardOptions) {
    this.#contextLength = runtime.contextLength;
    this.#target = target;
    this.#options = { ...options, wait: false }; // the text waits meanwhile, and may be what it would wait for
    this.#sequence = runtime.sequence();
  }

  async propose(text: readonly number[], most: number): Promise<Proposal> {
    const sampler = this.#follow(text);
    const distributions: Distribution[] = [];
    // All of the text is read, and all that is proposed but the last.
    const count = Math.min(most, this.#contextLength - text.length + 1);
    while (this.#proposed.length < count) {
      const logits = await this.#read(text);
      if (logits === undefined) break;
      const { ids, probabilities } = sampler.distribution(logits);
      const from = { ids: ids.slice(), probabilities: probabilities.slice() };
      const token = sampler.draw(from);
      sampler.accept(token);
      this.#proposed.push(token);
      distributions.push(from);
    }
    return { tokens: this.#proposed, distributions };
  }

  dispose(): void {
    this.#sequence?.dispose();
    this.#sequence = undefined;
  }

  /** Takes back what was proposed where the text went on otherwise, and makes it the draft's text. */
  #follow(text: readonly number[]): Sampler {
    if (this.#sampler === undefined) {
      this.#sampler = this.#target.fork((this.#target.seed + seedStep) % 2 ** 32);
    } else {
      let agreed = 0;
      while (agreed < this.#proposed.length && this.#proposed[agreed] === text[this.#textLength + agreed]) agreed++;
      this.#sampler.retract(this.#proposed.length - agreed);
      const common = this.#textLength + agreed;
      for (const token of text.slice(common)) this.#sampler.accept(token);
      // The last token is read again where it was proposed and read: its logits are needed.
      const sequence = this.#sequence;
      sequence?.truncate(Math.min(sequence.length, common, text.length - 1));
    }
    this.#textLength = text.length;
    this.#proposed = [];
    return this.#sampler;
  }

  /** The logits after the text and what was proposed after it; none where the draft's cache has no room. */
  async #read(text: readonly number[]): Promise<Float32Array | undefined> {
    const sequence = this.#sequence;
    if (sequence === undefined) return undefined;
    const unread = [
      ...text.slice(sequence.length),
      ...this.#proposed.slice(Math.max(0, sequence.length - text.length)),
    ];
    try {
      return await sequence.forward(Int32Array.from(unread), "last", this.#options);
    } catch (error) {
      if ((error as CriaError).code !== "ERR_CRIA_CACHE_FULL") throw error;
      this.dispose(); // others may need the room more
      return undefined;
    }
  }
}
