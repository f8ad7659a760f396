import { show } from "../errors.js";
import { valueTypes } from "./gguf-values.js";
import { HeaderReader, type NumberArray, type NumberType, numberArrays } from "./header-reader.js";

/**
 * What stands before the weights in a GGUF file (the format: ggml's docs/gguf.md), versions 2 and 3, little-endian:
 *
 *     "GGUF"  u32 version  u64 number of tensors  u64 number of keys
 *     a key:     string name, u32 value type, value
 *     a tensor:  string name, u32 number of dimensions, u64 dimensions, u32 type, u64 offset of its data
 *
 * A string is a u64 length and as many bytes of UTF-8; an array is a u32 element type, a u64 count and the elements.
 *
 * It is read here because @huggingface/gguf 0.4 drops a leading U+FEFF, which is a piece of LLaMA's vocabulary, cuts a
 * string that runs past what it has fetched, reads zeros past the end of a file, and cannot say which key is wrong.
 */
export interface GgufHeader {
  readonly version: 2 | 3;
  readonly entries: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensorHeader[];
  /** Bytes from the file's start to the end of the last key. */
  readonly keysEnd: number;
  /** Bytes from the file's start to the end of the last tensor's header. */
  readonly length: number;
}

/** A tensor as the file declares it. Only its name and the number of its dimensions were checked. */
export interface GgufTensorHeader {
  readonly name: string;
  /** Fastest first: a matrix is [columns, rows]. */
  readonly shape: readonly bigint[];
  /** The id of its type. */
  readonly type: number;
  /** Bytes from the start of the data section. */
  readonly offset: bigint;
}

/** A key's value. Arrays of bools are bytes. */
export type GgufValue =
  | { readonly type: NumberType; readonly value: number | bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "array"; readonly element: NumberType | "bool"; readonly value: NumberArray }
  | { readonly type: "array"; readonly element: "string"; readonly value: readonly string[] };

/** GGUF's value types by their ids, which count them. */
const typesById = Object.keys(valueTypes) as readonly (keyof typeof valueTypes)[];

/** Keys and tensors that a file may have. Real ones have below a hundred keys and a few thousand tensors. */
const maxEntries = 65_536;

/** GGUF's own limit for a key. */
const maxNameBytes = 65_535;

/** The least that an entry takes: a name of one byte, a type and a value; a name, one dimension, a type, an offset. */
const minKeyBytes = 8 + 1 + 4 + 1;
const minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

/**
 * Reads the header of the open file `fd`.
 *
 * @param path the file's name in errors
 * @param size the file's length in bytes
 * @throws CriaFileError naming the key or tensor at fault
 */
export function readHeader(fd: number, path: string, size: number): GgufHeader {
  return readHeaderWith(new HeaderReader(fd, path, size));
}

/** The same from where a reader stands: the header may be a part of another file's. */
export function readHeaderWith(reader: HeaderReader): GgufHeader {
  const version = readVersion(reader);
  const tensorCount = reader.count("number of tensors", minTensorBytes, maxEntries);
  const keyCount = reader.count("number of keys", minKeyBytes, maxEntries);
  const entries = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = readName(reader, `key ${i + 1} of ${keyCount}`);
    if (entries.has(key)) throw reader.error("stands twice among the keys");
    entries.set(key, readValue(reader));
  }
  const keysEnd = reader.position;
  const tensors = Array.from({ length: tensorCount }, (_, i) => {
    const name = readName(reader, `tensor ${i + 1} of ${tensorCount}`);
    return readTensorHeader(reader, name);
  });
  return { version, entries, tensors, keysEnd, length: reader.position };
}

function readVersion(reader: HeaderReader): 2 | 3 {
  const magic = reader.take(4).toString("latin1");
  if (magic !== "GGUF") throw reader.error(`must begin with "GGUF", not ${show(magic)}`);
  const bytes = reader.take(4);
  const version = bytes.readUInt32LE();
  if (version === 2 || version === 3) return version;
  // A small number only when it is read from the other end.
  const bigEndian = version > 0xffff && bytes.readUInt32BE() <= 0xffff;
  throw reader.error(
    bigEndian
      ? "must be a little-endian GGUF file, not a big-endian one"
      : `must be GGUF version 2 or 3, not ${version}`,
    "ERR_CRIA_UNSUPPORTED",
  );
}

/** Reads a key's or tensor's name, under which errors are reported from here on. */
function readName(reader: HeaderReader, ordinal: string): string {
  reader.subject = ordinal;
  const name = reader.string("name's length", maxNameBytes);
  if (name === "") throw reader.error("its name must not be empty");
  reader.subject = name;
  return name;
}

function readValue(reader: HeaderReader): GgufValue {
  const type = readValueType(reader);
  if (type === "array") return readArray(reader);
  if (type === "string") return { type, value: reader.string("length") };
  if (type !== "bool") return { type, value: reader.numbers(type, 1)[0]! };
  const byte = reader.take(1)[0]!;
  if (byte > 1) throw reader.error(`must be 0 or 1, being a bool, not ${byte}`);
  return { type, value: byte === 1 };
}

function readArray(reader: HeaderReader): GgufValue {
  const element = readValueType(reader);
  if (element === "array") throw reader.error("must not be an array of arrays", "ERR_CRIA_UNSUPPORTED");
  if (element === "string") {
    const minStringBytes = 8;
    const count = reader.count("number of elements", minStringBytes);
    return { type: "array", element, value: Array.from({ length: count }, () => reader.string("element's length")) };
  }
  const stored = element === "bool" ? "u8" : element;
  const count = reader.count("number of elements", numberArrays[stored].BYTES_PER_ELEMENT);
  return { type: "array", element, value: reader.numbers(stored, count) };
}

function readValueType(reader: HeaderReader): keyof typeof valueTypes {
  const id = reader.u32();
  const type = typesById[id];
  if (type === undefined) throw reader.error(`must be of a value type from 0 to ${typesById.length - 1}, not ${id}`);
  return type;
}

function readTensorHeader(reader: HeaderReader, name: string): GgufTensorHeader {
  const dimensions = reader.u32();
  if (dimensions < 1 || dimensions > 4) throw reader.error(`must have 1 to 4 dimensions, not ${dimensions}`);
  const shape = Array.from({ length: dimensions }, () => reader.u64());
  return { name, shape, type: reader.u32(), offset: reader.u64() };
}
