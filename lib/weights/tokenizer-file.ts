import { type JsonKeys, readJsonFile } from "./json-file.js";
import { most } from "./llama-limits.js";
import { readStart } from "./open.js";
import { readSentencePiece } from "./sentencepiece.js";
import type { Vocabulary } from "./source.js";
import { beginsAsTiktoken, readTiktoken } from "./tiktoken.js";
import { parseTokenizerJson, readAddedTokens, tokenNamed } from "./tokenizer-json.js";

/** The longest `tokenizer.json` that is read. The largest in use, of 262,144 pieces, have 33 MB. */
const mostTokenizerBytes = 64 * 2 ** 20;

/** Reads a `tokenizer.json`. @throws CriaFileError as {@link readJsonFile} */
export const readTokenizerJson = (path: string): Promise<JsonKeys> => readJsonFile(path, undefined, mostTokenizerBytes);

/** A tokenizer that is a file of its own: `tokenizer.json`, or the `tokenizer.model` of SentencePiece or of Llama 3. */
type TokenizerFile = "json" | "sentencepiece" | "tiktoken";

/**
 * Which tokenizer a file is, by its first bytes: those of a JSON object, or of a protobuf message of which the first
 * field, a message itself, begins with a string, or of tiktoken's first line. Undefined for what is neither.
 *
 * @throws CriaFileError where it cannot be read
 */
export async function tokenizerFileOf(path: string): Promise<TokenizerFile | undefined> {
  const text = (await readStart(path, 64)).toString("latin1");
  if (/^\s*\{\s*"/.test(text)) return "json";
  if (beginsAsTiktoken(text)) return "tiktoken";
  return /^\n.\n/s.test(text) ? "sentencepiece" : undefined;
}

/**
 * Reads the vocabulary of a tokenizer's own file. What no such file says, which tokens end a text, is SentencePiece's
 * own word, and nothing for a `tokenizer.json`; it begins with what the template there puts before it.
 *
 * @throws CriaFileError as {@link readSentencePiece} and {@link parseTokenizerJson}
 */
export async function readTokenizerFile(path: string): Promise<Vocabulary> {
  const kind = await tokenizerFileOf(path);
  if (kind === "sentencepiece") return readSentencePiece(path);
  if (kind === "tiktoken") return readTiktoken(path);
  const file = await readTokenizerJson(path);
  const size = sizeOf(file);
  if (size > most.vocab) throw file.error("model.vocab", `must have ids below ${most.vocab}, not ${size - 1}`);
  const { first, ...pieces } = parseTokenizerJson(file, size);
  const bos = tokenNamed(pieces.pieces, first);
  return { ...pieces, bos, eos: undefined, addBos: bos !== undefined };
}

/** The ids that there are. */
function sizeOf(file: JsonKeys): number {
  const ids = Object.values(file.object("model").object("vocab").values).filter((id) => Number.isInteger(id));
  const added = readAddedTokens(file).map(({ id }) => id);
  return [...(ids as number[]), ...added].reduce((size, id) => Math.max(size, id + 1), 1);
}
