import { performance } from "node:perf_hooks";

import { onAbort } from "./abort.js";
import { aborted, CriaError } from "./errors.js";
import { blockTokens } from "./kv-block.js";
import type { KvMoves, KvSequence } from "./kv-sequence.js";
import { native, type RopeOptions, type Sampling } from "./native.js";
import type { Runtime } from "./runtime.js";
import { argmax } from "./sampling/ranking.js";
import type { ForwardOptions, Sequence, Wanted } from "./sequence.js";
import { batchOf, keepLogits, logitsOfParts, type Part, type Reading, remaining } from "./step.js";
import { joined } from "./tokens.js";

/** Any number; the higher goes first. */
export type Priority = number;

/**
 * Tokens that go through the program at a time: enough that a weight, once read, serves many, few enough that the
 * activations of a 7B model stay within some 40 MB, and that a sequence that waits for its next token does not wait
 * long.
 */
export const chunkTokens = 256;

/** Reads of up to this many tokens go before longer ones: single tokens, and those that speculation has guessed. */
const shortRead = blockTokens;

/**
 * Steps that the device takes by itself, at most, where all that is to be read is a token of each of some texts. A step
 * that goes through JavaScript costs some 0.3 ms more: of a small model's millisecond a quarter, shared by 16 a
 * fiftieth. More would gain little, and cost what this costs in small:
 *
 * - A newcomer waits for the steps under way, which take 16 ms where it matters and, where a step takes 10 ms, 160; a
 *   signal is heard at once, but the device is not free before.
 * - What stops a text is seen when they are done: 8 steps too many on average, a twenty-fifth of a text of 200 tokens.
 * - A text needs at most the one block more that is kept for it when others are admitted.
 */
export const burstSteps = blockTokens;

/** What of every step is left to long reads, however many short ones there are: none waits for ever. */
const leastLong = chunkTokens / 4;

/**
 * How long, in milliseconds, a text keeps its place, and the block that it may grow by, though its caller asks for no
 * more of it. Those who read a text as it comes are faster; a connection that hangs is not, nor is a caller who waits
 * for what waits here. Reading a text again costs about as long.
 */
const patienceMs = 1000;

/** A sequence, as the scheduler knows it. */
interface Member {
  readonly sequence: Sequence;
  readonly kv: KvSequence;
  /** The later, the younger. */
  readonly born: number;
  /** What it waits for. */
  job: Job | undefined;
  /** Whether a text is being made of it: it will end, and then give its blocks back, or stand idle. */
  speaking: boolean;
  /** When, by `performance.now()`, it got what it last waited for. */
  idleSince: number;
}

/** What a sequence waits for. */
interface Waiting {
  readonly member: Member;
  readonly priority: Priority;
  /** Whether it waits for others, where there is no room. */
  readonly patient: boolean;
  readonly reject: (reason: unknown) => void;
  /** Called when it is settled. */
  release: () => void;
  settled: boolean;
  /** Whether it stands in the queue. */
  queued: boolean;
  /** Whether it found no room: it is then the first to look again, before others have taken what there is. */
  starved: boolean;
}

/** Tokens to be read. */
interface ReadJob extends Waiting, Reading {
  readonly kind: "read";
  readonly onProgress: ForwardOptions["onProgress"];
  /** How many steps may be taken in a row, each with the likeliest token after the last; 1 where logits are wanted. */
  readonly steps: number;
  /** Those drawn, where the device drew them. */
  drawn: Int32Array | undefined;
  readonly resolve: (read: Pick<ReadJob, "logits" | "drawn">) => void;
}

/** Room for something else than reading: taken between two steps, at once when it is there. */
interface RoomJob extends Waiting {
  readonly kind: "room";
  /** How many blocks `take` takes. */
  readonly blocks: () => number;
  readonly take: () => void;
}

type Job = ReadJob | RoomJob;

/** A step that is being planned. */
interface Plan {
  readonly parts: Part<ReadJob>[];
  readonly members: Set<Member>;
  left: number; // for long reads
  shortLeft: number; // those that get none of it come first in the next step
}

