import { CriaFileError, show } from "../errors.js";
import { readAll } from "../files.js";
import { JsonCursor } from "./json-cursor.js";
import { decodeUtf8 } from "./json-file.js";
import { readFrom } from "./open.js";
import { type StoredTensor, showShape } from "./stored-tensor.js";

/** The bytes of an element of each type, under safetensors' names. */
export const safetensorsTypes = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

export type SafetensorsType = keyof typeof safetensorsTypes;

/**
 * A tensor whose elements are little-endian, row-major. Its bytes are the product of the shape and the type's; the
 * range was checked against the file's length.
 */
export interface SafetensorsTensor extends StoredTensor {
  readonly dtype: SafetensorsType;
}

/** What a safetensors file holds, or the shards of a model together. */
export interface Safetensors {
  readonly files: readonly { readonly path: string; readonly size: number }[];
  /** The header's `__metadata__`; of shards, the first one's. */
  readonly metadata: ReadonlyMap<string, string>;
  /** In the files' order. No two of a file overlap, and there is nothing between them. */
  readonly tensors: ReadonlyMap<string, SafetensorsTensor>;
}

/** The most bytes that the format gives a header (MAX_HEADER_SIZE of its reference implementation). */
const mostHeaderBytes = 100_000_000;

/**
 * Tensors, and keys of the metadata, that a header may have; a LLaMA of 126 layers in 4 bits has some 3,500 tensors. A
 * hundred megabytes of the shortest would take more memory than Node.js has by default.
 */
const mostEntries = 65_536;

/** What stands before the header: its length, a u64. */
const lengthBytes = 8;

/** The key among the tensors' names that is none. */
const metadataKey = "__metadata__";

/**
 * Reads and checks the header of a safetensors file. Tensors are not read.
 *
 * The format: the header's length as a u64, the header as JSON, `{name: {dtype, shape, data_offsets: [begin, end]}}`,
 * the offsets from the header's end on, and the elements, which fill the file without holes.
 *
 * @param subject what of a model the file is, for errors
 * @throws CriaFileError ERR_CRIA_FILE for a file that cannot be read or is damaged, ERR_CRIA_UNSUPPORTED for an element
 *   type that is not known
 */
export function readSafetensors(path: string, subject?: string): Promise<Safetensors> {
  return readFrom(path, subject, (fd, size) => {
    const header = readHeader(fd, path, size, subject);
    const { metadata, tensors } = parseHeader(path, subject, header.text);
    const placed = tensors.map((tensor) => place(path, header.end, tensor));
    checkRanges(path, size, header.end, placed);
    return { files: [{ path, size }], metadata, tensors: new Map(placed.map((tensor) => [tensor.name, tensor])) };
  });
}

/** Whether a file begins as a safetensors file does. @throws CriaFileError where it cannot be read */
export async function isSafetensors(path: string): Promise<boolean> {
  return await readFrom(path, undefined, (fd, size) => {
    const first = Buffer.alloc(lengthBytes + 1);
    if (readAll(fd, first, 0) < first.length) return false;
    const length = first.readBigUInt64LE();
    return length <= mostHeaderBytes && length <= size - lengthBytes && first[lengthBytes] === "{".charCodeAt(0);
  });
}

function readHeader(
  fd: number,
  path: string,
  size: number,
  subject: string | undefined,
): { text: string; end: number } {
  const fail = (problem: string) => new CriaFileError(path, subject, problem);
  const first = Buffer.alloc(lengthBytes);
  if (readAll(fd, first, 0) < lengthBytes) throw fail(`must begin with its header's length, but has ${size} bytes`);
  const length = first.readBigUInt64LE();
  const room = size - lengthBytes;
  if (length > mostHeaderBytes) throw fail(`its header must be of at most ${mostHeaderBytes} bytes, not ${length}`);
  if (length > room) throw fail(`its header must end within the file's ${size} bytes, but is said to have ${length}`);
  const bytes = Buffer.alloc(Number(length));
  if (readAll(fd, bytes, lengthBytes) < bytes.length) throw fail(`must keep its ${size} bytes while it is read`);
  const text = decodeUtf8(bytes, () => fail("its header must be UTF-8 throughout"));
  return { text, end: lengthBytes + bytes.length };
}

/** A tensor as the header has it. */
interface Entry {
  name: string;
  dtype: string | undefined;
  shape: number[] | undefined;
  offsets: number[] | undefined;
}

