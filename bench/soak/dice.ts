import { Xoshiro128 } from "../../lib/random.js";

/** What happens by chance, the same for the same seed. */
export class Dice {
  readonly #random: Xoshiro128;

  constructor(seed: number) {
    this.#random = Xoshiro128.fromSeed(seed);
  }

  /** An integer in [0, count). */
  below(count: number): number {
    return Math.floor((this.#random.next() / 2 ** 32) * count);
  }

  /** An integer in [least, most]. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  one<T>(of: readonly T[]): T {
    return of[this.below(of.length)]!;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }
}
