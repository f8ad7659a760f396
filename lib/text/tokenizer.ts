import { CriaError, CriaFileError, integer, show, wrongType } from "../errors.js";
import { pieceTypes, type Vocabulary } from "../weights/source.js";
import { byteOf } from "./byte-pieces.js";
import { type DecoderOptions, spaceMark, TokenDecoder, wellFormed } from "./decoder.js";
import { Markers } from "./markers.js";
import { type BpePipeline, createPipeline, wordSplitters } from "./pipeline.js";

/**
 * The longest user-defined piece, in UTF-16 units. Each place of a text is compared with up to as many units; chat
 * templates' markers are far shorter.
 */
const longestUserDefined = 1024;

/**
 * Text to tokens and back with a BPE vocabulary (Sennrich et al. 2016), as llama.cpp does it for `tokenizer.ggml.model`
 * "llama", which is SentencePiece (Kudo and Richardson 2018), and "gpt2" (Radford et al. 2019).
 *
 * A text that is not empty gets a space before it if the vocabulary asks for it, spaces become U+2581, and the
 * characters merge: of all neighbours that together are a piece, those with the highest score first, the leftmost
 * first where scores are equal. What is no piece then becomes its UTF-8 bytes, and where the vocabulary lacks one of
 * these, the unknown token. Where the vocabulary lists merges, their order is what the scores are else. One that is
 * byte-level cuts a text into words instead, and their bytes merge.
 *
 * - Control, unknown and byte pieces are never found in a text: "</s>" in it is four characters, not the end.
 * - User-defined pieces are cut out of a text before anything merges, the longest at the leftmost place first. As in
 *   SentencePiece, and unlike llama.cpp, no space is put after them, so that the text can be restored.
 * - Of pieces that are the same string, the last counts, as in llama.cpp. Empty pieces are never used.
 * - Lone surrogates, which UTF-8 cannot say, are read as U+FFFD.
 *
 * `decode(encode(text))` is `text` for every well-formed text without U+2581 (which becomes a space, as in the
 * original), if the vocabulary holds all 256 bytes and U+2581.
 */
export class Tokenizer {
  readonly #vocabulary: Vocabulary;
  readonly #ends: readonly number[];
  /** Made for the first text: of a vocabulary of 32,000 pieces it takes longer than mapping a packed model does. */
  #pipeline: BpePipeline | undefined;
  /** Made for the first text that is literal; this one where that makes no difference. */
  #literal: Tokenizer | undefined;
  /** Made for the first template. */
  #markers: Markers | undefined;

  /** @throws CriaError (ERR_CRIA_FILE) if the vocabulary contradicts itself */
  constructor(vocabulary: Vocabulary) {
    check(vocabulary);
    this.#vocabulary = vocabulary;
    const { eos, ends = [] } = vocabulary;
    this.#ends = [...new Set(eos === undefined ? ends : [eos, ...ends])];
  }

  /** How many tokens there are. */
  get size(): number {
    return this.#vocabulary.pieces.length;
  }

  /** The token that begins a text. */
  get bos(): number | undefined {
    return this.#vocabulary.bos;
  }

  /** The token that ends a text. */
  get eos(): number | undefined {
    return this.#vocabulary.eos;
  }

  /** The tokens that end a generated text, EOS among them where there is one. */
  get ends(): readonly number[] {
    return this.#ends;
  }

  /** The token for what cannot be encoded. */
  get unknown(): number | undefined {
    return this.#vocabulary.unknown;
  }

  /** Whether BOS should be put before the tokens of a text. */
  get addBos(): boolean {
    return this.#vocabulary.addBos;
  }

