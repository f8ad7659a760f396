import { selectBest, takeMass } from "./ranking.js";

/**
 * The tokens that can be chosen, and the filters that leave fewer of them. A filter's probabilities are those among the
 * tokens that the filter before it left, at temperature 1.
 *
 * Its memory is kept from token to token: a vocabulary's worth for each would be the garbage collector's main work.
 */
export class Candidates {
  /** The first `count` are the candidates, in no order that means anything. */
  ids = new Int32Array(0);
  /** Theirs, after {@link weigh}; before, a filter's. */
  probabilities = new Float64Array(0);
  count = 0;

  #logits: Float32Array = new Float32Array(0);
  /** The best candidate's logit. */
  #max = Number.NaN;
  /** By id; empty until it is needed. */
  #typicality = new Float64Array(0);

  /**
   * Top-k: begins anew with the `k` best tokens, or all for 0. There are none if no logit is above -Infinity.
   *
   * @param logits [vocab], kept until the next call
   */
  select(logits: Float32Array, k: number): void {
    const size = k === 0 ? logits.length : Math.min(k, logits.length);
    if (this.ids.length !== size) {
      this.ids = new Int32Array(size);
      this.probabilities = new Float64Array(size);
    }
    this.#logits = logits;
    this.count = selectBest(logits, this.ids);
    this.#findMax();
  }

  /**
   * Locally typical sampling (Meister et al. 2022): leaves the fewest tokens, those first whose surprisal is nearest to
   * the entropy, whose probabilities sum to at least `p`; 1 leaves all. The best token may go.
   *
   * With d = logit - max, surprisal -ln p = ln Σ exp(d) - d, and entropy is its expected value, so that
   * |surprisal - entropy| = |d - E[d]|.
   */
  keepTypical(p: number): void {
    if (p === 1) return;
    const mass = this.#weigh(1);
    let mean = 0;
    for (let i = 0; i < this.count; i++) {
      const weight = this.probabilities[i]!;
      if (weight > 0) mean += (weight / mass) * this.#distance(this.ids[i]!);
    }
    if (this.#typicality.length !== this.#logits.length) this.#typicality = new Float64Array(this.#logits.length);
    for (let i = 0; i < this.count; i++) {
      const id = this.ids[i]!;
      this.#typicality[id] = -Math.abs(this.#distance(id) - mean);
    }
    this.#keepMass(this.#typicality, p * mass);
    this.#findMax();
  }

  /**
   * Top-p (Holtzman et al. 2020), then min-p (Nguyen et al. 2024): leaves the fewest best tokens whose probabilities
   * sum to at least `topP`, 1 leaving all, and of them those at least `minP` times as probable as the best.
   */
  keepLikely(topP: number, minP: number): void {
    const mass = topP < 1 ? this.#weigh(1) : 0;
    // A token of less than (1 - p) / (n - 1) can be left out: all such together have less than 1 - p, so the others
    // have p without them (llama2.c's cutoff). It spares most of the selection. The best token always stays.
    const spare = topP < 1 ? Math.min(1, ((1 - topP) * mass) / (this.count - 1)) : 0;
    const least = Math.max(minP, spare);
    if (least > 0) this.#keepFrom(this.#max + Math.log(least));
    if (topP < 1) this.#keepMass(this.#logits, topP * mass);
  }

  /** Sets the probabilities at a temperature; 0 gives all to the best token, which must be the only one. */
  weigh(temperature: number): void {
    const mass = this.#weigh(temperature);
    for (let i = 0; i < this.count; i++) this.probabilities[i]! /= mass;
  }

  #findMax(): void {
    this.#max = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < this.count; i++) this.#max = Math.max(this.#max, this.#logits[this.ids[i]!]!);
  }

  /** What a logit is above the best one's: 0 for that (where Infinity - Infinity is NaN). */
  #distance(id: number): number {
    const logit = this.#logits[id]!;
    return logit === this.#max ? 0 : logit - this.#max;
  }

  /** Probabilities but for the common factor, softmax's numerators: returns their sum. */
  #weigh(temperature: number): number {
    let sum = 0;
    for (let i = 0; i < this.count; i++) {
      const distance = this.#distance(this.ids[i]!);
      const weight = distance === 0 ? 1 : Math.exp(distance / temperature);
      this.probabilities[i] = weight;
      sum += weight;
    }
    return sum;
  }

  /** Keeps the tokens whose logits are at least `floor`, and their weights. */
  #keepFrom(floor: number): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (!(this.#logits[this.ids[i]!]! >= floor)) continue;
      this.ids[kept] = this.ids[i]!;
      this.probabilities[kept++] = this.probabilities[i]!;
    }
    this.count = kept;
  }

  /** Keeps the fewest tokens of the highest scores that weigh at least `mass`. */
  #keepMass(scores: Float32Array | Float64Array, mass: number): void {
    this.count = takeMass(scores, this.ids, this.probabilities, this.count, mass);
  }
}
