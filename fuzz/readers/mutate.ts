import type { Dice } from "../../bench/soak/dice.js";

/** Numbers that readers get wrong: the ends of what types hold, and sizes that overflow when they are multiplied. */
const numbers: readonly bigint[] = [
  ...[0n, 1n, 2n, 3n, 4n, 8n, 16n, 31n, 32n, 33n, 64n, 100n, 127n, 128n, 255n, 256n, 4095n, 4096n, 65_535n, 65_536n],
  ...[31n, 32n, 33n, 53n, 59n, 60n, 61n, 62n, 63n].flatMap((bits) => [2n ** bits - 1n, 2n ** bits, 2n ** bits + 1n]),
  2n ** 64n - 1n,
].map((n) => BigInt.asUintN(64, n));

/** The longest run of bytes that a mutation inserts, copies or takes out. */
const longestRun = 64;

/** Random changes to bytes that are a format of little-endian numbers and strings with their lengths before them. */
export class Mutator {
  readonly #dice: Dice;
  readonly #dictionary: readonly Uint8Array[];
  readonly #mostBytes: number;

  /** @param dictionary what stands in such files: names, mostly */
  constructor(dice: Dice, dictionary: readonly Uint8Array[], mostBytes: number) {
    this.#dice = dice;
    this.#dictionary = dictionary;
    this.#mostBytes = mostBytes;
  }

  /** A changed copy. `other` is another input, of which it may take a part. */
  mutate(input: Uint8Array, other: Uint8Array): Uint8Array {
    let bytes = Buffer.from(input);
    // Most often one change: with each more, fewer get past a reader's first check.
    for (let changes = this.#dice.one([1, 1, 1, 1, 2, 2, 3, 5]); changes > 0; changes--)
      bytes = this.#change(bytes, other);
    return bytes.subarray(0, this.#mostBytes);
  }

  #change(bytes: Buffer<ArrayBuffer>, other: Uint8Array): Buffer<ArrayBuffer> {
    const at = this.#dice.below(bytes.length + 1);
    switch (this.#dice.below(11)) {
      case 0:
        return this.#edit(bytes, at, 1, (byte) => byte.writeUInt8(byte.readUInt8() ^ (1 << this.#dice.below(8))));
      case 1:
        return this.#edit(bytes, at, 1, (byte) => byte.writeUInt8(this.#dice.below(256)));
      case 2:
      case 3:
        return this.#number(bytes, at);
      case 4:
        return this.#step(bytes, at);
      case 5:
        return splice(bytes, at, this.#dice.below(longestRun), new Uint8Array(0));
      case 6:
        return splice(bytes, at, 0, new Uint8Array(this.#dice.below(longestRun)).fill(this.#dice.below(256)));
      case 7: {
        const from = this.#dice.below(other.length + 1);
        const part = other.subarray(from, from + this.#dice.below(longestRun));
        return splice(bytes, at, this.#dice.below(2) * part.length, part);
      }
      case 8:
        return this.#resize(bytes);
      case 9: {
        if (this.#dictionary.length === 0) return bytes;
        const word = this.#dice.one(this.#dictionary);
        return splice(bytes, at, this.#dice.below(2) * word.length, word);
      }
      default:
        // Cut where a file that was not written to its end would be.
        return this.#dice.below(4) === 0 ? bytes.subarray(0, at) : this.#number(bytes, at);
    }
  }

  /** Writes one of the numbers, in any width. */
  #number(bytes: Buffer<ArrayBuffer>, at: number): Buffer<ArrayBuffer> {
    const width = this.#dice.one([1, 2, 4, 8] as const);
    const value = BigInt.asUintN(8 * width, this.#dice.one(numbers));
    // Numbers stand at multiples of four more often than not.
    const place = this.#dice.below(2) === 0 ? at : at & ~3;
    return this.#edit(bytes, place, width, (field) => write(field, width, value));
  }

  /** Makes a number a little larger or smaller. */
  #step(bytes: Buffer<ArrayBuffer>, at: number): Buffer<ArrayBuffer> {
    const width = this.#dice.one([1, 2, 4, 8] as const);
    const by = BigInt(this.#dice.below(33) - 16);
    return this.#edit(bytes, at, width, (field) => write(field, width, read(field, width) + by));
  }

  /** Finds a u64 that may be a length of what follows, and makes both longer or shorter. */
  #resize(bytes: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> {
    for (let tries = 0; tries < 20; tries++) {
      const at = this.#dice.below(bytes.length);
      if (at + 8 > bytes.length) continue;
      const length = bytes.readBigUInt64LE(at);
      if (length === 0n || length > 4096n || at + 8 + Number(length) > bytes.length) continue;
      const word =
        this.#dice.below(2) === 0 && this.#dictionary.length > 0 ? this.#dice.one(this.#dictionary) : undefined;
      const content = word ?? new Uint8Array(this.#dice.below(longestRun)).fill(this.#dice.below(256));
      const resized = splice(bytes, at + 8, Number(length), content);
      resized.writeBigUInt64LE(BigInt(content.length), at);
      return resized;
    }
    return bytes;
  }

  #edit(bytes: Buffer<ArrayBuffer>, at: number, width: number, edit: (field: Buffer) => void): Buffer<ArrayBuffer> {
    if (at + width <= bytes.length) edit(bytes.subarray(at, at + width));
    return bytes;
  }
}

function splice(bytes: Uint8Array, at: number, remove: number, insert: Uint8Array): Buffer<ArrayBuffer> {
  return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
}

const write = (field: Buffer, width: number, value: bigint): void => {
  const whole = Buffer.alloc(8);
  whole.writeBigUInt64LE(BigInt.asUintN(64, value));
  whole.copy(field, 0, 0, width);
};

const read = (field: Buffer, width: number): bigint => {
  const whole = Buffer.alloc(8);
  field.copy(whole, 0, 0, width);
  return whole.readBigUInt64LE();
};
