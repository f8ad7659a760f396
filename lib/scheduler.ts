import { aborted, CriaError } from "./errors.js";
import { blockTokens } from "./kv-pool.js";
import type { KvMoves } from "./kv-sequence.js";
import { native, type RopeOptions } from "./native.js";
import type { Runtime } from "./runtime.js";
import type { ForwardOptions, Sequence, Wanted } from "./sequence.js";

/** Any number; the higher goes first. */
export type Priority = number;

/**
 * Tokens that go through the program at a time: enough that a weight, once read, serves many, few enough that the
 * activations of a 7B model stay within some 40 MB, and that a sequence that waits for its next token does not wait long.
 */
export const chunkTokens = 256;

/** Reads of up to this many tokens go before longer ones: single tokens, and those that speculation has guessed. */
const shortRead = blockTokens;

/** What of every step is left to long reads, however many short ones there are: none waits for ever. */
const leastLong = chunkTokens / 4;

/** Tokens that a sequence waits to have read. */
interface Job {
  readonly sequence: Sequence;
  readonly tokens: Int32Array; // all of the sequence's, from its start
  readonly from: number; // the first whose logits may be wanted
  readonly wanted: Wanted;
  /** Those wanted so far; a step's own array where it gives all of them. */
  logits: Float32Array | undefined;
  readonly options: ForwardOptions;
  readonly resolve: (logits: Float32Array) => void;
  readonly reject: (reason: unknown) => void;
  /** Called when it is settled. */
  release: () => void;
  settled: boolean;
}

/** What a step reads of a job: `count` tokens after the `past` that its cache holds. */
interface Part {
  readonly job: Job;
  /** As it was planned: a sequence whose job is aborted may be truncated, or freed, while the run goes on. */
  readonly past: number;
  readonly count: number;
  readonly moves: KvMoves | undefined;
}

/**
 * Continuous batching (Yu et al. 2022, §4): all sequences that wait for tokens to be read share one run of the program a
 * step. One joins or leaves at every step; short reads come first, and prompts fill what is left of a chunk, in the order
 * of their priorities and then of their coming.
 *
 * Where the pool is full and the runtime allows it, a sequence gives way: the youngest that reads nothing, else one
 * younger than the one in need that the step does not read. Its blocks go back to the pool, and its tokens are read again
 * when its turn comes, to the same bits.
 */
export class Scheduler {
  readonly #runtime: Runtime;
  readonly #rope: RopeOptions;
  readonly #preempt: boolean;
  readonly #sequences = new Set<Sequence>(); // in the order in which they were made
  #jobs: Job[] = []; // in the order in which they came
  #running = false;
  #step: { readonly parts: readonly Part[]; readonly stop: AbortController } | undefined; // that is being run
  #preemptions = 0;

  constructor(runtime: Runtime, rope: RopeOptions, preempt: boolean) {
    this.#runtime = runtime;
    this.#rope = rope;
    this.#preempt = preempt;
  }

  /** How often a sequence gave its blocks back to another. */
  get preemptions(): number {
    return this.#preemptions;
  }

  /** Sequences that wait for tokens to be read, or whose tokens are being read. */
  get waiting(): number {
    return this.#jobs.filter((job) => !job.settled).length;
  }

  /** A sequence that exists, and can be made to give way. */
  enter(sequence: Sequence): void {
    this.#sequences.add(sequence);
  }

  leave(sequence: Sequence): void {
    this.#sequences.delete(sequence);
  }

