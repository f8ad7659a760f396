/**
 * A model in the kernels' own layout, as `cria pack` writes it: matrices stand as csrc/cpu/panel.h has them, stacked as
 * the forward pass wants them, and are mapped or read, not packed. All numbers are little-endian.
 *
 *         0  "CRIAPACK"
 *         8  u32  0x01020304, for a file of the other byte order
 *        12  u32  version of this format
 *        16  u32  version of the matrices' layout
 *        20  u32  number of tensors
 *        24  u64  size of the file
 *        32  u64  end of the keys
 *        40  u64  end of the index
 *        48       SHA-256 of all before the end of the index, but for itself
 *        80       keys: those of the GGUF file that was packed, as a GGUF file without tensors; of another model those
 *                 that GGUF has for it, and cria.rope.pairing, a string, where that is "halves". Also
 *                 cria.rope.divisors, an array of f32, where a GGUF file has the tensor rope_freqs.weight
 *                 index: for each tensor
 *                   u32 kind, u32 type, u32 number of names, the names, u64 rows, columns, offset in the file, bytes
 *                 zeros, up to a page
 *      page       data: tensors, each on a page of its own
 *
 * The types are GGUF's ids, and a name is a GGUF string. Of kind 0, a matrix, several names are a stack, top to bottom;
 * of kind 1, a vector, the data are f32.
 *
 * A tensor begins on a page of 4 KiB, so that each can be mapped, advised and read past the page cache alone; that
 * costs half a page for each of some hundreds. Larger pages do not ask for more: the file is mapped whole, and the
 * system puts the 2 MiB pages of its cache where they are, whatever begins in them.
 *
 * The data have no checksum: reading them all to check one would take as long as the loading of a GGUF file.
 */
import { createHash } from "node:crypto";

import { CriaFileError, show } from "../errors.js";
import { loadLlama } from "../llama.js";
import { native } from "../native.js";
import { ropeDivisors } from "../rope-scaling.js";
import { weightTypes } from "./gguf.js";
import { type GgufHeader, readHeaderWith } from "./gguf-header.js";
import { GgufMetadata } from "./gguf-metadata.js";
import { array, encode, encodeKey, string, type Value } from "./gguf-values.js";
import { HeaderReader } from "./header-reader.js";
import { readLlamaKeys } from "./llama-gguf.js";
import { llamaTensors } from "./llama-tensors.js";
import { readFrom } from "./open.js";
import { ropeDivisorsKey } from "./rope-keys.js";
import { isFloatType, type LlamaConfig, type TensorInfo, type WeightType, weightFormats } from "./source.js";
import { type ModelFile, naming, stacksOf, type TensorStore, type WeightSource } from "./store.js";

export const magic = "CRIAPACK";
const byteOrder = 0x01020304;
const formatVersion = 1;
const hashAt = 48;
const keysAt = 80;
const page = 4096;

/** Where a GGUF file has the number of its keys, a u64. */
const keyCountAt = 16;

/** Names that a stack may have: three, in LLaMA. */
const maxNames = 16;
/** Tensors that a file may have: nine for each layer, in LLaMA. */
const maxTensors = 65_536;
/** As in GGUF. */
const maxNameBytes = 65_535;

/** The device whose layout the matrices are in. */
const layoutOf = "cpu";

const kinds = ["matrix", "vector"] as const;

/** A tensor as the device holds it: one of GGUF's, or several matrices stacked. */
export interface PackedTensor {
  readonly kind: (typeof kinds)[number];
  readonly names: readonly string[];
  readonly type: WeightType;
  readonly rows: number;
  readonly cols: number;
  readonly bytes: number;
}

/** The same at its place in a file. */
export interface PlacedTensor extends PackedTensor {
  readonly offset: number;
}

/** A model in the kernels' layout. Every range lies within the file, on a page, and no two overlap. */
export interface PackedModel extends ModelFile {
  /** What stands in the file, in the order of the forward pass. */
  readonly packed: readonly PlacedTensor[];
}

/** What a packed file begins with: all but the data. */
export interface PackedHeader {
  readonly bytes: Buffer;
  readonly tensors: readonly PlacedTensor[];
  /** Of the whole file. */
  readonly size: number;
}

/** Where it is not GGUF's, how pairs of dimensions stand: GGUF has no key for it, whose files all have the same. */
const pairingKey = "cria.rope.pairing";

/** The keys of a packed file beside GGUF's. */
export const pairingKeys = ({ rope: { pairing } }: LlamaConfig): Record<string, Value> =>
  pairing === "adjacent" ? {} : { [pairingKey]: string(pairing) };

