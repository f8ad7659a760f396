import { ChunkWriter } from "./chunk-writer.js";
import { Device, type DeviceOptions } from "./device.js";
import { aborted, CriaError, outOfRange, wrongType } from "./errors.js";
import { Replacement } from "./files.js";
import { native } from "./native.js";
import { optionalFunction, optionalSignal, optionsOf } from "./options.js";
import { checkOut } from "./output.js";
import { ropeDivisors } from "./rope-scaling.js";
import { fallbackWarnings } from "./weights/fallbacks.js";
import type { Value } from "./weights/gguf-values.js";
import { fileTypeKey, keptKeys, layoutGguf, modelKeys } from "./weights/gguf-writer.js";
import {
  fileTypeOf,
  inputsOf,
  plannedTypes,
  prevailingType,
  type TargetType,
  targetTypes,
} from "./weights/mixtures.js";
import { readModel } from "./weights/model-file.js";
import { planPacked } from "./weights/packed.js";
import { ropeDivisorsName } from "./weights/rope-keys.js";
import { type LlamaConfig, type TensorInfo, type WeightType, weightBytes, weightFormats } from "./weights/source.js";
import { type LoadOptions, type ModelFile, WeightStore } from "./weights/store.js";

export type { GgufType, Mixture, TargetType } from "./weights/mixtures.js";

/** How a model is written as GGUF. */
export interface ConvertOptions extends Pick<DeviceOptions, "threads">, Pick<LoadOptions, "tokenizer" | "signal"> {
  /** What its matrices become; vectors are f32 always. Default: what they are. */
  type?: TargetType | undefined;
  /** Called with the bytes of the new file that are written, and those of all. */
  onProgress?: ((written: number, total: number) => void) | undefined;
  /** Called before anything is written, with what may surprise. */
  onWarning?: ((message: string) => void) | undefined;
}

const convertOptions = ["type", "tokenizer", "threads", "signal", "onProgress", "onWarning"] as const;

/** A GGUF file that was written. */
export interface Converted {
  /** Of the new file. */
  readonly bytes: number;
  /** How many tensors of each type it has. */
  readonly tensors: Readonly<Partial<Record<WeightType, number>>>;
}

/** Weights that are decoded and encoded at a time: 16 MiB as f32, and work enough for all threads. */
const sliceWeights = 4 * 2 ** 20;

/**
 * Writes any model that cria reads as one GGUF file that llama.cpp reads too, its matrices quantised. The weights of
 * one step of the forward pass are in memory at a time. The file takes its name only when it is whole and on the disk.
 *
 * A matrix whose rows are no whole number of the type's blocks gets a type of blocks of 32, or f16, as in llama.cpp;
 * `onWarning` hears of it, and of matrices that are quantised a second time.
 *
 * @param path what {@link loadModel} takes
 * @param out the file, which is replaced where there is one
 * @throws CriaFileError where the model cannot be read, or the file not written
 * @throws CriaError ERR_CRIA_NUMBERS where a weight is no finite number, or too large for its type; ERR_CRIA_ABORTED
 *   when `signal` stops it
 * @throws TypeError or RangeError for an option that is wrong, or no `type`
 */
export async function quantizeModel(
  path: string,
  out: string,
  options: ConvertOptions & { type: TargetType },
): Promise<Converted> {
  const known = optionsOf("quantizeModel", options, convertOptions);
  if (known.type === undefined) throw wrongType("type", "a string", undefined);
  return convertModel(path, out, known);
}

/**
 * The same with the weights as they are, unless a type is named.
 *
 * @throws as {@link quantizeModel}
 */
export async function convertModel(path: string, out: string, options: ConvertOptions = {}): Promise<Converted> {
  if (typeof out !== "string") throw wrongType("out", "a string", out);
  const known = optionsOf("convertModel", options, convertOptions);
  checkType(known.type);
  optionalSignal(known.signal);
  optionalFunction("onProgress", known.onProgress);
  optionalFunction("onWarning", known.onWarning);
  return writeModel(await readModel(path, known), out, known);
}

