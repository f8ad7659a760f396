/**
 * llama2.c's tokenizer.bin (github.com/karpathy/llama2.c, tokenizer.py), little-endian:
 *
 *     u32 bytes of the longest piece
 *     for each piece, up to the file's end: f32 score, i32 length in bytes, the bytes
 *
 * Pieces are SentencePiece's with spaces for U+2581. Their types are not told: LLaMA's first three are unknown, BOS and
 * EOS, of which the latter two stand between line feeds, and `<0x0A>` is a byte.
 */
import { CriaFileError } from "../errors.js";
import { byteOf } from "../text/byte-pieces.js";
import { spaceMark } from "../text/decoder.js";
import { most } from "./llama-limits.js";
import { readStart, readWhole } from "./open.js";
import { pieceTypes, type Vocabulary } from "./source.js";

/** Some ten times what 262,144 pieces take. */
const mostBytes = 64 * 2 ** 20;

/** Above the longest piece in use, by far. */
const mostPieceBytes = 65_536;

/** The pieces that every such file has: unknown, BOS and EOS. */
const first = ["<unk>", "<s>", "</s>"] as const;

/** The least that a piece takes: a score and a length. */
const minPieceBytes = 8;

/** Whether a file begins as one of these does: with the length of the longest piece, and the piece `<unk>`. */
export async function isTokenizerBin(path: string): Promise<boolean> {
  const length = 4 + minPieceBytes + first[0].length;
  const header = await readStart(path, length);
  if (header.length < length) return false;
  return header.readInt32LE(8) === first[0].length && header.toString("latin1", 4 + minPieceBytes) === first[0];
}

/** @throws CriaFileError where it cannot be read or is damaged */
export const readTokenizerBin = async (path: string): Promise<Vocabulary> =>
  parse(path, await readWhole(path, mostBytes));

function parse(path: string, bytes: Buffer): Vocabulary {
  if (bytes.length < 4) throw new CriaFileError(path, undefined, "must begin with the length of the longest piece");
  const longest = bytes.readUInt32LE();
  if (longest < 1 || longest > mostPieceBytes) {
    throw new CriaFileError(
      path,
      undefined,
      `its longest piece must be of 1 to ${mostPieceBytes} bytes, not ${longest}`,
    );
  }
  const pieces: string[] = [];
  const scores: number[] = [];
  for (let at = 4; at < bytes.length; ) {
    const id = pieces.length;
    const fail = (problem: string) => new CriaFileError(path, `piece ${id}`, problem);
    if (id === most.vocab) throw fail(`must be one of at most ${most.vocab}`);
    const room = bytes.length - at - minPieceBytes;
    if (room < 0) throw fail("must have a score and a length before the file ends");
    const score = bytes.readFloatLE(at);
    const length = bytes.readInt32LE(at + 4);
    if (Number.isNaN(score)) throw fail("its score must be a number, not NaN");
    if (length < 0 || length > longest)
      throw fail(`its length must be 0 to ${longest}, the longest one's, not ${length}`);
    if (length > room) throw fail(`must end within the file's ${bytes.length} bytes`);
    at += minPieceBytes + length;
    pieces.push(bytes.toString("utf8", at - length, at).replaceAll(" ", spaceMark));
    scores.push(score);
  }
  return vocabularyOf(path, pieces, scores);
}

function vocabularyOf(path: string, pieces: string[], scores: number[]): Vocabulary {
  if (pieces.length < first.length) {
    throw new CriaFileError(path, undefined, `must have the pieces ${first.join(" ")} and more, not ${pieces.length}`);
  }
  const { unknown, control, byte, normal } = pieceTypes;
  pieces.splice(0, first.length, ...first);
  const types = pieces.map((piece, id) => {
    if (id < first.length) return id === 0 ? unknown : control;
    return byteOf(piece) === undefined ? normal : byte;
  });
  // llama2.c's own models begin their next story, with BOS, where others would end.
  const ends = [1, 2];
  return { pieces, scores, types, bos: 1, eos: 2, ends, unknown: 0, addBos: true, addSpacePrefix: true };
}
