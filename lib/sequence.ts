/// <reference lib="esnext.disposable" preserve="true" />
import { CriaError, finite, integer, outOfRange } from "./errors.js";
import { KvSequence } from "./kv-sequence.js";
import { native } from "./native.js";
import { optionalFlag, optionalFunction, optionalSignal, optionsOf } from "./options.js";
import type { Runtime } from "./runtime.js";
import type { Priority } from "./scheduler.js";
import { loadSession, saveSession } from "./session.js";
import { tokensOf } from "./tokens.js";

/** The tokens after which logits are wanted. */
export type Wanted = "all" | "last" | "none";

/** Options of {@link Sequence.forward}. */
export interface ForwardOptions {
  /** Stops the reading within an op. */
  signal?: AbortSignal | undefined;
  /** Among sequences that wait for their turn the higher goes first. Default: 0. */
  priority?: Priority | undefined;
  /**
   * Whether, where the cache is full, to wait until others have given blocks back, or throw ERR_CRIA_CACHE_FULL at
   * once. Default: true, which throws where nobody will.
   */
  wait?: boolean | undefined;
  /**
   * Called after each chunk with the tokens read so far, those found in the prefix cache among them, and all there are.
   */
  onProgress?: ((read: number, total: number) => void) | undefined;
}

/** How tokens are read that are drawn on the way. */
export type DrawOptions = Pick<ForwardOptions, "signal" | "priority" | "wait">;

/** How a range is removed. */
export interface RemoveOptions extends Pick<ForwardOptions, "signal" | "priority"> {
  /**
   * Keep as many blocks as there are, for tokens to come. Default: false, which gives those back that are free then.
   */
  keepBlocks?: boolean | undefined;
}

/** A sequence of tokens that the model has read, and whose keys and values the cache holds. */
export class Sequence {
  readonly #runtime: Runtime;
  readonly #kv: KvSequence;
  #tokens: Int32Array<ArrayBufferLike> = new Int32Array(64);
  #length = 0;
  #busy = false;
  #disposed = false;

  /** {@link Runtime.sequence} makes it. */
  constructor(runtime: Runtime, kv: KvSequence = new KvSequence(runtime.pool)) {
    this.#runtime = runtime;
    this.#kv = kv;
    runtime.scheduler.enter(this, kv);
  }

  /** Whether it is a runtime's own, so that its keys and values are of that runtime's model. */
  belongsTo(runtime: Runtime): boolean {
    return this.#runtime === runtime;
  }

  /** Tokens that the model has read. */
  get length(): number {
    return this.#length;
  }

  /** A copy of those tokens; what a removed range held is not among them. */
  get tokens(): Int32Array {
    return this.#read.slice();
  }

