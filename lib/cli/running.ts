import { existsSync } from "node:fs";

import type { AdapterOption } from "../adapters/options.js";
import type { CacheSize } from "../cache-size.js";
import { type CacheOption, cacheTypes } from "../cache-types.js";
import type { DeviceKind, Isa } from "../device.js";
import type { ModelOptions } from "../model.js";
import type { CacheType } from "../native.js";
import { quantisedTypes } from "../weights/quantized.js";
import { type Arguments, given, inCase, UsageError } from "./arguments.js";
import { type Io, Progress } from "./io.js";

/** What every command that runs a model takes. */
export const runningOptions = {
  tokenizer: { value: "FILE", help: "a file whose vocabulary is used instead of the model's, or of that beside it" },
  quantize: { value: "q8_0|q4_0|q4_K|…", help: "what float matrices become while they are loaded; none by default" },
  threads: { value: "N", help: "threads that compute; the physical cores that it may use by default" },
  isa: { value: "scalar|avx2|avx512", help: "the kernels' instruction set; the best by default" },
  device: {
    value: "auto|cpu|cuda|cuda-emulated",
    help: "where to compute; auto, a GPU where one can be used, by default; cuda-emulated is for tests",
  },
  cache: { value: "f32|f16|q8_0", help: "the type of cached keys and values, or of each: q8_0:f16; f16 by default" },
  "cache-size": {
    value: "4096|2GiB|50%",
    help: "what the cache holds: tokens, memory, or a share of the memory that is free; one context by default",
  },
  lora: {
    value: "FILE[:SCALE]",
    multiple: true,
    help: "an adapter, a LoRA's GGUF file or folder or a LLaMA-Adapter, and how much of it; several times for several",
  },
  "lora-merge": { help: "merges the adapters into the weights, which stay in their types" },
  "no-mmap": { help: "reads the matrices of a packed file instead of mapping them" },
} as const;

/**
 * Loads a model as the command line asks for it, with progress and warnings for people. Ctrl-C ends the loading, and
 * whatever else heeds `io.signal`.
 *
 * @param load loads it with the options; those that are wrong, it refuses
 */
export async function loadWith<Model>(
  args: Arguments<keyof typeof runningOptions>,
  io: Io,
  load: (options: ModelOptions) => Promise<Model>,
): Promise<Model> {
  const options = optionsOf(args);
  io.catchInterrupts();
  using progress = new Progress(io.stderr, "loading");
  return await load({
    ...options,
    signal: io.signal,
    onProgress: (loaded, total) => progress.update(loaded, total),
    onWarning: (message) => io.stderr.write(`cria: warning: ${message}\n`),
  });
}

/** The library checks them, and names the argument that is wrong. */
function optionsOf(args: Arguments<keyof typeof runningOptions>): ModelOptions {
  return given({
    tokenizer: args.text("tokenizer"),
    quantize: args.textInCase("quantize", quantisedTypes),
    threads: args.integer("threads"),
    isa: args.text("isa") as Isa | undefined,
    device: args.text("device") as DeviceKind | "auto" | undefined,
    mmap: args.flag("no-mmap") ? false : undefined,
    mergeAdapters: mergeOption(args),
    adapters: args.texts("lora")?.map(adapterOption),
    ...cacheOptions(args),
  });
}

/** Those that say what the cache takes. */
export function cacheOptions(args: Arguments<"cache" | "cache-size">): Pick<ModelOptions, "cache" | "cacheSize"> {
  const cache = args.text("cache");
  return given({
    cache: cache === undefined ? undefined : cacheOption(cache),
    cacheSize: cacheSize(args.text("cache-size")),
  });
}

/** FILE, or FILE:SCALE. A colon without a number is a file's name, unless it is the one before it that is there. */
function adapterOption(text: string): AdapterOption {
  const [, path, scale] = /^(.+):([+-]?(?:\d+\.?\d*|\.\d+))$/s.exec(text) ?? [];
  if (path !== undefined) return { path, scale: Number(scale) };
  const colon = text.lastIndexOf(":");
  if (colon > 0 && !existsSync(text) && existsSync(text.slice(0, colon))) {
    const given = JSON.stringify(text.slice(colon + 1));
    throw new UsageError(`--lora: must be a file, or a file and a scale such as 0.8, not a scale of ${given}`);
  }
  return { path: text };
}

/** @throws UsageError where there is nothing to merge */
function mergeOption(args: Arguments<"lora" | "lora-merge">): true | undefined {
  if (!args.flag("lora-merge")) return undefined;
  if (args.texts("lora") === undefined) throw new UsageError("--lora-merge: must come with --lora");
  return true;
}

/** TYPE of keys and values, or KEYS:VALUES. */
function cacheOption(text: string): CacheOption {
  const [keys, values, ...more] = text.split(":").map((type) => inCase(type, cacheTypes));
  if (more.length > 0) return text as CacheType;
  return values === undefined ? keys! : { keys: keys!, values };
}

const units = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

function cacheSize(text: string | undefined): CacheSize | undefined {
  if (text === undefined) return undefined;
  const [, number, unit] = /^(\d+|\d*\.\d+)([KMG]iB|%)?$/.exec(text) ?? [];
  const value = Number(number);
  if (unit === "%") return { share: value / 100 };
  if (unit !== undefined) return { bytes: Math.floor(value * units[unit as keyof typeof units]) };
  if (Number.isSafeInteger(value)) return { tokens: value };
  throw new UsageError(`--cache-size: must be such as 4096, 2GiB or 50%, not ${JSON.stringify(text)}`);
}
