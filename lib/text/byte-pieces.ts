/** The pieces that stand for bytes, as SentencePiece writes them (its `ByteToPiece`): "<0x00>" to "<0xFF>". */
const bytes: ReadonlyMap<string, number> = new Map(
  Array.from({ length: 256 }, (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, byte]),
);

/** The byte that a piece stands for; undefined for any other piece, such as one with a small letter, "<0x0a>". */
export const byteOf = (piece: string): number | undefined => bytes.get(piece);