/**
 * Continuous batching (Yu et al. 2022, §4): all sequences that wait for tokens to be read share one run of the program
 * a step. One joins or leaves at every step; short reads come first, and prompts fill what is left of a chunk, in the
 * order of their priorities and then of their coming.
 *
 * Where all that wait for the device read one token, and want the likeliest ones that follow it, it takes several steps
 * by itself, as many as each wants and there are free blocks for: a burst. Else such a sequence gets its next token
 * with the step that the others share, so that nobody waits for it longer than for a single token. Those in the queue
 * hinder no burst: they wait for room, and that is what the ends of texts give.
 *
 * Sequences that hold no blocks stand in a queue, by priority and then by age, and only its head is looked at. It is
 * admitted where all that it waits to have read finds room beside what those admitted before it still need, and a block
 * more for each: texts that grow then seldom run into one another. Where nobody else is at work it is admitted anyhow,
 * and where nobody has done anything for a while, all whose tokens alone find room.
 *
 * Where the pool is full a sequence waits while others are at work, or texts are being made, that end sooner or later;
 * ERR_CRIA_CACHE_FULL is for the youngest of those that wait where only idle sequences hold the rest, and these are
 * their callers' to dispose.
 *
 * Where the runtime allows it, sequences give way: first those that are idle, whatever their age, for nobody waits for
 * them; then those that are younger than the one in need; each time the youngest. Their blocks go back to the pool, and
 * their tokens are read again when their turn comes, to the same bits. What would not come to the same bits cannot give
 * way: a sequence of which a range was removed, as a window does, or that was loaded from a file.
 */
export class Scheduler {
  readonly #runtime: Runtime;
  readonly #rope: RopeOptions;
  readonly #preempt: boolean;
  readonly #members = new Map<Sequence, Member>(); // the oldest first
  readonly #speaking = new Set<Member>();
  #born = 0;
  /** Of sequences that hold blocks, or were admitted: in the order in which they came. */
  #jobs: Job[] = [];
  /** Of sequences that hold none, the first to be admitted first. */
  readonly #queue: Job[] = [];
  #active = false;
  #timer: NodeJS.Timeout | undefined;
  /** Whether nothing has happened for as long as patience lasts, though some wait. */
  #late = false;
  #step: { readonly parts: readonly Part<ReadJob>[]; readonly stop: AbortController } | undefined; // that is being run
  #settled = 0;
  #runs = 0;
  #steps = 0;
  #preemptions = 0;

  constructor(runtime: Runtime, rope: RopeOptions, preempt: boolean) {
    this.#runtime = runtime;
    this.#rope = rope;
    this.#preempt = preempt;
  }

  /** Runs of the program. */
  get runs(): number {
    return this.#runs;
  }

  /** What sequences have read in those, beside others, after what they had read before: each time a step of one. */
  get steps(): number {
    return this.#steps;
  }

  /** How often a sequence gave its blocks back to another. */
  get preemptions(): number {
    return this.#preemptions;
  }

  /** Sequences that wait for tokens to be read or for room, or whose tokens are being read. */
  get waiting(): number {
    return this.#queue.length + this.#jobs.filter((job) => !job.settled).length;
  }

  /** A sequence that exists, and its place in the cache. */
  enter(sequence: Sequence, kv: KvSequence): void {
    const born = this.#born++;
    this.#members.set(sequence, { sequence, kv, born, job: undefined, speaking: false, idleSince: 0 });
  }

  /** A sequence that was disposed, and holds nothing any more. */
  leave(sequence: Sequence): void {
    this.#speaking.delete(this.#of(sequence));
    this.#members.delete(sequence);
    this.changed();
  }

  /** A text is being made of a sequence, until {@link endText}: others may wait for it. */
  beginText(sequence: Sequence): void {
    const member = this.#members.get(sequence);
    if (member === undefined) return; // it was disposed meanwhile
    member.speaking = true;
    member.idleSince = performance.now();
    this.#speaking.add(member);
  }

  /** The text that {@link beginText} told of has ended, or was left. */
  endText(sequence: Sequence): void {
    const member = this.#members.get(sequence);
    if (member === undefined) return;
    member.speaking = false;
    this.#speaking.delete(member);
    this.changed();
  }

