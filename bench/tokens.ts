/**
 * Tokens per second of a whole model, and how far that is from what the machine's memory can do.
 *
 * Decoding reads every weight once a token, and the keys and values of all tokens before it: its limit is the read
 * bandwidth, measured in the same run over memory that no cache holds, between the rounds that are judged by it.
 */
import { performance } from "node:perf_hooks";

import { Device, type Isa } from "../lib/device.js";
import { blockBytes, blockTokens } from "../lib/kv-pool.js";
import { weightBytesPerToken } from "../lib/llama.js";
import { loadModel, type ModelOptions } from "../lib/model.js";
import type { Runtime } from "../lib/runtime.js";
import { argmax } from "../lib/sampler.js";
import type { WeightType } from "../lib/weights/source.js";
import { shapes } from "./shapes.js";
import { syntheticModel } from "./synthetic.js";

/** Bytes read to measure the bandwidth: many times any cache. */
const bandwidthBytes = 2 ** 29;

/** Passes of it before and after each round; one takes about as long as a token of a 1.1B model. */
const passes = 6;

/** Rounds of prefill and decode: as many as fit the time, so that a shared machine's bad moments can be told apart. */
const rounds = { least: 1, most: 5, seconds: 20 };

export interface BenchResult {
  model: string;
  machine: { processor: string; threads: number; isa: Isa; memoryBytes: number };
  promptTokens: number;
  generatedTokens: number;
  loadMs: number;
  /** Of the rounds. */
  prefillTokensPerSecond: Spread;
  decodeTokensPerSecond: Spread;
  /** Weights and cache read for one decoded token, on average over the generated ones. */
  bytesPerToken: number;
  /** Read for each single token. */
  decodeBytesPerSecond: Spread;
  /** What plain passes over memory reached on as many threads, before and after each round. */
  readBytesPerSecond: Spread;
  /** The ratio of those two medians. */
  shareOfBandwidth: number;
}

/** The median, and the tenths of the values above and below. */
export interface Spread {
  median: number;
  low: number;
  high: number;
}

export interface BenchOptions extends ModelOptions {
  /** The file of a model; without one, random weights are made of the shape and in the format. */
  model?: string;
  shape: string;
  format: WeightType;
  prompt: number;
  gen: number;
}

/** Loads or makes the model, and measures it. */
export async function measure(options: BenchOptions): Promise<BenchResult> {
  const { prompt, gen } = options;
  const contextLength = prompt + gen;
  const started = performance.now();
  const { name, runtime, readPerToken, dispose } = await open(options, contextLength);
  const loadMs = performance.now() - started;
  const { device, config } = runtime;

  // Token i of those generated attends to the prompt and to the i before it.
  const cachePerToken = blockBytes(runtime.pool.shape) / blockTokens;
  const bytesPerToken = readPerToken + cachePerToken * (prompt + (gen + 1) / 2);

  const prefill: number[] = [];
  const decode: number[] = [];
  let tokenMs: number[] = [];
  await round(runtime, Math.min(prompt, 8), Math.min(gen, 2)); // touches the memory and wakes the threads
  const reads = await device.readBandwidth(bandwidthBytes, passes);
  const until = performance.now() + rounds.seconds * 1e3;
  while (prefill.length < rounds.least || (prefill.length < rounds.most && performance.now() < until)) {
    const times = await round(runtime, prompt, gen);
    prefill.push((prompt / times.prefillMs) * 1e3);
    decode.push((gen / times.tokenMs.reduce((sum, ms) => sum + ms, 0)) * 1e3);
    tokenMs = tokenMs.concat(times.tokenMs);
    reads.push(...(await device.readBandwidth(bandwidthBytes, passes)));
  }
  const decodeBytesPerSecond = spread(tokenMs.map((ms) => (bytesPerToken / ms) * 1e3));
  const readBytesPerSecond = spread(reads);
  const { info } = device;
  const result: BenchResult = {
    model: `${name}, ${config.layers} layers of ${config.dim}`,
    machine: { processor: info.name, threads: info.threads, isa: info.isa, memoryBytes: info.memoryBytes },
    promptTokens: prompt,
    generatedTokens: gen,
    loadMs,
    prefillTokensPerSecond: spread(prefill),
    decodeTokensPerSecond: spread(decode),
    bytesPerToken,
    decodeBytesPerSecond,
    readBytesPerSecond,
    shareOfBandwidth: decodeBytesPerSecond.median / readBytesPerSecond.median,
  };
  dispose();
  return result;
}

interface Opened {
  name: string;
  runtime: Runtime;
  /** Bytes of weights that one token reads. */
  readPerToken: number;
  dispose: () => void;
}

async function open(options: BenchOptions, contextLength: number): Promise<Opened> {
  if (options.model !== undefined) {
    const model = await loadModel(options.model, { ...options, contextLength });
    const { runtime, weightBytesPerToken: readPerToken } = model;
    return { name: options.model, runtime, readPerToken, dispose: () => model.dispose() };
  }
  const device = new Device(options);
  const wanted = { ...options, contextLength };
  const { runtime, store } = await syntheticModel(device, shapes[options.shape]!, options.format, wanted);
  return {
    name: `${options.shape} ${options.format}, random weights`,
    runtime,
    readPerToken: weightBytesPerToken(store),
    dispose: () => {
      runtime.dispose();
      store.dispose();
      device.dispose();
    },
  };
}

/** A prompt, then tokens one by one, each chosen greedily as a caller would. */
async function round(runtime: Runtime, prompt: number, gen: number): Promise<{ prefillMs: number; tokenMs: number[] }> {
  const { vocab } = runtime.config;
  const sequence = runtime.sequence();
  const tokens = Int32Array.from({ length: prompt }, (_, i) => (i * 7919 + 1) % vocab); // a prime's steps: no two alike
  const started = performance.now();
  let logits = await sequence.forward(tokens, "last");
  let last = performance.now();
  const prefillMs = last - started;
  const tokenMs: number[] = [];
  for (let i = 0; i < gen; i++) {
    logits = await sequence.forward(Int32Array.of(argmax(logits)), "last");
    const now = performance.now();
    tokenMs.push(now - last);
    last = now;
  }
  sequence.dispose();
  return { prefillMs, tokenMs };
}

function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return { median: at(0.5), low: at(0.1), high: at(0.9) };
}
