/**
 * Each op by itself, over the shapes of real models: how long it takes, what share of the machine's limit that is, and
 * whether its bits are the scalar kernel's.
 */
import { performance } from "node:perf_hooks";

import { Device, type Isa } from "../lib/device.js";
import { aborted } from "../lib/errors.js";
import { Cleanup } from "./cleanup.js";
import { betterOf, limitsOf, readGBs } from "./limits.js";
import { cpuOf } from "./machine.js";
import { ops } from "./ops/index.js";
import { amountOf, leastSeconds, type Operands, type Problem, type Repeated, readBound } from "./ops/op.js";
import type { Limits, Result } from "./schema.js";
import { best, median, spread } from "./statistics.js";

export interface OpsOptions {
  /** Names of ops. */
  ops: readonly string[];
  /** Names of models' shapes. */
  shapes: readonly string[];
  tokens: readonly number[];
  /** From the worst to the best. */
  isas: readonly Isa[];
  /** Ascending. */
  threads: readonly number[];
  /** Stops it between two runs; ERR_CRIA_ABORTED is then thrown. */
  signal?: AbortSignal;
  /** Called as measurements are done. */
  onProgress?: (done: number, total: number) => void;
  /** Called with each result. */
  onResult?: (result: Result) => void;
}

/**
 * Seconds of one run: the least, of whose time the crossing from JavaScript, some 50 microseconds, is then below a
 * percent, and the most, where an op is far from its limit.
 */
const runSeconds = { least: 0.02, most: 0.25 };

/** Ops in a run, unless they take too long: what fills their input, once, is then a percent or two of its time. */
const usualOps = 8;

/** Runs of a measurement: at least so many unless they take too long, and as many as fit the least time. */
const sampling = { runs: 5, seconds: { least: 0.3, most: 1.5 } };

/** Milliseconds for which limits that were measured hold: a shared machine's change within minutes. */
const limitsHold = 30e3;

/** Measures ops, each against limits measured shortly before. The report's are those of the last device, its best. */
export async function measureOps(options: OpsOptions): Promise<{ limits: Limits; results: Result[] }> {
  const { onProgress = () => undefined, onResult = () => undefined, signal } = options;
  using made = new Cleanup();
  const runners = options.isas.flatMap((isa) =>
    options.threads.map((threads) => made.use(new Runner(isa, threads, signal))),
  );
  const problems = options.ops.flatMap((name) =>
    options.shapes.flatMap((shape) => ops[name]!.problems(shape, options.tokens).map((problem) => ({ name, problem }))),
  );
  const results: Result[] = [];
  const total = problems.length * runners.length;
  onProgress(0, total);
  for (const sharing of together(problems)) {
    using operands = await sharing[0]!.problem.operands(runners[0]!.device);
    for (const { name, problem } of sharing) {
      for (const runner of runners) {
        const result = await measure(name, problem, operands, runner);
        results.push(result);
        onResult(result);
        onProgress(results.length, total);
      }
    }
  }
  return { limits: runners.at(-1)!.best!, results };
}

interface Named {
  name: string;
  problem: Problem;
}

/** Neighbours that share their operands. */
function together(problems: readonly Named[]): Named[][] {
  const groups: Named[][] = [];
  for (const next of problems) {
    const group = groups.at(-1);
    if (group?.at(-1)?.problem.operands === next.problem.operands) group.push(next);
    else groups.push([next]);
  }
  return groups;
}

/** A device, and what it can do at most. */
class Runner implements Disposable {
  readonly device: Device;
  /** Of all that was measured. */
  best: Limits | undefined;
  #latest: Limits | undefined;
  #measured = Number.NEGATIVE_INFINITY;
  readonly #signal: AbortSignal | undefined;

  constructor(isa: Isa, threads: number, signal: AbortSignal | undefined) {
    this.device = new Device({ device: "cpu", isa, threads });
    this.#signal = signal;
  }

