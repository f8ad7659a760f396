/**
 * What the scheduler, the prefix cache and the pool make of several sequences: tokens a second of many that decode
 * together, the time that a known prefix spares, how long a running text waits for another's prompt, the pool's own
 * operations, and what guessing tokens brings.
 */
import { performance } from "node:perf_hooks";

import { KvPool } from "../lib/kv-pool.js";
import { KvSequence } from "../lib/kv-sequence.js";
import { loadModel, type ModelOptions } from "../lib/model.js";
import type { Runtime } from "../lib/runtime.js";
import { argmax } from "../lib/sampling/ranking.js";
import { chunkTokens } from "../lib/scheduler.js";
import type { Sequence } from "../lib/sequence.js";
import { tinyModel } from "../lib/tiny.js";
import type { WeightType } from "../lib/weights/source.js";
import { measureSpeculation } from "./generation/speculation.js";
import { limitsOf } from "./limits.js";
import { cpuOf } from "./machine.js";
import type { Limits, Result } from "./schema.js";
import { median, percentile, spread } from "./statistics.js";
import { openModel, scattered } from "./tokens.js";

export interface ServingOptions extends ModelOptions {
  model?: string;
  shape: string;
  format: WeightType;
}

/** Sequences that decode together, and the steps that they take. */
const batches = [1, 4, 8, 16];
const steps = 12;
const rounds = 3;

/** Tokens that a request repeats of the one before, and those it has of its own. */
const prefixTokens = 1000;
const ownTokens = 8;

/** Tokens of the prompt that comes while others decode, and how many those are. */
const promptTokens = 2000;
const running = 4;

export async function measureServing(options: ServingOptions): Promise<{ limits: Limits; results: Result[] }> {
  const contextLength = promptTokens + 64;
  // Room for all that is measured at a time; a sequence's context is then longer than it needs.
  const opened = await openModel({ ...options, contextLength: 2 * contextLength, onWarning: () => undefined });
  try {
    const { runtime } = opened;
    const measured = [
      ...(await batchesOf(runtime, options.signal)),
      ...(await prefix(runtime, options.signal)),
      await latency(runtime, options.signal),
      ...poolOperations(runtime),
      await growth(options.signal),
    ];
    const { isa, threads } = cpuOf(runtime.device);
    const { name, format } = opened;
    const at = { model: name, format };
    const speculated = await measureSpeculation({ runtime, name, format, signal: options.signal });
    const limits = await limitsOf(runtime.device);
    return {
      limits,
      results: [...measured.map((figure) => resultOf(figure, { by: "cria", isa, threads, at })), ...speculated],
    };
  } finally {
    opened.dispose();
  }
}

/** Samples of one figure. */
interface Figure {
  readonly name: string;
  readonly samples: readonly number[];
  readonly unit: Result["unit"];
  readonly model: string;
  readonly at?: Result["at"];
}

function resultOf({ name, samples, unit, model, at }: Figure, common: Pick<Result, "by" | "isa" | "threads" | "at">) {
  const value = median(samples);
  const spreadOf = value === 0 ? 0 : spread(samples);
  const figure = { name, value, unit, limit: null, share: null, spread: spreadOf, samples: samples.length, model };
  return { ...common, ...figure, at: { ...common.at, ...at } };
}

let texts = 0;

/** Tokens that no text before began with. */
const newText = (count: number, { config }: Runtime): Int32Array => {
  const first = ++texts * 131;
  return Int32Array.from({ length: count }, (_, i) => scattered(first + i, config));
};

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1e3;
};

async function withSequences<T>(count: number, runtime: Runtime, work: (all: Sequence[]) => Promise<T>): Promise<T> {
  const all = Array.from({ length: count }, () => runtime.sequence());
  try {
    return await work(all);
  } finally {
    for (const sequence of all) sequence.dispose();
  }
}

/** Goes on with a text greedily, as a caller would. */
async function decode(sequence: Sequence, token: number, count: number, signal?: AbortSignal): Promise<void> {
  let next = token;
  for (let i = 0; i < count; i++) {
    next = argmax(await sequence.forward(Int32Array.of(next), "last", { signal }));
  }
}

