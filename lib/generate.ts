import { performance } from "node:perf_hooks";

import { CriaError, integer, wrongType } from "./errors.js";
import type { Runtime } from "./runtime.js";
import { Sampler, type SamplerOptions } from "./sampling/sampler.js";
import { StopWatcher } from "./text/stop.js";
import { afterBos, type Tokenizer } from "./text/tokenizer.js";

export interface GenerateOptions extends SamplerOptions {
  /** At most this many tokens. Default: until the model ends the text, or the context is full. */
  maxTokens?: number;
  /** Strings that end the text, before them. */
  stop?: string | readonly string[];
  /** Never choose the token that ends the text. */
  ignoreEos?: boolean;
  /** Stops the generation within an op; the iteration then throws ERR_CRIA_ABORTED. */
  signal?: AbortSignal;
}

/** Why a text ended: by the model, at maxTokens, at the end of the context, or at a stop string. */
export type FinishReason = "eos" | "length" | "context" | "stop";

/** Time spent on the tokens, and none of what the iterating caller spends between two pieces. */
export interface Timings {
  /** Reading the prompt and choosing the first token. */
  prefillMs: number;
  /** Reading a token and choosing the next, over all of them. */
  decodeMs: number;
  /** Of the prompt's tokens. */
  prefillTokensPerSecond: number;
  /** Of the tokens after the first, the one that ended the text among them. 0 where there is none. */
  decodeTokensPerSecond: number;
}

export interface GenerationResult {
  text: string;
  /** The tokens chosen, without the one that ended the text. */
  tokens: number[];
  promptTokens: number;
  finishReason: FinishReason;
  /** With it the same prompt and options give the same text. */
  seed: number;
  timings: Timings;
}

/** What a generation works with. */
export interface Speaker {
  readonly runtime: Runtime;
  readonly tokenizer: Tokenizer;
}

/** A text in the making: iterate over it, once, for its pieces as they come; then `result` tells of it. */
export class Generation implements AsyncIterable<string> {
  readonly #speaker: Speaker;
  readonly #prompt: Int32Array;
  readonly #options: GenerateOptions;
  readonly #sampler: Sampler;
  readonly #continuation: boolean;
  readonly #stops: readonly string[];
  #started = false;
  #result: GenerationResult | undefined;

  /**
   * @param prompt a text, or tokens as they are
   * @throws TypeError or RangeError for a wrong option
   * @throws CriaError ERR_CRIA_CONTEXT where the prompt is longer than the context
   */
  constructor(speaker: Speaker, prompt: string | Int32Array, options: GenerateOptions = {}) {
    this.#sampler = new Sampler(options);
    const { maxTokens, stop = [], ignoreEos = false, signal } = options;
    if (maxTokens !== undefined) integer("maxTokens", maxTokens, 1);
    if (typeof ignoreEos !== "boolean") throw wrongType("ignoreEos", "a boolean", ignoreEos);
    this.#stops = typeof stop === "string" ? [stop] : stop;
    if (!Array.isArray(this.#stops) || this.#stops.some((s) => typeof s !== "string")) {
      throw wrongType("stop", "a string or an array of strings", stop);
    }
    if (signal !== undefined && !(signal instanceof AbortSignal)) throw wrongType("signal", "an AbortSignal", signal);
    this.#speaker = speaker;
    this.#options = options;
    this.#prompt = promptTokens(speaker.tokenizer, prompt);
    this.#continuation = prompt.length > 0;
    const { contextLength } = speaker.runtime;
    if (this.#prompt.length > contextLength) {
      throw new CriaError(
        "ERR_CRIA_CONTEXT",
        `prompt: must be at most ${contextLength} tokens, the context, not ${this.#prompt.length}`,
      );
    }
  }

  /** What came out; undefined until the iteration has ended. */
  get result(): GenerationResult | undefined {
    return this.#result;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#started) throw new CriaError("ERR_CRIA_STATE", "generation: was iterated over already");
    this.#started = true;

    const { runtime, tokenizer } = this.#speaker;
    const { signal } = this.#options;
    const sequence = runtime.sequence();
    const decoder = tokenizer.decoder({ continuation: this.#continuation });
    const watcher = new StopWatcher(this.#stops);
    const tokens: number[] = [];
    const [prefill, decode] = [new Stopwatch(), new Stopwatch()];
    const next = async (read: Int32Array) => this.#choose(await sequence.forward(read, "last", { signal }), read);
    let text = "";
    let finishReason: FinishReason | undefined;

    try {
      let token = await prefill.time(() => next(this.#prompt));
      while (finishReason === undefined) {
        if (token === tokenizer.eos) {
          finishReason = "eos";
          break;
        }
        tokens.push(token);
        const watched = watcher.push(decoder.push(token));
        text += watched.text;
        if (watched.text !== "") yield watched.text;
        if (watched.stopped) finishReason = "stop";
        else if (tokens.length === this.#options.maxTokens) finishReason = "length";
        else if (sequence.length === runtime.contextLength) finishReason = "context";
        else {
          const read = Int32Array.of(token);
          token = await decode.time(() => next(read));
        }
      }
    } finally {
      sequence.dispose();
    }

    if (finishReason !== "stop") {
      const watched = watcher.push(decoder.end());
      const rest = watched.text + (watched.stopped ? "" : watcher.end());
      text += rest;
      if (rest !== "") yield rest;
    }
    const promptTokens = this.#prompt.length;
    const timings: Timings = {
      prefillMs: prefill.ms,
      decodeMs: decode.ms,
      prefillTokensPerSecond: (promptTokens / prefill.ms) * 1e3,
      decodeTokensPerSecond: decode.count === 0 ? 0 : (decode.count / decode.ms) * 1e3,
    };
    this.#result = { text, tokens, promptTokens, finishReason, seed: this.#sampler.seed, timings };
  }

  /** Chooses the token after those that were `read`, which gave the logits. */
  #choose(logits: Float32Array, read: Int32Array): number {
    const { eos } = this.#speaker.tokenizer;
    for (const token of read) this.#sampler.accept(token);
    if (this.#options.ignoreEos && eos !== undefined) logits[eos] = Number.NEGATIVE_INFINITY;
    return this.#sampler.sample(logits);
  }
}

/** BOS, where the vocabulary wants it or nothing else is there, and the text's tokens. */
export function promptTokens(tokenizer: Tokenizer, prompt: string | Int32Array): Int32Array {
  if (prompt instanceof Int32Array && prompt.length > 0) return prompt.slice();
  if (typeof prompt !== "string" && !(prompt instanceof Int32Array))
    throw wrongType("prompt", "a string or an Int32Array", prompt);
  const tokens = typeof prompt === "string" ? tokenizer.encode(prompt) : prompt;
  const { bos } = tokenizer;
  if (bos === undefined || (!tokenizer.addBos && tokens.length > 0)) {
    if (tokens.length > 0) return tokens;
    throw new CriaError("ERR_CRIA_UNSUPPORTED", "prompt: must not be empty with a vocabulary that has no BOS");
  }
  return afterBos(bos, tokens);
}

/** Adds up the time of pieces of work, and not of what lies between them. */
class Stopwatch {
  ms = 0;
  count = 0;

  async time<T>(work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const result = await work();
    this.ms += performance.now() - started;
    this.count += 1;
    return result;
  }
}
