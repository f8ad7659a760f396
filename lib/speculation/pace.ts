/** Samples that are enough to judge by, the time of one being no more than chance where a machine is shared. */
const trialSteps = 3;

/** Tokens that a step of a trial proposes: few enough to cost little where none is right. */
const trialTokens = 3;

/** A step in so many proposes nothing, so that the cost of a plain one stays known: 3 % of what speculation gains. */
const plainEvery = 32;

/**
 * After how many steps it tries again, at first and at most. Where it paid no longer than it had waited, twice as long.
 */
const [firstWait, longestWait] = [16, 256];

/**
 * What each step leaves of the weight of those before it: some ten are remembered, about as long as a passage is
 * copied.
 */
const memory = 0.9;

/** Before there is a sample: two of three tokens are right, which one step can outweigh. */
const hopeful = { accepted: 2, judged: 3 } as const;

/** One step of a generation. */
export interface Step {
  readonly proposed: number;
  readonly accepted: number;
  /** From guessing to choosing. */
  readonly ms: number;
}

/**
 * How many tokens to propose in a step, by what steps have cost and brought so far in the same generation.
 *
 * With a share a of proposed tokens accepted, each by itself, a step that proposes k brings (1 - a^(k+1)) / (1 - a)
 * tokens (Leviathan et al. 2023, equation 1), and takes the time of a plain step and k times that of one token more:
 * guessing it, and reading it beside others. The k of the least time a token is taken. Where that is none, speculation
 * is off for a while.
 */
export class Pace {
  readonly #longest: number;
  readonly #adaptive: boolean;
  readonly #plainMs = new Recent();
  #extraMs = new Recent(); // of a token proposed: its share of what the step took beyond a plain one
  #accepted: number = hopeful.accepted;
  #judged: number = hopeful.judged;
  #sincePlain = 0;
  #steps = 0; // that proposed since it was off
  #wait = 0;
  #waiting = 0;
  #off = 0;

  /**
   * @param longest the most tokens to propose
   * @param adaptive false proposes that many in every step, whatever comes of it
   */
  constructor(longest: number, adaptive: boolean) {
    this.#longest = longest;
    this.#adaptive = adaptive;
  }

  /** How often it turned speculation off. */
  get off(): number {
    return this.#off;
  }

  /** How many tokens the next step should propose; 0 for a plain one. */
  next(): number {
    if (!this.#adaptive) return this.#longest;
    if (this.#waiting > 0) {
      this.#waiting -= 1;
      return 0;
    }
    if (this.#plainMs.count === 0 || this.#sincePlain >= plainEvery) return 0;
    if (this.#extraMs.count < trialSteps) return Math.min(trialTokens, this.#longest);
    const count = this.#best();
    if (count === 0) this.#turnOff();
    return count;
  }

  record({ proposed, accepted, ms }: Step): void {
    if (!this.#adaptive) return;
    if (proposed === 0) {
      this.#plainMs.add(ms);
      this.#sincePlain = 0;
      return;
    }
    this.#steps += 1;
    this.#sincePlain += 1;
    this.#extraMs.add(Math.max(0, ms - this.#plainMs.median) / proposed);
    this.#accepted = memory * this.#accepted + accepted;
    this.#judged = memory * this.#judged + Math.min(proposed, accepted + 1); // those after a wrong one are not judged
  }

  /** The number of tokens to propose that takes the least time a token of the text. */
  #best(): number {
    const [share, plain, extra] = [this.#accepted / this.#judged, this.#plainMs.median, this.#extraMs.median];
    let best = 0;
    let leastMs = plain;
    for (let [count, power, tokens] = [1, share, 1 + share]; count <= this.#longest; count++) {
      const ms = (plain + count * extra) / tokens;
      if (ms < leastMs) [best, leastMs] = [count, ms];
      power *= share;
      tokens += power;
    }
    return best;
  }

  /** For a while; then it begins anew, for the text may have come to another passage. */
  #turnOff(): void {
    this.#off += 1;
    this.#wait = this.#steps > this.#wait ? firstWait : Math.min(2 * this.#wait, longestWait);
    this.#waiting = this.#wait;
    this.#steps = 0;
    this.#extraMs = new Recent();
    this.#accepted = hopeful.accepted;
    this.#judged = hopeful.judged;
  }
}

/** The last few samples of a time, of which some are wrong: another's prompt is read in the same step. */
class Recent {
  readonly #samples: number[] = [];

  get count(): number {
    return this.#samples.length;
  }

  /** Of an even number the lower of the two in the middle: what disturbs makes longer. NaN where there are none. */
  get median(): number {
    const sorted = [...this.#samples].sort((a, b) => a - b);
    return sorted[(sorted.length - 1) >> 1] ?? Number.NaN;
  }

  add(sample: number): void {
    this.#samples.push(sample);
    if (this.#samples.length > 9) this.#samples.shift();
  }
}
