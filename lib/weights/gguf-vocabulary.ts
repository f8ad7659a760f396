import { show } from "../errors.js";
import { byteOf } from "../text/byte-pieces.js";
import type { GgufMetadata } from "./gguf-metadata.js";
import { most } from "./llama-limits.js";
import { pieceTypes, type Vocabulary, type WordPattern } from "./source.js";
import { endNames } from "./tiktoken.js";

/** An id that stands for none: -1 as 32 bits. */
const noToken = 0xffffffff;

/** By the name that a file gives how texts become words, llama.cpp's own name of it. */
const wordPatterns: ReadonlyMap<string, WordPattern> = new Map([
  ["gpt-2", "gpt-2"],
  ["llama-bpe", "llama-bpe"],
  ["llama3", "llama-bpe"],
  ["llama-v3", "llama-bpe"],
  ["smollm", "smollm"],
]);

/**
 * Reads the vocabulary of a GGUF file: SentencePiece's BPE, which it calls "llama", or byte-level BPE, "gpt2".
 *
 * @throws CriaFileError ERR_CRIA_FILE for keys that contradict each other, ERR_CRIA_UNSUPPORTED for other vocabularies
 */
export function readGgufVocabulary(metadata: GgufMetadata): Vocabulary {
  const model = metadata.string("tokenizer.ggml.model");
  if (model === "llama") return withOwn(metadata, readScored(metadata));
  if (model === "gpt2") return withOwn(metadata, readByteLevel(metadata));
  throw metadata.error(
    "tokenizer.ggml.model",
    `must be "llama", which is SentencePiece, or "gpt2", which is byte-level BPE, not ${show(model)}`,
    "ERR_CRIA_UNSUPPORTED",
  );
}

/**
 * What GGUF has no key for, in files that cria wrote: a string of JSON. `merges`: whether those of
 * tokenizer.ggml.merges are the vocabulary's, which other readers of "llama" pass over for the scores.
 */
export const ownVocabularyKey = "cria.vocabulary";

/** Whether a key is of the vocabulary, and not true of a file with another one. */
export const isVocabularyKey = (key: string): boolean => key.startsWith("tokenizer.ggml.") || key === ownVocabularyKey;

export type OwnVocabulary = { merges?: true } & Partial<
  Pick<Vocabulary, "addSpacePrefix" | "fuseUnknown" | "splitSpaces" | "wholeWords" | "ends">
>;

function withOwn(metadata: GgufMetadata, vocabulary: Vocabulary): Vocabulary {
  const json = metadata.string(ownVocabularyKey, undefined);
  if (json === undefined) return vocabulary;
  const own = parseOwn(metadata, json, vocabulary);
  return { ...vocabulary, ...own, merges: own.merges ? readMerges(metadata, vocabulary.pieces) : vocabulary.merges };
}

function parseOwn(metadata: GgufMetadata, json: string, { pieces, wordPattern }: Vocabulary): OwnVocabulary {
  const fail = () => metadata.error(ownVocabularyKey, `must be what cria wrote of a vocabulary, not ${show(json)}`);
  const isToken = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < pieces.length;
  const isFlag = (value: unknown) => typeof value === "boolean";
  const checks: Record<keyof OwnVocabulary, (value: unknown) => boolean> = {
    merges: (value) => value === true,
    addSpacePrefix: (value) => isFlag(value) || value === "unless-there",
    fuseUnknown: isFlag,
    splitSpaces: isFlag,
    wholeWords: (value) => isFlag(value) && (value === false || wordPattern !== undefined),
    ends: (value) => Array.isArray(value) && value.every(isToken),
  };
  try {
    const own: object = JSON.parse(json);
    const known = Object.entries(own).every(
      ([name, value]) => Object.hasOwn(checks, name) && checks[name as keyof OwnVocabulary](value),
    );
    if (typeof own === "object" && own !== null && !Array.isArray(own) && known) return own;
  } catch {
    // told below
  }
  throw fail();
}

function readScored(metadata: GgufMetadata): Vocabulary {
  const pieces = readPieces(metadata);
  return {
    ...readTokens(metadata, pieces.length, true),
    pieces,
    scores: readScores(metadata, pieces.length),
    types: readPieceTypes(metadata, pieces),
    addSpacePrefix: metadata.boolean("tokenizer.ggml.add_space_prefix", true),
  };
}

