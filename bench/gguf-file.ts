/**
 * A model as a GGUF file that llama.cpp loads too, written while a device packs its weights: what is measured beside a
 * peer has the same weights on both sides, and none of them is in memory twice.
 */
import { type FileHandle, rm } from "node:fs/promises";

import { openOutput } from "../lib/cli/io.js";
import type { Device } from "../lib/device.js";
import { unwritten, writeAll } from "../lib/files.js";
import { loadLlama } from "../lib/llama.js";
import { checkMemory } from "../lib/memory.js";
import { native, type TensorHandle } from "../lib/native.js";
import { type LlamaConfig, type TensorInfo, weightBytes } from "../lib/weights/source.js";
import { type LoadOptions, type WeightSource, WeightStore } from "../lib/weights/store.js";
import {
  encodeKey,
  encodeStart,
  encodeTensorHeader,
  f32,
  padding,
  string,
  u32,
  type Value,
  vocabularyKeys,
} from "./gguf-values.js";

/** GGUF's default, of the data section and of each tensor in it. */
const alignment = 32;

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
  const { header, places } = layout(name, config, source.tensors);
  const pack: WeightSource["pack"] = async (info, into, row) => {
    await source.pack(info, into, row);
    await writeRows(file, places.get(info.name)!, info, into, row);
  };
  using store = new WeightStore(device, { tensors: source.tensors, pack }, options);
  try {
    await writeAll(file, header, 0);
    await loadLlama(config, store);
  } catch (error) {
    if ((await file.stat()).isFile()) await rm(path, { force: true });
    throw (error as NodeJS.ErrnoException).syscall === undefined ? error : unwritten(path, error);
  }
}

/** The bytes up to the first tensor's, and where each tensor's begin. */
function layout(name: string, config: LlamaConfig, tensors: ReadonlyMap<string, TensorInfo>) {
  const keys = { ...llamaKeys(name, config), ...vocabularyKeys(config.vocab) };
  const offsets = new Map<string, number>();
  let length = 0;
  for (const info of tensors.values()) {
    offsets.set(info.name, length);
    const bytes = weightBytes(info.type, info.rows, info.cols);
    length += bytes + padding(bytes, alignment);
  }
  const index = Buffer.concat([
    encodeStart(tensors.size, Object.keys(keys).length),
    ...Object.entries(keys).map(([key, value]) => encodeKey(key, value)),
    ...[...tensors.values()].map((info) =>
      encodeTensorHeader(info.name, shapeOf(info), info.type, offsets.get(info.name)!),
    ),
  ]);
  const header = Buffer.concat([index, Buffer.alloc(padding(index.length, alignment))]);
  return { header, places: new Map([...offsets].map(([name, offset]) => [name, header.length + offset])) };
}

/** GGUF's, fastest first; a LLaMA's vectors are those of one row. */
const shapeOf = ({ rows, cols }: TensorInfo) => (rows === 1 ? [cols] : [cols, rows]);

/** The keys that llama.cpp reads of a LLaMA. */
function llamaKeys(name: string, config: LlamaConfig): Record<string, Value> {
  return {
    "general.architecture": string("llama"),
    "general.name": string(name),
    // Of the blocks' layout; 2 since GGML scales them by binary16.
    "general.quantization_version": u32(2),
    "llama.vocab_size": u32(config.vocab),
    "llama.context_length": u32(config.contextLength),
    "llama.embedding_length": u32(config.dim),
    "llama.block_count": u32(config.layers),
    "llama.feed_forward_length": u32(config.ffn),
    "llama.attention.head_count": u32(config.heads),
    "llama.attention.head_count_kv": u32(config.kvHeads),
    "llama.attention.key_length": u32(config.headDim),
    "llama.attention.value_length": u32(config.headDim),
    "llama.attention.layer_norm_rms_epsilon": f32(config.eps),
    "llama.rope.dimension_count": u32(config.rope.dim),
    "llama.rope.freq_base": f32(config.rope.theta),
  };
}

/** Writes a tensor, which stands at `row` of the packed one. */
async function writeRows(
  file: FileHandle,
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
    await writeAll(file, bytes, place + done * rowBytes);
  }
}
