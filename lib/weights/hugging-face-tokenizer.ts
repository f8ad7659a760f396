import { join } from "node:path";

import { CriaFileError, show } from "../errors.js";
import { exists, type JsonKeys, readOptionalJsonFile, readTextFile } from "./json-file.js";
import { readSentencePiece } from "./sentencepiece.js";
import { pieceTypes, type Vocabulary } from "./source.js";
import { readTokenizerJson } from "./tokenizer-file.js";
import { type AddedToken, parseTokenizerJson, tokenNamed } from "./tokenizer-json.js";
import { padded } from "./vocabulary-size.js";

/** What of a model's other files the vocabulary depends on. */
interface ModelFiles {
  readonly folder: string;
  /** `config.json`. */
  readonly config: JsonKeys;
  /** The rows of the embedding. */
  readonly vocab: number;
}

/** A vocabulary before it is known which of its tokens begin and end a text. */
interface Pieces {
  readonly pieces: Omit<Vocabulary, "bos" | "eos" | "ends" | "addBos">;
  /** What the tokenizer itself puts before a text, and takes for its end. */
  readonly first: number | undefined;
  readonly last: number | undefined;
}

/**
 * Reads the vocabulary of a Hugging Face folder: `tokenizer.json`, or else `tokenizer.model`, and which token is which
 * of `tokenizer_config.json`, `generation_config.json` and `config.json`.
 *
 * @throws CriaFileError ERR_CRIA_FILE where a file is damaged, or there is no tokenizer; ERR_CRIA_UNSUPPORTED for one
 *   that cria has not
 */
export async function readHuggingFaceVocabulary({ folder, config, vocab }: ModelFiles): Promise<Vocabulary> {
  const settings = await readOptionalJsonFile(join(folder, "tokenizer_config.json"));
  const generation = await readOptionalJsonFile(join(folder, "generation_config.json"));
  const { pieces, first, last } = await readPieces(folder, vocab, settings);
  const named = (key: string) => tokenNamed(pieces.pieces, nameIn(settings, key));
  const ids = (key: string) => [...tokenIds(generation, key, vocab), ...tokenIds(config, key, vocab)];
  const bos = named("bos_token") ?? ids("bos_token_id")[0] ?? first;
  const ends = ids("eos_token_id");
  const eos = named("eos_token") ?? ends[0] ?? last;
  return {
    ...pieces,
    bos,
    eos,
    ends: [...new Set(ends)],
    addBos: bos !== undefined && addsBos(settings, first === bos),
  };
}

/**
 * Whether a text begins with BOS: as the settings say, as LLaMA's own tokenizer does without saying, or as the template
 * of `tokenizer.json` does.
 */
function addsBos(settings: JsonKeys | undefined, byTemplate: boolean): boolean {
  const isLlama = /^Llama/.test(settings?.string("tokenizer_class", "") ?? "");
  return settings?.boolean("add_bos_token", undefined) ?? (isLlama || byTemplate);
}

async function readPieces(folder: string, vocab: number, settings: JsonKeys | undefined): Promise<Pieces> {
  const json = join(folder, "tokenizer.json");
  if (await exists(json)) {
    const { first: name, ...pieces } = parseTokenizerJson(await readTokenizerJson(json), vocab);
    return { pieces, first: tokenNamed(pieces.pieces, name), last: undefined };
  }
  const model = join(folder, "tokenizer.model");
  if (!(await exists(model))) {
    throw new CriaFileError(folder, undefined, "must have a tokenizer.json or a tokenizer.model");
  }
  const { bos: first, eos: last, addBos: _, ...rest } = await readSentencePiece(model);
  const { length } = rest.pieces;
  if (length > vocab) throw new CriaFileError(model, undefined, `must have at most ${vocab} pieces, not ${length}`);
  return { pieces: withAdded(rest, vocab, await addedTokens(folder, settings)), first, last };
}

/** The tokens that stand beside a `tokenizer.model`. What no file says more of is taken for control. */
async function addedTokens(folder: string, settings: JsonKeys | undefined): Promise<AddedToken[]> {
  const names = await readOptionalJsonFile(join(folder, "added_tokens.json"));
  const added = (names?.entries() ?? []).map(([content, id]) => {
    if (!Number.isInteger(id) || (id as number) < 0) throw names!.error(content, `must be an id, not ${show(id)}`);
    return { id: id as number, content, special: true };
  });
  const described = settings?.object("added_tokens_decoder", undefined);
  const more = (described?.entries() ?? []).map(([id]) => {
    const token = described!.object(id);
    if (!/^\d{1,9}$/.test(id)) throw described!.error(id, "must be an id");
    return { id: Number(id), content: token.string("content"), special: token.boolean("special", false) };
  });
  return [...added, ...more];
}

/** The pieces, and after them the added tokens: those that the model has rows for. */
function withAdded<T extends Pick<Vocabulary, "pieces" | "scores" | "types">>(
  vocabulary: T,
  vocab: number,
  added: readonly AddedToken[],
): T {
  const all = padded(vocabulary, vocab);
  const pieces = [...all.pieces];
  const types = [...all.types];
  for (const { id, content, special } of added) {
    if (id < vocabulary.pieces.length || id >= vocab) continue;
    pieces[id] = content;
    types[id] = special ? pieceTypes.control : pieceTypes.userDefined;
  }
  return { ...all, pieces, types };
}

/** The token that `tokenizer_config.json` names: as a string, or an object with its `content`. */
function nameIn(settings: JsonKeys | undefined, key: string): string | undefined {
  const value = settings?.value(key);
  if (settings === undefined || value === undefined) return undefined;
  return typeof value === "string" ? value : settings.object(key).string("content");
}

/** The ids of a key that is one, or a list. Those that the model has no rows for are left out, as -1 is. */
function tokenIds(keys: JsonKeys | undefined, key: string, vocab: number): number[] {
  const value = keys?.value(key);
  if (keys === undefined || value === undefined) return [];
  const all: readonly unknown[] = Array.isArray(value) ? value : [value];
  return all.flatMap((id) => {
    if (!Number.isInteger(id)) throw keys.error(key, `must be an id, or a list of them, not ${show(id)}`);
    return (id as number) >= 0 && (id as number) < vocab ? [id as number] : [];
  });
}

/** The longest template that is read. The largest in use have some 20 KB. */
export const mostTemplateBytes = 2 ** 20;

/**
 * Reads the template of a folder's chats: `chat_template.jinja`, or the `chat_template` of `tokenizer_config.json`; of
 * several that are named, the one that is called "default", or else the first.
 *
 * @throws CriaFileError where it is no text, or longer than 1 MiB
 */
export async function readChatTemplate(folder: string): Promise<string | undefined> {
  const path = join(folder, "chat_template.jinja");
  if (await exists(path)) return await readTextFile(path, mostTemplateBytes);
  const settings = await readOptionalJsonFile(join(folder, "tokenizer_config.json"));
  if (settings === undefined || !Array.isArray(settings.value("chat_template"))) {
    return settings?.string("chat_template", undefined);
  }
  const named = settings.array("chat_template").map((value) => {
    const { name, template } = (value ?? {}) as { name?: unknown; template?: unknown };
    if (typeof name === "string" && typeof template === "string") return { name, template };
    throw settings.error("chat_template", "must be a template, or a list of such with names");
  });
  return (named.find(({ name }) => name === "default") ?? named[0])?.template;
}
