import { Tokenizer as Pipeline } from "@huggingface/tokenizers";
import { pieceTypes, type Vocabulary, type WordPattern } from "../weights/source.js";
import { spaceMark } from "./decoder.js";

/** What is used of the library's tokenizer. */
export interface BpePipeline {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
  /** BPE's merges: the lower the rank of a pair, a JSON array of two strings, the earlier it merges. */
  readonly model: { bpe_ranks: Map<string, number> };
}

/** No text is encoded as the empty piece, so that the library can know the unknown piece by this name. */
const unknownName = "";

/**
 * The library's BPE over the vocabulary. It is given texts whose spaces are U+2581 already, but for a byte-level
 * vocabulary.
 */
export function createPipeline(vocabulary: Vocabulary): BpePipeline {
  const { merges, wordPattern, fuseUnknown = false, wholeWords = false } = vocabulary;
  const { ids, mergeable, userDefined } = sortPieces(vocabulary);
  const pipeline: BpePipeline = new Pipeline(
    {
      normalizer: null,
      pre_tokenizer:
        wordPattern === undefined ? spaceSplitter(mergeable.keys(), vocabulary) : wordSplitters[wordPattern],
      post_processor: null,
      decoder: null,
      added_tokens: Array.from(userDefined, ([content, id]) => ({ id, content, normalized: false, special: false })),
      model: {
        type: "BPE",
        vocab: ids,
        merges: [],
        unk_token: unknownName,
        fuse_unk: fuseUnknown,
        byte_fallback: wordPattern === undefined,
        ignore_merges: wholeWords,
      },
    },
    { clean_up_tokenization_spaces: false },
  );
  pipeline.model.bpe_ranks = merges === undefined ? new ScoreRanks(mergeable) : new PairRanks(mergeable, merges);
  return pipeline;
}

interface SortedPieces {
  /** By its name for the library, the id of each piece that a text may become. */
  readonly ids: Record<string, number>;
  /** What characters merge to, with its score. */
  readonly mergeable: Map<string, number>;
  /** What is cut out of a text before anything merges, with its id. */
  readonly userDefined: Map<string, number>;
}

function sortPieces({ pieces, scores, types, unknown, wordPattern }: Vocabulary): SortedPieces {
  // Without a prototype, so that "__proto__" is a piece like any other.
  const ids: Record<string, number> = Object.create(null);
  const mergeable = new Map<string, number>();
  const userDefined = new Map<string, number>();
  const bytes = new Map<string, number>();
  pieces.forEach((piece, id) => {
    const type = types[id];
    if (type === pieceTypes.byte) bytes.set(piece, id);
    if (piece === "") return;
    // GGUF's user-defined pieces hold spaces where the others hold U+2581.
    const content = wordPattern === undefined ? piece.replaceAll(" ", spaceMark) : piece;
    if (type === pieceTypes.userDefined) userDefined.set(content, id);
    if (type !== pieceTypes.normal && type !== pieceTypes.unused) return;
    ids[piece] = id;
    mergeable.set(piece, scores[id]!);
  });
  // The library's byte fallback knows a byte by its piece, from which a text piece of that name could not be told.
  for (const [name, id] of bytes) {
    ids[name] = id;
    mergeable.delete(name);
  }
  if (unknown !== undefined) ids[unknownName] = unknown;
  return { ids, mergeable, userDefined };
}

/**
 * A pre-tokenizer that cuts a text before each run of spaces, or null if a piece could reach over such a cut. Where
 * none can, words merge by themselves, so that the cut changes no token; and words, unlike texts, come again and are
 * in the library's cache: English text takes a fifth of the time.
 */
function spaceSplitter(pieces: Iterable<string>, { splitSpaces }: Vocabulary): object | null {
  if (splitSpaces) return cutAt("\u2581[^\u2581]*|[^\u2581]+");
  for (const piece of pieces) {
    if (/[^\u2581]\u2581/.test(piece)) return null;
  }
  return cutAt("\u2581+[^\u2581]*|[^\u2581]+");
}

/** The pre-tokenizer of which the pieces are what a pattern finds. */
const cutAt = (pattern: string) => ({ type: "Split", pattern: { Regex: pattern }, behavior: "Removed", invert: true });

/** What writes words in the alphabet of bytes, after it cut them itself as GPT-2 did where `cuts`. */
const byteLevel = (cuts: boolean) => ({ type: "ByteLevel", add_prefix_space: false, use_regex: cuts });

/** What Llama 3 finds words by. */
export const llama3Words =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** The pre-tokenizers of byte-level vocabularies, as the models' own `tokenizer.json` have them. */
export const wordSplitters: Readonly<Record<WordPattern, object>> = {
  "gpt-2": byteLevel(true),
  "llama-bpe": {
    type: "Sequence",
    pretokenizers: [
      {
        type: "Split",
        pattern: {
          Regex: llama3Words,
        },
        behavior: "Isolated",
        invert: false,
      },
      byteLevel(false),
    ],
  },
  smollm: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel(true)] },
};

/**
 * SentencePiece's merges as ranks of pairs, found when asked for: any two neighbours merge that together are a piece,
 * and the higher the piece's score, the lower the rank. Equal scores share a rank, for then the library takes the
 * leftmost pair.
 *
 * A table of all pairs, as `tokenizer.json` has it, would hold each piece as often as it can be cut in two: quadratic
 * in the length of a piece, which a hostile file may choose.
 */
class ScoreRanks extends Map<string, number> {
  readonly #ranks: ReadonlyMap<string, number>;

  /** @param mergeable each piece with its score */
  constructor(mergeable: ReadonlyMap<string, number>) {
    super();
    const descending = Float64Array.from(new Set(mergeable.values())).sort().reverse();
    const rankOfScore = new Map(Array.from(descending, (score, rank) => [score, rank]));
    this.#ranks = new Map(Array.from(mergeable, ([piece, score]) => [piece, rankOfScore.get(score)!]));
  }

  /** @param pair a JSON array of two strings */
  override get(pair: string): number | undefined {
    const [left, right] = JSON.parse(pair) as [string, string];
    return this.#ranks.get(left + right);
  }
}

/** Merges that a file lists. One to what no text may become, such as a control piece, is none. */
class PairRanks extends Map<string, number> {
  readonly #mergeable: ReadonlyMap<string, number>;
  readonly #ranks: ReadonlyMap<string, number>;

  /** @param merges "left right", of which a pair that stands twice has the place of the last, as in the library */
  constructor(mergeable: ReadonlyMap<string, number>, merges: readonly string[]) {
    super();
    this.#mergeable = mergeable;
    this.#ranks = new Map(merges.map((merge, rank) => [merge, rank]));
  }

  /** @param pair a JSON array of two strings */
  override get(pair: string): number | undefined {
    const [left, right] = JSON.parse(pair) as [string, string];
    const rank = this.#ranks.get(`${left} ${right}`);
    return rank !== undefined && this.#mergeable.has(left + right) ? rank : undefined;
  }
}
