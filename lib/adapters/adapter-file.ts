import { join } from "node:path";

import type { Device } from "../device.js";
import { CriaFileError } from "../errors.js";
import type { Complete } from "../options.js";
import { peftConfig } from "../weights/adapter-names.js";
import { requireTypes } from "../weights/gpu-types.js";
import { exists } from "../weights/json-file.js";
import { isFolder, readStart } from "../weights/open.js";
import type { FileTensor, LlamaConfig } from "../weights/source.js";
import { checkFits, type LoraFile, rankOf } from "./lora-file.js";
import { readLoraGguf } from "./lora-gguf.js";
import { readPeft } from "./peft.js";
import { checkPrefixFits, firstLayer, type PrefixFile, type PrefixOptions, readPrefix } from "./prefix-file.js";
import type { Outline } from "./room.js";
import { hasTensors } from "./tensors.js";

/** The index of an adapter. */
export type AdapterFile = LoraFile | PrefixFile;

/** What GGUF files begin with. */
const ggufMagic = "GGUF";

/**
 * Reads the index of an adapter: a LoRA in a GGUF file, or in a folder that PEFT wrote, or a LLaMA-Adapter. What it is,
 * its content tells.
 *
 * @throws CriaFileError as what reads the format
 */
export async function readAdapterFile(path: string, options: Complete<PrefixOptions>): Promise<AdapterFile> {
  if (await isFolder(path)) {
    if (await exists(join(path, peftConfig))) return readPeft(path);
    const what = (await exists(join(path, "config.json"))) ? ": this is a model, to be given as one" : "";
    throw new CriaFileError(path, undefined, `must have an ${peftConfig}${what}`);
  }
  if (await isGguf(path)) return readLoraGguf(path);
  if (await hasTensors(path)) return readPrefix(path, options);
  const problem = `must be a GGUF file, a folder with ${peftConfig}, or a file of a LLaMA-Adapter's tensors`;
  throw new CriaFileError(path, undefined, problem);
}

/**
 * Checks that an adapter is for a model of that shape.
 *
 * @throws CriaFileError that names the first tensor that is not
 */
export function checkAdapterFits(file: AdapterFile, config: LlamaConfig): void {
  if (file.kind === "lora") checkFits(file, config);
  else checkPrefixFits(file, config);
}

/**
 * Checks that a device reads an adapter's types.
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED, naming the first it does not
 */
export function checkAdapterRuns(file: AdapterFile, device: Device): void {
  // A prefix is always of floats.
  if (file.kind !== "lora") return;
  const tensors = file.pairs.flatMap(({ a, b }) => [a.tensor, b.tensor]);
  requireTypes(file.path, tensors, device);
}

/** What the adapter's size follows from where it is set, for a model of that shape. */
export function outlineOf(file: AdapterFile, config: LlamaConfig): Outline {
  const none = { updates: new Map(), prefix: new Map() };
  if (file.kind === "lora") {
    return { ...none, updates: new Map(file.pairs.map((pair) => [pair.target, { rank: rankOf(pair) }])) };
  }
  const layers = Array.from({ length: config.layers }, (_, layer) => layer).slice(firstLayer(file, config));
  const prompt = { length: file.prefixLength * config.dim };
  return { ...none, prefix: new Map(layers.map((layer) => [layer, { prompt }])) };
}

/** The memory of an adapter in JavaScript, in f32. */
export function adapterBytes(file: AdapterFile): number {
  const elements = ({ rows, cols }: FileTensor) => rows * cols;
  if (file.kind === "lora") {
    return file.pairs.reduce((sum, { a, b }) => sum + 4 * (elements(a.tensor) + elements(b.tensor)), 0);
  }
  return 4 * elements(file.prompts);
}

const isGguf = async (path: string): Promise<boolean> =>
  (await readStart(path, ggufMagic.length)).toString("latin1") === ggufMagic;