function readPackedKeys(metadata: GgufMetadata): ReturnType<typeof readLlamaKeys> {
  const keys = readLlamaKeys(metadata);
  const pairing = metadata.string(pairingKey, "adjacent");
  if (pairing !== "adjacent" && pairing !== "halves") {
    throw metadata.error(pairingKey, `must be "adjacent" or "halves", not ${show(pairing)}`);
  }
  return { ...keys, config: { ...keys.config, rope: { ...keys.config.rope, pairing } } };
}

/** The tensors that {@link loadLlama} asks for, in that order. What is stacked, it alone says. */
export async function planPacked(
  config: LlamaConfig,
  tensors: ReadonlyMap<string, TensorInfo>,
): Promise<PackedTensor[]> {
  const plan: PackedTensor[] = [];
  const vector = ({ name, cols }: TensorInfo) => {
    const bytes = cols * Float32Array.BYTES_PER_ELEMENT;
    plan.push({ kind: "vector", names: [name], type: "f32", rows: 1, cols, bytes });
  };
  const matrix = (parts: readonly TensorInfo[]) => {
    const { type, cols } = parts[0]!;
    const rows = parts.reduce((sum, part) => sum + part.rows, 0);
    const bytes = native.matrixBytes(layoutOf, type, rows, cols);
    plan.push({ kind: "matrix", names: parts.map(({ name }) => name), type, rows, cols, bytes });
  };
  const info = (name: string) => tensors.get(name)!;
  const planner: TensorStore<void> = {
    has: (name) => tensors.has(name),
    vector: async (name) => vector(info(name)),
    matrix: async (...names) => matrix(names.map(info)),
    stacked: async (...names) => stacksOf(names.map(info)).map(matrix),
  };
  await loadLlama(config, planner);
  return plan;
}

/**
 * The keys of a GGUF file as a packed one has them: with the divisors of RoPE's frequencies, a tensor there, among
 * them.
 *
 * @param keys as a GGUF file without tensors
 */
export function packedKeys(keys: Buffer, { rope }: LlamaConfig): Buffer {
  const divisors = ropeDivisors(rope);
  if (divisors === undefined) return keys;
  const counted = Buffer.from(keys);
  counted.writeBigUInt64LE(keys.readBigUInt64LE(keyCountAt) + 1n, keyCountAt);
  return Buffer.concat([counted, encodeKey(ropeDivisorsKey, array("f32", [...divisors]))]);
}

/**
 * Puts tensors to their places after the keys and the index.
 *
 * @param keys as a GGUF file without tensors
 */
export function encodePacked(keys: Uint8Array, plan: readonly PackedTensor[]): PackedHeader {
  const keysEnd = keysAt + keys.length;
  const indexEnd = keysEnd + encodeIndex(plan.map((tensor) => ({ ...tensor, offset: 0 }))).length;
  let end = indexEnd;
  const tensors = plan.map((tensor): PlacedTensor => {
    const offset = onPage(end);
    end = offset + tensor.bytes;
    return { ...tensor, offset };
  });
  const fields = [
    Buffer.from(magic, "latin1"),
    u32(byteOrder),
    u32(formatVersion),
    u32(native.matrixLayout(layoutOf)),
    u32(plan.length),
    u64(end),
    u64(keysEnd),
    u64(indexEnd),
  ];
  const bytes = Buffer.concat([...fields, Buffer.alloc(keysAt - hashAt), keys, encodeIndex(tensors)]);
  hashOf(bytes).copy(bytes, hashAt);
  return { bytes, tensors, size: end };
}

function encodeIndex(tensors: readonly PlacedTensor[]): Buffer {
  return Buffer.concat(
    tensors.flatMap(({ kind, names, type, rows, cols, offset, bytes }) => [
      u32(kinds.indexOf(kind)),
      u32(weightFormats[type].id),
      u32(names.length),
      ...names.map((name) => encode("string", name)),
      ...[rows, cols, offset, bytes].map(u64),
    ]),
  );
}

const u32 = (x: number) => encode("u32", x);
const u64 = (x: number) => encode("u64", x);

const onPage = (offset: number) => Math.ceil(offset / page) * page;

/** Of a file up to the end of its index. */
const hashOf = (bytes: Buffer): Buffer =>
  createHash("sha256").update(bytes.subarray(0, hashAt)).update(bytes.subarray(keysAt)).digest();

