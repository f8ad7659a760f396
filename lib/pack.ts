import { type FileHandle, stat } from "node:fs/promises";

import { Device, type DeviceOptions } from "./device.js";
import { CriaError, CriaFileError } from "./errors.js";
import { Replacement, unwritten, writeAll } from "./files.js";
import { native } from "./native.js";
import { readGguf, readGgufKeys } from "./weights/gguf.js";
import { readModel } from "./weights/model-file.js";
import { encodePacked, type PlacedTensor, packedKeys, planPacked } from "./weights/packed.js";
import { type LoadOptions, type ModelFile, WeightStore } from "./weights/store.js";

/**
 * Packs a GGUF model to a file that is loaded without packing. One tensor is in memory at a time. The file takes its name
 * only when it is whole and on the disk: what is cut off on the way is no model, and what the name was before stays.
 *
 * @param path as {@link readGguf}'s
 * @param out the file, which is replaced where there is one
 * @returns the size of the file
 * @throws CriaFileError where the model cannot be read, or the file not written
 * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it
 */
export async function packModel(
  path: string,
  out: string,
  options: Pick<DeviceOptions, "threads"> & LoadOptions = {},
): Promise<{ bytes: number }> {
  const model = await readModel(path);
  if (model.mappable) throw new CriaFileError(path, undefined, "must be a GGUF file, not packed already");
  if (model.config.rope.pairing !== "adjacent") {
    // A packed file's keys are GGUF's, which say nothing of another pairing.
    const problem = `must be a GGUF file to be packed, not ${model.format}`;
    throw new CriaFileError(path, undefined, problem, "ERR_CRIA_UNSUPPORTED");
  }
  await checkOut(out, path);
  const keys = packedKeys(await readGgufKeys(path), model.config);
  const header = encodePacked(keys, await planPacked(model.config, model.tensors));
  // The layout is the CPU's.
  using device = new Device({ ...options, device: "cpu" });
  await using replacement = await Replacement.open(out);
  try {
    const writer = new ChunkWriter(replacement.file);
    await writer.write(header.bytes.length, (at, into) => header.bytes.copy(into, 0, at));
    for (const tensor of header.tensors) {
      await writeTensor(writer, tensor, device, model, options.signal);
      options.onProgress?.(tensor.offset + tensor.bytes, header.size);
    }
    await writer.end();
    await replacement.finish();
  } catch (error) {
    throw error instanceof CriaError ? error : unwritten(out, error);
  }
  return { bytes: header.size };
}

/** @throws CriaFileError where `out` is something that must not be replaced: no file, or the model itself */
async function checkOut(out: string, path: string): Promise<void> {
  const existing = await stat(out).catch(() => undefined);
  if (existing === undefined) return;
  if (!existing.isFile()) throw new CriaFileError(out, undefined, "must be a regular file, or none yet, to be written");
  for (const part of (await readGguf(path)).files) {
    const { dev, ino } = await stat(part.path);
    if (dev !== existing.dev || ino !== existing.ino) continue;
    throw new CriaFileError(out, undefined, `must not be the file that is packed, ${part.path}`);
  }
}

/** Packs a tensor, and puts it to its place. */
async function writeTensor(
  writer: ChunkWriter,
  { kind, names, offset, bytes }: PlacedTensor,
  device: Device,
  model: ModelFile,
  signal: AbortSignal | undefined,
): Promise<void> {
  using source = model.source();
  using store = new WeightStore(device, source, signal === undefined ? {} : { signal });
  const tensor = await (kind === "vector" ? store.vector(names[0]!) : store.matrix(...names));
  await writer.write(offset - writer.position, (_, into) => into.fill(0));
  await writer.write(bytes, (at, into) => native.tensorReadPacked(tensor, at, into));
}

/**
 * What is written at a time, and where in the file such writes begin: whole pages of 2 MiB, for the page cache to take
 * it in, where the file system has them. Mapping 3.8 GB of these takes 0.01 s, of a mixture of smaller ones 0.08 s.
 */
const chunkBytes = 8 * 2 ** 20;

/** Writes a file front to back, in chunks. */
class ChunkWriter {
  position = 0;
  readonly #file: FileHandle;
  readonly #chunk = Buffer.alloc(chunkBytes);

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Writes `bytes` bytes: `fill(at, into)` fills `into` with those from `at` on. */
  async write(bytes: number, fill: (at: number, into: Buffer) => void): Promise<void> {
    for (let at = 0; at < bytes; ) {
      const begin = this.position % chunkBytes;
      const into = this.#chunk.subarray(begin, Math.min(begin + bytes - at, chunkBytes));
      fill(at, into);
      at += into.length;
      this.position += into.length;
      if (this.position % chunkBytes === 0) await this.#flush(chunkBytes);
    }
  }

  /** Writes what is left. */
  async end(): Promise<void> {
    await this.#flush(this.position % chunkBytes);
  }

  /** Writes the first `length` bytes of the chunk, which end at the position. */
  async #flush(length: number): Promise<void> {
    await writeAll(this.#file, this.#chunk.subarray(0, length), this.position - length);
  }
}
