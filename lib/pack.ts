import { ChunkWriter } from "./chunk-writer.js";
import { Device, type DeviceOptions } from "./device.js";
import { CriaFileError } from "./errors.js";
import { Replacement } from "./files.js";
import { native } from "./native.js";
import { optionalFunction, optionalSignal, optionsOf } from "./options.js";
import { checkOut } from "./output.js";
import { readGgufKeys } from "./weights/gguf.js";
import { encodeKeys, keptKeys, modelKeys } from "./weights/gguf-writer.js";
import { readModel } from "./weights/model-file.js";
import { encodePacked, type PlacedTensor, packedKeys, pairingKeys, planPacked } from "./weights/packed.js";
import { type LoadOptions, type ModelFile, WeightStore } from "./weights/store.js";

/** How a model is packed: with another tokenizer, or its float matrices quantised, it stays so. */
export type PackOptions = Pick<DeviceOptions, "threads"> &
  Pick<LoadOptions, "tokenizer" | "quantize" | "onProgress" | "signal">;

const packOptions = ["threads", "tokenizer", "quantize", "onProgress", "signal"] as const;

/**
 * Packs a model to a file that is loaded without packing. One tensor is in memory at a time. The file takes its name
 * only when it is whole and on the disk: what is cut off on the way is no model, and what the name was before stays.
 *
 * @param path what {@link loadModel} takes, but for a file that is packed already
 * @param out the file, which is replaced where there is one
 * @returns the size of the file
 * @throws CriaFileError where the model cannot be read, or the file not written
 * @throws CriaError ERR_CRIA_ABORTED when `signal` stops it
 */
export async function packModel(path: string, out: string, options: PackOptions = {}): Promise<{ bytes: number }> {
  const known = optionsOf("packModel", options, packOptions);
  const { threads, tokenizer } = known;
  const signal = optionalSignal(known.signal);
  const onProgress = optionalFunction("onProgress", known.onProgress);
  const model = await readModel(path, known);
  if (model.mappable) throw new CriaFileError(path, undefined, "must be a model, not packed already");
  checkColumns(model);
  await checkOut(out, model);
  const keys = packedKeys(await keysOf(model, tokenizer !== undefined), model.config);
  const header = encodePacked(keys, await planPacked(model.config, model.tensors));
  // The layout is the CPU's.
  using device = new Device({ ...(threads === undefined ? {} : { threads }), device: "cpu" });
  await using replacement = await Replacement.open(out);
  const writer = new ChunkWriter(replacement);
  await writer.write(header.bytes.length, (at, into) => header.bytes.copy(into, 0, at));
  for (const tensor of header.tensors) {
    await writeTensor(writer, tensor, device, model, signal);
    onProgress?.(tensor.offset + tensor.bytes, header.size);
  }
  await writer.end();
  await replacement.finish();
  return { bytes: header.size };
}

/** @throws CriaFileError ERR_CRIA_UNSUPPORTED for act-order, which a packed file has no place for */
function checkColumns({ path, tensors }: ModelFile): void {
  const ordered = [...tensors.values()].find(({ columns }) => columns !== undefined);
  if (ordered === undefined) return;
  const problem = "its columns must be its inputs in their order, for it to be packed";
  throw new CriaFileError(path, ordered.name, problem, "ERR_CRIA_UNSUPPORTED");
}

/** A GGUF file's own keys, or what GGUF's and cria's can say of another model, as a GGUF file without tensors. */
async function keysOf(model: ModelFile, otherVocabulary: boolean): Promise<Buffer> {
  if (model.keys === undefined) return encodeKeys({ ...modelKeys(model), ...pairingKeys(model.config) });
  return otherVocabulary ? encodeKeys(keptKeys(model.keys, model.vocabulary)) : await readGgufKeys(model.path);
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