function parseHeader(
  path: string,
  subject: string | undefined,
  text: string,
): { metadata: Map<string, string>; tensors: Entry[] } {
  const cursor = new JsonCursor(text, (problem) => new CriaFileError(path, subject, `its header ${problem}`));
  const metadata = new Map<string, string>();
  const tensors: Entry[] = [];
  const checkCount = (count: number, what: string) => {
    if (count < mostEntries) return;
    throw new CriaFileError(path, subject, `its header must have at most ${mostEntries} ${what}`);
  };
  const addTensor = (name: string) => {
    checkCount(tensors.length, "tensors");
    tensors.push(parseEntry(path, cursor, name));
  };
  const addMetadata = (key: string) => {
    checkCount(metadata.size, "keys of metadata");
    metadata.set(key, cursor.string(`the value of ${show(key)}`));
  };
  cursor.object("the header", (name) => {
    if (name !== metadataKey) addTensor(name);
    else cursor.object(metadataKey, addMetadata);
  });
  cursor.end();
  return { metadata, tensors };
}

function parseEntry(path: string, cursor: JsonCursor, name: string): Entry {
  const entry: Entry = { name, dtype: undefined, shape: undefined, offsets: undefined };
  const integers = (what: string, most: number) => {
    const all: number[] = [];
    cursor.array(what, () => {
      if (all.length === most) throw new CriaFileError(path, name, `its ${what} must have at most ${most} elements`);
      all.push(cursor.integer(what));
    });
    return all;
  };
  cursor.object(show(name), (key) => {
    if (key === "dtype") entry.dtype = cursor.string("the type");
    else if (key === "shape") entry.shape = integers("shape", mostDimensions);
    else if (key === "data_offsets") entry.offsets = integers("data_offsets", 2);
    else throw new CriaFileError(path, name, `must have dtype, shape and data_offsets, not ${show(key)}`);
  });
  return entry;
}

/** More than any framework's tensors have (numpy's 64 are the most). */
const mostDimensions = 64;

/** The tensor with its range in the file, which is as long as its shape and type say. */
function place(path: string, dataStart: number, { name, dtype, shape, offsets }: Entry): SafetensorsTensor {
  const fail = (problem: string, code?: "ERR_CRIA_UNSUPPORTED") => new CriaFileError(path, name, problem, code);
  if (dtype === undefined) throw fail("must have a dtype");
  if (shape === undefined) throw fail("must have a shape");
  if (offsets?.length !== 2) throw fail("must have data_offsets, its beginning and its end");
  if (!isType(dtype)) {
    const known = Object.keys(safetensorsTypes).join(", ");
    throw fail(`must be of a type that cria knows (${known}), not ${show(dtype)}`, "ERR_CRIA_UNSUPPORTED");
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw fail(`its data_offsets must not end at ${end}, before they begin at ${begin}`);
  const bytes = shape.reduce((product, n) => product * BigInt(n), BigInt(safetensorsTypes[dtype]));
  if (bytes !== BigInt(end - begin)) {
    const taken = `its shape ${showShape(shape)} of ${dtype} takes ${bytes} bytes`;
    throw fail(`${taken}, and its data_offsets must have as many, not ${end - begin}`);
  }
  return { name, dtype, shape, file: path, offset: dataStart + begin, bytes: end - begin };
}

const isType = (dtype: string): dtype is SafetensorsType => Object.hasOwn(safetensorsTypes, dtype);

/** Checks that the tensors, one after another, are what stands between the header and the file's end. */
function checkRanges(path: string, size: number, dataStart: number, tensors: readonly SafetensorsTensor[]): void {
  const sorted = tensors.toSorted((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  for (const [i, { name, offset, bytes }] of sorted.entries()) {
    const before = i === 0 ? "the header" : sorted[i - 1]!.name;
    if (offset + bytes > size) {
      throw new CriaFileError(
        path,
        name,
        `its data must end within the file's ${size} bytes, not at ${offset + bytes}`,
      );
    }
    if (offset !== end) {
      const problem = offset < end ? "overlap what stands before it" : "leave a hole before it";
      const where = `${before} ends at ${end}, and its data begins at ${offset}`;
      throw new CriaFileError(path, name, `must not ${problem}: ${where}`);
    }
    end = offset + bytes;
  }
  if (end === size) return;
  throw new CriaFileError(path, undefined, `must end where its tensors do, at ${end}, but has ${size} bytes`);
}
