import { CriaError, CriaFileError } from "../errors.js";
import type { GgufValue } from "./gguf-header.js";
import {
  array,
  bool,
  encodeKey,
  encodeStart,
  encodeTensorHeader,
  f32,
  padding,
  scalar,
  string,
  u32,
  type Value,
} from "./gguf-values.js";
import { isVocabularyKey, type OwnVocabulary, ownVocabularyKey } from "./gguf-vocabulary.js";
import { rankedMerges } from "./ranked-merges.js";
import { ropeKeys } from "./rope-keys.js";
import { type LlamaConfig, type ModelIndex, type TensorInfo, type Vocabulary, weightBytes } from "./source.js";

/** GGUF's default, of the data section and of each tensor in it. */
const alignment = 32;

/** The quantisation's version is that of the blocks' layout: 2 since GGML scales them by binary16. */
export const architectureKeys: Readonly<Record<string, Value>> = {
  "general.architecture": string("llama"),
  "general.quantization_version": u32(2),
};

/** A tensor at its place in a file. */
export interface PlacedGgufTensor extends TensorInfo {
  readonly offset: number;
  readonly bytes: number;
}

/** What a file begins with: all but the tensors' bytes. */
export interface GgufLayout {
  readonly header: Buffer;
  readonly tensors: readonly PlacedGgufTensor[];
  /** Of the whole file. */
  readonly size: number;
}

/** Puts tensors to their places, in the order given, after the keys in theirs. */
export function layoutGguf(keys: Readonly<Record<string, Value>>, tensors: Iterable<TensorInfo>): GgufLayout {
  let length = 0;
  const placed = Array.from(tensors, (info) => {
    const [offset, bytes] = [length, weightBytes(info.type, info.rows, info.cols)];
    length += bytes + padding(bytes, alignment);
    return { ...info, offset, bytes };
  });
  const index = Buffer.concat([
    encodeKeys(keys, placed.length),
    ...placed.map((info) => encodeTensorHeader(info.name, shapeOf(info), info.type, info.offset)),
  ]);
  const header = Buffer.concat([index, Buffer.alloc(padding(index.length, alignment))]);
  return {
    header,
    tensors: placed.map((info) => ({ ...info, offset: header.length + info.offset })),
    size: header.length + length,
  };
}

/** A file's start and its keys; without tensors it is a whole file. */
export const encodeKeys = (keys: Readonly<Record<string, Value>>, tensors = 0): Buffer =>
  Buffer.concat([
    encodeStart(tensors, Object.keys(keys).length),
    ...Object.entries(keys).map(([key, value]) => encodeKey(key, value)),
  ]);

/** GGUF's, fastest first; a LLaMA's vectors are those of one row. */
const shapeOf = ({ rows, cols }: TensorInfo) => (rows === 1 ? [cols] : [cols, rows]);

/**
 * The keys of a model, as llama.cpp's converter writes them for the architecture "llama".
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED for what GGUF has no keys for
 */
export const modelKeys = ({
  path,
  name,
  config,
  vocabulary,
  chatTemplate,
}: Pick<ModelIndex, "path" | "name" | "config" | "vocabulary" | "chatTemplate">): Record<string, Value> => ({
  ...architectureKeys,
  ...(name === undefined ? {} : { "general.name": string(name) }),
  ...sayable(path, () => configKeys(config)),
  ...vocabularyKeys(vocabulary),
  ...(chatTemplate === undefined ? {} : { "tokenizer.chat_template": string(chatTemplate) }),
});

function sayable<T>(path: string, keys: () => T): T {
  try {
    return keys();
  } catch (error) {
    if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_UNSUPPORTED") throw error;
    throw new CriaFileError(path, undefined, error.message, error.code, { cause: error });
  }
}

/** The keys of hyper-parameters. Queries and keys of the tensors beside them are in GGUF's pairing, adjacent. */
export const configKeys = (config: LlamaConfig): Record<string, Value> => ({
  "llama.vocab_size": u32(config.vocab),
  "llama.context_length": u32(config.contextLength),
  "llama.embedding_length": u32(config.dim),
  "llama.block_count": u32(config.layers),
  "llama.feed_forward_length": u32(config.ffn),
  "llama.attention.head_count": u32(config.heads),
  "llama.attention.head_count_kv": u32(config.kvHeads),
  "llama.attention.key_length": u32(config.headDim),
  "llama.attention.value_length": u32(config.headDim),
  "llama.attention.layer_norm_rms_epsilon": f32(config.eps),
  ...ropeKeys(config.rope),
});