async function batchesOf(runtime: Runtime, signal?: AbortSignal): Promise<Figure[]> {
  const rates = new Map(batches.map((count) => [count, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (const count of batches) {
      const seconds = await withSequences(count, runtime, async (all) => {
        await Promise.all(all.map((sequence) => sequence.forward(newText(32, runtime), "none", { signal })));
        return await timed(() => Promise.all(all.map((sequence, i) => decode(sequence, 3 + i, steps, signal))));
      });
      rates.get(count)!.push((count * steps) / seconds);
    }
  }
  return [...rates].map(([sequences, samples]) => ({
    name: "together",
    samples,
    unit: "tok/s",
    model: `tokens of all sequences over the time of ${steps} steps from a context of 32, sampling among it`,
    at: { sequences },
  }));
}

async function prefix(runtime: Runtime, signal?: AbortSignal): Promise<Figure[]> {
  const read = (tokens: Int32Array) =>
    withSequences(1, runtime, ([sequence]) => timed(() => sequence!.forward(tokens, "last", { signal })));
  const shared = newText(prefixTokens, runtime);
  const request = () => Int32Array.from([...shared, ...newText(ownTokens, runtime)]);
  const cold = await read(request());
  const warm: number[] = [];
  for (let round = 0; round < rounds; round++) warm.push(await read(request()));
  const model = `a prompt of ${prefixTokens} tokens that another had before, and ${ownTokens} of its own`;
  return [
    { name: "prefix/cold", samples: [cold], unit: "s", model: `${model}, before there was another` },
    { name: "prefix/warm", samples: warm, unit: "s", model },
    { name: "prefix/share", samples: warm.map((seconds) => seconds / cold), unit: "x", model: "warm over cold" },
  ];
}

async function latency(runtime: Runtime, signal?: AbortSignal): Promise<Figure> {
  const chunks: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const tokens = newText(chunkTokens, runtime);
    chunks.push(await withSequences(1, runtime, ([one]) => timed(() => one!.forward(tokens, "last", { signal }))));
  }
  const chunk = median(chunks);
  const waits: number[] = [];
  await withSequences(running, runtime, async (all) => {
    await Promise.all(all.map((sequence) => sequence.forward(newText(32, runtime), "none", { signal })));
    let reading = true;
    const prompt = withSequences(1, runtime, ([sequence]) =>
      sequence!.forward(newText(promptTokens, runtime), "last", { signal }),
    ).finally(() => {
      reading = false;
    });
    const speak = async (sequence: Sequence) => {
      while (reading) waits.push(await timed(() => sequence.forward(Int32Array.of(5), "last", { signal })));
    };
    await Promise.all([prompt, ...all.map(speak)]);
  });
  return {
    name: "latency",
    samples: [percentile(waits, 0.95) / chunk],
    unit: "x",
    model:
      `95th percentile of ${waits.length} tokens' times of ${running} sequences, while a prompt of ${promptTokens} ` +
      `tokens is read beside them, over the time of a chunk of ${chunkTokens} alone, ${chunk.toFixed(2)} s`,
  };
}

function poolOperations({ device, pool }: Runtime): Figure[] {
  using own = new KvPool(device, pool.shape, 4 * prefixTokens);
  const tokens = Int32Array.from({ length: prefixTokens }, (_, i) => i);
  using sequence = new KvSequence(own);
  sequence.reserve(prefixTokens);
  sequence.commit(prefixTokens, tokens);
  const [fork, free, lookup]: [number[], number[], number[]] = [[], [], []];
  const micros = (work: () => void) => {
    const started = performance.now();
    work();
    return (performance.now() - started) * 1e3;
  };
  for (let i = 0; i < 5000; i++) {
    let other!: KvSequence;
    fork.push(micros(() => (other = sequence.fork())));
    free.push(micros(() => other.free()));
    const finder = new KvSequence(own);
    lookup.push(micros(() => finder.find(tokens, 16)));
    finder.free();
  }
  const model = (what: string) => `${what}, of a sequence of ${prefixTokens} tokens`;
  return [
    { name: "pool/fork", samples: fork, unit: "µs", model: model("a fork") },
    { name: "pool/free", samples: free, unit: "µs", model: model("giving a fork back") },
    { name: "pool/lookup", samples: lookup, unit: "µs", model: "finding a block of 16 tokens" },
  ];
}

/** Resident memory after many short texts of a tiny model, over that after the first tenth of them. */
async function growth(signal?: AbortSignal): Promise<Figure> {
  const [calls, few] = [10_000, 1_000];
  using model = await loadModel(tinyModel, { threads: 1 });
  let before = 0;
  for (let call = 0; call < calls; call++) {
    signal?.throwIfAborted();
    if (call === few) before = process.memoryUsage.rss();
    for await (const _ of model.generate(`Once ${call % 100}`, { maxTokens: 4, seed: call }));
  }
  return {
    name: "resident",
    samples: [process.memoryUsage.rss() / before],
    unit: "x",
    model: `resident memory after ${calls} generate calls over that after ${few}, of the process`,
  };
}
