/**
 * Tokens per second of a whole model, and how far that is from what the machine's memory can do.
 *
 * Decoding reads every weight once a token, and the keys and values of all tokens before it: its limit is the read
 * bandwidth, measured in the same run over memory that no cache holds, between the rounds that are judged by it.
 */
import { writeFile } from "node:fs/promises";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";

import { Device, type DeviceOptions, type Isa } from "../lib/device.js";
import { CriaError, integer, outOfRange } from "../lib/errors.js";
import { blockBytes, blockTokens } from "../lib/kv-pool.js";
import { loadModel } from "../lib/model.js";
import type { Runtime } from "../lib/runtime.js";
import { type WeightType, weightFormats } from "../lib/weights/source.js";
import { shapes } from "./shapes.js";
import { syntheticModel } from "./synthetic.js";

const usage = `usage: npm run bench -- [--shape ${Object.keys(shapes).join("|")}] [--format ${Object.keys(weightFormats).join("|")}]
                        [--model FILE] [--threads N] [--isa scalar|avx2|avx512]
                        [--prompt N] [--gen N] [--json FILE|-]

Without --model, random weights of --shape (tinyllama) in --format (q4_0) are made in memory.`;

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
interface Spread {
  median: number;
  low: number;
  high: number;
}

interface BenchOptions extends DeviceOptions {
  shape: string;
  format: WeightType;
  model: string | undefined;
  prompt: number;
  gen: number;
}

/** Runs the benchmark that the arguments ask for and prints its result. @returns the exit code */
export async function runBench(argv: readonly string[]): Promise<number> {
  let options: BenchOptions & { json: string | undefined };
  try {
    const parsed = parse(argv);
    if (parsed === undefined) {
      console.log(usage);
      return 0;
    }
    options = parsed;
  } catch (error) {
    console.error(`cria: ${(error as Error).message}\n${usage}`);
    return 2;
  }
  try {
    const result = await measure(options);
    const json = `${JSON.stringify(result, null, 2)}\n`;
    if (options.json === "-") process.stdout.write(json);
    else process.stdout.write(report(result));
    if (options.json !== undefined && options.json !== "-") await writeFile(options.json, json);
    return 0;
  } catch (error) {
    if (!(error instanceof CriaError)) throw error;
    console.error(`cria: ${error.message} (${error.code})`);
    return 1;
  }
}

function parse(argv: readonly string[]): (BenchOptions & { json: string | undefined }) | undefined {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    args: [...argv],
    options: {
      shape: text,
      format: text,
      model: text,
      threads: text,
      isa: text,
      prompt: text,
      gen: text,
      json: text,
      help: { type: "boolean" },
    },
  });
  if (values.help) return undefined;
  const { shape = "tinyllama", format = "q4_0", model, json, isa } = values;
  if (!Object.hasOwn(shapes, shape)) throw outOfRange("--shape", `one of ${Object.keys(shapes).join(", ")}`, shape);
  if (!Object.hasOwn(weightFormats, format)) {
    throw outOfRange("--format", `one of ${Object.keys(weightFormats).join(", ")}`, format);
  }
  const count = (name: "threads" | "prompt" | "gen", otherwise: number, max: number) =>
    values[name] === undefined ? otherwise : integer(`--${name}`, Number(values[name]), 1, max);
  const device: DeviceOptions = {
    ...(isa !== undefined && { isa: isa as Isa }),
    ...(values.threads !== undefined && { threads: count("threads", 0, 256) }),
  };
  const prompt = count("prompt", 128, 2 ** 20);
  return { ...device, shape, format: format as WeightType, model, prompt, gen: count("gen", 64, 2 ** 20), json };
}

async function measure(options: BenchOptions): Promise<BenchResult> {
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
  const tokenMs: number[] = [];
  await round(runtime, Math.min(prompt, 8), 2); // touches the memory and wakes the threads
  const reads = await device.readBandwidth(bandwidthBytes, passes);
  const until = performance.now() + rounds.seconds * 1e3;
  while (prefill.length < rounds.least || (prefill.length < rounds.most && performance.now() < until)) {
    const times = await round(runtime, prompt, gen);
    prefill.push((prompt / times.prefillMs) * 1e3);
    decode.push((gen / times.tokenMs.reduce((sum, ms) => sum + ms, 0)) * 1e3);
    tokenMs.push(...times.tokenMs);
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
  /** Bytes of weights that one token reads: all but an embedding table that is not also the output matrix. */
  readPerToken: number;
  dispose: () => void;
}

async function open(options: BenchOptions, contextLength: number): Promise<Opened> {
  if (options.model !== undefined) {
    const model = await loadModel(options.model, { ...options, contextLength });
    const readPerToken = model.weightBytes - model.untiedEmbeddingBytes;
    return { name: options.model, runtime: model.runtime, readPerToken, dispose: () => model.dispose() };
  }
  const config = shapes[options.shape]!;
  const { block, blockBytes } = weightFormats[options.format];
  const { runtime, store } = await syntheticModel(new Device(options), config, options.format, { contextLength });
  return {
    name: `${options.shape} ${options.format}, random weights`,
    runtime,
    readPerToken: store.bytes - (config.vocab * config.dim * blockBytes) / block,
    dispose: () => {
      runtime.dispose();
      store.dispose();
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

function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  return { median: at(0.5), low: at(0.1), high: at(0.9) };
}

function report(result: BenchResult): string {
  const { machine } = result;
  const fixed = (value: number) => value.toFixed(value < 100 ? 2 : 0);
  const rate = ({ median, low, high }: Spread) => `${fixed(median)} tok/s  (${fixed(low)} to ${fixed(high)})`;
  const gb = (bytes: number, digits = 1) => `${(bytes / 1e9).toFixed(digits)} GB`;
  const bandwidth = ({ median, low, high }: Spread) => `${gb(median)}/s  (${gb(low)} to ${gb(high)})`;
  const lines = [
    ["machine", `${machine.processor}, ${gb(machine.memoryBytes, 0)}`],
    ["threads, isa", `${machine.threads}, ${machine.isa}`],
    ["model", result.model],
    ["ready after", `${(result.loadMs / 1e3).toFixed(2)} s`],
    ["prefill", `${rate(result.prefillTokensPerSecond)}, ${result.promptTokens} tokens`],
    ["decode", `${rate(result.decodeTokensPerSecond)}, ${result.generatedTokens} tokens`],
    ["read per token", `${gb(result.bytesPerToken, 3)} of weights and cache`],
    ["decode reads", bandwidth(result.decodeBytesPerSecond)],
    ["memory gives", `${bandwidth(result.readBytesPerSecond)}, read plainly in between, on as many threads`],
    ["share", `${(result.shareOfBandwidth * 100).toFixed(0)} % of what memory gives`],
  ];
  return `${lines.map(([name, value]) => `${name!.padEnd(15)} ${value}`).join("\n")}\n`;
}