  /** A view of them. What the cache holds is found again by them: nobody else may write to it. */
  get #read(): Int32Array {
    return this.#tokens.subarray(0, this.#length);
  }

  /** Whether tokens are being read, or wait to be. */
  get busy(): boolean {
    return this.#busy;
  }

  /**
   * Reads the tokens that follow, together with whatever other sequences of the runtime read at the same time: what
   * comes out is, bit for bit, what comes out alone.
   *
   * Of an empty sequence the full blocks that the prefix cache has are not read again, where no logits of theirs are
   * wanted.
   *
   * @returns [tokens, vocab] logits for "all", [vocab] for "last", none for "none"
   * @throws TypeError where `tokens` is no Int32Array, RangeError where it is empty or holds what is no token
   * @throws CriaError ERR_CRIA_CONTEXT where they exceed the context, ERR_CRIA_STATE while others are read; none is
   *   then read
   * @throws CriaError ERR_CRIA_CACHE_FULL where the pool has no room for them and nobody will give any back
   *   ({@link RuntimeOptions.preempt}), ERR_CRIA_ABORTED when `signal` stops it,
   *   ERR_CRIA_DISPOSED after `dispose`; the tokens of chunks that were read by then stay read
   */
  async forward(tokens: Int32Array, wanted: Wanted, options: ForwardOptions = {}): Promise<Float32Array> {
    if (!["all", "last", "none"].includes(wanted)) throw outOfRange("wanted", "all, last or none", wanted);
    const { config, scheduler } = this.#runtime;
    const reading = readingOf(options);
    const added = tokensOf("tokens", tokens, config.vocab);
    this.#require("must have read the tokens before first");
    const known = this.#length;
    integer("tokens.length", added.length, 1);
    this.#fitting("tokens", added.length);

    const target = known + added.length;
    this.#append(added, target);
    return await this.#alone(async () => {
      try {
        return await scheduler.read(this, this.#tokens.subarray(0, target), known, wanted, reading);
      } finally {
        // What was read before stays known where the cache lost it: it is read again when it is needed.
        this.#length = Math.max(known, Math.min(target, this.#kv.length));
      }
    });
  }

  /**
   * Reads a token, and tells which ones come after it where the likeliest is taken each time, of equally likely ones
   * the lowest: what reading them one by one with {@link forward} gives. Where nobody reads anything else beside it the
   * device goes from one token to the next by itself, which on a GPU saves the way to JavaScript and back.
   *
   * A logit that is no number is the least likely of all; where none is one, token 0 comes.
   *
   * @param most how many tokens may come
   * @returns at least one token, at most 16, fewer where others read beside it; the sequence then holds `token`, and
   *   all of them but the last
   * @throws TypeError or RangeError where `token` is no token, `most` is below 1, or for a wrong option
   * @throws CriaError ERR_CRIA_CONTEXT where so many tokens would exceed the context; and as {@link forward}, the
   *   sequence then holding what it held
   */
  async decode(token: number, most: number, options: DrawOptions = {}): Promise<Int32Array> {
    const { config, scheduler } = this.#runtime;
    const reading = readingOf(optionsOf("decode", options, ["signal", "priority", "wait"]));
    integer("token", token, 0, config.vocab - 1);
    integer("most", most, 1);
    this.#require("must have read the tokens before first");
    const known = this.#length;
    this.#fitting("most", most);

    this.#append(Int32Array.of(token), known + 1);
    return await this.#alone(async () => {
      const drawn = await scheduler.draw(this, this.#tokens.subarray(0, known + 1), most, reading);
      this.#length = known + 1;
      this.#append(drawn.subarray(0, -1), known + drawn.length);
      this.#length = known + drawn.length;
      return drawn;
    });
  }

  /**
   * A sequence that has read the same tokens. It shares their keys and values until one of the two writes to a block.
   *
   * @throws CriaError ERR_CRIA_STATE while tokens are read, ERR_CRIA_DISPOSED after `dispose`
   */
  fork(): Sequence {
    this.#require("must have read its tokens before it is forked");
    const fork = new Sequence(this.#runtime, this.#kv.fork());
    fork.#append(this.#read, this.#length);
    fork.#length = this.#length;
    return fork;
  }

  /**
   * Forgets the tokens from `length` on.
   *
   * @throws RangeError where `length` is not from 0 to what was read
   * @throws CriaError ERR_CRIA_STATE while tokens are read, ERR_CRIA_DISPOSED after `dispose`
   */
  truncate(length: number): void {
    // A text that its model's disposal ended still forgets what it had read ahead.
    this.#requireIdle("must have read its tokens before they are forgotten");
    integer("length", length, 0, this.#length);
    if (length < this.#kv.length) this.#kv.truncate(length);
    this.#length = length;
    this.#runtime.scheduler.changed();
  }

  /**
   * Forgets the tokens [begin, end). Those after them take their positions; their keys are turned to them, and their
   * values still know what was there: the sequence goes on as if it had read a text that it half remembers.
   *
   * Where blocks that are shared with other sequences are copied for it, it waits for room as {@link forward} does.
   * From then on it cannot give way to others.
   *
   * @throws TypeError or RangeError where [begin, end) is not within what was read, or for a wrong option
   * @throws CriaError ERR_CRIA_STATE while tokens are read; ERR_CRIA_CACHE_FULL where the pool has no room for copies,
   *   ERR_CRIA_ABORTED when `signal` stops the waiting, ERR_CRIA_DISPOSED after `dispose`; nothing is then removed
   */
  async removeRange(begin: number, end: number, options: RemoveOptions = {}): Promise<void> {
    const { keepBlocks, ...waiting } = optionsOf("removeRange", options, ["signal", "priority", "keepBlocks"]);
    const keep = optionalFlag("keepBlocks", keepBlocks);
    const reading = readingOf(waiting);
    this.#require("must have read the tokens before they are forgotten");
    integer("begin", begin, 0, this.#length);
    integer("end", end, begin, this.#length);
    await this.#alone(async () => {
      await this.#runtime.scheduler.removeRange(this, this.#read, [begin, end], { ...reading, keep });
      this.#tokens.copyWithin(begin, end, this.#length);
      this.#length -= end - begin;
    });
  }

  /**
   * Saves what was read, its keys and values too, to a file that {@link Model.loadSequence} reads.
   *
   * @param fingerprint of the model that filled the cache
   * @returns the size of the file
   * @throws CriaFileError where it cannot be written; CriaError ERR_CRIA_STATE while tokens are read, ERR_CRIA_DISPOSED
   *   after `dispose`
   */
  async save(path: string, fingerprint: Uint8Array): Promise<{ bytes: number }> {
    this.#require("must have read its tokens before it is saved");
    const { scheduler, pool, device } = this.#runtime;
    return await this.#alone(async () => {
      await scheduler.restore(this, this.#read);
      return await saveSession(path, {
        shape: pool.shape,
        fingerprint,
        tokens: this.#read,
        blocks: this.#kv.blockTable,
        read: (blocks, into) => device.queue(() => native.cacheRead(pool.cache, blocks, into)),
      });
    });
  }

  /**
   * Takes over what {@link save} wrote: of an empty sequence, which waits for room as {@link forward} does. It is not
   * found by other sequences that begin alike, for the file may come from anyone, and cannot give way to them.
   *
   * @throws CriaFileError where the file is not such a one, is damaged, or is of another model or kind of cache
   * @throws CriaError ERR_CRIA_CACHE_FULL where the pool has no room for it; the sequence is then still empty
   */
  async load(path: string, fingerprint: Uint8Array): Promise<void> {
    this.#require("must have read its tokens before others are loaded");
    if (this.#length > 0) throw new CriaError("ERR_CRIA_STATE", "sequence: must be empty before it is loaded");
    const { pool, device, config, contextLength, scheduler } = this.#runtime;
    await this.#alone(async () => {
      const { shape } = pool;
      const saved = await loadSession(path, { shape, fingerprint, vocab: config.vocab, contextLength });
      const { tokens } = saved;
      const needs = () => this.#kv.needs(tokens.length);
      await scheduler.room(this, needs, () => void this.#kv.reserve(tokens.length), {});
      try {
        await saved.restore(this.#kv.blockTable, (blocks, bytes) =>
          device.queue(() => native.cacheWrite(pool.cache, blocks, bytes)),
        );
      } catch (error) {
        this.#kv.free();
        throw error;
      }
      this.#kv.commit(tokens.length);
      this.#append(tokens, tokens.length);
      this.#length = tokens.length;
    });
  }

  /**
   * Gives the cache's blocks back, for other sequences: at once, or when the run that writes to them is done. What it
   * waits for beyond that throws ERR_CRIA_DISPOSED.
   */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#busy) this.#runtime.scheduler.cancel(this);
    else this.#free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  #free(): void {
    this.#kv.free();
    this.#runtime.scheduler.leave(this);
  }

  /** Work that nothing else may be done with the sequence beside. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
      if (this.#disposed) this.#free();
      else this.#runtime.scheduler.changed();
    }
  }

  #require(idle: string): void {
    this.#requireIdle(idle);
    if (this.#runtime.disposed) throw new CriaError("ERR_CRIA_DISPOSED", "model: was disposed");
  }

  #requireIdle(idle: string): void {
    if (this.#disposed) throw new CriaError("ERR_CRIA_DISPOSED", "sequence: was disposed");
    if (this.#busy) throw new CriaError("ERR_CRIA_STATE", `sequence: ${idle}`);
  }

  /** Refuses more tokens than the context has room for. */
  #fitting(name: string, count: number): void {
    const { contextLength } = this.#runtime;
    const left = contextLength - this.#length;
    if (count <= left) return;
    throw new CriaError(
      "ERR_CRIA_CONTEXT",
      `${name}: must be at most ${left}, what is left of the context's ${contextLength}, not ${count}`,
    );
  }

  /** Puts `tokens` after those that were read, `target` then being all. They count as read when they are. */
  #append(tokens: Int32Array, target: number): void {
    if (target > this.#tokens.length) {
      const grown = new Int32Array(Math.max(target, 2 * this.#tokens.length));
      grown.set(this.#read);
      this.#tokens = grown;
    }
    this.#tokens.set(tokens, this.#length);
  }
}

const forwardOptions = [
  "signal",
  "priority",
  "wait",
  "onProgress",
] as const satisfies readonly (keyof ForwardOptions)[];

/**
 * The options as the scheduler takes them: others read in the same step, and must not meet what a caller does later.
 */
function readingOf(options: ForwardOptions): ForwardOptions {
  const { signal, priority = 0, wait = true, onProgress } = optionsOf("forward", options, forwardOptions);
  return {
    signal: optionalSignal(signal),
    priority: finite("priority", priority, -Number.MAX_VALUE),
    wait: optionalFlag("wait", wait),
    onProgress: optionalFunction("onProgress", onProgress),
  };
}
