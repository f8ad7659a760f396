import { CriaFileError, wrongType } from "../errors.js";
import { readAll } from "../files.js";
import { type GgufHeader, type GgufTensorHeader, readHeader } from "./gguf-header.js";
import { GgufMetadata } from "./gguf-metadata.js";
import { readFrom } from "./open.js";
import { type FileTensor, type WeightType, weightBytes, weightFormats } from "./source.js";
import { showShape } from "./stored-tensor.js";

export interface GgufTensor extends FileTensor {
  /** Fastest first: a matrix is [cols, rows]. `rows` is the product of all but the first. */
  readonly shape: readonly number[];
}

/** What a GGUF model holds, be it one file or the parts of a split one. */
export interface Gguf {
  readonly path: string;
  /** In the order of the parts. */
  readonly files: readonly { readonly path: string; readonly size: number }[];
  readonly version: 2 | 3;
  /** The keys of the first part: the others repeat some or have only those of the split. */
  readonly metadata: GgufMetadata;
  /** In the files' order. Every range lies within its file and no two of a file overlap. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** The types of weights that cria knows, by id, in the order of these: ggml.h's, and cria's own. */
export const weightTypes: ReadonlyMap<number, WeightType> = new Map(
  (Object.keys(weightFormats) as WeightType[])
    .map((type): [number, WeightType] => [weightFormats[type].id, type])
    .sort(([a], [b]) => a - b),
);

/** The other types of ggml.h, by id, with those that it has dropped. */
// biome-ignore format: a table
const otherTypes: ReadonlyMap<number, string> = new Map([
  [4, "Q4_2"], [5, "Q4_3"], [9, "Q8_1"], [15, "Q8_K"],
  [16, "IQ2_XXS"], [17, "IQ2_XS"], [18, "IQ3_XXS"], [19, "IQ1_S"], [21, "IQ3_S"], [22, "IQ2_S"],
  [23, "IQ4_XS"], [29, "IQ1_M"], [24, "I8"], [25, "I16"], [26, "I32"], [27, "I64"], [28, "F64"],
  [31, "Q4_0_4_4"], [32, "Q4_0_4_8"], [33, "Q4_0_8_8"], [34, "TQ1_0"], [35, "TQ2_0"],
  [36, "IQ4_NL_4_4"], [37, "IQ4_NL_4_8"], [38, "IQ4_NL_8_8"], [39, "MXFP4"], [40, "NVFP4"], [41, "Q1_0"], [42, "Q2_0"],
]);

/** Those of GGML's own ids. */
const ggmlTypes = new Map([...weightTypes].filter(([id]) => id < 1000));

const readable = [...ggmlTypes.values()].map((type) => type.toUpperCase()).join(", ");

/**
 * Reads and checks the index of a GGUF model: keys, and where each tensor's bytes stand. Weights are not read.
 *
 * @param path the file, or any part of a model split into `NAME-00001-of-0000N.gguf`, whose other parts stand beside it
 * @throws CriaFileError ERR_CRIA_FILE for a file that cannot be read or is damaged, ERR_CRIA_UNSUPPORTED for a version,
 *   a byte order or a weight type that cria does not read
 */
export async function readGguf(path: string): Promise<Gguf> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  const paths = partPaths(path);
  const parts: Part[] = [];
  for (const [i, part] of paths.entries()) {
    parts.push(await readPart(part, paths.length > 1 ? `part ${i + 1} of ${paths.length}` : undefined));
  }
  checkSplit(parts);
  const tensors = byName(parts);
  for (const part of parts) checkOverlap(part.tensors);
  const first = parts[0]!;
  return {
    path,
    files: parts.map(({ path, size }) => ({ path, size })),
    version: first.version,
    metadata: first.metadata,
    tensors,
  };
}

/** One file of a model. */
interface Part {
  readonly path: string;
  readonly size: number;
  readonly version: 2 | 3;
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensor[];
}

/** The files of the model that `path` is, or is a part of. */
function partPaths(path: string): string[] {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/s.exec(path);
  if (match === null) return [path];
  const [, prefix, number, count] = match;
  if (Number(number) < 1 || Number(number) > Number(count)) {
    throw new CriaFileError(path, undefined, `its name must give a part from 00001 to ${count}, not ${number}`);
  }
  return Array.from(
    { length: Number(count) },
    (_, i) => `${prefix}-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`,
  );
}

const readPart = (path: string, ordinal: string | undefined): Promise<Part> =>
  readFrom(path, ordinal, (fd, size) => indexPart(path, size, readHeader(fd, path, size)));

/** Where GGUF's header has the number of tensors, a u64. */
const tensorCountAt = 8;

/**
 * The keys of a model, as the bytes of a GGUF file that has them and no tensors.
 *
 * @param path as {@link readGguf}'s
 * @throws CriaFileError likewise
 */
