/** The fuzzer of cria's JavaScript: mutates inputs, keeps those that run what none ran before, and holds each to limits. */
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Dice } from "../../bench/soak/dice.js";
import { readAll } from "../../lib/files.js";
import { Coverage } from "./coverage.js";
import { Mutator } from "./mutate.js";
import { Finding, isExpected, type Target } from "./target.js";

/** No input is longer, so that none takes long by its length alone. */
const mostBytes = 64 * 1024;

/** The processor's time that one may take: a thousand times what a sound one takes. */
const mostSeconds = 1;

/** What the process's largest size may grow by for one: of a heap's own movements, some MiB are seen. */
const mostGrowth = 64 * 2 ** 20;

/** What is new leads on, so a third of the mutations are of as many inputs as were found last. */
const recent = 64;

export interface Totals {
  inputs: number;
  seconds: number;
  /** Functions of cria's by the ways that were taken through them. */
  features: number;
  corpus: number;
  /** Of those, how many were accepted and not refused. */
  accepted: number;
}

export interface EngineOptions {
  readonly seeds: readonly Uint8Array[];
  readonly seconds: number;
  readonly seed: number;
  /** Called with the file that each input stands in, while it is run. */
  onPlace?(path: string): void;
  /** Called every second, while the seeds are run too. */
  onProgress(totals: Totals): void;
  /** Called with inputs that ran something new. */
  onNew?(input: Uint8Array): void;
}

/** A finding, with what it was found in. */
export class FoundError extends Error {
  override readonly name = "FoundError";

  constructor(
    readonly input: Uint8Array,
    cause: unknown,
  ) {
    super(cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause), { cause });
  }
}

/** The file that inputs stand in, one after another: in memory, where the system has such a folder. */
export class Place implements Disposable {
  readonly #folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "cria-fuzz-"));
  readonly path: string = join(this.#folder, "input");
  readonly #file = openSync(this.path, "w+");

  put(bytes: Uint8Array): void {
    ftruncateSync(this.#file, 0);
    writeSync(this.#file, bytes, 0, bytes.length, 0);
  }

  /** Whether the file is still what was put there. */
  holds(bytes: Uint8Array): boolean {
    const found = Buffer.alloc(bytes.length + 1);
    return readAll(this.#file, found, 0) === bytes.length && found.subarray(0, bytes.length).equals(bytes);
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * Runs one input.
 *
 * @returns whether it was accepted
 * @throws FoundError
 */
export async function runOnce(target: Target, input: Uint8Array, place: Place): Promise<boolean> {
  const whole = target.complete?.(input) ?? input;
  const fail = (problem: unknown) => new FoundError(input, problem);
  const first = await measure(target, whole, place, fail);
  const { accepted, growth } = first;
  // What is slow because the machine is busy, or because the process tidies up, is not so again.
  const slow = first.seconds > mostSeconds;
  const seconds = slow ? Math.min(first.seconds, (await measure(target, whole, place, fail)).seconds) : first.seconds;
  if (seconds > mostSeconds) throw fail(new Finding(`it took ${seconds.toFixed(2)} s of the processor`));
  if (growth > mostGrowth) throw fail(new Finding(`it took ${growth} bytes of memory`));
  return accepted;
}

interface Measured {
  readonly accepted: boolean;
  /** Of the processor. */
  readonly seconds: number;
  /** By which the process was larger at some time than ever before, in bytes. */
  readonly growth: number;
}

async function measure(
  target: Target,
  input: Uint8Array,
  place: Place,
  fail: (problem: unknown) => FoundError,
): Promise<Measured> {
  place.put(input);
  const before = process.resourceUsage();
  let accepted = true;
  try {
    await target.run(input, place.path);
  } catch (error) {
    if (!isExpected(error)) throw fail(error);
    accepted = false;
  }
  const after = process.resourceUsage();
  if (!place.holds(input)) throw fail(new Finding("it changed its file"));
  const microseconds = after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime;
  return { accepted, seconds: microseconds / 1e6, growth: 1024 * (after.maxRSS - before.maxRSS) };
}

/** @throws FoundError */
export async function fuzz(target: Target, options: EngineOptions): Promise<Totals> {
  const { seeds, seconds, seed, onPlace, onProgress, onNew } = options;
  using place = new Place();
  onPlace?.(place.path);
  const dice = new Dice(seed);
  const dictionary = target.dictionary.map((word) => Buffer.from(word));
  const mutator = new Mutator(dice, dictionary, mostBytes);
  const begin = performance.now();
  const elapsed = () => (performance.now() - begin) / 1000;
  const corpus: Uint8Array[] = [];
  const totals: Totals = { inputs: 0, seconds: 0, features: 0, corpus: 0, accepted: 0 };
  let told = 0;
  const tell = (coverage?: Coverage) => {
    if (elapsed() - told < 1) return;
    told = elapsed();
    onProgress({ ...totals, seconds: told, features: coverage?.size ?? 0, corpus: corpus.length });
  };
  // What runs for the first time is slow, for it is compiled first, and takes memory that stays.
  for (const input of seeds) {
    await runOnce(target, input, place).catch(() => undefined);
    tell();
  }
  const coverage = new Coverage();
  const run = async (input: Uint8Array) => {
    if (await runOnce(target, input, place)) totals.accepted++;
    totals.inputs++;
    const isNew = coverage.take() > 0;
    if (isNew) corpus.push(input);
    tell(coverage);
    return isNew;
  };
  for (const input of seeds) await run(input);
  if (corpus.length === 0) throw new Error("there must be a seed that runs something of cria");
  while (elapsed() < seconds) {
    // Another third is of the seeds: most of what is found is refused, and would soon outnumber what is sound.
    const from = dice.one([seeds, corpus, corpus.slice(-recent)]);
    const input = mutator.mutate(dice.one(from), dice.one(corpus));
    if (await run(input)) onNew?.(input);
  }
  return { ...totals, seconds: elapsed(), features: coverage.size, corpus: corpus.length };
}