  /**
   * @param continuation whether the text follows another: no space is put before it then. Default: false
   * @returns the text's tokens, without BOS
   * @throws TypeError if it is not a string
   * @throws CriaError (ERR_CRIA_UNSUPPORTED) if the vocabulary has neither pieces, bytes nor an unknown token for it
   */
  encode(text: string, { continuation = false }: DecoderOptions = {}): Int32Array {
    if (typeof text !== "string") throw wrongType("text", "a string", text);
    const { wordPattern } = this.#vocabulary;
    const whole = wellFormed(continuation ? text : this.#prefixed(text));
    this.#pipeline ??= createPipeline(this.#vocabulary);
    const { ids } = this.#pipeline.encode(wordPattern === undefined ? whole.replaceAll(" ", spaceMark) : whole, {
      add_special_tokens: false,
    });
    return Int32Array.from(ids, (id) => {
      if (id !== undefined) return id;
      throw new CriaError(
        "ERR_CRIA_UNSUPPORTED",
        `text: must be of the vocabulary's pieces and bytes, not ${show(text)}`,
      );
    });
  }

  /** A text with the space that the vocabulary puts before it. */
  #prefixed(text: string): string {
    const { addSpacePrefix } = this.#vocabulary;
    if (!addSpacePrefix || text === "") return text;
    // Where spaces are U+2581, one that stands in the text is a space too.
    const there = addSpacePrefix === "unless-there" && (text.startsWith(" ") || text.startsWith(spaceMark));
    return there ? text : ` ${text}`;
  }

  /**
   * @returns the text of all tokens, as one whole text (see {@link DecoderOptions})
   * @throws TypeError or RangeError if one is not a token of the vocabulary
   */
  decode(ids: Iterable<number>): string {
    const iterable = typeof ids === "object" && ids !== null && typeof ids[Symbol.iterator] === "function";
    if (!iterable) throw wrongType("ids", "an iterable of numbers", ids);
    const decoder = this.decoder();
    let text = "";
    for (const id of ids) text += decoder.push(id);
    return text + decoder.end();
  }

  /** @returns what turns tokens into text as they come */
  decoder(options?: DecoderOptions): TokenDecoder {
    return new TokenDecoder(this.#vocabulary, options);
  }

  /**
   * @returns the token's piece, as the vocabulary has it
   * @throws TypeError or RangeError if it is not a token of the vocabulary
   */
  piece(id: number): string {
    return this.#vocabulary.pieces[integer("id", id, 0, this.size - 1)]!;
  }

  /** The token of a piece as the vocabulary has it, whatever its type: "<s>", "\u2581the". Of several, the last. */
  find(piece: string): number | undefined {
    const id = this.#vocabulary.pieces.lastIndexOf(piece);
    return id === -1 ? undefined : id;
  }

  /** Of control and user-defined pieces: what a chat template means by their names. */
  get markers(): Markers {
    this.#markers ??= new Markers(this.#marked());
    return this.#markers;
  }

  *#marked(): Generator<[string, number]> {
    const { pieces, types } = this.#vocabulary;
    for (const [id, piece] of pieces.entries()) {
      if (types[id] === pieceTypes.control || types[id] === pieceTypes.userDefined) yield [piece, id];
    }
  }

  /**
   * Encodes a text that may come from anyone: in it a user-defined piece, such as a chat's marker may be, is text like
   * any other.
   *
   * @throws as {@link encode}
   */
  encodeLiteral(text: string, options?: DecoderOptions): Int32Array {
    this.#literal ??= this.#withoutUserDefined();
    return this.#literal.encode(text, options);
  }

  #withoutUserDefined(): Tokenizer {
    const { types } = this.#vocabulary;
    if (!types.includes(pieceTypes.userDefined)) return this;
    // What has the unknown piece's type is found in no text.
    const hidden = types.map((type) => (type === pieceTypes.userDefined ? pieceTypes.unknown : type));
    return new Tokenizer({ ...this.#vocabulary, types: hidden });
  }
}

/** BOS, and the tokens of a text. */
export function afterBos(bos: number, tokens: Int32Array): Int32Array {
  const all = new Int32Array(1 + tokens.length);
  all[0] = bos;
  all.set(tokens, 1);
  return all;
}

/** The tokenizer of a file's vocabulary. @throws CriaFileError where the vocabulary contradicts itself */
export function tokenizerOf(path: string, vocabulary: Vocabulary): Tokenizer {
  try {
    return new Tokenizer(vocabulary);
  } catch (error) {
    if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_FILE") throw error;
    throw new CriaFileError(path, undefined, error.message, "ERR_CRIA_FILE", { cause: error });
  }
}

/** Throws unless the vocabulary is one that a tokenizer can be built of. */
function check(vocabulary: Vocabulary): void {
  const { pieces, scores, types, merges, bos, eos, ends = [], unknown, wordPattern } = vocabulary;
  const must = (holds: boolean, subject: string, expected: string, actual: unknown): void => {
    if (!holds)
      throw new CriaError("ERR_CRIA_FILE", `vocabulary: ${subject}: must be ${expected}, not ${show(actual)}`);
  };
  must(pieces.length > 0, "the number of pieces", "at least 1", pieces.length);
  must(scores.length === pieces.length, "the number of scores", `that of pieces, ${pieces.length}`, scores.length);
  must(types.length === pieces.length, "the number of types", `that of pieces, ${pieces.length}`, types.length);
  const known = Object.keys(wordSplitters);
  must(wordPattern === undefined || known.includes(wordPattern), "wordPattern", known.join(" or "), wordPattern);
  must(merges === undefined || Array.isArray(merges), "merges", "an array", merges);
  merges?.forEach((merge, i) => {
    must(typeof merge === "string", `merge ${i}`, "a string", merge);
  });
  const tokens = [...Object.entries({ bos, eos, unknown }), ...ends.map((id) => ["a token that ends", id] as const)];
  for (const [name, id] of tokens) {
    const isToken = id === undefined || (Number.isInteger(id) && id >= 0 && id < pieces.length);
    must(isToken, name, `an integer from 0 to ${pieces.length - 1}`, id);
  }
  pieces.forEach((piece, id) => {
    const type = types[id]!;
    must(typeof piece === "string", `piece ${id}`, "a string", piece);
    must(Number.isInteger(type) && type >= 1 && type <= 6, `the type of piece ${id}`, "an integer from 1 to 6", type);
    must(!Number.isNaN(scores[id]), `the score of piece ${id}`, "a number", scores[id]);
    if (type === pieceTypes.byte) must(byteOf(piece) !== undefined, `byte piece ${id}`, "of the form <0x0A>", piece);
    if (type === pieceTypes.userDefined) {
      const expected = `a string of at most ${longestUserDefined} UTF-16 units`;
      must(piece.length <= longestUserDefined, `user-defined piece ${id}`, expected, piece);
    }
  });
}
