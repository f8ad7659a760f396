import { integer } from "../errors.js";
import { pieceTypes, type Vocabulary } from "../weights/source.js";
import { bytesOfPiece } from "./byte-alphabet.js";
import { byteOf } from "./byte-pieces.js";

/** U+2581, which stands for a space in SentencePiece's pieces. */
export const spaceMark = "\u2581";

/** What SentencePiece writes for the unknown token (its `unk_surface`), so that a reader sees what was lost. */
const unknownText = " \u2047 ";

/** A string with every lone surrogate replaced by U+FFFD, as UTF-8 needs it. */
export const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\ufffd");

/** Options of {@link Tokenizer.decode} and {@link Tokenizer.decoder}. */
export interface DecoderOptions {
  /**
   * Whether the tokens continue a text, as generated tokens continue a prompt. A whole text loses the space that the
   * vocabulary's prefix put before it; a continuation keeps its leading space. Default: false.
   */
  readonly continuation?: boolean | undefined;
}

/**
 * Turns tokens into text as they come. The pushed texts and the end, put together, are the text of all tokens together,
 * whatever the tokens are.
 *
 * Normal, user-defined and unused pieces give their text, byte pieces their byte, and so do normal and unused ones of a
 * byte-level vocabulary; control pieces (BOS, EOS) nothing, the unknown piece " \u2047 ". Bytes are held until they are
 * a whole UTF-8 character, or until it is certain that they will not be one, which gives U+FFFD as the Encoding
 * Standard's decoder does.
 */
export class TokenDecoder {
  readonly #vocabulary: Vocabulary;
  /** Holds the bytes of an unfinished character. Not a file's decoder: U+FEFF at the start is text. */
  readonly #bytes = new TextDecoder("utf-8", { ignoreBOM: true });
  /** Whether the next character may be the prefix's space. */
  #dropSpace: boolean;

  /** @param vocabulary one that {@link Tokenizer} accepts */
  constructor(vocabulary: Vocabulary, { continuation = false }: DecoderOptions = {}) {
    this.#vocabulary = vocabulary;
    this.#dropSpace = vocabulary.addSpacePrefix !== false && !continuation;
  }

  /**
   * @param id a token of the vocabulary
   * @returns the text that this token makes certain; often "", where it is a byte or a control token
   * @throws TypeError or RangeError if it is not a token of the vocabulary
   */
  push(id: number): string {
    const { pieces, types, wordPattern } = this.#vocabulary;
    const piece = pieces[integer("id", id, 0, pieces.length - 1)]!;
    switch (types[id]) {
      case pieceTypes.control:
        return "";
      case pieceTypes.byte:
        return this.#emit(this.#bytes.decode(Uint8Array.of(byteOf(piece)!), { stream: true }));
      case pieceTypes.unknown:
        return this.#emit(this.#bytes.decode() + unknownText);
      case pieceTypes.userDefined:
        return this.#literal(piece);
      default:
        if (wordPattern === undefined) return this.#literal(piece);
        return this.#emit(this.#bytes.decode(bytesOfPiece(piece), { stream: true }));
    }
  }

  /** The text of a piece that is no bytes. */
  #literal(piece: string): string {
    // An empty piece has no byte that could end an unfinished character.
    if (piece === "") return "";
    const text = this.#vocabulary.wordPattern === undefined ? piece.replaceAll(spaceMark, " ") : piece;
    return this.#emit(this.#bytes.decode() + wellFormed(text));
  }

  /** @returns what was held: U+FFFD for an unfinished character, else "". To be called once, after the last push. */
  end(): string {
    return this.#emit(this.#bytes.decode());
  }

  #emit(text: string): string {
    if (!this.#dropSpace || text === "") return text;
    this.#dropSpace = false;
    return text.startsWith(" ") ? text.slice(1) : text;
  }
}
