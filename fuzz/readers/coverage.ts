import { Session } from "node:inspector";

/**
 * Which of cria's JavaScript an input ran, by V8's own counters of blocks (the inspector's Profiler): what guides the
 * fuzzer without instrumenting anything. Reading them costs about a millisecond.
 */
export class Coverage {
  readonly #session = new Session();
  /** Everything that was ever seen. */
  readonly #seen = new Set<string>();

  constructor() {
    this.#session.connect();
    this.#post("Profiler.enable");
    this.#post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
  }

  /** How many features were ever seen. */
  get size(): number {
    return this.#seen.size;
  }

  /** Counts what ran since the last call, and returns how much of it had never been seen. */
  take(): number {
    const { result } = this.#post("Profiler.takePreciseCoverage") as { result: Script[] };
    const before = this.#seen.size;
    for (const { url, functions } of result) {
      if (!isWatched(url)) continue;
      for (const { ranges } of functions) this.#seen.add(feature(url, ranges));
    }
    return this.#seen.size - before;
  }

  #post(method: string, parameters: object = {}): unknown {
    let answer: unknown;
    // Its answers come before the call returns.
    this.#session.post(method, parameters, (error, result) => {
      if (error !== null) throw error;
      answer = result;
    });
    return answer;
  }
}

/** cria's own files, and what its tokenizer is made of. */
const isWatched = (url: string): boolean =>
  url.includes("/node_modules/") ? url.includes("/@huggingface/") : url.includes("/lib/") && !url.startsWith("node:");

interface Script {
  url: string;
  functions: { ranges: Range[] }[];
}

interface Range {
  startOffset: number;
  endOffset: number;
  count: number;
}

/** A function with the way that was taken through it: which of its blocks ran not at all, once, or again and again. */
const feature = (url: string, ranges: readonly Range[]): string =>
  url +
  ranges.map(({ startOffset, endOffset, count }) => `,${startOffset}-${endOffset}:${Math.min(count, 2)}`).join("");