/**
 * The keys of a vocabulary. A SentencePiece vocabulary that lists merges gets scores that give the same order, and a
 * byte-level one that has scores alone the merges that do.
 */
export function vocabularyKeys(vocabulary: Vocabulary): Record<string, Value> {
  const { pieces, types, wordPattern, merges, addSpacePrefix } = vocabulary;
  const own = ownVocabulary(vocabulary);
  const common = {
    "tokenizer.ggml.tokens": array("string", pieces),
    "tokenizer.ggml.token_type": array("i32", types),
    ...tokenKeys(vocabulary),
    "tokenizer.ggml.add_bos_token": bool(vocabulary.addBos),
    "tokenizer.ggml.add_space_prefix": bool(addSpacePrefix !== false),
    ...(Object.keys(own).length === 0 ? {} : { [ownVocabularyKey]: string(JSON.stringify(own)) }),
  };
  if (wordPattern !== undefined) {
    return {
      "tokenizer.ggml.model": string("gpt2"),
      "tokenizer.ggml.pre": string(wordPattern),
      ...common,
      "tokenizer.ggml.merges": array("string", merges ?? rankedMerges(vocabulary)),
    };
  }
  return {
    "tokenizer.ggml.model": string("llama"),
    "tokenizer.ggml.pre": string("default"),
    ...common,
    "tokenizer.ggml.scores": array("f32", merges === undefined ? vocabulary.scores : scoresOf(pieces, merges)),
    ...(merges === undefined ? {} : { "tokenizer.ggml.merges": array("string", merges) }),
  };
}

/** What GGUF has no key for, where it is not as GGUF's readers take it to be. */
function ownVocabulary(vocabulary: Vocabulary): OwnVocabulary {
  const { merges, wordPattern, addSpacePrefix, fuseUnknown, splitSpaces, wholeWords, ends } = vocabulary;
  const scored = wordPattern === undefined;
  return {
    ...(scored && merges !== undefined && { merges: true }),
    ...(addSpacePrefix === (scored ? "unless-there" : true) && { addSpacePrefix }),
    ...(fuseUnknown && { fuseUnknown }),
    ...(splitSpaces && { splitSpaces }),
    ...((wholeWords ?? false) !== (wordPattern === "llama-bpe") && { wholeWords: wholeWords ?? false }),
    ...(ends !== undefined && ends.length > 0 && { ends }),
  };
}

/**
 * What a piece scores for the place of the first merge that makes it: the sooner, the higher. In vocabularies that were
 * made from SentencePiece's, as LLaMA's are, all merges that make a piece stand together, so that the order is the
 * same.
 */
function scoresOf(pieces: readonly string[], merges: readonly string[]): number[] {
  const places = new Map<string, number>();
  for (const [place, merge] of merges.entries()) {
    const space = merge.indexOf(" ");
    const piece = merge.slice(0, space) + merge.slice(space + 1);
    if (!places.has(piece)) places.set(piece, place);
  }
  // What nothing makes, as a byte, is no other's rival. A score is an f32, which is exact for so many.
  return pieces.map((piece) => -(places.get(piece) ?? merges.length));
}

function tokenKeys({ bos, eos, ends = [], unknown }: Vocabulary): Record<string, Value> {
  const endOfTurn = ends.find((id) => id !== eos);
  const ids = { bos, eos, eot: endOfTurn, unknown };
  return Object.fromEntries(
    Object.entries(ids).flatMap(([name, id]) =>
      id === undefined ? [] : [[`tokenizer.ggml.${name}_token_id`, u32(id)]],
    ),
  );
}

/** A GGUF file's keys as they were read, with those of another vocabulary in place of its own where one is given. */
export function keptKeys(keys: ReadonlyMap<string, GgufValue>, vocabulary?: Vocabulary): Record<string, Value> {
  const kept = [...keys].filter(([key]) => vocabulary === undefined || !isVocabularyKey(key));
  return {
    ...Object.fromEntries(kept.map(([key, value]) => [key, ggufValue(value)])),
    ...(vocabulary && vocabularyKeys(vocabulary)),
  };
}

/** A key's value as it was read. */
function ggufValue(value: GgufValue): Value {
  if (value.type === "array") return array(value.element, Array.from<unknown>(value.value));
  return scalar(value.type)(value.value);
}

/** llama.cpp's number of what most of the weights are. */
export const fileTypeKey = (id: number): Record<string, Value> => ({ "general.file_type": u32(id) });
