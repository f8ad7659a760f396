/**
 * The alphabet in which byte-level vocabularies write bytes (GPT-2's `bytes_to_unicode`): a byte that is a visible
 * character of Latin-1 is that character, and the others are those from U+0100 on, in order.
 */
const alphabet: readonly string[] = (() => {
  const visible = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(visible(byte) ? byte : next++));
})();

const byteOfCharacter: ReadonlyMap<string, number> = new Map(alphabet.map((character, byte) => [character, byte]));

/** The piece of some bytes. */
export const pieceOfBytes = (bytes: Uint8Array): string => Array.from(bytes, (byte) => alphabet[byte]!).join("");

/** The bytes of a piece. What is not in the alphabet, which no text becomes, stands for itself in UTF-8. */
export function bytesOfPiece(piece: string): Uint8Array {
  return Buffer.concat(
    Array.from(piece, (character) => {
      const byte = byteOfCharacter.get(character);
      return byte === undefined ? Buffer.from(character) : Uint8Array.of(byte);
    }),
  );
}