async function writeModel(model: ModelFile, out: string, options: ConvertOptions): Promise<Converted> {
  await checkOut(out, model);
  const plan = plannedTypes(options.type, model.config, model.tensors);
  for (const message of warningsOf(model, plan)) options.onWarning?.(message);
  const groups = await planPacked(model.config, model.tensors);
  const infos = groups.flatMap(({ names }) =>
    names.map((name) => {
      const info = model.tensors.get(name)!;
      return { ...info, cols: inputsOf(info), type: plan.types.get(name)! };
    }),
  );
  const divisors = divisorsTensor(model.config);
  const layout = layoutGguf(keysOf(model, options, infos), divisors === undefined ? infos : [...infos, divisors.info]);
  const places = new Map(layout.tensors.map((tensor) => [tensor.name, tensor]));

  using device = new Device({ ...(options.threads === undefined ? {} : { threads: options.threads }), device: "cpu" });
  await using replacement = await Replacement.open(out);
  const writer = new ChunkWriter(replacement);
  await writer.write(layout.header.length, (at, into) => layout.header.copy(into, 0, at));
  for (const { kind, names } of groups) {
    using source = model.source();
    using store = new WeightStore(device, source);
    await (kind === "vector" ? store.vector(names[0]!) : store.matrix(...names));
    for (const name of names) {
      const planned = places.get(name)!;
      await writer.write(planned.offset - writer.position, (_, into) => into.fill(0));
      await writeTensor(writer, store, device, { model, planned }, options.signal);
      options.onProgress?.(writer.position, layout.size);
    }
  }
  if (divisors !== undefined) {
    await writer.write(places.get(divisors.info.name)!.offset - writer.position, (_, into) => into.fill(0));
    await writer.write(divisors.bytes.length, (at, into) => divisors.bytes.copy(into, 0, at));
  }
  await writer.write(layout.size - writer.position, (_, into) => into.fill(0));
  await writer.end();
  await replacement.finish();
  options.onProgress?.(layout.size, layout.size);
  return { bytes: layout.size, tensors: countTypes(infos) };
}

/** What RoPE's frequencies are divided by, a tensor in GGUF, as it stands in the file. */
function divisorsTensor({ rope }: LlamaConfig): { info: TensorInfo; bytes: Buffer } | undefined {
  const divisors = ropeDivisors(rope);
  if (divisors === undefined) return undefined;
  const bytes = Buffer.alloc(4 * divisors.length);
  for (const [i, divisor] of divisors.entries()) bytes.writeFloatLE(divisor, 4 * i);
  return { info: { name: ropeDivisorsName, type: "f32", rows: 1, cols: divisors.length }, bytes };
}

function checkType(type: unknown): void {
  if (type === undefined) return;
  if (typeof type !== "string") throw wrongType("type", "a string", type);
  if (!(targetTypes as readonly string[]).includes(type)) {
    throw outOfRange("type", `one of ${targetTypes.join(", ")}`, type);
  }
}

function warningsOf({ tensors }: ModelFile, { types, fallbacks }: ReturnType<typeof plannedTypes>): string[] {
  const again = [...tensors.values()].filter(
    ({ name, type, columns }) => weightFormats[type].block > 1 && (columns !== undefined || types.get(name) !== type),
  );
  const warnings = fallbackWarnings(fallbacks);
  if (again.length === 0) return warnings;
  const from = [...new Set(again.map(({ type }) => type))].join(", ");
  return [
    `the weights are quantised already (${from}): quantised again they lose more than the model's float weights would`,
    ...warnings,
  ];
}

/** What a file says of its tensors' types, order, parts and alignment is not true of another one. */
const ownKeys = /^(general\.(file_type|quantization_version|alignment)|cria\.rope\.(pairing|divisors)|split\..*)$/;

/** A GGUF file's own keys, or what can be said of another model in GGUF's keys; and what the file mostly holds. */
function keysOf(
  model: ModelFile,
  { type, tokenizer }: ConvertOptions,
  infos: readonly TensorInfo[],
): Record<string, Value> {
  const made = modelKeys(model);
  const fileType = fileTypeKey(fileTypeOf(type ?? prevailingType(infos)));
  if (model.keys === undefined) return { ...made, ...fileType };
  const kept = keptKeys(model.keys, tokenizer === undefined ? undefined : model.vocabulary);
  return {
    ...Object.fromEntries(Object.entries(kept).filter(([key]) => !ownKeys.test(key))),
    "general.quantization_version": made["general.quantization_version"]!,
    ...fileType,
  };
}

