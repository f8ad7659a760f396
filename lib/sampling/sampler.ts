import { randomInt } from "node:crypto";
import { finite, integer, noNumbers, outOfRange, wrongType } from "../errors.js";
import { requireObject } from "../options.js";
import { mix, weylStep, Xoshiro128 } from "../random.js";
import { biasMap, type LogitBias } from "./bias.js";
import { Candidates } from "./candidates.js";
import { Penalties, type PenaltyOptions } from "./penalties.js";
import { argmax } from "./ranking.js";

/** How a token is chosen. What is left out is llama.cpp's default. */
export interface SamplerOptions extends PenaltyOptions {
  /** Added to the logits of some tokens before anything else; -Infinity bans a token. Default: none. */
  readonly logitBias?: LogitBias | undefined;
  /** Logits are divided by it, at least 0; 0 takes the best token (greedy). Default: 0.8. */
  readonly temperature?: number | undefined;
  /** Only this many best tokens; 0 for all. Default: 40. */
  readonly topK?: number | undefined;
  /**
   * Only the fewest tokens, of those whose surprisal is nearest to what is expected, whose probabilities sum to at
   * least this, 0 to 1; 1 for all. Default: 1.
   */
  readonly typicalP?: number | undefined;
  /** Only the fewest best tokens whose probabilities sum to at least this, 0 to 1; 1 for all. Default: 0.95. */
  readonly topP?: number | undefined;
  /** Only tokens at least this times as probable as the best, 0 to 1; 0 for all. Default: 0.05. */
  readonly minP?: number | undefined;
  /**
   * An integer from 0 to 2^32 - 1: the same seed and logits give the same tokens; logits that differ by little, as
   * those of another type of cache or another device, seldom give another. Default: random.
   */
  readonly seed?: number | undefined;
}

/** All of them. */
export const samplerOptions = [
  ...(["logitBias", "repeatPenalty", "repeatLastN", "presencePenalty", "frequencyPenalty"] as const),
  ...(["temperature", "topK", "typicalP", "topP", "minP", "seed"] as const),
] as const satisfies readonly (keyof SamplerOptions)[];

/** Tokens and their probabilities, which sum to 1 but for rounding. Others have none. */
export interface Distribution {
  /** In no order that means anything. */
  readonly ids: Int32Array;
  readonly probabilities: Float64Array;
}

/**
 * Chooses tokens from logits in llama.cpp's order: bias, repetition, frequency and presence penalties, top-k,
 * typical-p, top-p, min-p, and temperature last, so that it does not change which tokens can be chosen. A filter's
 * probabilities are those among the tokens that the one before it left, at temperature 1. Temperature 0 takes the best
 * token after the penalties, whatever the filters.
 *
 * Tokens with equal logits rank by id, the lowest first. NaN and -Infinity are never chosen; +Infinity always is.
 */
export class Sampler implements Required<SamplerOptions> {
  readonly logitBias: ReadonlyMap<number, number>;
  readonly repeatPenalty: number;
  readonly repeatLastN: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  readonly temperature: number;
  readonly topK: number;
  readonly typicalP: number;
  readonly topP: number;
  readonly minP: number;
  /** The seed in use, so that a run with a random one can be repeated. */
  readonly seed: number;

  #random: Xoshiro128;
  #penalties: Penalties;
  readonly #candidates = new Candidates();
  /** Biased and penalised. Kept between calls, as the candidates are. */
  #logits = new Float32Array(0);

  /**
   * @param options others that are there are a generation's
   * @throws TypeError or RangeError if an option is not what {@link SamplerOptions} says
   */
  constructor(options: SamplerOptions = {}) {
    requireObject("options", options);
    const { logitBias = {}, repeatPenalty = 1, repeatLastN = 64, presencePenalty = 0, frequencyPenalty = 0 } = options;
    const { temperature = 0.8, topK = 40, typicalP = 1, topP = 0.95, minP = 0.05 } = options;
    const { seed = randomInt(2 ** 32) } = options;
    this.logitBias = biasMap(logitBias);
    this.repeatPenalty = finite("repeatPenalty", repeatPenalty, 0.01, 100);
    this.repeatLastN = integer("repeatLastN", repeatLastN, 0);
    this.presencePenalty = finite("presencePenalty", presencePenalty, -100, 100);
    this.frequencyPenalty = finite("frequencyPenalty", frequencyPenalty, -100, 100);
    this.temperature = finite("temperature", temperature, 0);
    this.topK = integer("topK", topK, 0);
    this.typicalP = finite("typicalP", typicalP, 0, 1);
    this.topP = finite("topP", topP, 0, 1);
    this.minP = finite("minP", minP, 0, 1);
    this.seed = integer("seed", seed, 0, 2 ** 32 - 1);
    this.#random = Xoshiro128.fromSeed(this.seed);
    this.#penalties = new Penalties(this);
  }

  /** Whether it takes the token with the largest logit, whatever it has accepted, where none is banned. */
  get greedy(): boolean {
    const unbiased = this.logitBias.size === 0 && this.typicalP === 1;
    const unpenalised = this.repeatPenalty === 1 && this.presencePenalty === 0 && this.frequencyPenalty === 0;
    return (this.temperature === 0 || this.topK === 1) && unbiased && unpenalised;
  }

  /**
   * Counts a token as generated, for the penalties.
   *
   * @throws TypeError or RangeError if it is not an integer of at least 0
   */
  accept(token: number): void {
    this.#penalties.accept(token);
  }

