/** Builds SentencePiece models for tests: protobuf fields, of which a message is a concatenation. */

export const varint = (value: number | bigint): Buffer => {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    bytes.push(Number(rest & 0x7fn) | (rest > 0x7fn ? 0x80 : 0));
    rest >>= 7n;
  } while (rest > 0n);
  return Buffer.from(bytes);
};

export const integerField = (number: number, value: number | bigint): Buffer =>
  Buffer.concat([varint(number * 8), varint(value)]);

export const bytesField = (number: number, ...parts: (string | Uint8Array)[]): Buffer => {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part)));
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
};

export const floatField = (number: number, value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint(number * 8 + 5), bytes]);
};

export const piece = (text: string, score: number, type: number): Buffer =>
  bytesField(1, bytesField(1, text), floatField(2, score), integerField(3, type));

/** A model of the type BPE, as LLaMA's: `<unk> <s> </s>`, the bytes, and some pieces. `changes` go last, and count. */
export function sentencePiece(pieces: readonly (readonly [string, number])[], ...changes: Buffer[]): Buffer {
  const bytes = Array.from({ length: 256 }, (_, byte) => {
    return piece(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, 0, 6);
  });
  return Buffer.concat([
    piece("<unk>", 0, 2),
    piece("<s>", 0, 3),
    piece("</s>", 0, 3),
    ...bytes,
    ...pieces.map(([text, score]) => piece(text, score, 1)),
    bytesField(2, integerField(3, 2)),
    ...changes,
  ]);
}