/**
 * Reads and checks the index of a packed model. Weights are not read.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that cannot be read, was cut or is damaged, ERR_CRIA_UNSUPPORTED for
 *   one of another version, byte order or layout
 */
export async function readPacked(path: string): Promise<PackedModel> {
  const { keys, tensors: packed } = await readFrom(path, undefined, (fd, size) => {
    const { keys, tensors, indexEnd } = readIndex(new HeaderReader(fd, path, size), size);
    checkRanges(path, tensors, indexEnd, size);
    return { keys, tensors };
  });
  const model = readPackedKeys(new GgufMetadata(path, keys.entries));
  const tensors = unstack(path, model.config, packed);
  checkPlan(path, packed, await planPacked(model.config, tensors));
  const format = `packed v${formatVersion}, layout ${native.matrixLayout(layoutOf)}`;
  return {
    path,
    format,
    ...model,
    keys: keys.entries,
    tensors,
    packed,
    mappable: true,
    source: ({ mmap = true } = {}) => packedSource(path, tensors, packed, mmap),
  };
}

interface Index {
  readonly keys: GgufHeader;
  readonly tensors: readonly PlacedTensor[];
  readonly indexEnd: number;
}

function readIndex(reader: HeaderReader, size: number): Index {
  checkVersions(reader);
  const count = reader.u32();
  if (count > maxTensors) throw reader.error(`must have at most ${maxTensors} tensors, not ${count}`);
  const whole = reader.u64();
  if (whole !== BigInt(size)) throw reader.error(`must be of ${whole} bytes, as its header says, not ${size}`);
  const [keysEnd, indexEnd] = [reader.u64(), reader.u64()];
  checkHash(reader, indexEnd);

  reader.position = keysAt;
  const keys = readHeaderWith(reader);
  reader.subject = undefined;
  if (keys.tensors.length > 0) throw reader.error("its keys must stand without tensors");
  checkEnd(reader, "keys", keysEnd);
  const tensors = Array.from({ length: count }, (_, i) => readTensor(reader, `tensor ${i + 1} of ${count}`));
  reader.subject = undefined;
  checkEnd(reader, "index", indexEnd);
  return { keys, tensors, indexEnd: reader.position };
}

function checkVersions(reader: HeaderReader): void {
  const found = reader.take(magic.length).toString("latin1");
  if (found !== magic) throw reader.error(`must begin with "${magic}", not ${show(found)}`);
  const order = reader.u32();
  if (order !== byteOrder) {
    throw reader.error("must be a little-endian packed file, not of another byte order", "ERR_CRIA_UNSUPPORTED");
  }
  const again = "pack it again from the GGUF";
  const version = reader.u32();
  if (version !== formatVersion) {
    const problem = `is of version ${version} of the packed format; this version of cria reads ${formatVersion}: ${again}`;
    throw reader.error(problem, "ERR_CRIA_UNSUPPORTED");
  }
  const layout = reader.u32();
  const ours = native.matrixLayout(layoutOf);
  if (layout !== ours) {
    const problem = `was packed for layout ${layout}; this version of cria has layout ${ours}: ${again}`;
    throw reader.error(problem, "ERR_CRIA_UNSUPPORTED");
  }
}

/** Everything up to the end of the index is what was written. */
function checkHash(reader: HeaderReader, indexEnd: bigint): void {
  if (indexEnd < keysAt || indexEnd > Number.MAX_SAFE_INTEGER) {
    throw reader.error(`its index must end after byte ${keysAt}, not at ${indexEnd}`);
  }
  reader.position = 0;
  const bytes = reader.take(Number(indexEnd));
  if (hashOf(bytes).equals(bytes.subarray(hashAt, keysAt))) return;
  throw reader.error("its header and index must have the checksum that was written: they are damaged");
}

function checkEnd(reader: HeaderReader, section: string, end: bigint): void {
  if (BigInt(reader.position) === end) return;
  throw reader.error(`its ${section} must end at byte ${end}, as its header says, not at ${reader.position}`);
}

