import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";

import { packageRoot } from "../../lib/package.js";
import { commitOf, machine, quoted } from "../machine.js";
import type { Machine } from "../schema.js";
import { judge, type Verdict } from "./flat.js";
import { Loads } from "./loads.js";
import { type Amounts, Stocktaker } from "./resources.js";
import { Steps } from "./steps.js";

/** How much work a soak is. */
export interface SoakOptions {
  readonly loads: number;
  readonly steps: number;
  readonly seed: number;
  readonly onProgress?: (done: number, total: number) => void;
}

/** One kind of work, over and over. */
export interface Phase {
  readonly name: string;
  /** Loads, or steps. */
  readonly done: number;
  readonly seconds: number;
  /** How often what callers did ended how. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** What else was counted. */
  readonly facts: Readonly<Record<string, number>>;
  readonly amounts: readonly Verdict[];
}

/** What `npm run soak -- --json FILE` writes. */
export interface SoakReport {
  readonly version: 1;
  readonly date: string;
  readonly commit?: string;
  readonly command: string;
  readonly machine: Machine;
  readonly seed: number;
  readonly phases: readonly Phase[];
}

/** Soaks, and says of each amount whether it was flat. */
export async function soak(argv: readonly string[], options: SoakOptions): Promise<SoakReport> {
  const commit = commitOf(packageRoot); // before anyone goes on working there
  const folder = await mkdtemp(join(tmpdir(), "cria-soak-"));
  try {
    return {
      version: 1,
      date: new Date().toISOString(),
      ...(commit !== undefined && { commit }),
      command: ["npm run soak --", ...argv.map(quoted)].join(" "),
      machine: machine(),
      seed: options.seed,
      phases: [await loadsPhase(folder, options), await stepsPhase(folder, options)],
    };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function loadsPhase(folder: string, { loads: total, seed, onProgress }: SoakOptions): Promise<Phase> {
  const loads = await Loads.in(folder, seed);
  let done = 0;
  const run = async (until: number) => {
    for (; done < until; done++) await loads.load();
    return done;
  };
  const counts = () => ({ outcomes: loads.outcomes, facts: {} });
  return phaseOf("loads", { total, run, held: () => ({}), counts, onProgress });
}

async function stepsPhase(folder: string, { steps: total, seed, onProgress }: SoakOptions): Promise<Phase> {
  using steps = await Steps.in(folder, seed);
  const run = async (until: number) => {
    await steps.until(until);
    return steps.taken;
  };
  const counts = () => ({ outcomes: steps.outcomes, facts: steps.facts });
  return await phaseOf("steps", { total, run, held: () => steps.held, counts, onProgress });
}

/** How a phase is run. */
export interface Work {
  readonly total: number;
  /** Default: 60, ten in each third of a half, for medians that hold against a few odd ones. */
  readonly stocktakings?: number;
  /** Works until so much is done in all, and returns how much that is. */
  run(until: number): Promise<number>;
  /** What is held between two runs, beside what the process holds. */
  held(): Amounts;
  /** What was counted by the end. */
  counts(): Pick<Phase, "outcomes" | "facts">;
  readonly onProgress?: SoakOptions["onProgress"];
}

/** Runs a phase, and takes stock on the way. */
export async function phaseOf(name: string, work: Work): Promise<Phase> {
  const started = performance.now();
  const stocktaker = new Stocktaker();
  const stocks: Amounts[] = [];
  let done = 0;
  const { stocktakings = 60 } = work;
  for (let i = 1; i <= stocktakings; i++) {
    done = await work.run(Math.round((i / stocktakings) * work.total));
    stocks.push({ ...work.held(), ...(await stocktaker.take()) });
    work.onProgress?.(done, work.total);
  }
  const seconds = (performance.now() - started) / 1e3;
  return { name, done, seconds, ...work.counts(), amounts: judge(stocks) };
}
