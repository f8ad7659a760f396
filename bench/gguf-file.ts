/**
 * A model as a GGUF file that llama.cpp loads too, written while a device packs its weights: what is measured beside a
 * peer has the same weights on both sides, and none of them is in memory twice.
 */
import { rm } from "node:fs/promises";

import { openOutput } from "../lib/cli/io.js";
import type { Device } from "../lib/device.js";
import { unwritten, writeAll } from "../lib/files.js";
import { loadLlama } from "../lib/llama.js";
import { checkMemory } from "../lib/memory.js";
import { native, type TensorHandle } from "../lib/native.js";
import { string } from "../lib/weights/gguf-values.js";
import { architectureKeys, configKeys, layoutGguf } from "../lib/weights/gguf-writer.js";
import { type LlamaConfig, type TensorInfo, weightBytes } from "../lib/weights/source.js";
import { type LoadOptions, type WeightSource, WeightStore } from "../lib/weights/store.js";
import { vocabularyKeys } from "./made-up-vocabulary.js";

/** What is unpacked and written at a time: long enough that a call costs nothing beside it, and little memory. */
const sliceBytes = 8 << 20;

export interface GgufModel {
  /** general.name. */
  name: string;
  config: LlamaConfig;
  source: WeightSource;
}

/**
 * Packs a model's weights on a device and writes them from there, in a file of the architecture "llama" with a vocabulary
 * that is made up. What stood in the file before is lost.
 *
 * @throws CriaFileError ERR_CRIA_FILE where the file cannot be written; what was written of it is removed
 * @throws CriaError as loading the model does
 */
export async function writeGguf(
  path: string,
  { name, config, source }: GgufModel,
  device: Device,
  options: LoadOptions = {},
): Promise<void> {
  await checkMemory(name, { config, tensors: source.tensors }, device, { contextLength: 1 });
  await using file = await openOutput(path);
  const keys = {
    "general.name": string(name),
    ...architectureKeys,
    ...configKeys(config),
    ...vocabularyKeys(config.vocab),
  };
  const { header, tensors } = layoutGguf(keys, source.tensors.values());
  const places = new Map(tensors.map((tensor) => [tensor.name, tensor.offset]));
  const write = (bytes: Uint8Array, at: number) =>
    writeAll(file, bytes, at).catch((cause) => Promise.reject(unwritten(path, cause)));
  const pack: WeightSource["pack"] = async (info, into, row) => {
    await source.pack(info, into, row);
    await writeRows(write, places.get(info.name)!, info, into, row);
  };
  using store = new WeightStore(device, { tensors: source.tensors, pack }, options);
  try {
    await write(header, 0);
    await loadLlama(config, store);
  } catch (error) {
    if ((await file.stat()).isFile()) await rm(path, { force: true });
    throw error;
  }
}

/** Writes a tensor, which stands at `row` of the packed one. */
async function writeRows(
  write: (bytes: Uint8Array, at: number) => Promise<void>,
  place: number,
  { type, rows, cols }: TensorInfo,
  from: TensorHandle,
  row: number,
) {
  const rowBytes = weightBytes(type, 1, cols);
  const slice = Math.min(rows, Math.max(1, Math.floor(sliceBytes / rowBytes)));
  const buffer = Buffer.alloc(slice * rowBytes);
  for (let done = 0; done < rows; done += slice) {
    const count = Math.min(slice, rows - done);
    const bytes = buffer.subarray(0, count * rowBytes);
    native.tensorUnpack(from, row + done, count, bytes);
    await write(bytes, place + done * rowBytes);
  }
}
