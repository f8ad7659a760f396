import { readSync } from "node:fs";

import { CriaFileError, show } from "../errors.js";

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

const numberArrays = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f32: Float32Array,
  f64: Float64Array,
} as const;

export type NumberType = keyof typeof numberArrays;
export type NumberArray = InstanceType<(typeof numberArrays)[NumberType]>;

/** A key's value. Arrays of bools are bytes. */
export type GgufValue =
  | { readonly type: NumberType; readonly value: number | bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "array"; readonly element: NumberType | "bool"; readonly value: NumberArray }
  | { readonly type: "array"; readonly element: "string"; readonly value: readonly string[] };

/** GGUF's value types in the order of their ids. */
// biome-ignore format: a table
const valueTypes = [
  "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool",
  "string", "array", "u64", "i64", "f64",
] as const;

/**
 * Where reading stops whatever the file says, so that no file makes us hold more than a few times as much. The largest
 * vocabularies in use, 262,144 pieces with half a million merges, take 16 MiB.
 */
const maxHeaderBytes = 32 * 2 ** 20;

/** Keys and tensors that a file may have. Real ones have below a hundred keys and a few thousand tensors. */
const maxEntries = 65_536;

/** GGUF's own limit for a key. */
const maxNameBytes = 65_535;

/** The least that an entry takes: a name of one byte, a type and a value; a name, one dimension, a type, an offset. */
const minKeyBytes = 8 + 1 + 4 + 1;
const minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

/** The first read. It holds the header of most models with 32,000 pieces. */
const firstReadBytes = 2 ** 20;

/**
 * Reads the header of the open file `fd`.
 *
 * @param path the file's name in errors
 * @param size the file's length in bytes
 * @throws CriaFileError naming the key or tensor at fault
 */
export function readHeader(fd: number, path: string, size: number): GgufHeader {
  const reader = new HeaderReader(fd, path, size);
  const version = readVersion(reader);
  const tensorCount = reader.count("number of tensors", minTensorBytes, maxEntries);
  const keyCount = reader.count("number of keys", minKeyBytes, maxEntries);
  const entries = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const key = readName(reader, `key ${i + 1} of ${keyCount}`);
    if (entries.has(key)) throw reader.error("stands twice among the keys");
    entries.set(key, readValue(reader));
  }
  const tensors = Array.from({ length: tensorCount }, (_, i) => {
    const name = readName(reader, `tensor ${i + 1} of ${tensorCount}`);
    return readTensorHeader(reader, name);
  });
  return { version, entries, tensors, length: reader.position };
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

function readValueType(reader: HeaderReader): (typeof valueTypes)[number] {
  const id = reader.u32();
  const type = valueTypes[id];
  if (type === undefined) throw reader.error(`must be of a value type from 0 to ${valueTypes.length - 1}, not ${id}`);
  return type;
}

function readTensorHeader(reader: HeaderReader, name: string): GgufTensorHeader {
  const dimensions = reader.u32();
  if (dimensions < 1 || dimensions > 4) throw reader.error(`must have 1 to 4 dimensions, not ${dimensions}`);
  const shape = Array.from({ length: dimensions }, () => reader.u64());
  return { name, shape, type: reader.u32(), offset: reader.u64() };
}

/** Reads a file front to back. Every length and count is checked against what is left before it is believed. */
class HeaderReader {
  /** The key or tensor that is being read, for errors. */
  subject: string | undefined;
  position = 0;
  private bytes = Buffer.alloc(0);
  private readonly limit: number;

  constructor(
    private readonly fd: number,
    private readonly path: string,
    private readonly size: number,
  ) {
    this.limit = Math.min(size, maxHeaderBytes);
  }

  error(problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError {
    return new CriaFileError(this.path, this.subject, problem, code);
  }

  u32(): number {
    return this.take(4).readUInt32LE();
  }

  u64(): bigint {
    return this.take(8).readBigUInt64LE();
  }

  /** A u64 that counts things of at least `bytesEach` bytes, of which there may be `max`. */
  count(what: string, bytesEach: number, max = Number.POSITIVE_INFINITY): number {
    const value = this.u64();
    const room = Math.floor((this.limit - this.position) / bytesEach);
    if (value > room)
      throw this.error(`its ${what} must be at most ${room}, which is all that fits into ${this.room()}, not ${value}`);
    if (value > max) throw this.error(`its ${what} must be at most ${max}, not ${value}`);
    return Number(value);
  }

  /** A string. Bytes that are not UTF-8 become U+FFFD. */
  string(what: string, maxBytes?: number): string {
    return this.take(this.count(what, 1, maxBytes)).toString("utf8");
  }

  numbers(type: NumberType, count: number): NumberArray {
    const array = numberArrays[type];
    const aligned = new Uint8Array(this.take(count * array.BYTES_PER_ELEMENT));
    return new (array as new (buffer: ArrayBuffer) => NumberArray)(aligned.buffer);
  }

  /** The next bytes, as a view. */
  take(length: number): Buffer {
    const end = this.position + length;
    if (end > this.limit) throw this.error(`its header must end within ${this.room()}`);
    if (end > this.bytes.length)
      this.readTo(Math.min(Math.max(end, 2 * this.bytes.length, firstReadBytes), this.limit));
    const view = this.bytes.subarray(this.position, end);
    this.position = end;
    return view;
  }

  private room(): string {
    return this.limit < this.size ? `the ${this.limit} bytes that a header may take` : `the file's ${this.size} bytes`;
  }

  /** Synchronous: a header is short, most often one read, and parsing it takes longer. */
  private readTo(end: number): void {
    const grown = Buffer.alloc(end);
    let filled = this.bytes.copy(grown);
    while (filled < end) {
      const got = readSync(this.fd, grown, filled, end - filled, filled);
      if (got === 0)
        throw this.error(`the file must keep its ${this.size} bytes while it is read, not end at ${filled}`);
      filled += got;
    }
    this.bytes = grown;
  }
}
