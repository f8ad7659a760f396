import { randomInt } from "node:crypto";
import { CriaError, finite, integer, outOfRange, wrongType } from "./errors.js";
import { Xoshiro128 } from "./random.js";

/** How a token is chosen. What is left out is llama.cpp's default. */
export interface SamplerOptions {
  /** Logits are divided by it, at least 0; 0 takes the best token (greedy). Default: 0.8. */
  readonly temperature?: number;
  /** Only this many best tokens; 0 for all. Default: 40. */
  readonly topK?: number;
  /** Only the fewest best tokens whose probabilities sum to at least this, 0 to 1; 1 for all. Default: 0.95. */
  readonly topP?: number;
  /** Only tokens at least this times as probable as the best, 0 to 1; 0 for all. Default: 0.05. */
  readonly minP?: number;
  /**
   * Logits of recent tokens are divided by it where above 0 and multiplied by it elsewhere. 0.01 to 100, so that no
   * logit below 1e36 leaves float32's range; 1 for no penalty. Default: 1.
   */
  readonly repeatPenalty?: number;
  /** How many accepted tokens are recent. Default: 64. */
  readonly repeatLastN?: number;
  /** An integer from 0 to 2^32 - 1: the same seed and logits give the same tokens. Default: random. */
  readonly seed?: number;
}

/**
 * Chooses tokens from logits in llama.cpp's order: penalty (Keskar et al. 2019, CTRL), top-k, top-p (Holtzman et al.
 * 2020), min-p (Nguyen et al. 2024), and temperature last, so that it does not change which tokens can be chosen.
 * Top-p's probabilities are those of the tokens that top-k left, at temperature 1.
 *
 * Tokens with equal logits rank by id, the lowest first. NaN and -Infinity are never chosen; +Infinity always is.
 */
export class Sampler {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repeatPenalty: number;
  readonly repeatLastN: number;
  /** The seed in use, so that a run with a random one can be repeated. */
  readonly seed: number;

  readonly #random: Xoshiro128;
  /** The last tokens, the oldest first, and how often each is among them. */
  readonly #recent: number[] = [];
  readonly #counts = new Map<number, number>();

  // Kept between calls: a vocabulary's worth of memory a token would be the garbage collector's main work.
  #logits = new Float32Array(0);
  #weights = new Float64Array(0);
  #ids = new Int32Array(0);

  /** @throws TypeError or RangeError if an option is not what {@link SamplerOptions} says */
  constructor(options: SamplerOptions = {}) {
    if (typeof options !== "object" || options === null) throw wrongType("options", "an object", options);
    const { temperature = 0.8, topK = 40, topP = 0.95, minP = 0.05, repeatPenalty = 1, repeatLastN = 64 } = options;
    const { seed = randomInt(2 ** 32) } = options;
    this.temperature = finite("temperature", temperature, 0);
    this.topK = integer("topK", topK, 0);
    this.topP = finite("topP", topP, 0, 1);
    this.minP = finite("minP", minP, 0, 1);
    this.repeatPenalty = finite("repeatPenalty", repeatPenalty, 0.01, 100);
    this.repeatLastN = integer("repeatLastN", repeatLastN, 0);
    this.seed = integer("seed", seed, 0, 2 ** 32 - 1);
    this.#random = Xoshiro128.fromSeed(this.seed);
  }

  /**
   * Counts a token as said, for the penalty: a prompt's tokens, and each token that was chosen.
   *
   * @throws TypeError or RangeError if it is not an integer of at least 0
   */
  accept(token: number): void {
    this.#recent.push(integer("token", token, 0));
    this.#counts.set(token, (this.#counts.get(token) ?? 0) + 1);
    if (this.#recent.length <= this.repeatLastN) return;
    const oldest = this.#recent.shift()!;
    const count = this.#counts.get(oldest)! - 1;
    if (count > 0) this.#counts.set(oldest, count);
    else this.#counts.delete(oldest);
  }

  /**
   * Chooses a token; does not accept it.
   *
   * @param logits [vocab], not changed
   * @returns the token's id
   * @throws TypeError or RangeError if it is not a Float32Array, or an empty one
   * @throws CriaError (ERR_CRIA_INTERNAL) if no logit is above -Infinity, as when all are NaN
   */
  sample(logits: Float32Array): number {
    if (!(logits instanceof Float32Array)) throw wrongType("logits", "a Float32Array", logits);
    if (logits.length === 0) throw outOfRange("logits.length", "at least 1", 0);
    this.#penalise(logits);
    const best = argmax(this.#logits);
    if (best < 0) throw new CriaError("ERR_CRIA_INTERNAL", "logits: must hold a number above -Infinity, not only NaN");
    if (this.temperature === 0) return best;
    const max = this.#logits[best]!;
    return this.#draw(this.#cut(this.#select(), max), max);
  }

  /** Copies the logits, the recent tokens' penalised. */
  #penalise(logits: Float32Array): void {
    if (this.#logits.length !== logits.length) {
      this.#logits = new Float32Array(logits.length);
      this.#weights = new Float64Array(logits.length);
      this.#ids = new Int32Array(logits.length);
    }
    this.#logits.set(logits);
    if (this.repeatPenalty === 1) return;
    for (const token of this.#counts.keys()) {
      if (token >= logits.length) continue;
      const logit = logits[token]!;
      this.#logits[token] = logit > 0 ? logit / this.repeatPenalty : logit * this.repeatPenalty;
    }
  }

  /**
   * Top-k: puts the candidates into #ids, in no order, and returns their number. A heap of the k best, the worst of
   * them at the root, costs one comparison for each of the other tokens: most of a vocabulary is worse.
   */
  #select(): number {
    const logits = this.#logits;
    const ids = this.#ids;
    const k = this.topK === 0 ? logits.length : Math.min(this.topK, logits.length);
    let count = 0;
    let id = 0;
    for (; id < logits.length && count < k; id++) {
      if (logits[id]! > Number.NEGATIVE_INFINITY) ids[count++] = id;
    }
    if (id === logits.length) return count;
    heapify(logits, ids, count);
    for (let worst = logits[ids[0]!]!; id < logits.length; id++) {
      // A later id with an equal logit ranks lower, so that > is enough; it is false for NaN.
      if (!(logits[id]! > worst)) continue;
      ids[0] = id;
      sink(logits, ids, 0, count);
      worst = logits[ids[0]!]!;
    }
    return count;
  }

