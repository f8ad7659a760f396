import { CriaFileError } from "../errors.js";
import { pieceOfBytes } from "../text/byte-alphabet.js";
import { most } from "./llama-limits.js";
import { readWhole } from "./open.js";
import { pieceTypes, type Vocabulary } from "./source.js";

/** Llama 3's has 2.2 MB. */
const mostBytes = 16 * 2 ** 20;

/**
 * Eight times the 128 of Llama 3's longest, which are spaces. What a piece is merged from is found in the square of its
 * length (ranked-merges.ts).
 */
const mostPieceBytes = 1024;

/** How many tokens follow the pieces that the file has, by Meta's own code. */
const specials = 256;

/** Their names; the others are `<|reserved_special_token_N|>`, N from 2 on. */
const named: readonly string[] = [
  "<|begin_of_text|>",
  "<|end_of_text|>",
  "<|reserved_special_token_0|>",
  "<|reserved_special_token_1|>",
  "<|finetune_right_pad_id|>",
  "<|step_id|>",
  "<|start_header_id|>",
  "<|end_header_id|>",
  "<|eom_id|>",
  "<|eot_id|>",
  "<|python_tag|>",
];

/** Those that end a text, an answer, and a part of an answer. Where a format names one beside EOS, it is the second. */
export const endNames: readonly string[] = ["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>"];

/** Whether a file that begins so is one of tiktoken's. */
export const beginsAsTiktoken = (text: string): boolean => /^[A-Za-z0-9+/]+={0,2} 0\r?\n/.test(text);

/**
 * Reads the `tokenizer.model` of Llama 3, a file of tiktoken's: a line for each piece, its bytes in base64 and its
 * rank, which is its id too. Neighbours merge that together are a piece, the lowest rank first. The tokens behind the
 * pieces, which the file does not have, are those of Meta's llama_models/llama3/tokenizer.py.
 *
 * @throws CriaFileError where it cannot be read or is damaged
 */
export async function readTiktoken(path: string): Promise<Vocabulary> {
  return parse(path, (await readWhole(path, mostBytes)).toString("latin1"));
}

function parse(path: string, text: string): Vocabulary {
  const pieces: string[] = [];
  const seen = new Set<string>();
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const piece = parseLine(path, line, pieces.length);
    if (seen.has(piece)) throw new CriaFileError(path, `line ${pieces.length + 1}`, "must have a piece that is new");
    seen.add(piece);
    pieces.push(piece);
  }
  const count = pieces.length;
  const special = Array.from({ length: specials }, (_, i) => {
    return named[i] ?? `<|reserved_special_token_${i - named.length + 2}|>`;
  });
  const token = (name: string) => count + special.indexOf(name);
  return {
    pieces: [...pieces, ...special],
    scores: [...pieces.map((_, rank) => -rank), ...special.map(() => 0)],
    types: [...pieces.map(() => pieceTypes.normal), ...special.map(() => pieceTypes.control)],
    bos: token("<|begin_of_text|>"),
    eos: token("<|end_of_text|>"),
    ends: endNames.map(token),
    unknown: undefined,
    addBos: true,
    addSpacePrefix: false,
    wordPattern: "llama-bpe",
    wholeWords: true,
  };
}

/** The piece of a line, in the alphabet of byte-level vocabularies. */
function parseLine(path: string, line: string, rank: number): string {
  const fail = (problem: string) => new CriaFileError(path, `line ${rank + 1}`, problem);
  if (rank === most.vocab - specials) throw fail(`must be one of at most ${most.vocab - specials}`);
  const [, base64, number] = /^([A-Za-z0-9+/]+={0,2}) (\d+)\r?$/.exec(line) ?? [];
  if (base64 === undefined) throw fail("must be a piece in base64 and its rank");
  if (Number(number) !== rank) throw fail(`its rank must be ${rank}, not ${number}`);
  const bytes = Buffer.from(base64, "base64");
  if (bytes.length === 0 || bytes.toString("base64") !== base64) throw fail("its piece must be whole bytes in base64");
  if (bytes.length > mostPieceBytes) {
    throw fail(`its piece must be of at most ${mostPieceBytes} bytes, not ${bytes.length}`);
  }
  return pieceOfBytes(bytes);
}