  /** A text's caller has asked for more of it, and got what had been read before: it is not idle. */
  keepPlace(sequence: Sequence): void {
    const member = this.#members.get(sequence);
    if (member !== undefined) member.idleSince = performance.now();
  }

  /** Blocks have become free, or a sequence idle: those who wait may go on. */
  changed(): void {
    if (!this.#active && this.#jobs.length + this.#queue.length > 0) void this.#run();
  }

  /** Reads what of `tokens` the sequence's cache does not hold yet. Logits are wanted of those from `from` on. */
  read(
    sequence: Sequence,
    tokens: Int32Array,
    from: number,
    wanted: Wanted,
    options: ForwardOptions,
  ): Promise<Float32Array> {
    return this.#read(
      sequence,
      tokens,
      { from, wanted, steps: 1 },
      options,
      ({ logits }) => logits ?? new Float32Array(0),
    );
  }

  /**
   * Reads what of `tokens` the sequence's cache does not hold yet, and draws the likeliest tokens that follow, of equal
   * ones the lowest.
   *
   * @param most how many, at least 1
   * @returns one or more; all but the last were read too
   */
  draw(sequence: Sequence, tokens: Int32Array, most: number, options: ForwardOptions): Promise<Int32Array> {
    const reading = { from: tokens.length - 1, wanted: "last", steps: most } as const;
    // As the device does it, for which a logit that is no number is the least: of only such ones, the first token.
    const likeliest = (logits: Float32Array) => Int32Array.of(Math.max(0, argmax(logits)));
    return this.#read(sequence, tokens, reading, options, ({ logits, drawn }) => drawn ?? likeliest(logits!));
  }