const countTypes = (infos: readonly TensorInfo[]): Partial<Record<WeightType, number>> => {
  const counts: Partial<Record<WeightType, number>> = {};
  for (const { type } of infos) counts[type] = (counts[type] ?? 0) + 1;
  return counts;
};

/** Writes a tensor that the store has packed, in slices of whole rows. */
async function writeTensor(
  writer: ChunkWriter,
  store: WeightStore,
  device: Device,
  { model, planned }: { model: ModelFile; planned: TensorInfo },
  signal: AbortSignal | undefined,
): Promise<void> {
  const { name, type, rows, cols } = planned;
  const stored = model.tensors.get(name)!;
  const from = rows === 1 ? "f32" : stored.type; // which vectors are unpacked as
  const order = rowOrder(model.config, name);
  const slice = Math.min(rows, Math.max(1, Math.floor(sliceWeights / stored.cols)));
  const source = new Uint8Array(weightBytes(from, slice, stored.cols));
  const same = from === type && stored.columns === undefined;
  const weights = new Float32Array(same ? 0 : slice * stored.cols);
  const encoded = same ? source : new Uint8Array(weightBytes(type, slice, cols));
  const rowBytes = weightBytes(from, 1, stored.cols);
  for (let first = 0; first < rows; first += slice) {
    if (signal?.aborted) throw aborted("the writing", signal);
    const count = Math.min(slice, rows - first);
    const part = source.subarray(0, count * rowBytes);
    unpackRows(store, name, { first, count, rowBytes, order }, part);
    const bytes = encoded.subarray(0, weightBytes(type, count, cols));
    if (!same) {
      const floats = weights.subarray(0, count * stored.cols);
      native.weightsDecode(from, stored.cols, part, floats);
      await native.weightsEncode(device.handle, type, cols, inOrder(floats, stored, cols), bytes).catch((error) => {
        throw placed(error, `${model.path}: ${name}`, (row) => order(first + row));
      });
    }
    await writer.write(bytes.length, (at, into) => into.set(bytes.subarray(at, at + into.length)));
  }
}

/** Rows whose columns are the inputs in their order, of which there are `inputs`. */
function inOrder(weights: Float32Array, { cols, columns }: TensorInfo, inputs: number): Float32Array {
  if (columns === undefined) return weights;
  const rows = weights.length / cols;
  const ordered = new Float32Array(rows * inputs);
  for (let row = 0; row < rows; row++) {
    for (const [column, input] of columns.entries()) {
      if (input >= 0) ordered[row * inputs + input] = weights[row * cols + column]!;
    }
  }
  return ordered;
}

/** Fills `into` with rows in the order that they have in the file. */
function unpackRows(
  store: WeightStore,
  name: string,
  { first, count, rowBytes, order }: { first: number; count: number; rowBytes: number; order: (row: number) => number },
  into: Uint8Array,
): void {
  for (let i = 0; i < count; i++) {
    store.unpack(name, order(first + i), 1, into.subarray(i * rowBytes, (i + 1) * rowBytes));
  }
}

/**
 * Which row of the model's tensor is row `row` of GGUF's. Queries and keys whose pairs are the halves of a head's
 * rotating dimensions are put side by side, for GGUF's pairs are neighbours: rows 0, 1, 2, 3 ... of a head are its rows
 * 0, d / 2, 1, d / 2 + 1 ... Dimensions that do not turn stay.
 */
function rowOrder({ headDim, rope }: LlamaConfig, name: string): (row: number) => number {
  if (rope.pairing === "adjacent" || !/\.attn_[qk]\.weight$/.test(name)) return (row) => row;
  return (row) => {
    const place = row % headDim;
    if (place >= rope.dim) return row;
    return row - place + (place % 2) * (rope.dim / 2) + Math.floor(place / 2);
  };
}

/** The encoder's error with the tensor's name, and the row of it that is meant: it counts those of a slice. */
function placed(error: unknown, tensor: string, rowOf: (row: number) => number): unknown {
  if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_NUMBERS") return error;
  const message = error.message.replace(/^row (\d+)/, (_, row) => `row ${rowOf(Number(row))}`);
  return new CriaError(error.code, `${tensor}: ${message}`, { cause: error });
}