  /** @throws CriaError ERR_CRIA_ABORTED where the signal says so */
  check(): void {
    if (this.#signal?.aborted) throw aborted("the measuring", this.#signal);
  }

  [Symbol.dispose](): void {
    this.device.dispose();
  }

  /** Those of the last half minute. */
  async limits(): Promise<Limits> {
    if (this.#latest === undefined || performance.now() - this.#measured > limitsHold) {
      this.#latest = await limitsOf(this.device);
      this.#measured = performance.now();
      this.best = this.best === undefined ? this.#latest : betterOf(this.best, this.#latest);
    }
    return this.#latest;
  }
}

async function measure(name: string, problem: Problem, operands: Operands, runner: Runner): Promise<Result> {
  const { device } = runner;
  const { shape, tokens, format, context, work } = problem;
  const { isa, threads } = cpuOf(device);
  const error = await errorOf(problem, { isa, threads });
  const { seconds, least } = await timeAndLimit(problem, operands, runner);
  const rates = seconds.map((time) => amountOf(work) / time);
  const value = median(rates);
  const limit = least === null ? null : amountOf(work) / least;
  return {
    name: `${name}/${shape}/${tokens}`,
    by: "cria",
    isa,
    threads,
    value,
    unit: work.unit,
    limit,
    share: limit === null ? null : value / limit,
    spread: spread(rates),
    samples: rates.length,
    model: `${work.model}; the error is of a cut of the shape`,
    micros: median(seconds) * 1e6,
    error,
    bytes: work.bytes,
    operations: work.operations,
    at: {
      shape: shape.slice(0, shape.indexOf(".")),
      tokens,
      ...(format !== undefined && { format }),
      ...(context !== undefined && { context }),
    },
  };
}

/**
 * Seconds of one op, of each run, and the least that they could be. What is bound by reading memory is held against the
 * best of plain reads just before and just after: on a shared machine the bandwidth changes from second to second.
 */
async function timeAndLimit(problem: Problem, operands: Operands, runner: Runner) {
  const { device } = runner;
  const { isa } = cpuOf(device);
  const limits = await runner.limits();
  const expected = leastSeconds(problem.work, isa, limits);
  if (!readBound(problem.work, isa, limits)) {
    return { seconds: await secondsOf(runner, problem, operands, expected), least: expected };
  }
  const before = await readGBs(device);
  const seconds = await secondsOf(runner, problem, operands, expected);
  const around = { ...limits, readGBs: best([...before, ...(await readGBs(device))]) };
  runner.best = betterOf(runner.best!, around);
  return { seconds, least: leastSeconds(problem.work, isa, around) };
}

/** Seconds of one op, of each run. */
async function secondsOf(
  runner: Runner,
  { tokens }: Problem,
  operands: Operands,
  least: number | null,
): Promise<number[]> {
  const { device } = runner;
  const count = await countOf(device, tokens, operands, least);
  using repeated = operands.repeated(device, tokens, count);
  await repeated.run(); // takes the memory that it works in
  const { runs, seconds } = sampling;
  const samples: number[] = [];
  const started = performance.now();
  for (let elapsed = 0; elapsed < (samples.length < runs ? seconds.most : seconds.least); ) {
    runner.check();
    samples.push((await secondsOfRun(repeated)) / count);
    elapsed = (performance.now() - started) / 1e3;
  }
  return samples;
}

/** Ops for a run: by the limit, for of short ones a single one's time tells little; fewer where that takes too long. */
async function countOf(device: Device, tokens: number, operands: Operands, least: number | null): Promise<number> {
  using single = operands.repeated(device, tokens, 1);
  await single.run();
  const seconds = await secondsOfRun(single);
  const wanted = Math.max(usualOps, Math.ceil(runSeconds.least / (least ?? seconds)));
  return Math.min(wanted, Math.max(1, Math.floor(runSeconds.most / seconds)));
}

async function secondsOfRun(repeated: Repeated): Promise<number> {
  const started = performance.now();
  await repeated.run();
  return (performance.now() - started) / 1e3;
}

/** The largest difference from what the scalar kernel gives: 0 for the same bits, NaN where one of them is NaN. */
async function errorOf(problem: Problem, execution: { isa: Isa; threads: number }): Promise<number> {
  return largestError(await problem.result(execution), await problem.result({ isa: "scalar", threads: 1 }));
}

export function largestError(actual: Float32Array, expected: Float32Array): number {
  const bits = (array: Float32Array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  let largest = bits(actual).equals(bits(expected)) ? 0 : Number.MIN_VALUE; // 0 and -0 differ by no less
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(actual[i]! - expected[i]!);
    if (!(error <= largest)) largest = error;
    if (Number.isNaN(error)) return error;
  }
  return largest;
}

/** Whether an op did what it should. JSON has null for NaN. */
export const passed = ({ error }: Result): boolean => error === 0;
