import { show } from "../errors.js";
import { byteOf } from "../text/byte-pieces.js";
import { llama3Words } from "../text/pipeline.js";
import { faultyMerge } from "./gguf-vocabulary.js";
import { JsonKeys } from "./json-file.js";
import { most } from "./llama-limits.js";
import { pieceTypes, type Vocabulary, type WordPattern } from "./source.js";

/** A token that a tokenizer has beside its model's. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Whether it is never part of a text, as those that begin and end one. */
  readonly special: boolean;
}

/** What of a {@link Vocabulary} `tokenizer.json` says. */
export type TokenizerJson = Omit<Vocabulary, "bos" | "eos" | "ends" | "addBos"> & {
  /** The token that its template puts before a text, if it does. */
  readonly first: string | undefined;
};

/**
 * What the `tokenizer.json` of a LLaMA says (huggingface/tokenizers): BPE with byte fallback whose spaces are U+2581,
 * as LLaMA and Llama 2 have it, or byte-level BPE as Llama 3 and GPT-2.
 *
 * Added tokens that are special are control pieces, which no text becomes; the others are user-defined ones. Unlike in
 * Hugging Face's own tokenizers, no space is put after these.
 *
 * @param vocab the rows of the model's embedding: tokens that were added beyond them are left out, for nothing can be
 *   made of them
 * @throws CriaFileError ERR_CRIA_FILE for a file that contradicts itself, ERR_CRIA_UNSUPPORTED for what is no such BPE
 */
export function parseTokenizerJson(file: JsonKeys, vocab: number): TokenizerJson {
  const model = file.object("model");
  checkModel(model);
  const spaces = readSpaces(file);
  const wholeWords = model.boolean("ignore_merges", false);
  // A text that has the name of a byte, "<0x0A>", would be taken as that byte, a piece like any other.
  if (wholeWords && spaces.wordPattern === undefined) {
    throw model.error("ignore_merges", "must be false where spaces are U+2581, not true", "ERR_CRIA_UNSUPPORTED");
  }
  const pieces: string[] = Array(vocab).fill("");
  const types: number[] = Array(vocab).fill(pieceTypes.unused);
  const unknownName = model.string("unk_token", undefined);
  const fallsBack = model.boolean("byte_fallback", false);
  for (const [piece, id] of readPieces(model, vocab)) {
    pieces[id] = piece;
    types[id] = fallsBack && byteOf(piece) !== undefined ? pieceTypes.byte : pieceTypes.normal;
  }
  const merges = readMerges(model, pieces);
  for (const { id, content, special } of readAddedTokens(file)) {
    if (id >= vocab) continue;
    pieces[id] = content;
    types[id] = special ? pieceTypes.control : pieceTypes.userDefined;
  }
  const unknown = tokenNamed(pieces, unknownName);
  if (unknown !== undefined) types[unknown] = pieceTypes.unknown;
  return {
    ...spaces,
    pieces,
    scores: pieces.map(() => 0),
    merges,
    types,
    unknown,
    fuseUnknown: model.boolean("fuse_unk", false),
    wholeWords,
    first: templateStart(file.object("post_processor", undefined)),
  };
}

/** The first token of a name. The empty name is none, but what stands where a vocabulary has no piece. */
export function tokenNamed(pieces: readonly string[], name: string | undefined): number | undefined {
  const id = name === undefined || name === "" ? -1 : pieces.indexOf(name);
  return id === -1 ? undefined : id;
}

function checkModel(model: JsonKeys): void {
  const type = model.string("type", "BPE");
  if (type !== "BPE") throw model.error("type", `must be "BPE", not ${show(type)}`, "ERR_CRIA_UNSUPPORTED");
  const dropout = model.float("dropout", "a number", Number.isFinite, 0);
  if (dropout !== 0) throw model.error("dropout", `must be 0, not ${dropout}`, "ERR_CRIA_UNSUPPORTED");
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    const affix = model.string(key, "");
    if (affix !== "") throw model.error(key, `must be empty, not ${show(affix)}`, "ERR_CRIA_UNSUPPORTED");
  }
}

function* readPieces(model: JsonKeys, vocab: number): Generator<[piece: string, id: number]> {
  const pieces = model.object("vocab");
  const taken = new Set<number>();
  for (const [piece, id] of pieces.entries()) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocab) {
      throw pieces.error(
        piece,
        `must be an integer from 0 to ${vocab - 1}, for the model has ${vocab}, not ${show(id)}`,
      );
    }
    if (taken.has(id as number)) throw pieces.error(piece, `must have an id of its own, not ${id}, which another has`);
    taken.add(id as number);
    yield [piece, id as number];
  }
}

/** As "left right", which older files have; newer ones have two strings. */
function readMerges(model: JsonKeys, pieces: readonly string[]): string[] {
  const wrong = (i: number, value: unknown) =>
    model.error("merges", `its element ${i} must be two pieces that make one, not ${show(value)}`);
  const merges = model.array("merges").map((merge, i) => {
    const text = Array.isArray(merge) && merge.length === 2 ? merge.join(" ") : merge;
    if (typeof text !== "string") throw wrong(i, merge);
    return text;
  });
  const fault = faultyMerge(merges, pieces);
  if (fault !== undefined) throw wrong(fault, merges[fault]);
  return merges;
}

