/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "./device.js";
import { aborted, CriaError } from "./errors.js";
import {
  type CacheHandle,
  type CacheShape,
  type CancelHandle,
  type NativeBatch,
  native,
  type ProgramHandle,
  type RopeOptions,
  type Sampling,
  type TensorHandle,
} from "./native.js";

export type { CacheShape, NativeBatch, RopeOptions, Sampling };

/** An activation of a program: one row of `width` floats for each token of a batch, or for each output asked for. */
export interface Value {
  readonly id: number;
  readonly width: number;
}

/** Options of {@link Program.decode}. */
export interface DecodeOptions {
  /** At least 1. */
  steps: number;
  /** How many of the largest logits a token is drawn from: 1 to 64, at most the vocabulary; 1 is greedy. */
  candidates: number;
  /** How, for each sequence: `temperature` 0 takes the largest. A draw depends on the seed and the position alone. */
  sampling: readonly Sampling[];
}

/**
 * A forward pass, recorded op by op and run natively: running never returns to JavaScript between ops.
 *
 * Ops run in the order of recording, and may write a value again and again. Shapes are checked as they are recorded.
 */
export class Program {
  readonly #device: Device;
  readonly #handle: ProgramHandle;
  #resultWidth: number | undefined;

  /** An empty program, for caches of `shape`. */
  constructor(device: Device, shape: CacheShape) {
    this.#device = device;
    this.#handle = native.programCreate(device.handle, shape);
  }

  /** A new value. */
  value(rows: "tokens" | "outputs", width: number): Value {
    return { id: native.programValue(this.#handle, rows, width), width };
  }

  /** out = table[token] */
  embed(table: TensorHandle, out: Value): void {
    native.programEmbed(this.#handle, table, out.id);
  }

  /** out = x / sqrt(mean(x²) + eps) · weight (Zhang and Sennrich 2019) */
  rmsNorm(x: Value, weight: TensorHandle, eps: number, out: Value): void {
    native.programRmsnorm(this.#handle, x.id, weight, eps, out.id);
  }

  /**
   * Columns of out, from `column` on, = x · weightᵀ. With quantised weights x is quantised first, once for all that use
   * it.
   */
  matmul(x: Value, weight: TensorHandle, out: Value, column = 0): void {
    native.programMatmul(this.#handle, x.id, weight, out.id, column);
  }

  /** out = out + x · weightᵀ: the bits of {@link matmul} and {@link add}, in one pass. */
  matmulAdd(x: Value, weight: TensorHandle, out: Value): void {
    native.programMatmulAdd(this.#handle, x.id, weight, out.id);
  }

  /** out = silu(gate) · up, the halves of x · weightᵀ: the bits of {@link matmul} and {@link swiGlu}, in one pass. */
  matmulSwiGlu(x: Value, weight: TensorHandle, out: Value): void {
    native.programMatmulSwiglu(this.#handle, x.id, weight, out.id);
  }

  /** Turns q and k of qkv (Su et al. 2021) and writes k and v to a layer of the cache. */
  rope(qkv: Value, layer: number, options: RopeOptions): void {
    native.programRope(this.#handle, qkv.id, layer, options);
  }

  /** out = causal attention of the q in qkv over a layer of the cache */
  attention(qkv: Value, layer: number, heads: number, out: Value): void {
    native.programAttention(this.#handle, qkv.id, layer, heads, out.id);
  }

  /**
   * out = out + gate · the attention of the q in qkv over the keys and values of a prefix, for each head: gates are
   * [heads], keys and values [length, kvHeads, headDim], vectors all (LLaMA-Adapter, Zhang et al. 2023)
   */
  prefixAttention(qkv: Value, keys: TensorHandle, values: TensorHandle, gates: TensorHandle, out: Value): void {
    native.programPrefixAttention(this.#handle, qkv.id, keys, values, gates, out.id);
  }

  /** out = silu(gate) · up, the halves of gateUp (Shazeer 2020) */
  swiGlu(gateUp: Value, out: Value): void {
    native.programSwiglu(this.#handle, gateUp.id, out.id);
  }

  /** out = x + y */
  add(x: Value, y: Value, out: Value): void {
    native.programAdd(this.#handle, x.id, y.id, out.id);
  }

  /** out = the rows of x that the batch wants outputs of */
  select(x: Value, out: Value): void {
    native.programSelect(this.#handle, x.id, out.id);
  }

  /** out = the columns of x that `columns` names, and 0 where it is -1. On the CPU alone. */
  gather(x: Value, columns: Int32Array, out: Value): void {
    native.programGather(this.#handle, x.id, columns, out.id);
  }

  /** Names the result, a value with a row for each output. Nothing can be recorded after it. */
  finish(result: Value): void {
    native.programFinish(this.#handle, result.id);
    this.#resultWidth = result.width;
  }

  /**
   * Runs over a batch, off the event loop, after all work queued on the device before.
   *
   * @returns the result, [outputs, width]
   * @throws CriaError ERR_CRIA_STATE before {@link finish}
   * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it, between two slices of an op, on a GPU before it begins;
   *   what the run had written to the cache is then undefined
   */
  run(cache: CacheHandle, batch: NativeBatch, signal?: AbortSignal): Promise<Float32Array> {
    return this.#queue("the run", signal, (width, cancel) =>
      native.programRun(this.#handle, cache, batch, width, cancel),
    );
  }

  /**
   * Runs a batch of one new token a sequence, draws the next of each from its logits, runs those, and so on: `steps`
   * runs whose tokens, on a GPU, never leave it. The block tables have room for `steps` tokens; positions go up by one
   * a step.
   *
   * @returns the tokens drawn, [sequences, steps]; the last of each has not been run
   * @throws as {@link run}
   */
  decode(cache: CacheHandle, batch: NativeBatch, options: DecodeOptions, signal?: AbortSignal): Promise<Int32Array> {
    const { steps, candidates, sampling } = options;
    return this.#queue("the decode", signal, (_, cancel) =>
      native.programDecode(this.#handle, cache, batch, candidates, sampling, steps, cancel),
    );
  }

  #queue<Result>(
    what: string,
    signal: AbortSignal | undefined,
    start: (resultWidth: number, cancel: CancelHandle | undefined) => Promise<Result>,
  ): Promise<Result> {
    return this.#device.queue(async () => {
      if (this.#resultWidth === undefined) {
        throw new CriaError("ERR_CRIA_STATE", "program: was run before it was finished");
      }
      if (signal === undefined) return start(this.#resultWidth, undefined);
      if (signal.aborted) throw aborted(what, signal);

      const cancel = native.cancelCreate();
      const abort = () => native.cancelTrigger(cancel);
      signal.addEventListener("abort", abort, { once: true });
      try {
        return await start(this.#resultWidth, cancel);
      } catch (error) {
        if ((error as CriaError).code === "ERR_CRIA_ABORTED") throw aborted(what, signal);
        throw error;
      } finally {
        signal.removeEventListener("abort", abort);
        native.free(cancel);
      }
    });
  }

  /** Frees the program when the runs in progress are done. */
  dispose(): void {
    native.free(this.#handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