  #read<T>(
    sequence: Sequence,
    tokens: Int32Array,
    reading: Pick<ReadJob, "from" | "wanted" | "steps">,
    options: ForwardOptions,
    resultOf: (read: Pick<ReadJob, "logits" | "drawn">) => T,
  ): Promise<T> {
    const { capacity } = this.#runtime.pool;
    if (tokens.length > capacity) {
      const problem = `tokens: must, with those read before, be at most ${capacity}, all that the cache holds, not ${tokens.length}`;
      return Promise.reject(new CriaError("ERR_CRIA_CACHE_FULL", problem));
    }
    const { onProgress } = options;
    return this.#wait(sequence, options, (waiting, resolve: (value: T) => void) => ({
      ...waiting,
      ...reading,
      kind: "read",
      kv: waiting.member.kv,
      tokens,
      onProgress,
      logits: undefined,
      drawn: undefined,
      resolve: (read) => resolve(resultOf(read)),
    }));
  }

  /**
   * Waits until `blocks()` blocks are there, which others may have to give; then calls `take`, which takes as many.
   * What it has the device do comes before the next run.
   */
  room<T>(sequence: Sequence, blocks: () => number, take: () => T | Promise<T>, options: ForwardOptions): Promise<T> {
    const { pool } = this.#runtime;
    if (blocks() === 0) return Promise.resolve(take());
    if (blocks() > pool.blocks) return Promise.reject(pool.full(blocks()));
    return this.#wait(sequence, options, (waiting, resolve: (value: T | Promise<T>) => void) => ({
      ...waiting,
      kind: "room",
      blocks,
      take: () => resolve(take()),
    }));
  }

  /** Ends what a sequence waits for, which was disposed: at once or, where a run reads its tokens, after the run. */
  cancel(sequence: Sequence): void {
    const { job } = this.#of(sequence);
    if (job === undefined || this.#isRunning(job)) return;
    this.#settle(job, sequenceDisposed());
    this.changed();
  }

  /**
   * Removes [begin, end) of a sequence that has read `tokens`, between two steps.
   *
   * @param keep keeps the blocks that are free then, for tokens to come
   */
  async removeRange(
    sequence: Sequence,
    tokens: Int32Array,
    [begin, end]: readonly [begin: number, end: number],
    { keep, ...options }: ForwardOptions & { keep: boolean },
  ): Promise<void> {
    const { kv } = this.#of(sequence);
    const held = () => kv.length === tokens.length;
    const remove = async () => {
      if (!held()) return; // it gave way while it waited
      try {
        await Promise.all(kv.removeRange(begin, end, keep).map((each) => this.#move(each)));
      } catch (error) {
        kv.free(); // neither what was there nor what should be: the tokens are read again
        throw error;
      }
    };
    for (;;) {
      await this.restore(sequence, tokens, options); // what stays remembers what is to go
      await this.room(sequence, () => (held() ? kv.removalNeeds(begin, end, keep) : 0), remove, options);
      if (kv.length === tokens.length - (end - begin)) return;
    }
  }

  /** Has a sequence that has read `tokens` hold all their keys and values, where it gave way. */
  async restore(sequence: Sequence, tokens: Int32Array, options: ForwardOptions = {}): Promise<void> {
    if (this.#of(sequence).kv.length < tokens.length)
      await this.read(sequence, tokens, tokens.length, "none", { ...options, onProgress: undefined });
  }

  /**
   * Has every sequence give its blocks back, and read its tokens again when it goes on: what they hold is no longer
   * what the model would make of the tokens.
   *
   * @throws as {@link requireRepeatable}; all then stays
   */
  forget(): void {
    this.requireRepeatable();
    for (const { kv } of this.#members.values()) kv.free();
  }

  /**
   * @throws CriaError ERR_CRIA_STATE while a text is made or tokens are read, or where a sequence's tokens cannot be
   *   read again, as it was loaded or a range of it was removed
   */
  requireRepeatable(): void {
    const members = [...this.#members.values()];
    if (members.some(({ sequence, speaking }) => speaking || sequence.busy)) {
      throw new CriaError("ERR_CRIA_STATE", "model: must have ended its texts, and read what it was given, first");
    }
    if (members.every(({ kv }) => kv.repeatable)) return;
    const problem = "must have no sequence that was loaded, or of which a range was removed: dispose of it first";
    throw new CriaError("ERR_CRIA_STATE", `model: ${problem}`);
  }

  /** What waits will not come any more: the model was disposed. */
  dispose(): void {
    clearTimeout(this.#timer);
    for (const job of [...this.#jobs, ...this.#queue]) {
      if (!this.#isRunning(job)) this.#settle(job, new CriaError("ERR_CRIA_DISPOSED", "model: was disposed"));
    }
  }

  #isRunning(job: Job): boolean {
    return this.#step?.parts.some((part) => part.job === job) ?? false;
  }

  #of(sequence: Sequence): Member {
    return this.#members.get(sequence)!;
  }

  #move({ from, to, shift }: KvMoves): Promise<void> {
    const { device, pool } = this.#runtime;
    return device.queue(() => native.cacheMove(pool.cache, from, to, shift, this.#rope));
  }

  /** Copies what a job's sequence shares and is to write to; what it holds is read again where that fails. */
  async #copy({ kv }: ReadJob, moves: KvMoves): Promise<void> {
    try {
      await this.#move(moves);
    } catch (error) {
      kv.free();
      throw error;
    }
  }

  #wait<T>(
    sequence: Sequence,
    { signal, priority = 0, wait: patient = true }: ForwardOptions,
    jobOf: (waiting: Waiting, resolve: (value: T | Promise<T>) => void) => Job,
  ): Promise<T> {
    if (signal?.aborted) return Promise.reject(aborted("the run", signal));
    return new Promise((resolve, reject) => {
      const member = this.#of(sequence);
      const state = { release: () => undefined, settled: false, queued: false, starved: false };
      const job = jobOf({ member, priority, patient, reject, ...state }, resolve);
      if (signal !== undefined) job.release = onAbort(signal, () => this.#drop(job, aborted("the run", signal)));
      member.job = job;
      if (member.kv.blockTable.length > 0 || !patient) this.#jobs.push(job);
      else this.#enqueue(job);
      this.changed();
    });
  }

  #enqueue(job: Job): void {
    job.queued = true;
    job.starved = false;
    let [low, high] = [0, this.#queue.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (goesBefore(this.#queue[middle]!, job)) low = middle + 1;
      else high = middle;
    }
    this.#queue.splice(low, 0, job);
  }

  async #run(): Promise<void> {
    this.#active = true;
    clearTimeout(this.#timer);
    try {
      for (;;) {
        // Those whose tokens the last step has read ask for their next ones meanwhile.
        await new Promise((resolve) => setImmediate(resolve));
        this.#jobs = this.#jobs.filter((job) => !job.settled);
        if (this.#jobs.length + this.#queue.length === 0) return;
        const [settled, free] = [this.#settled, this.#runtime.pool.freeBlocks];
        const parts = this.#plan();
        this.#late = false;
        if (parts.length > 0) await this.#take(parts, this.#stepsOf(parts));
        else if (this.#settled === settled && this.#runtime.pool.freeBlocks <= free && !this.#refuse()) return;
      }
    } catch (error) {
      // A fault of the scheduler's own: nobody is to wait for ever.
      for (const job of [...this.#jobs, ...this.#queue]) this.#settle(job, error);
    } finally {
      this.#active = false;
    }
  }

  /** Settles a job whose caller wants it no more; stops the run that nobody else waits for. */
  #drop(job: Job, error: CriaError): void {
    this.#settle(job, error);
    if (this.#step?.parts.every((part) => part.job.settled)) this.#step.stop.abort();
    this.changed(); // others may have waited behind it
  }

  /** What the next step reads. Whatever one of the jobs has wrong is told to its own caller. */
  #plan(): Part<ReadJob>[] {
    this.#admit();
    const plan: Plan = { parts: [], members: new Set(), left: chunkTokens, shortLeft: chunkTokens };
    const waiting = this.#jobs.map((job, i) => ({ job, i, short: isShort(job) }));
    waiting.sort(
      (a, b) =>
        Number(b.job.starved) - Number(a.job.starved) ||
        Number(b.short) - Number(a.short) ||
        b.job.priority - a.job.priority ||
        a.i - b.i,
    );
    for (const { job, short } of waiting) {
      if (job.settled || job.queued) continue; // one that gave way to another meanwhile
      try {
        if (job.kind === "read") this.#planRead(job, short, plan);
        else this.#planRoom(job, plan);
      } catch (error) {
        this.#settle(job, error);
      }
    }
    return plan.parts;
  }

  #planRead(job: ReadJob, short: boolean, plan: Plan): void {
    const most = short ? Math.min(shortRead, plan.shortLeft) : plan.left;
    if (most === 0) return;
    const { kv, tokens } = job;
    if (kv.length === 0) kv.find(tokens, mostFound(job));
    const count = Math.min(remaining(job), most);
    if (!this.#makeRoom(job, () => kv.needs(count), plan)) return;
    const moves = kv.reserve(count);
    plan.members.add(job.member);
    plan.parts.push({ job, past: kv.length, count, moves });
    if (short) plan.shortLeft -= count;
    plan.left = Math.max(plan.left - count, short ? leastLong : 0);
  }

  #planRoom(job: RoomJob, plan: Plan): void {
    if (!this.#makeRoom(job, job.blocks, plan)) return;
    plan.members.add(job.member);
    job.take();
    this.#settle(job, undefined);
  }

  /** How many steps the device may take by itself with the parts of the next one; they have the blocks for them. */
  #stepsOf(parts: readonly Part<ReadJob>[]): number {
    const others = this.#jobs.filter((job) => !job.settled).length - parts.length;
    if (others > 0) return 1;
    const { pool } = this.#runtime;
    const needs = (steps: number) => parts.reduce((blocks, { job }) => blocks + job.kv.needs(steps), 0);
    let steps = Math.min(burstSteps, ...parts.map(({ job }) => (remaining(job) === 1 ? job.steps : 1)));
    while (steps > 1 && needs(steps) > pool.freeBlocks) steps -= 1;
    // What must be copied was told when the first step's room was made.
    if (steps > 1) for (const { job } of parts) job.kv.reserve(steps);
    return steps;
  }

  /** Admits from the queue's head on those who find room beside all that were admitted before. */
  #admit(): void {
    if (this.#queue.length === 0) return;
    const { pool } = this.#runtime;
    if (this.#late) this.#admitLate();
    let room = pool.freeBlocks - this.#promised();
    for (let job = this.#queue[0]; job !== undefined; job = this.#queue[0]) {
      const needs = entryBlocks(job);
      if (needs > room && this.#anyAtWork()) {
        if (!this.#giveWay(job.member, noMembers, job.priority)) return;
        room = pool.freeBlocks - this.#promised();
        continue;
      }
      this.#dequeue(job);
      room -= needs;
    }
  }

  /** Admits all that find room for what they wait for, wherever they stand: nobody at work may need more for long. */
  #admitLate(): void {
    let room = this.#runtime.pool.freeBlocks;
    for (const job of [...this.#queue]) {
      const needs = entryBlocks(job) - (job.kind === "read" ? 1 : 0);
      if (needs > room) continue;
      this.#dequeue(job);
      room -= needs;
    }
  }

  #dequeue(job: Job): void {
    this.#queue.splice(this.#queue.indexOf(job), 1);
    job.queued = false;
    this.#jobs.push(job);
  }

  /** Blocks that those at work need for what they wait to have read, and one more for what may follow. */
  #promised(): number {
    let blocks = 0;
    for (const job of this.#jobs) {
      if (!job.settled) blocks += job.kind === "read" ? growth(job.kv, job.tokens.length) : job.blocks();
    }
    for (const member of this.#speaking) if (isPausing(member)) blocks += growth(member.kv, member.kv.length);
    return blocks;
  }

  #anyAtWork(): boolean {
    return this.#jobs.some((job) => !job.settled) || [...this.#speaking].some(isPausing);
  }

  /** Whether `blocks()` blocks are free, which others may have to give; fewer may be needed once they have. */
  #makeRoom(job: Job, blocks: () => number, { members }: Plan): boolean {
    const { pool } = this.#runtime;
    job.starved = false;
    while (blocks() > pool.freeBlocks) {
      if (this.#giveWay(job.member, members, Number.POSITIVE_INFINITY)) continue;
      job.starved = true;
      if (!job.patient) this.#settle(job, pool.full(blocks()));
      return false;
    }
    return true;
  }

  /**
   * Makes a sequence give its blocks back to `asker`: the youngest that is idle, else the youngest after `asker`.
   *
   * @param planned those whose blocks the step uses
   * @param priority of those that wait to have tokens read, no higher ones give way
   */
  #giveWay(asker: Member, planned: ReadonlySet<Member>, priority: Priority): boolean {
    if (!this.#preempt) return false;
    const now = performance.now();
    let idle: Member | undefined;
    let younger: Member | undefined;
    for (const member of this.#members.values()) {
      const { kv, job, born } = member;
      if (member === asker || planned.has(member) || kv.blockTable.length === 0 || !kv.repeatable) continue;
      if (job !== undefined) {
        if (born > asker.born && job.priority <= priority) younger = member;
      } else if (!member.sequence.busy) {
        // One that is saved or moved is busy without a job, and its blocks are in use.
        if (!member.speaking || now - member.idleSince >= patienceMs) idle = member;
        else if (born > asker.born) younger = member;
      }
    }
    const giving = idle ?? younger;
    if (giving === undefined) return false;
    giving.kv.free();
    this.#preemptions += 1;
    if (giving.job?.patient) {
      this.#jobs.splice(this.#jobs.indexOf(giving.job), 1);
      this.#enqueue(giving.job);
    }
    return true;
  }

  /** Where no step can be made: settles the youngest sequence's job, unless others go on. False where those do. */
  #refuse(): boolean {
    if (this.#othersGoOn()) return false;
    const job = this.#jobs.reduce((a, b) => (b.member.born > a.member.born ? b : a));
    const blocks = job.kind === "read" ? job.kv.needs(Math.min(remaining(job), chunkTokens)) : job.blocks();
    this.#settle(job, this.#runtime.pool.full(blocks));
    return true;
  }

  /** Whether others than those who wait hold blocks, and will do something that those who wait are told of. */
  #othersGoOn(): boolean {
    for (const member of this.#members.values()) {
      if (!isPausing(member) || !(member.speaking || member.sequence.busy)) continue;
      this.#timer = setTimeout(() => {
        this.#late = true;
        this.changed();
      }, patienceMs);
      return true;
    }
    return false;
  }

  async #take(parts: readonly Part<ReadJob>[], steps: number): Promise<void> {
    const stop = new AbortController();
    this.#step = { parts, stop };
    this.#runs += steps;
    this.#steps += steps * parts.filter(({ past }) => past > 0).length;
    const { program, pool } = this.#runtime;
    try {
      const moved = parts.map(({ job, moves }) => moves && this.#copy(job, moves));
      const batch = batchOf(parts);
      if (steps > 1) {
        const sampling = parts.map(() => greedy);
        const run = program.decode(pool.cache, batch, { steps, candidates: 1, sampling }, stop.signal);
        const [drawn] = await Promise.all([run, ...moved]);
        this.#finishBurst(parts, steps, drawn);
      } else {
        const run = program.run(pool.cache, batch, stop.signal);
        const [logits] = await Promise.all([run, ...moved]);
        this.#finish(parts, logits);
      }
    } catch (error) {
      for (const { job } of parts) this.#settle(job, error);
    } finally {
      this.#step = undefined;
    }
  }

  /** Counts a step's tokens in, and settles the jobs that it has come to the end of. */
  #finish(parts: readonly Part<ReadJob>[], logits: Float32Array): void {
    const { vocab } = this.#runtime.config;
    for (const { part, rows, row } of logitsOfParts(parts, logits, vocab)) {
      const { job, count } = part;
      if (job.settled) continue; // its caller has gone on without it
      if (rows.length > 0) keepLogits(job, rows, logits, row, vocab);
      job.kv.commit(count, job.tokens);
      try {
        job.onProgress?.(job.kv.length, job.tokens.length);
      } catch (error) {
        this.#settle(job, error);
      }
      if (remaining(job) === 0) this.#settle(job, undefined);
      else if (job.member.sequence.disposed) this.#settle(job, sequenceDisposed());
    }
  }

  /** Counts in what a burst's steps have read: each job's token, and those drawn but the last. */
  #finishBurst(parts: readonly Part<ReadJob>[], steps: number, drawn: Int32Array): void {
    for (const [i, { job }] of parts.entries()) {
      if (job.settled) continue; // its caller has gone on without it
      job.drawn = drawn.slice(i * steps, (i + 1) * steps);
      job.kv.commit(steps, joined(job.tokens, job.drawn.subarray(0, -1)));
      this.#settle(job, undefined);
    }
  }

  #settle(job: Job, error: unknown): void {
    if (job.settled) return;
    job.settled = true;
    this.#settled += 1;
    job.release();
    if (job.queued) this.#queue.splice(this.#queue.indexOf(job), 1);
    job.member.job = undefined;
    job.member.idleSince = performance.now();
    if (error !== undefined) job.reject(error);
    else if (job.kind === "read") job.resolve(job);
  }
}

/** Whether a sequence holds blocks, and waits for nothing. */
const isPausing = ({ kv, job }: Member): boolean => job === undefined && kv.blockTable.length > 0;

const noMembers: ReadonlySet<Member> = new Set();

/** The largest logit's token, whatever the seed. */
const greedy: Sampling = { temperature: 0, topP: 1, seed: 0 };

const sequenceDisposed = () => new CriaError("ERR_CRIA_DISPOSED", "sequence: was disposed");

/** The order of the queue. */
const goesBefore = (a: Job, b: Job): boolean =>
  a.priority === b.priority ? a.member.born < b.member.born : a.priority > b.priority;

const isShort = (job: Job): boolean => job.kind === "room" || remaining(job) <= shortRead;

/** Tokens that may be found in the prefix cache: those short of the first whose logits are wanted. */
const mostFound = ({ tokens, from, wanted }: ReadJob): number =>
  wanted === "all" ? Math.min(from, tokens.length - 1) : tokens.length - 1;

/** Blocks that a sequence of so many tokens, and a block's more, needs beside those that it has. */
const growth = (kv: KvSequence, tokens: number): number =>
  Math.max(0, Math.ceil(tokens / blockTokens) + 1 - kv.blockTable.length);

/** Blocks that a sequence which holds none needs to be admitted. */
const entryBlocks = (job: Job): number =>
  job.kind === "room"
    ? job.blocks()
    : growth(job.kv, job.tokens.length) - job.kv.countShared(job.tokens, mostFound(job));