export async function readGgufKeys(path: string): Promise<Buffer> {
  const first = partPaths(path)[0]!;
  return await readFrom(first, undefined, (fd, size) => {
    const keys = Buffer.alloc(readHeader(fd, first, size).keysEnd);
    const got = readAll(fd, keys, 0);
    if (got < keys.length) throw new CriaFileError(first, undefined, `must not end at ${got} while it is read`);
    keys.writeBigUInt64LE(0n, tensorCountAt);
    return keys;
  });
}

function indexPart(path: string, size: number, header: GgufHeader): Part {
  const metadata = new GgufMetadata(path, header.entries);
  const alignment = readAlignment(metadata);
  const dataStart = Math.ceil(header.length / alignment) * alignment;
  const tensors = header.tensors.map((tensor) => placeTensor(path, size, dataStart, alignment, tensor));
  return { path, size, version: header.version, metadata, tensors };
}

/** `general.alignment`: a power of two from the format's least to the largest page of any Linux machine. */
function readAlignment(metadata: GgufMetadata): number {
  const alignment = metadata.integer("general.alignment", 8, 65_536, 32);
  if (!Number.isInteger(Math.log2(alignment))) {
    throw metadata.error("general.alignment", `must be a power of two, not ${alignment}`);
  }
  return alignment;
}

function placeTensor(
  path: string,
  size: number,
  dataStart: number,
  alignment: number,
  header: GgufTensorHeader,
): GgufTensor {
  const { name } = header;
  const fail = (problem: string) => new CriaFileError(path, name, problem);
  const type = weightType(path, header);
  const shape = checkShape(header, fail);
  const cols = shape[0]!;
  const rows = shape.slice(1).reduce((product, n) => product * n, 1);
  const { block } = weightFormats[type];
  if (cols % block !== 0) {
    throw fail(`the length of a row must be a multiple of ${type.toUpperCase()}'s block of ${block}, not ${cols}`);
  }
  const bytes = weightBytes(type, rows, cols);
  if (header.offset % BigInt(alignment) !== 0n) {
    throw fail(`its offset must be a multiple of the alignment, ${alignment}, not ${header.offset}`);
  }
  const end = BigInt(dataStart) + header.offset + BigInt(bytes);
  if (end > size) throw fail(`its data must end within the file's ${size} bytes, not at ${end}`);
  return { name, type, shape, rows, cols, file: path, offset: dataStart + Number(header.offset), bytes };
}

function weightType(path: string, { name, type: id }: GgufTensorHeader): WeightType {
  const type = ggmlTypes.get(id);
  if (type !== undefined) return type;
  const other = otherTypes.get(id);
  if (other === undefined) throw new CriaFileError(path, name, `must be of a type that GGUF defines, not ${id}`);
  throw new CriaFileError(
    path,
    name,
    `must be of a type that cria reads (${readable}), not ${other}`,
    "ERR_CRIA_UNSUPPORTED",
  );
}

/** The dimensions as numbers, of which the product, and so every product of some of them, is exact. */
function checkShape({ shape }: GgufTensorHeader, fail: (problem: string) => CriaFileError): number[] {
  // A weight takes half a byte or more: whatever passes has a size in bytes that is a safe integer too, or is refused
  // as larger than the file.
  const weights = shape.reduce((product, n) => product * n, 1n);
  if (shape.includes(0n) || weights > Number.MAX_SAFE_INTEGER) {
    throw fail(`its dimensions must be positive and their product below 2^53, not ${showShape(shape)}`);
  }
  return shape.map(Number);
}

function checkOverlap(tensors: readonly GgufTensor[]): void {
  const sorted = tensors.toSorted((a, b) => a.offset - b.offset);
  for (const [i, tensor] of sorted.entries()) {
    const before = sorted[i - 1];
    if (before === undefined || tensor.offset >= before.offset + before.bytes) continue;
    const taken = `${before.offset} to ${before.offset + before.bytes}`;
    const problem = `its data must not overlap that of ${before.name}, bytes ${taken}, but begins at ${tensor.offset}`;
    throw new CriaFileError(tensor.file, tensor.name, problem);
  }
}

/** Checks what the parts say of the split, as far as they do, against the names and the contents of the files. */
function checkSplit(parts: readonly Part[]): void {
  const tensors = parts.reduce((sum, part) => sum + part.tensors.length, 0);
  for (const [i, { metadata }] of parts.entries()) {
    const check = (key: string, expected: number, reason: string) => {
      const value = metadata.integer(key, 0, 2 ** 31, expected);
      if (value !== expected) throw metadata.error(key, `must be ${expected}, ${reason}, not ${value}`);
    };
    if (metadata.integer("split.count", 0, 65_535, 0) === 0 && parts.length === 1) continue;
    check("split.count", parts.length, "the parts that the file's name gives");
    check("split.no", i, "the place that the file's name gives it, from 0");
    check("split.tensors.count", tensors, "the tensors of all parts");
  }
}

function byName(parts: readonly Part[]): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const tensor of parts.flatMap((part) => part.tensors)) {
    if (tensors.has(tensor.name)) throw new CriaFileError(tensor.file, tensor.name, "stands twice among the tensors");
    tensors.set(tensor.name, tensor);
  }
  return tensors;
}
