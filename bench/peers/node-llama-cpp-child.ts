/** The process that node-llama-cpp runs in: told first what to load, then asked for rounds. ./node-llama-cpp.ts starts it. */
import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { pathToFileURL } from "node:url";

import type { PeerWork, Rates } from "./peer.js";

export type Request = LoadRequest | "round";

export interface LoadRequest extends Omit<PeerWork, "tokens" | "signal"> {
  /** node-llama-cpp's file to import. */
  module: string;
  tokens: number[];
}

export type Reply = { answer: Loaded | Rates } | { error: string };

export interface Loaded {
  /** Of ggml's CPU builds, the one that it chose: "haswell", "zen4". */
  variant: string;
  seconds: number;
  /** That loading took. */
  residentBytes: number;
}

/** What is used of node-llama-cpp 3 (its LlamaContext.d.ts). */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<Model> }>;
}
interface Model {
  createContext(options: object): Promise<Context>;
}
interface Context {
  getSequence(): Sequence;
  /** Its native half. */
  _ctx: { decodeBatch(): Promise<void> };
}
interface Sequence {
  readonly nextTokenIndex: number;
  clearHistory(): Promise<void>;
  eraseContextTokenRanges(ranges: { start: number; end: number }[]): Promise<void>;
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>;
  controlledEvaluate(input: (number | [number, object])[]): Promise<unknown>;
}

/** Cells of its context beyond the tokens, that it never shifts them. */
const spareTokens = 16;

let round: (() => Promise<Rates>) | undefined;

process.on("disconnect", () => process.exit());
process.on("message", async (request: Request) => {
  try {
    reply({ answer: request === "round" ? await round!() : await load(request) });
  } catch (error) {
    reply({ error: (error as Error).message });
  }
});

const reply = (message: Reply) => void process.send!(message);

async function load({ module, model: modelPath, threads, cache, ...work }: LoadRequest): Promise<Loaded> {
  const { getLlama }: NodeLlamaCpp = await import(pathToFileURL(module).href);
  const { tokens, prompt, context: past, gen } = work;
  // Its prebuilt program or none, and as many threads as it is told, whatever it finds that the machine has.
  const llama = await getLlama({ build: "never", skipDownload: true, gpu: false, maxThreads: 0, logLevel: "error" });
  const started = performance.now();
  const residentBefore = process.memoryUsage.rss();
  const model = await llama.loadModel({ modelPath, gpuLayers: 0, ignoreMemorySafetyChecks: true });
  const contextSize = Math.max(prompt, past + gen) + spareTokens;
  const types = {
    experimentalKvCacheKeyType: cache.keys.toUpperCase(),
    experimentalKvCacheValueType: cache.values.toUpperCase(),
  };
  const context = await model.createContext({ contextSize, threads, ignoreMemorySafetyChecks: true, ...types });
  const seconds = (performance.now() - started) / 1e3;
  const residentBytes = process.memoryUsage.rss() - residentBefore;
  const sequence = context.getSequence();
  const stopwatch = new Stopwatch(context);
  round = () => measure(sequence, stopwatch, work);
  await measure(sequence, stopwatch, { tokens, prompt: Math.min(prompt, 8), context: Math.min(past, 8), gen: 2 });
  return { variant: variant(), seconds, residentBytes };
}

type Work = Pick<LoadRequest, "tokens" | "prompt" | "context" | "gen">;

async function measure(
  sequence: Sequence,
  stopwatch: Stopwatch,
  { tokens, prompt, context, gen }: Work,
): Promise<Rates> {
  await sequence.clearHistory();
  const prefill = await stopwatch.seconds(() => sequence.controlledEvaluate(withLogits(tokens.slice(0, prompt))));
  await sequence.eraseContextTokenRanges([{ start: context, end: Math.max(context, sequence.nextTokenIndex) }]);
  if (sequence.nextTokenIndex < context) {
    await sequence.evaluateWithoutGeneratingNewTokens(tokens.slice(sequence.nextTokenIndex, context));
  }
  const decode = await stopwatch.seconds(async () => {
    for (let i = context; i < context + gen; i++) await sequence.controlledEvaluate(withLogits([tokens[i]!]));
  });
  return { prefill: prompt / prefill, decode: gen / decode };
}

/** Tokens to evaluate, with the logits after the last of them, of which the likeliest token is taken. */
const withLogits = (tokens: readonly number[]): (number | [number, object])[] => [
  ...tokens.slice(0, -1),
  [tokens.at(-1)!, { generateNext: { token: true, options: { temperature: 0 } } }],
];

/**
 * Times llama.cpp's evaluation alone, without what node-llama-cpp does in JavaScript around it and its sampling: the call
 * of its native half by which it decodes a batch.
 */
class Stopwatch {
  #seconds = 0;

  constructor({ _ctx: native }: Context) {
    const decodeBatch = native.decodeBatch.bind(native);
    const timed = async () => {
      const started = performance.now();
      await decodeBatch();
      this.#seconds += (performance.now() - started) / 1e3;
    };
    // Its prototype's is read-only, and cannot be assigned over.
    Object.defineProperty(native, "decodeBatch", { value: timed });
  }

  /** Of the evaluations that `work` comes to. */
  async seconds(work: () => Promise<unknown>): Promise<number> {
    this.#seconds = 0;
    await work();
    return this.#seconds;
  }
}

/** Told by the library that was loaded: libggml-cpu-zen4.so. */
function variant(): string {
  return /\/libggml-cpu-(\w+)\.so/.exec(readFileSync("/proc/self/maps", "utf8"))?.[1] ?? "unknown";
}