  /** Reads what of `tokens` the sequence's cache does not hold yet. Logits are wanted of those from `from` on. */
  read(
    sequence: Sequence,
    tokens: Int32Array,
    from: number,
    wanted: Wanted,
    options: ForwardOptions,
  ): Promise<Float32Array> {
    const { signal } = options;
    if (signal?.aborted) return Promise.reject(aborted("the run", signal));
    return new Promise((resolve, reject) => {
      const job: Job = {
        ...{ sequence, tokens, from, wanted, options, resolve, reject },
        logits: undefined,
        release: () => signal?.removeEventListener("abort", abort),
        settled: false,
      };
      const abort = () => this.#abort(job);
      signal?.addEventListener("abort", abort);
      this.#jobs.push(job);
      if (!this.#running) void this.#run();
    });
  }

  /** Removes [begin, end) of a sequence that has read `tokens`, between two steps. */
  async removeRange(sequence: Sequence, tokens: Int32Array, begin: number, end: number): Promise<void> {
    await this.restore(sequence, tokens); // what stays remembers what is to go
    const moves = sequence.kv.removeRange(begin, end);
    try {
      await Promise.all(moves.map((each) => this.#move(each)));
    } catch (error) {
      sequence.kv.free(); // neither what was there nor what should be: the tokens are read again
      throw error;
    }
  }

  /** Has a sequence that has read `tokens` hold all their keys and values, where it gave way. */
  async restore(sequence: Sequence, tokens: Int32Array): Promise<void> {
    if (sequence.kv.length < tokens.length) await this.read(sequence, tokens, tokens.length, "none", {});
  }

  #move({ from, to, shift }: KvMoves): Promise<void> {
    const { device, pool } = this.#runtime;
    return device.queue(() => native.cacheMove(pool.cache, from, to, shift, this.#rope));
  }

  /** Copies what a job's sequence shares and is to write to; what it holds is read again where that fails. */
  async #copy({ sequence }: Job, moves: KvMoves): Promise<void> {
    try {
      await this.#move(moves);
    } catch (error) {
      sequence.kv.free();
      throw error;
    }
  }

  async #run(): Promise<void> {
    this.#running = true;
    try {
      for (;;) {
        // Those whose tokens the last step has read ask for their next ones meanwhile.
        await new Promise((resolve) => setImmediate(resolve));
        this.#drop();
        if (this.#jobs.length === 0) return;
        const parts = this.#plan();
        if (parts.length > 0) await this.#take(parts);
      }
    } catch (error) {
      // A fault of the scheduler's own: nobody is to wait for ever.
      for (const job of this.#jobs) settle(job, error);
      this.#jobs = [];
    } finally {
      this.#running = false;
    }
  }

  /** Settles a job whose caller wants it no more; stops the run that nobody else waits for. */
  #abort(job: Job): void {
    settle(job, aborted("the run", job.options.signal!));
    if (this.#step?.parts.every((part) => part.job.settled)) this.#step.stop.abort();
  }

  /** Forgets the jobs that were settled, and those whose sequences were disposed. */
  #drop(): void {
    for (const job of this.#jobs) {
      if (job.sequence.disposed && !job.settled)
        settle(job, new CriaError("ERR_CRIA_DISPOSED", "sequence: was disposed"));
    }
    this.#jobs = this.#jobs.filter((job) => !job.settled);
  }

  /** What the next step reads. Jobs that can never be served are settled. */
  #plan(): Part[] {
    const parts: Part[] = [];
    const planned = new Set<Sequence>();
    let left = chunkTokens; // for long reads
    let shortLeft = chunkTokens; // those that get none of it come first in the next step
    const waiting = this.#jobs.map((job, i) => ({ job, i, short: remaining(job) <= shortRead }));
    waiting.sort(
      (a, b) =>
        Number(b.short) - Number(a.short) || (b.job.options.priority ?? 0) - (a.job.options.priority ?? 0) || a.i - b.i,
    );
    for (const { job, short } of waiting) {
      this.#find(job);
      const count = Math.min(remaining(job), short ? Math.min(shortRead, shortLeft) : left);
      if (count === 0) continue;
      const moves = this.#reserve(job, count, planned);
      if (moves === "full") continue;
      planned.add(job.sequence);
      parts.push({ job, past: job.sequence.kv.length, count, moves });
      if (short) shortLeft -= count;
      left = Math.max(left - count, short ? leastLong : 0);
    }
    return parts.length > 0 ? parts : this.#refuse();
  }

  /** Takes what the prefix cache has of a sequence that begins, short of the first token whose logits are wanted. */
  #find({ sequence, tokens, from, wanted }: Job): void {
    if (sequence.kv.length > 0) return;
    const most = wanted === "all" ? Math.min(from, tokens.length - 1) : tokens.length - 1;
    sequence.kv.find(tokens, most);
  }

  /** Room for `count` tokens, which younger sequences may have to give; "full" where there is none for now. */
  #reserve({ sequence }: Job, count: number, planned: ReadonlySet<Sequence>): KvMoves | undefined | "full" {
    for (;;) {
      try {
        return sequence.kv.reserve(count);
      } catch (error) {
        if ((error as CriaError).code !== "ERR_CRIA_CACHE_FULL") throw error;
        if (!this.#preempt || !this.#yieldYoungest(sequence, planned)) return "full";
      }
    }
  }

  /** Makes a sequence give its blocks back: the youngest that reads nothing, else the youngest after `sequence`. */
  #yieldYoungest(sequence: Sequence, planned: ReadonlySet<Sequence>): boolean {
    const youngest = [...this.#sequences].reverse();
    const younger = youngest.slice(0, youngest.indexOf(sequence));
    // One that is saved, loaded or moved is busy without a job, and its blocks are in use.
    const reading = new Set(this.#jobs.map((job) => job.sequence));
    const able = (other: Sequence) =>
      other !== sequence &&
      !planned.has(other) &&
      (!other.busy || reading.has(other)) &&
      other.kv.blockTable.length > 0 &&
      other.kv.repeatable;
    const giving = youngest.find((other) => !other.busy && able(other)) ?? younger.find(able);
    if (giving === undefined) return false;
    giving.kv.free();
    this.#preemptions += 1;
    return true;
  }

  /**
   * Settles a job where no step can be made, and none will be while all wait: one that the whole pool is too small for,
   * else the youngest sequence's. Where others gave way meanwhile and it has room now, it is the step.
   */
  #refuse(): Part[] {
    const jobOf = (sequence: Sequence) => this.#jobs.find((job) => job.sequence === sequence);
    const youngest = [...this.#sequences].reverse().flatMap((sequence) => jobOf(sequence) ?? []);
    const job = youngest.find(({ tokens }) => tokens.length > this.#runtime.pool.capacity) ?? youngest[0]!;
    const count = Math.min(remaining(job), chunkTokens);
    try {
      const moves = job.sequence.kv.reserve(count);
      return [{ job, past: job.sequence.kv.length, count, moves }];
    } catch (error) {
      settle(job, error);
      return [];
    }
  }

  async #take(parts: readonly Part[]): Promise<void> {
    const stop = new AbortController();
    this.#step = { parts, stop };
    const { program, pool } = this.#runtime;
    try {
      const moved = parts.map(({ job, moves }) => moves && this.#copy(job, moves));
      const run = program.run(pool.cache, batchOf(parts), stop.signal);
      const [logits] = await Promise.all([run, ...moved]);
      this.#finish(parts, logits);
    } catch (error) {
      for (const { job } of parts) settle(job, error);
    } finally {
      this.#step = undefined;
    }
  }

  /** Counts a step's tokens in, and settles the jobs that it has come to the end of. */
  #finish(parts: readonly Part[], logits: Float32Array): void {
    const { vocab } = this.#runtime.config;
    let row = 0;
    for (const { job, past, count } of parts) {
      const { kv } = job.sequence;
      const [first, end] = wantedRows(job, past, count);
      const part = logits.subarray(row * vocab, (row + end - first) * vocab);
      row += end - first;
      if (job.settled) continue; // its caller has gone on without it
      if (end > first) keep(job, part, logits, job.wanted === "last" ? 0 : past + first - job.from, vocab);
      kv.commit(count, job.tokens);
      try {
        job.options.onProgress?.(kv.length, job.tokens.length);
      } catch (error) {
        settle(job, error);
      }
      if (kv.length === job.tokens.length) settle(job, undefined);
    }
  }
}

const remaining = ({ sequence, tokens }: Job): number => tokens.length - sequence.kv.length;

function settle(job: Job, error: unknown): void {
  if (job.settled) return;
  job.settled = true;
  job.release();
  if (error === undefined) job.resolve(job.logits ?? new Float32Array(0));
  else job.reject(error);
}

/** Keeps a part of a step's logits as a job's rows from `row` on: without a copy where they are all of both. */
function keep(job: Job, part: Float32Array, step: Float32Array, row: number, vocab: number): void {
  const rows = job.wanted === "all" ? job.tokens.length - job.from : 1;
  if (part.length === step.length && part.length === rows * vocab) {
    job.logits = step;
    return;
  }
  job.logits ??= new Float32Array(rows * vocab);
  job.logits.set(part, row * vocab);
}

/** Of the `count` tokens of a job after `past`, [first, end) are those whose logits are wanted. */
function wantedRows({ tokens, from, wanted }: Job, past: number, count: number): [first: number, end: number] {
  if (wanted === "all") return [Math.min(count, Math.max(0, from - past)), count];
  return wanted === "last" && past + count === tokens.length ? [count - 1, count] : [0, 0];
}

function batchOf(parts: readonly Part[]) {
  const total = parts.reduce((sum, { count }) => sum + count, 0);
  const tokens = new Int32Array(total);
  const positions = new Int32Array(total);
  const outputs: number[] = [];
  let at = 0;
  for (const { job, past, count } of parts) {
    tokens.set(job.tokens.subarray(past, past + count), at);
    for (let i = 0; i < count; i++) positions[at + i] = past + i;
    const [first, end] = wantedRows(job, past, count);
    for (let i = first; i < end; i++) outputs.push(at + i);
    at += count;
  }
  return {
    tokens,
    positions,
    lengths: Int32Array.from(parts, ({ count }) => count),
    pasts: Int32Array.from(parts, ({ past }) => past),
    blockCounts: Int32Array.from(parts, ({ job }) => job.sequence.kv.blockTable.length),
    blocks: Int32Array.from(parts.flatMap(({ job }) => job.sequence.kv.blockTable)),
    outputs: Int32Array.from(outputs),
  };
}
