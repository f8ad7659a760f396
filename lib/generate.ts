import { performance } from "node:perf_hooks";

import { BurstSource } from "./burst-source.js";
import { Chooser } from "./chooser.js";
import { CriaError, outOfRange } from "./errors.js";
import { checkBias, type GenerateOptions, type GenerationPlan, planOf } from "./generate-options.js";
import { readScored, type ScoredToken } from "./logprobs.js";
import type { Opened, Opening, PromptRead } from "./opening.js";
import type { Speaker } from "./prompt.js";
import { Sampler } from "./sampling/sampler.js";
import type { Sequence } from "./sequence.js";
import { DraftModel } from "./speculation/draft-model.js";
import { checkDraft } from "./speculation/options.js";
import { Pace } from "./speculation/pace.js";
import { PromptLookup } from "./speculation/prompt-lookup.js";
import { type SpeculationStatistics, SpeculativeSource } from "./speculation/speculative-source.js";
import { StopWatcher } from "./text/stop.js";
import { PlainSource, type TokenSource } from "./token-source.js";
import { type Window, windowOf } from "./window.js";

/**
 * Why a text ended: by the model, at maxTokens, at the end of the context, at a stop string or token; or where it stood
 * when a signal, an error or its caller's leaving put an end to it.
 */
export type FinishReason = "eos" | "length" | "context" | "stop" | "aborted";

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

/** What there is to tell of a text when its iteration has ended. */
export interface GenerationResult {
  text: string;
  /**
   * The tokens chosen, without the EOS or the stop token that ended the text; those of a stop string are among them.
   */
  tokens: number[];
  promptTokens: number;
  finishReason: FinishReason;
  /** Where it is "stop", the string or the token that came. */
  stop?: string | number;
  /** Where `logprobs` was asked for: of each of `tokens`. */
  logprobs?: ScoredToken[];
  /** Where `echo` was asked for: of each token of the prompt, BOS among them, but the first. */
  promptLogprobs?: ScoredToken[];
  /** Where `speculate` was asked for. */
  speculation?: SpeculationStatistics;
  /** With it the same prompt and options give the same text. */
  seed: number;
  timings: Timings;
}

/** Why and where a text ended. */
type Ending = Pick<GenerationResult, "finishReason" | "stop">;

/** A text in the making: iterate over it, once, for its pieces as they come; then `result` tells of it. */
export class Generation implements AsyncIterable<string> {
  readonly #speaker: Speaker;
  readonly #opening: Opening;
  #plan: GenerationPlan;
  readonly #sampler: Sampler;
  readonly #window: Window | undefined;
  #started = false;
  #result: GenerationResult | undefined;

