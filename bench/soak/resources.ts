/** What a process holds, as the system, V8 and the addon count it: what a leak of any kind adds to. */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { type HandleCounts, native } from "../../lib/native.js";

/** Amounts by the names of what they are of. */
export type Amounts = Readonly<Record<string, number>>;

/** How far an amount may grow over half of a soak without being called a leak. */
export interface Allowance {
  readonly unit: "bytes" | "";
  readonly allowed: number;
}

const exact: Allowance = { unit: "", allowed: 0 };

/**
 * What is counted one by one must not grow by one. What V8 and malloc take moves by itself:
 *
 * - heap: code that is compiled late, and the shapes and feedback that come with it.
 * - external: V8's account of memory beside its heap, such as typed arrays', which the pool of small buffers is part of.
 * - resident: pages that malloc keeps in the arenas of its threads, and V8 in its spaces. `npm run soak` bounds V8's space
 *   for the young (--max-semi-space-size), and has malloc keep one arena: those of many threads fill for a million steps.
 * - mappings: V8 maps and unmaps its pages of 256 KiB as its heap breathes.
 */
const allowances: Readonly<Record<string, Allowance>> = {
  heap: { unit: "bytes", allowed: 2 ** 19 },
  external: { unit: "bytes", allowed: 2 ** 16 },
  resident: { unit: "bytes", allowed: 2 ** 21 },
  mappings: { unit: "", allowed: 16 },
};

export const allowanceOf = (name: string): Allowance => allowances[name] ?? exact;

/** V8's own collection of garbage, which a process may ask for from the start with --expose-gc, and so at any time. */
const collect: () => void = (() => {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
})();

/** Until the system has what was collected: 16 MiB less are resident then, at times, than at once. */
const settlingMs = 60;

/** Takes stock, again and again. */
export class Stocktaker {
  #collected = 0;

  /**
   * Handles are to be freed by whoever made them, and not when the garbage collector comes to them: those that it has
   * freed are an amount too, in all.
   */
  async take(): Promise<Amounts> {
    const handles = native.handleCounts();
    // What one collection finalises, the next one finds to be free.
    for (let round = 0; round < 2; round++) {
      collect();
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#collected += total(handles) - total(native.handleCounts());
    // V8 gives back what arrays held on threads of its own.
    await setTimeout(settlingMs);
    const { rss, heapUsed, external } = process.memoryUsage();
    return {
      ...Object.fromEntries(Object.entries(handles).map(([kind, count]) => [`handles: ${kind}`, count])),
      "handles collected": this.#collected,
      descriptors: entries("/proc/self/fd"),
      threads: entries("/proc/self/task"),
      mappings: readFileSync("/proc/self/maps", "latin1").split("\n").length - 1,
      heap: heapUsed,
      external,
      resident: rss,
    };
  }
}

const total = (counts: HandleCounts): number => Object.values(counts).reduce((sum, count) => sum + count, 0);

const entries = (folder: string): number => readdirSync(folder).length;
