import { CriaFileError } from "../errors.js";
import { readAll } from "../files.js";

export const numberArrays = {
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

/**
 * Where reading stops whatever the file says, so that no file makes us hold more than a few times as much. The largest
 * vocabularies in use, 262,144 pieces with half a million merges, take 16 MiB.
 */
const maxHeaderBytes = 32 * 2 ** 20;

/** The first read. It holds the header of most models with 32,000 pieces. */
const firstReadBytes = 2 ** 20;

/** Reads a file front to back. Every length and count is checked against what is left before it is believed. */
export class HeaderReader {
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
    const had = this.bytes.copy(grown);
    const filled = had + readAll(this.fd, grown.subarray(had), had);
    if (filled < end)
      throw this.error(`the file must keep its ${this.size} bytes while it is read, not end at ${filled}`);
    this.bytes = grown;
  }
}