  /**
   * @param opening what stands before the text
   * @throws TypeError or RangeError for a wrong option
   */
  constructor(speaker: Speaker, opening: Opening, options: GenerateOptions = {}) {
    const { size } = speaker.tokenizer;
    this.#sampler = new Sampler(options);
    checkBias(this.#sampler.logitBias.keys(), size);
    this.#plan = planOf(options, size);
    if (this.#plan.speculation !== undefined) checkDraft(this.#plan.speculation, speaker.runtime);
    this.#speaker = speaker;
    this.#opening = opening;
    this.#window = windowOf(options.window, speaker.runtime.contextLength);
    if (this.#window !== undefined && this.#plan.speculation !== undefined)
      throw outOfRange("speculate", "left out where there is a window", options.speculate);
  }

  /** The one in use, so that a text with a random one can be repeated. */
  get seed(): number {
    return this.#sampler.seed;
  }

  /** What came out; undefined until the iteration has ended, by whatever, and where no prompt was read. */
  get result(): GenerationResult | undefined {
    return this.#result;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#started) throw new CriaError("ERR_CRIA_STATE", "generation: was iterated over already");
    this.#started = true;

    const { tokenizer } = this.#speaker;
    const [prefill, decode] = [new Stopwatch(), new Stopwatch()];
    const opened = await prefill.time(() =>
      this.#opening.open((sequence, tokens) => this.#readPrompt(sequence, tokens), {
        signal: this.#plan.signal,
        priority: this.#plan.priority,
        window: this.#window,
      }),
    );
    const { sequence, prompt, continuation, ends } = opened;
    if (ends !== undefined) this.#plan = endingAlso(this.#plan, ends);
    const { scheduler } = this.#speaker.runtime;
    scheduler.beginText(sequence);
    const known = opened.before.length;
    const chooser = new Chooser(this.#sampler, this.#plan, [...tokenizer.ends, ...(ends?.stopTokens ?? [])]);
    let source: TokenSource | undefined;
    const decoder = tokenizer.decoder({ continuation });
    const watcher = new StopWatcher(this.#plan.stops);
    const tokens: number[] = [];
    const scores: ScoredToken[] = [];
    let text = "";
    let ending: Ending | undefined;
    let complete = false;

    try {
      const tokenSource = this.#tokenSource(opened, chooser);
      source = tokenSource;
      this.#sampler.acceptPrompt(opened.before);
      let choice = await prefill.time(async () => chooser.choose(opened.logits));
      for (;;) {
        const { token, score } = choice;
        ending = this.#endingAt(token);
        if (ending !== undefined) break;
        tokens.push(token);
        if (score !== undefined) scores.push(score);
        const watched = watcher.push(decoder.push(token));
        text += watched.text;
        if (watched.text !== "") yield watched.text;
        ending = this.#endingAfter(watched.stop, tokens.length, known + tokens.length - 1);
        if (ending !== undefined) break;
        choice = await decode.time(() => tokenSource.next(token));
      }

      if (typeof ending.stop !== "string") {
        const watched = watcher.push(decoder.end());
        const rest = watched.text + (watched.stop === undefined ? watcher.end() : "");
        if (watched.stop !== undefined) ending = { finishReason: "stop", stop: watched.stop };
        text += rest;
        if (rest !== "") yield rest;
      }
      complete = true;
    } finally {
      this.#result = {
        text,
        tokens,
        promptTokens: prompt.length,
        ...(complete ? ending! : { finishReason: "aborted" }),
        ...(this.#plan.logprobs === undefined ? {} : { logprobs: scores }),
        ...(opened.scores === undefined ? {} : { promptLogprobs: opened.scores }),
        ...(source?.speculation === undefined ? {} : { speculation: source.speculation }),
        seed: this.#sampler.seed,
        timings: timings(prompt.length, prefill, decode),
      };
      source?.dispose();
      scheduler.endText(sequence);
      opened.close(tokens, text);
    }
  }

  /** Reads the prompt: the logits after it and, where they were asked for, the scores of its tokens. */
  async #readPrompt(sequence: Sequence, prompt: Int32Array): Promise<PromptRead> {
    const { echo, logprobs: top = 0, signal, priority, onProgress } = this.#plan;
    return echo
      ? readScored(sequence, prompt, { vocab: this.#speaker.tokenizer.size, top, signal, priority, onProgress })
      : { logits: await sequence.forward(prompt, "last", { signal, priority, onProgress }) };
  }

  #tokenSource({ sequence, before }: Opened, chooser: Chooser): TokenSource {
    const { speculation, maxTokens, signal, priority } = this.#plan;
    const { runtime } = this.#speaker;
    if (speculation === undefined) {
      // On a CPU the way through JavaScript is short beside a step, and who joins would wait for the others' burst.
      const bursts = chooser.greedy && this.#window === undefined && runtime.device.info.kind !== "cpu";
      return bursts
        ? new BurstSource(sequence, runtime, chooser, { maxTokens, signal, priority })
        : new PlainSource(sequence, chooser, { signal, priority }, this.#window);
    }
    const { draft, tokens, adaptive } = speculation;
    const proposer =
      draft === undefined ? new PromptLookup() : new DraftModel(draft, this.#sampler, { signal, priority });
    const { contextLength } = runtime;
    const guessing = { proposer, pace: new Pace(tokens, adaptive) };
    return new SpeculativeSource(sequence, before, chooser, guessing, { contextLength, maxTokens, signal, priority });
  }

  /** How a text ends with a token that is not part of it, if it does. */
  #endingAt(token: number): Ending | undefined {
    if (this.#speaker.tokenizer.ends.includes(token)) return { finishReason: "eos" };
    return this.#plan.stopTokens.includes(token) ? { finishReason: "stop", stop: token } : undefined;
  }

  /** How a text ends of which `said` tokens are chosen, and `read` tokens read with those before it, if it does. */
  #endingAfter(stop: string | undefined, said: number, read: number): Ending | undefined {
    if (stop !== undefined) return { finishReason: "stop", stop };
    if (said === this.#plan.maxTokens) return { finishReason: "length" };
    const full = this.#window === undefined && read === this.#speaker.runtime.contextLength;
    return full ? { finishReason: "context" } : undefined;
  }
}

/** A plan with what else ends its text. */
const endingAlso = (plan: GenerationPlan, { stops, stopTokens }: NonNullable<Opened["ends"]>): GenerationPlan => ({
  ...plan,
  stops: [...plan.stops, ...stops],
  stopTokens: [...plan.stopTokens, ...stopTokens],
});

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

const timings = (promptTokens: number, prefill: Stopwatch, decode: Stopwatch): Timings => ({
  prefillMs: prefill.ms,
  decodeMs: decode.ms,
  prefillTokensPerSecond: (promptTokens / prefill.ms) * 1e3,
  decodeTokensPerSecond: decode.count === 0 ? 0 : (decode.count / decode.ms) * 1e3,
});
