import { performance } from "node:perf_hooks";

import type { Choice, Chooser } from "../chooser.js";
import { aborted, type CriaError } from "../errors.js";
import type { Sequence } from "../sequence.js";
import type { SourceLimits, TokenSource } from "../token-source.js";
import type { Pace } from "./pace.js";
import type { Proposal, Proposer } from "./proposer.js";

/** What speculation brought. */
export interface SpeculationStatistics {
  /** Tokens that were guessed and read. */
  proposed: number;
  /** Of those, the ones that the text went on with. */
  accepted: number;
  /** Runs of the model that read guesses. Each brought the tokens accepted, and one more. */
  steps: number;
  /** How often speculation was turned off for a while, since it did not pay. */
  off: number;
}

/**
 * Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): guesses what comes next, reads it all in one run, and
 * chooses token after token as if each had been read alone, for as long as the guesses are what is chosen.
 *
 * The logits are bit for bit those of plain decoding. So are the tokens, except where a guess was drawn from a
 * distribution: such tokens have the distribution of plain decoding.
 */
export class SpeculativeSource implements TokenSource {
  readonly #sequence: Sequence;
  readonly #chooser: Pick<Chooser, "choose">;
  /** None once the cache had no room for it. */
  #proposer: Proposer | undefined;
  readonly #pace: Pace;
  readonly #limits: SourceLimits;
  readonly #text: number[];
  readonly #promptLength: number;
  #ready: Choice[] = [];
  readonly #statistics = { proposed: 0, accepted: 0, steps: 0 };

  /**
   * @param sequence has read the prompt; whoever made it disposes of it
   * @param prompt its tokens
   * @param proposer this source's own, and disposed with it
   */
  constructor(
    sequence: Sequence,
    prompt: Int32Array,
    chooser: Pick<Chooser, "choose">,
    { proposer, pace }: { proposer: Proposer; pace: Pace },
    limits: SourceLimits,
  ) {
    this.#sequence = sequence;
    this.#text = [...prompt];
    this.#promptLength = prompt.length;
    this.#chooser = chooser;
    this.#proposer = proposer;
    this.#pace = pace;
    this.#limits = limits;
  }

  get speculation(): SpeculationStatistics {
    return { ...this.#statistics, off: this.#pace.off };
  }

  async next(last: number): Promise<Choice> {
    const { signal } = this.#limits;
    if (signal?.aborted) throw aborted("the run", signal);
    this.#text.push(last);
    if (this.#ready.length === 0) await this.#step();
    return this.#ready.shift()!;
  }

  dispose(): void {
    this.#proposer?.dispose();
    this.#proposer = undefined;
  }

  /** Chooses one token or more. */
  async #step(): Promise<void> {
    const started = performance.now();
    const { proposal, logits } = await this.#read(await this.#propose());
    const proposed = proposal.tokens.length;
    const accepted = this.#choose(proposal, logits);
    this.#sequence.truncate(this.#sequence.length - (proposed - accepted));
    this.#pace.record({ proposed, accepted, ms: performance.now() - started });
    if (proposed === 0) return;
    this.#statistics.proposed += proposed;
    this.#statistics.accepted += accepted;
    this.#statistics.steps += 1;
  }

  /**
   * No more than can be read and chosen: one more than is proposed is chosen, and all of them but the last are read.
   */
  async #propose(): Promise<Proposal> {
    const { contextLength, maxTokens } = this.#limits;
    const said = this.#text.length - this.#promptLength;
    const most = Math.min(this.#pace.next(), contextLength - this.#text.length, maxTokens - said - 1);
    return most > 0 && this.#proposer !== undefined ? this.#proposer.propose(this.#text, most) : none;
  }

  /**
   * Reads the last token and what is proposed after it. Where the cache has no room for that, nothing is proposed;
   * where it then has none for the last token alone, the proposer, which may have tokens in the same cache, is done
   * without. Only then does it wait for others.
   */
  async #read(proposal: Proposal): Promise<{ proposal: Proposal; logits: Float32Array }> {
    const read = Int32Array.of(this.#text.at(-1)!, ...proposal.tokens);
    const { signal, priority } = this.#limits;
    const wait = this.#proposer === undefined;
    const before = this.#sequence.length;
    try {
      return { proposal, logits: await this.#sequence.forward(read, "all", { signal, priority, wait }) };
    } catch (error) {
      if ((error as CriaError).code !== "ERR_CRIA_CACHE_FULL") throw error;
      this.#sequence.truncate(before); // a chunk may have read some of it
      if (proposal.tokens.length === 0) {
        if (this.#proposer === undefined) throw error;
        this.dispose();
      }
      return this.#read(none);
    }
  }

  /** Chooses until it is not what was proposed, or all are chosen. Returns how many were. */
  #choose({ tokens, distributions }: Proposal, logits: Float32Array): number {
    const vocab = logits.length / (tokens.length + 1);
    for (let row = 0; ; row++) {
      const proposed = tokens[row];
      const from = distributions?.[row];
      const drawn = proposed === undefined || from === undefined ? undefined : { token: proposed, from };
      const choice = this.#chooser.choose(logits.subarray(row * vocab, (row + 1) * vocab), drawn);
      this.#ready.push(choice);
      if (choice.token !== proposed) return row;
    }
  }
}

const none: Proposal = { tokens: [] };