function readTensor(reader: HeaderReader, ordinal: string): PlacedTensor {
  reader.subject = ordinal;
  const kindId = reader.u32();
  const kind = kinds[kindId];
  if (kind === undefined) throw reader.error(`its kind must be 0 or 1, not ${kindId}`);
  const id = reader.u32();
  const type = weightTypes.get(id);
  if (type === undefined)
    throw reader.error(`its type must be one of ${[...weightTypes.keys()].join(", ")}, not ${id}`);
  const count = reader.u32();
  if (count < 1 || count > maxNames) throw reader.error(`must have 1 to ${maxNames} names, not ${count}`);
  const names = Array.from({ length: count }, () => reader.string("name's length", maxNameBytes));
  reader.subject = names[0]!;
  const number = (what: string) => {
    const value = reader.u64();
    if (value > Number.MAX_SAFE_INTEGER) throw reader.error(`its ${what} must be below 2^53, not ${value}`);
    return Number(value);
  };
  return {
    kind,
    names,
    type,
    rows: number("number of rows"),
    cols: number("number of columns"),
    offset: number("offset"),
    bytes: number("size"),
  };
}

function checkRanges(path: string, tensors: readonly PlacedTensor[], indexEnd: number, size: number): void {
  let end = indexEnd;
  let before = "the index";
  for (const { names, offset, bytes } of tensors.toSorted((a, b) => a.offset - b.offset)) {
    const fail = (problem: string) => new CriaFileError(path, names[0], problem);
    if (offset % page !== 0) throw fail(`its data must begin at a multiple of ${page}, not at ${offset}`);
    if (offset < end) throw fail(`its data must begin after those of ${before}, which end at ${end}, not at ${offset}`);
    if (bytes > size - offset)
      throw fail(`its data must end within the file's ${size} bytes, not at ${offset + bytes}`);
    end = offset + bytes;
    before = names[0]!;
  }
}

/** The tensors of the forward pass, each under its own name, by what the keys say of them. */
function unstack(path: string, config: LlamaConfig, packed: readonly PlacedTensor[]): Map<string, TensorInfo> {
  const types = new Map<string, WeightType>();
  for (const { names, type } of packed) {
    for (const name of names) {
      if (types.has(name)) throw new CriaFileError(path, name, "stands twice among the tensors");
      types.set(name, type);
    }
  }
  const tensors = new Map<string, TensorInfo>();
  for (const { name, kind, rows, cols } of llamaTensors(config, !types.has("output.weight"))) {
    const type = types.get(name);
    if (type === undefined) throw new CriaFileError(path, name, "must be among the tensors, but is missing");
    // Columns that are no whole number of blocks have no size.
    if (!isFloatType(type) && (kind === "vector" || cols % weightFormats[type].block !== 0)) {
      throw new CriaFileError(
        path,
        name,
        `must be of a type for ${kind === "vector" ? "vectors" : `rows of ${cols}`}, not ${type}`,
      );
    }
    tensors.set(name, { name, type, rows, cols });
  }
  const stranger = [...types.keys()].find((name) => !tensors.has(name));
  if (stranger !== undefined)
    throw new CriaFileError(path, stranger, "is not a tensor of the LLaMA that the keys tell of");
  return tensors;
}

/** What stands in the file is what the loading asks for. */
function checkPlan(path: string, packed: readonly PlacedTensor[], plan: readonly PackedTensor[]): void {
  const describe = ({ kind, names, type, rows, cols, bytes }: PackedTensor) =>
    `the ${kind} ${names.join(" on ")} of ${rows} x ${cols} ${type} in ${bytes} bytes`;
  for (const [i, wanted] of plan.entries()) {
    const found = packed[i];
    if (found !== undefined && describe(found) === describe(wanted)) continue;
    const actual = found === undefined ? "the end" : describe(found);
    throw new CriaFileError(path, `tensor ${i + 1}`, `must be ${describe(wanted)}, not ${actual}`);
  }
  // No more than the plan has: each of its names stands once, and nowhere else.
}

/** Weights in the kernels' layout. Matrices are mapped, or read; vectors, which are small, are read. */
function packedSource(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  packed: readonly PlacedTensor[],
  mmap: boolean,
): WeightSource & Disposable {
  const byName = new Map(packed.flatMap((tensor) => tensor.names.map((name) => [name, tensor] as const)));
  const file = native.fileOpen(path);
  const load = mmap ? native.matrixMap : native.matrixRead;
  const orNaming = async <T>(name: string, work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      throw naming(error, path, name);
    }
  };
  return {
    tensors,
    pack: ({ name, rows }, into, row) =>
      orNaming(name, native.tensorPackFile(into, row, rows, path, byName.get(name)!.offset)),
    stored: (device, parts) => {
      const { names, type, rows, cols, offset } = byName.get(parts[0]!.name)!;
      return orNaming(names[0]!, load(device, type, rows, cols, file, offset));
    },
    // What is mapped by then stays.
    [Symbol.dispose]: () => native.free(file),
  };
}
