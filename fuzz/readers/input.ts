/** Bytes read as numbers and strings from the front; behind their end all is 0. */
export class Input {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  get empty(): boolean {
    return this.#at >= this.#bytes.length;
  }

  u8(): number {
    return this.take(1)[0] ?? 0;
  }

  u16(): number {
    return this.u8() | (this.u8() << 8);
  }

  f32(): number {
    const bytes = Buffer.alloc(4);
    this.take(4).copy(bytes);
    return bytes.readFloatLE();
  }

  /** The next bytes: fewer at the end. */
  take(count: number): Buffer {
    const bytes = this.#bytes.subarray(this.#at, this.#at + count);
    this.#at += count;
    return bytes;
  }
}
