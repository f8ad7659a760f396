/** A field of a protobuf message: its number, and what stands there. */
export type ProtobufField =
  | { readonly number: number; readonly kind: "varint"; readonly value: bigint }
  | { readonly number: number; readonly kind: "fixed"; readonly value: Buffer }
  | { readonly number: number; readonly kind: "bytes"; readonly value: Buffer };

/** A varint has 64 bits at most, seven a byte. */
const longestVarint = 10;

/**
 * The fields of a protobuf message, in order; of the wire types all but the groups, which protobuf has dropped. What
 * stands there is a view of `bytes`.
 *
 * @param fail makes the error of a message that is damaged
 */
export function* protobufFields(bytes: Buffer, fail: (problem: string) => Error): Generator<ProtobufField> {
  let position = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let i = 0; i < longestVarint && position < bytes.length; i++) {
      const byte = bytes[position++]!;
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw fail(`must have a whole number before byte ${position}`);
  };
  const take = (length: bigint): Buffer => {
    if (length > bytes.length - position) {
      throw fail(`must have ${length} bytes from ${position} on, not ${bytes.length - position}`);
    }
    position += Number(length);
    return bytes.subarray(position - Number(length), position);
  };
  while (position < bytes.length) {
    const key = varint();
    const number = Number(key >> 3n);
    switch (Number(key & 7n)) {
      case 0:
        yield { number, kind: "varint", value: varint() };
        break;
      case 1:
        yield { number, kind: "fixed", value: take(8n) };
        break;
      case 2:
        yield { number, kind: "bytes", value: take(varint()) };
        break;
      case 5:
        yield { number, kind: "fixed", value: take(4n) };
        break;
      default:
        throw fail(`must have a field before byte ${position}, not one of wire type ${key & 7n}`);
    }
  }
}
