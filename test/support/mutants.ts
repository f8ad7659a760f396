import fc from "fast-check";

/** A change of a file's bytes. `at` is a share of the header. */
export type Mutation =
  | { kind: "cut"; at: number }
  | { kind: "repeat"; at: number }
  | { kind: "byte"; at: number; value: number }
  | { kind: "u32"; at: number; value: number }
  | { kind: "u64"; at: number; value: bigint };

const at = fc.nat(2 ** 20 - 1).map((n) => n / 2 ** 20); // fc.double would mostly give exponents far below 0

// Around the edges of the integers that a reader might hold a count, a size or an offset in.
const u32s = fc.oneof(
  fc.constantFrom(0, 1, 2, 9, 12, 13, 2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1),
  fc.nat(2 ** 31 - 1),
);
const u64s = fc.oneof(
  fc.constantFrom(0n, 1n, 2n ** 16n, 2n ** 20n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 62n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant("cut"), at }),
  fc.record({ kind: fc.constant("repeat"), at }),
  fc.record({ kind: fc.constant("byte"), at, value: fc.nat(255) }),
  fc.record({ kind: fc.constant("u32"), at, value: u32s }),
  fc.record({ kind: fc.constant("u64"), at, value: u64s }),
);

/** @param header the length of what is mutated, from the beginning */
export function mutate(bytes: Buffer, header: number, change: Mutation): Buffer {
  const position = Math.min(Math.floor(change.at * header), bytes.length - 8);
  if (change.kind === "cut") return bytes.subarray(0, position);
  // A piece of the header stands twice and moves what follows.
  if (change.kind === "repeat") return Buffer.concat([bytes.subarray(0, position + 8), bytes.subarray(position)]);
  const changed = Buffer.from(bytes);
  if (change.kind === "byte") changed[position] = change.value;
  if (change.kind === "u32") changed.writeUInt32LE(change.value, position);
  if (change.kind === "u64") changed.writeBigUInt64LE(change.value, position);
  return changed;
}
