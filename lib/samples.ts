import { CriaError, integer } from "./errors.js";
import { Generation, type GenerationResult } from "./generate.js";
import { type GenerateOptions, generateOptions } from "./generate-options.js";
import { type Opened, type Opening, PromptOpening, type PromptReader } from "./opening.js";
import { optionsOf } from "./options.js";
import type { Speaker } from "./prompt.js";

/** Far more than a machine gains from reading together; each needs a part of the cache of its own. */
const mostSamples = 256;

export interface SampleOptions extends GenerateOptions {
  /** How many texts, 1 to 256. */
  n: number;
}

/** A piece of one of several texts. */
export interface SamplePiece {
  /** Of the text, from 0. */
  readonly index: number;
  readonly text: string;
}

/**
 * Several texts of one prompt, which is read once. Text i has the seed (seed + i) mod 2^32, and is what a generation
 * with that seed alone gives, bit for bit.
 *
 * Iterate over it, once, for the pieces of all texts as they come; then `results` tells of them. The texts are made
 * together, and each is at most one piece ahead of what was taken.
 */
export class Samples implements AsyncIterable<SamplePiece> {
  readonly #generations: readonly Generation[];
  #started = false;

  /**
   * @param prompt a text, or tokens as they are
   * @throws TypeError or RangeError for a wrong option
   * @throws CriaError ERR_CRIA_CONTEXT where the prompt is longer than the context
   */
  constructor(speaker: Speaker, prompt: string | Int32Array, sampling: SampleOptions) {
    const { n, ...options } = optionsOf("sample", sampling, [...generateOptions, "n"]);
    integer("n", n, 1, mostSamples);
    const opening = new ForkedOpening(new PromptOpening(speaker, prompt), n);
    const first = new Generation(speaker, opening, options);
    const seeds = Array.from({ length: n - 1 }, (_, i) => (first.seed + i + 1) % 2 ** 32);
    this.#generations = [first, ...seeds.map((seed) => new Generation(speaker, opening, { ...options, seed }))];
  }

  /** What came out of each text; undefined until the iteration has ended, by whatever, and where no prompt was read. */
  get results(): GenerationResult[] | undefined {
    const results = this.#generations.flatMap(({ result }) => result ?? []);
    return results.length === this.#generations.length ? results : undefined;
  }

  /** Makes all texts, for whom their pieces do not matter. */
  async finish(): Promise<GenerationResult[]> {
    for await (const _ of this);
    return this.results!;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<SamplePiece, void, undefined> {
    if (this.#started) throw new CriaError("ERR_CRIA_STATE", "samples: were iterated over already");
    this.#started = true;
    for await (const { index, value } of merged(this.#generations)) yield { index, text: value };
  }
}

/** Reads a prompt once for several generations, each of which goes on in a fork. */
class ForkedOpening implements Opening {
  readonly #opening: PromptOpening;
  #opened: Promise<Opened> | undefined;
  #left: number;

  /** @param times how often it will be opened */
  constructor(opening: PromptOpening, times: number) {
    this.#opening = opening;
    this.#left = times;
  }

  async open(read: PromptReader): Promise<Opened> {
    this.#opened ??= this.#opening.open(read);
    const opened = await this.#opened;
    // The last takes the sequence itself: its last block then need not be copied for it.
    if (--this.#left === 0) return opened;
    const sequence = opened.sequence.fork();
    return { ...opened, sequence, close: () => sequence.dispose() };
  }
}

/**
 * What several iterables give, as it comes. Each is asked for its next value before the last one is passed on: all that
 * wait for a run of the model then wait for the same one.
 */
async function* merged<T>(iterables: readonly AsyncIterable<T>[]): AsyncGenerator<{ index: number; value: T }> {
  const iterators = iterables.map((iterable) => iterable[Symbol.asyncIterator]());
  const next = async (index: number) => ({ index, result: await iterators[index]!.next() });
  const waiting = new Map(iterators.map((_, index) => [index, next(index)]));
  try {
    while (waiting.size > 0) {
      const { index, result } = await Promise.race(waiting.values());
      waiting.delete(index);
      if (result.done) continue;
      waiting.set(index, next(index)); // after the others: none is passed over while another always has something
      yield { index, value: result.value };
    }
  } finally {
    for (const waited of waiting.values()) waited.catch(() => undefined);
    await Promise.allSettled(iterators.map((iterator) => iterator.return?.()));
  }
}