  /** Top-p and min-p: moves those of the first `count` candidates that stay to the front and returns their number. */
  #cut(count: number, max: number): number {
    const logits = this.#logits;
    const ids = this.#ids;
    const mass = this.topP < 1 ? this.#weigh(count, max, 1) : 0;
    // A token of less than (1 - p) / (n - 1) can be left out: all such together have less than 1 - p, so the others
    // have p without them (llama2.c's cutoff). It spares most of the sort. The best token always stays.
    const spare = this.topP < 1 ? Math.min(1, ((1 - this.topP) * mass) / (count - 1)) : 0;
    const least = Math.max(this.minP, spare);
    const floor = least > 0 ? max + Math.log(least) : Number.NEGATIVE_INFINITY;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      if (logits[ids[i]!]! >= floor) ids[kept++] = ids[i]!;
    }
    if (this.topP === 1) return kept;

    sortBestFirst(logits, ids, kept);
    let sum = 0;
    for (let i = 0; i < kept; i++) {
      sum += weight(logits[ids[i]!]!, max, 1);
      if (sum >= this.topP * mass) return i + 1;
    }
    return kept;
  }

  /** Draws one of the first `count` candidates by its probability at the temperature. */
  #draw(count: number, max: number): number {
    const total = this.#weigh(count, max, this.temperature);
    const target = (this.#random.next() / 2 ** 32) * total;
    let sum = 0;
    for (let i = 0; i < count; i++) {
      sum += this.#weights[i]!;
      if (target < sum) return this.#ids[i]!;
    }
    throw new CriaError("ERR_CRIA_INTERNAL", `sampler: must draw below ${total}, not ${target}`);
  }

  /** Puts the weights of the first `count` candidates into #weights and returns their sum, in ascending order. */
  #weigh(count: number, max: number, temperature: number): number {
    let sum = 0;
    for (let i = 0; i < count; i++) {
      const w = weight(this.#logits[this.#ids[i]!]!, max, temperature);
      this.#weights[i] = w;
      sum += w;
    }
    return sum;
  }
}

/** A probability but for the common factor: softmax's numerator, 1 for the best (where Infinity - Infinity is NaN). */
const weight = (logit: number, max: number, temperature: number): number =>
  logit === max ? 1 : Math.exp((logit - max) / temperature);

/** The id of the highest logit, the lowest such id; -1 if none is above -Infinity. */
export function argmax(logits: Float32Array): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id]! > max) {
      max = logits[id]!;
      best = id;
    }
  }
  return best;
}

/** Whether token `a` ranks below token `b`. */
const worse = (logits: Float32Array, a: number, b: number): boolean =>
  logits[a]! < logits[b]! || (logits[a]! === logits[b]! && a > b);

/** Moves the candidate at `node` down the heap ids[0, count), whose root is the worst. */
function sink(logits: Float32Array, ids: Int32Array, node: number, count: number): void {
  const id = ids[node]!;
  for (let child = 2 * node + 1; child < count; child = 2 * node + 1) {
    if (child + 1 < count && worse(logits, ids[child + 1]!, ids[child]!)) child++;
    if (!worse(logits, ids[child]!, id)) break;
    ids[node] = ids[child]!;
    node = child;
  }
  ids[node] = id;
}

function heapify(logits: Float32Array, ids: Int32Array, count: number): void {
  for (let node = (count >>> 1) - 1; node >= 0; node--) sink(logits, ids, node, count);
}

/** Heapsort of ids[0, count): the worst goes to the end, again and again. */
function sortBestFirst(logits: Float32Array, ids: Int32Array, count: number): void {
  heapify(logits, ids, count);
  for (let end = count - 1; end > 0; end--) {
    const worst = ids[0]!;
    ids[0] = ids[end]!;
    ids[end] = worst;
    sink(logits, ids, 0, end);
  }
}