function readByteLevel(metadata: GgufMetadata): Vocabulary {
  const key = "tokenizer.ggml.pre";
  const pre = metadata.string(key);
  const wordPattern = wordPatterns.get(pre);
  if (wordPattern === undefined) {
    const known = [...wordPatterns.keys()].join(", ");
    throw metadata.error(key, `must be one of ${known}, not ${show(pre)}`, "ERR_CRIA_UNSUPPORTED");
  }
  const llama3 = wordPattern === "llama-bpe";
  const pieces = readPieces(metadata);
  const types = readPieceTypes(metadata, pieces);
  const tokens = readTokens(metadata, pieces.length, llama3);
  // Those of Llama 3, which older files do not mark.
  const ends = pieces.flatMap((piece, id) =>
    types[id] === pieceTypes.control && endNames.includes(piece) ? [id] : [],
  );
  return {
    ...tokens,
    ends: [...(tokens.ends ?? []), ...ends],
    pieces,
    scores: pieces.map(() => 0),
    merges: readMerges(metadata, pieces),
    types,
    addSpacePrefix: metadata.boolean("tokenizer.ggml.add_space_prefix", false) && "unless-there",
    wordPattern,
    wholeWords: llama3,
  };
}

function readPieces(metadata: GgufMetadata): readonly string[] {
  const pieces = metadata.strings("tokenizer.ggml.tokens");
  if (pieces.length < 1 || pieces.length > most.vocab) {
    throw metadata.error("tokenizer.ggml.tokens", `must be 1 to ${most.vocab} strings, not ${pieces.length}`);
  }
  return pieces;
}

function readTokens(
  metadata: GgufMetadata,
  count: number,
  addBos: boolean,
): Pick<Vocabulary, "bos" | "eos" | "ends" | "unknown" | "addBos"> {
  const token = (name: string) => readToken(metadata, `tokenizer.ggml.${name}_token_id`, count);
  const bos = token("bos");
  const endOfTurn = token("eot");
  return {
    bos,
    eos: token("eos"),
    ...(endOfTurn === undefined ? {} : { ends: [endOfTurn] }),
    unknown: token("unknown"),
    addBos: metadata.boolean("tokenizer.ggml.add_bos_token", addBos) && bos !== undefined,
  };
}

/** Checks that each merge is of two pieces, and makes one. */
function readMerges(metadata: GgufMetadata, pieces: readonly string[]): readonly string[] {
  const key = "tokenizer.ggml.merges";
  const merges = metadata.strings(key);
  const fault = faultyMerge(merges, pieces);
  if (fault === undefined) return merges;
  throw metadata.error(key, `its element ${fault} must be two pieces that make one, not ${show(merges[fault])}`);
}

/** The first merge that is not "left right", pieces that together are one; undefined where there is none. */
export function faultyMerge(merges: readonly string[], pieces: readonly string[]): number | undefined {
  const known = new Set(pieces);
  const fault = merges.findIndex((merge) => {
    const space = merge.indexOf(" ");
    const [left, right] = [merge.slice(0, space), merge.slice(space + 1)];
    return space < 1 || !known.has(left) || !known.has(right) || !known.has(left + right);
  });
  return fault === -1 ? undefined : fault;
}

function readScores(metadata: GgufMetadata, count: number): number[] {
  const key = "tokenizer.ggml.scores";
  const scores = metadata.floats(key);
  checkLength(metadata, key, scores.length, count);
  const nan = scores.findIndex(Number.isNaN);
  if (nan !== -1) throw metadata.error(key, `its element ${nan} must be a number, not NaN`);
  return [...scores];
}

function readPieceTypes(metadata: GgufMetadata, pieces: readonly string[]): number[] {
  const key = "tokenizer.ggml.token_type";
  const types = metadata.integers(key);
  checkLength(metadata, key, types.length, pieces.length);
  const { normal: first, byte: last } = pieceTypes;
  types.forEach((type, id) => {
    if (type < first || type > last)
      throw metadata.error(key, `its element ${id} must be ${first} to ${last}, not ${type}`);
    if (type === pieceTypes.byte && byteOf(pieces[id]!) === undefined) {
      throw metadata.error(
        "tokenizer.ggml.tokens",
        `its element ${id} must be a byte as <0x0A>, not ${show(pieces[id])}`,
      );
    }
  });
  return [...types];
}

function checkLength(metadata: GgufMetadata, key: string, length: number, count: number): void {
  if (length !== count)
    throw metadata.error(key, `must have ${count} elements, as tokenizer.ggml.tokens has, not ${length}`);
}

/** A token's id, or undefined where the file has none. */
function readToken(metadata: GgufMetadata, key: string, count: number): number | undefined {
  const id = metadata.integer(key, -1, noToken, noToken);
  if (id === noToken || id === -1) return undefined;
  if (id >= count) throw metadata.error(key, `must be below ${count}, the number of tokenizer.ggml.tokens, not ${id}`);
  return id;
}