  /**
   * Counts tokens as read, for the repetition penalty.
   *
   * @throws RangeError if one is below 0
   */
  acceptPrompt(tokens: Int32Array): void {
    this.#penalties.acceptPrompt(tokens);
  }

  /**
   * Takes back the tokens that were accepted last, as if they had never been. The random numbers drawn stay drawn.
   *
   * @throws TypeError or RangeError if `count` is not an integer from 0 to how many were accepted
   */
  retract(count: number): void {
    this.#penalties.retract(count);
  }

  /**
   * A sampler of the same options that has accepted the same tokens. The two then go their own ways.
   *
   * @param seed begins the fork's random numbers; without it they are those that this sampler would draw next
   */
  fork(seed?: number): Sampler {
    const fork = new Sampler({ ...this, seed: seed ?? this.seed });
    fork.#penalties = this.#penalties.fork();
    if (seed === undefined) fork.#random = this.#random.clone();
    return fork;
  }

  /**
   * What {@link sample} draws from. Draws nothing.
   *
   * @param logits [vocab], not changed
   * @param banned tokens that must not be chosen
   * @returns views of the sampler's memory, valid until its next call
   * @throws as {@link sample}
   */
  distribution(logits: Float32Array, banned: readonly number[] = []): Distribution {
    const { ids, probabilities, count } = this.#narrow(logits, banned);
    return { ids: ids.subarray(0, count), probabilities: probabilities.subarray(0, count) };
  }

  /**
   * Chooses a token; does not accept it.
   *
   * @param logits [vocab], not changed
   * @param banned tokens that must not be chosen
   * @returns the token's id
   * @throws TypeError or RangeError if `logits` is not a Float32Array, or an empty one, or if bans leave no token
   * @throws CriaError (ERR_CRIA_NUMBERS) if no logit is above -Infinity, as when all are NaN
   */
  sample(logits: Float32Array, banned: readonly number[] = []): number {
    const { ids, probabilities, count } = this.#narrow(logits, banned);
    return this.temperature === 0 ? ids[0]! : pick(ids, probabilities, count, this.#random.next());
  }

  /**
   * Draws from a distribution: one of this sampler's, or one made of them.
   *
   * @param distribution its probabilities may have any sum above 0
   * @throws RangeError if they have none
   */
  draw({ ids, probabilities }: Distribution): number {
    return pick(ids, probabilities, ids.length, this.#random.next());
  }

  /** The next random number, in [0, 1): a multiple of 2^-32. */
  random(): number {
    return this.#random.next() / 2 ** 32;
  }

  #narrow(logits: Float32Array, banned: readonly number[]): Candidates {
    if (!(logits instanceof Float32Array)) throw wrongType("logits", "a Float32Array", logits);
    if (logits.length === 0) throw outOfRange("logits.length", "at least 1", 0);
    this.#adjust(logits, banned);
    const candidates = this.#candidates;
    candidates.select(this.#logits, this.temperature === 0 ? 1 : this.topK);
    if (candidates.count === 0) throw noneLeft(logits);
    candidates.keepTypical(this.typicalP);
    candidates.keepLikely(this.topP, this.minP);
    candidates.weigh(this.temperature);
    return candidates;
  }

  /** Copies the logits, biased, penalised and banned. */
  #adjust(logits: Float32Array, banned: readonly number[]): void {
    if (this.#logits.length !== logits.length) this.#logits = new Float32Array(logits.length);
    const adjusted = this.#logits;
    adjusted.set(logits);
    for (const [token, bias] of this.logitBias) if (token < adjusted.length) adjusted[token]! += bias;
    this.#penalties.apply(adjusted);
    for (const token of banned) if (token < adjusted.length) adjusted[token] = Number.NEGATIVE_INFINITY;
  }
}

/**
 * The id that wins a race: each takes a time that is exponentially distributed with its weight as the rate, so that it
 * is the first with a probability in proportion to its weight (the Gumbel-max trick, by its logarithm).
 *
 * A token's luck is its own: it depends on `lot` and its id, and neither on the order of the tokens nor on what weights
 * others have. Of distributions p and q the same luck thus chooses token i for both with a probability of
 * 1 / Σj max(pj / pi, qj / qi) ≥ min(pi, qi) / Σj max(pj, qj): the choices differ with one of at most 2d / (1 + d), d
 * being half of Σ|pj - qj|, where no way could have less than d. A walk along running sums to a random share of the
 * whole differs up to once for each token that the change moves, and wherever it permutes them.
 *
 * @param lot 32 random bits
 */
function pick(ids: Int32Array, weights: Float64Array, count: number, lot: number): number {
  let winner: number | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < count; i++) {
    const id = ids[i]!;
    const luck = (mix(lot + Math.imul(id, weylStep)) + 0.5) / 2 ** 32; // in (0, 1)
    // -ln x ≥ 1 - x spares nearly all tokens of a vocabulary the logarithm; no weight of 0 passes it.
    if (!(1 - luck < least * weights[i]!)) continue;
    const time = -Math.log(luck) / weights[i]!;
    if (!(time < least)) continue;
    least = time;
    winner = id;
  }
  if (winner === undefined) throw outOfRange("probabilities", "numbers with one above 0", "none");
  return winner;
}

function noneLeft(logits: Float32Array): Error {
  return argmax(logits) < 0
    ? noNumbers()
    : outOfRange("logitBias", "such that a token is left to choose", "a ban on all");
}