/** Its `added_tokens`, checked. */
export function readAddedTokens(file: JsonKeys): AddedToken[] {
  return file.array("added_tokens", []).map((value, i) => {
    const token = elementOf(file, "added_tokens", i, value);
    return {
      id: token.integer("id", 0, most.vocab),
      content: token.string("content"),
      special: token.boolean("special", false),
    };
  });
}

/** An element of an array that must be an object. */
function elementOf(keys: JsonKeys, key: string, i: number, value: unknown): JsonKeys {
  return new JsonKeys(keys.file, { [i]: value }, `${key}.`).object(`${i}`);
}

type Spaces = Pick<Vocabulary, "addSpacePrefix" | "splitSpaces" | "wordPattern">;

/** What is made of spaces: U+2581, or bytes as any other character. */
function readSpaces(file: JsonKeys): Spaces {
  const normalizers = stepsOf(file, "normalizer", "normalizers");
  const preTokenizers = stepsOf(file, "pre_tokenizer", "pretokenizers");
  const spaces =
    byteLevelSpaces(normalizers, preTokenizers) ??
    metaspaces(normalizers, preTokenizers) ??
    replacedSpaces(normalizers, preTokenizers);
  if (spaces !== undefined) return spaces;
  const names = [...normalizers, ...preTokenizers].map((step) => show(step.value("type")));
  throw file.error(
    "pre_tokenizer",
    `must, with the normalizer, be LLaMA's, Llama 3's or GPT-2's, not ${names.join(", ") || "none"}`,
    "ERR_CRIA_UNSUPPORTED",
  );
}

/** The steps of a sequence, or of what is one alone. */
function stepsOf(file: JsonKeys, key: string, sequence: string): JsonKeys[] {
  const step = file.object(key, undefined);
  if (step === undefined) return [];
  if (step.value("type") !== "Sequence") return [step];
  return step.array(sequence).map((value, i) => elementOf(step, `${key}.${sequence}`, i, value));
}

const typesOf = (steps: readonly JsonKeys[]) => steps.map((step) => step.value("type")).join(" ");

/** GPT-2's and Llama 3's. */
function byteLevelSpaces(normalizers: readonly JsonKeys[], steps: readonly JsonKeys[]): Spaces | undefined {
  const bytes = steps.at(-1);
  if (normalizers.length > 0 || bytes?.value("type") !== "ByteLevel") return undefined;
  const wordPattern = wordPatternOf(steps, bytes.boolean("use_regex", true));
  if (wordPattern === undefined) return undefined;
  return { wordPattern, addSpacePrefix: bytes.boolean("add_prefix_space", true) && "unless-there" };
}

function wordPatternOf(steps: readonly JsonKeys[], cuts: boolean): WordPattern | undefined {
  const types = typesOf(steps);
  const [first] = steps;
  if (types === "ByteLevel" && cuts) return "gpt-2";
  if (types === "Digits ByteLevel" && cuts && first!.boolean("individual_digits", false)) return "smollm";
  if (types !== "Split ByteLevel" || cuts) return undefined;
  const isLlama3 = first!.object("pattern").value("Regex") === llama3Words;
  const isolated = first!.value("behavior") === "Isolated" && !first!.boolean("invert", false);
  return isLlama3 && isolated ? "llama-bpe" : undefined;
}

/** LLaMA's in newer files. */
function metaspaces(normalizers: readonly JsonKeys[], steps: readonly JsonKeys[]): Spaces | undefined {
  if (normalizers.length > 0 || typesOf(steps) !== "Metaspace" || steps[0]!.value("replacement") !== "\u2581") {
    return undefined;
  }
  const scheme = steps[0]!.string("prepend_scheme", steps[0]!.boolean("add_prefix_space", true) ? "always" : "never");
  return { addSpacePrefix: scheme !== "never" && "unless-there", splitSpaces: steps[0]!.boolean("split", true) };
}

/** LLaMA's in older files: a normalizer that replaces spaces, with or without one that puts a space before. */
function replacedSpaces(normalizers: readonly JsonKeys[], steps: readonly JsonKeys[]): Spaces | undefined {
  const types = typesOf(normalizers);
  if (steps.length > 0 || (types !== "Prepend Replace" && types !== "Replace")) return undefined;
  const replace = normalizers.at(-1)!;
  const { String: space } = replace.object("pattern").values;
  if (space !== " " || replace.value("content") !== "\u2581") return undefined;
  const prepend = normalizers.length === 2;
  return prepend && normalizers[0]!.value("prepend") !== "\u2581" ? undefined : { addSpacePrefix: prepend };
}

/** The special token that a template, or one of a sequence, puts before a text. */
function templateStart(processor: JsonKeys | undefined): string | undefined {
  if (processor === undefined) return undefined;
  const steps =
    processor.value("type") === "Sequence"
      ? processor.array("processors").map((step, i) => elementOf(processor, "post_processor.processors", i, step))
      : [processor];
  const template = steps.find((step) => step.value("type") === "TemplateProcessing");
  const [start] = template?.array("single") ?? [];
  if (template === undefined || start === undefined) return undefined;
  return elementOf(template, "post_processor.single", 0, start).object("SpecialToken", undefined)?.string("id");
}
