const rotateLeft = (word: number, bits: number): number => (word << bits) | (word >>> (32 - bits));

/** 2^32 / golden ratio, odd: its multiples are far from one another, and no two of 2^32 alike. */
export const weylStep = 0x9e3779b9;

/**
 * xoshiro128** 1.1 (Blackman and Vigna 2018, "Scrambled linear pseudorandom number generators",
 * https://prng.di.unimi.it/xoshiro128starstar.c): period 2^128 - 1, whole in 32-bit integers, which JavaScript has.
 */
export class Xoshiro128 {
  readonly #state: Uint32Array;

  /** @param state four words, not all 0 */
  constructor(state: readonly [number, number, number, number]) {
    this.#state = Uint32Array.from(state);
  }

  /** @param seed an integer in [0, 2^32), spread over the state as the generator's authors advise, by a SplitMix */
  static fromSeed(seed: number): Xoshiro128 {
    let counter = seed;
    const word = (): number => {
      counter = (counter + weylStep) | 0;
      return mix(counter);
    };
    return new Xoshiro128([word(), word(), word(), word()]);
  }

  /** Another, which goes on with the same numbers. */
  clone(): Xoshiro128 {
    const [a, b, c, d] = this.#state;
    return new Xoshiro128([a!, b!, c!, d!]);
  }

  next(): number {
    const s = this.#state;
    const result = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotateLeft(s[3]!, 11);
    return result;
  }
}

/** MurmurHash3's finaliser (Appleby), a bijection: four different counters never give four words of 0. */
export function mix(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
