import { stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { CriaFileError, show } from "../errors.js";
import { readChatTemplate, readHuggingFaceVocabulary } from "./hugging-face-tokenizer.js";
import { type Int4Tensor, type Int4Tensors, int4Source, isInt4Weights, placeInt4 } from "./int4.js";
import { exists, type JsonKeys, readJsonFile } from "./json-file.js";
import { most, readHeads } from "./llama-limits.js";
import { type LlamaTensor, llamaTensors } from "./llama-tensors.js";
import { unreadable } from "./open.js";
import { readInt4Scheme } from "./quantization-config.js";
import { readHuggingFaceRope } from "./rope-keys.js";
import { isSafetensors, type Safetensors, type SafetensorsTensor } from "./safetensors.js";
import { readSafetensorsModel } from "./safetensors-shards.js";
import type { FileTensor, LlamaConfig, ModelIndex, Vocabulary } from "./source.js";
import type { ModelFile } from "./store.js";
import { floatTypeOf, required } from "./stored-tensor.js";

/**
 * A model as transformers saves it: a folder with its `config.json`, and the file of weights that was named, if one
 * was.
 */
export interface HuggingFaceFolder {
  readonly folder: string;
  readonly weights?: string;
}

/**
 * The folder of a model that was given by it, by its `config.json`, or by one of its safetensors files; undefined where
 * it is none.
 *
 * @throws CriaFileError where there is nothing, or it cannot be read
 */
export async function huggingFaceFolder(path: string): Promise<HuggingFaceFolder | undefined> {
  const found = await stat(path).catch((error) => {
    throw unreadable(path, undefined, error);
  });
  if (found.isDirectory()) return (await exists(join(path, "config.json"))) ? { folder: path } : undefined;
  if (!found.isFile() || found.size === 0) return undefined;
  const folder = dirname(path);
  if (await isSafetensors(path)) {
    return (await exists(join(folder, "config.json"))) ? { folder, weights: path } : undefined;
  }
  return basename(path) === "config.json" ? { folder } : undefined;
}

/** What of a folder is no weights. */
export type HuggingFaceKeys = Pick<ModelIndex, "name" | "config" | "vocabulary" | "chatTemplate"> & {
  /** `config.json`. */
  readonly keys: JsonKeys;
};

/**
 * Reads the index of a LLaMA from a folder that transformers saved: `config.json`, safetensors, and a tokenizer.
 *
 * A matrix keeps the order that it has there: `config.rope.pairing` says that its queries and keys turn by halves.
 *
 * @param path the folder, its `config.json`, or one of its safetensors files
 * @param vocabulary what is used instead of the folder's own
 * @throws CriaFileError ERR_CRIA_FILE for what is damaged, missing or contradicts itself, ERR_CRIA_UNSUPPORTED for a
 *   sound model of another forward pass: it names the key or the tensor
 */
export async function readHuggingFace(path: string, vocabulary?: Vocabulary): Promise<ModelFile> {
  const found = await huggingFaceFolder(path);
  if (found === undefined) throw new CriaFileError(path, undefined, "must be a folder with a config.json");
  const { keys, ...index } = await readHuggingFaceKeys(found.folder, vocabulary);
  const stored = await readSafetensorsModel(found.folder, found.weights);
  const scheme = await readInt4Scheme(found.folder, keys, [...stored.tensors.keys()].some(isInt4Weights));
  const tied = keys.boolean("tie_word_embeddings", false);
  const int4 = scheme && (await placeInt4(stored.tensors, scheme, llamaTensors(index.config, tied), huggingFaceName));
  const tensors = placeTensors(found.folder, stored, index.config, tied, int4);
  const { length } = stored.files;
  const shards = length === 1 ? "safetensors" : `${length} safetensors shards`;
  const format = `Hugging Face ${modelClass(keys)}, ${scheme ? `${scheme.layout.toUpperCase()} in ` : ""}${shards}`;
  const files = [...stored.files.map((file) => file.path), ...settingsNames.map((name) => join(found.folder, name))];
  return { path, format, ...index, tensors, files, mappable: false, source: () => int4Source(tensors) };
}

/** What of a folder is read beside the weights. */
const settingsNames: readonly string[] = [
  "config.json",
  "generation_config.json",
  "quantize_config.json",
  "model.safetensors.index.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "added_tokens.json",
  "chat_template.jinja",
];

/**
 * Reads all of a folder but its weights.
 *
 * @throws CriaFileError as {@link readHuggingFace}
 */
export async function readHuggingFaceKeys(folder: string, vocabulary?: Vocabulary): Promise<HuggingFaceKeys> {
  const keys = await readJsonFile(join(folder, "config.json"));
  const config = readHuggingFaceConfig(keys);
  return {
    keys,
    name: basename(resolve(folder)),
    config,
    vocabulary: vocabulary ?? (await readHuggingFaceVocabulary({ folder, config: keys, vocab: config.vocab })),
    chatTemplate: await readChatTemplate(folder),
  };
}

/** transformers' classes of which the forward pass is LLaMA's, the second as the first conversions had it. */
const classes: readonly string[] = ["LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM"];

/** What `model_type` may be, where no class is named. */
const modelTypes: readonly string[] = ["llama", "mistral"];

function modelClass(keys: JsonKeys): string {
  const [first] = keys.array("architectures", []);
  return typeof first === "string" ? first : keys.string("model_type");
}

/** Refuses what asks for another forward pass. `expected`: "false", of what the key must be. */
function refuse(keys: JsonKeys, key: string, wrong: boolean, expected: string): void {
  if (wrong) throw keys.error(key, `must be ${expected}, not ${show(keys.value(key))}`, "ERR_CRIA_UNSUPPORTED");
}

const headKeys = {
  dim: "hidden_size",
  heads: "num_attention_heads",
  kvHeads: "num_key_value_heads",
  headDim: "head_dim",
};

/**
 * The hyper-parameters of a `config.json`, with transformers' defaults.
 *
 * @throws CriaFileError as {@link readHuggingFace}
 */
export function readHuggingFaceConfig(keys: JsonKeys): LlamaConfig {
  checkArchitecture(keys);
  const shape = readHeads(keys, headKeys);
  const contextLength = keys.integer("max_position_embeddings", 1, most.contextLength, 2048);
  refuseWindow(keys, contextLength);
  return {
    layers: keys.integer("num_hidden_layers", 1, most.layers),
    ...shape,
    ffn: keys.integer("intermediate_size", 1, most.ffn),
    vocab: keys.integer("vocab_size", 1, most.vocab),
    contextLength,
    eps: keys.float("rms_norm_eps", "a number above 0 and below 1", (x) => x > 0 && x < 1, 1e-6),
    rope: readHuggingFaceRope(keys, { headDim: shape.headDim, contextLength }),
  };
}

function checkArchitecture(keys: JsonKeys): void {
  const named = keys.array("architectures", []);
  if (named.length > 0) {
    if (!named.some((name) => classes.includes(name as string))) {
      throw keys.error("architectures", `must be one of ${classes.join(", ")}, not ${show(named[0])}`, unsupported);
    }
  } else {
    const type = keys.string("model_type");
    refuse(keys, "model_type", !modelTypes.includes(type), `one of ${modelTypes.join(", ")}`);
  }
  const act = keys.string("hidden_act", "silu");
  refuse(keys, "hidden_act", act !== "silu", '"silu"');
  for (const key of ["attention_bias", "mlp_bias"]) refuse(keys, key, keys.boolean(key, false), "false");
  for (const key of ["num_local_experts", "num_experts"]) {
    refuse(keys, key, keys.integer(key, 0, 2 ** 31, 0) > 0, "0, for cria has no mixture of experts");
  }
}

const unsupported = "ERR_CRIA_UNSUPPORTED";

/** A window as long as the context changes nothing. */
function refuseWindow(keys: JsonKeys, contextLength: number): void {
  const window = keys.integer("sliding_window", 1, 2 ** 31, contextLength);
  const wrong = window < contextLength && keys.boolean("use_sliding_window", true);
  refuse(keys, "sliding_window", wrong, `null or at least ${contextLength}, the max_position_embeddings`);
}

/** By GGUF's names of the parts of a block, Hugging Face's. */
const blockNames: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/** Those of the other tensors. */
const outerNames: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};

/** Hugging Face's name of a tensor, from GGUF's: "blk.3.attn_q.weight" is "model.layers.3.self_attn.q_proj.weight". */
export function huggingFaceName(name: string): string {
  const [, layer, part] = /^blk\.(\d+)\.(\w+)\.weight$/.exec(name) ?? [];
  return part === undefined ? outerNames[name]! : `model.layers.${layer}.${blockNames[part]!}.weight`;
}

const partOf: ReadonlyMap<string, string> = new Map(Object.entries(blockNames).map(([gguf, name]) => [name, gguf]));
const outerOf: ReadonlyMap<string, string> = new Map(Object.entries(outerNames).map(([gguf, name]) => [name, gguf]));

/** GGUF's name of a tensor, from Hugging Face's; undefined where a LLaMA has none of that name. */
export function ggufName(name: string): string | undefined {
  const [, layer, module = ""] = /^model\.layers\.(0|[1-9]\d{0,8})\.(.+)\.weight$/s.exec(name) ?? [];
  const part = partOf.get(module);
  return part === undefined ? outerOf.get(name) : `blk.${layer}.${part}.weight`;
}

/** Tensors that are no weights: the frequencies of RoPE, which older files have for each layer. */
export const isNoWeight = (name: string): boolean => name.endsWith("rotary_emb.inv_freq");

/** The tensors under GGUF's names, each there in its shape, and no other. */
function placeTensors(
  folder: string,
  { tensors: stored }: Safetensors,
  config: LlamaConfig,
  tied: boolean,
  int4: Int4Tensors | undefined,
): Map<string, FileTensor | Int4Tensor> {
  const tensors = new Map<string, FileTensor | Int4Tensor>();
  const known = new Set([huggingFaceName("token_embd.weight"), huggingFaceName("output.weight")]);
  for (const tensor of llamaTensors(config, tied)) {
    const matrix = int4?.tensors.get(tensor.name);
    if (matrix !== undefined) {
      tensors.set(tensor.name, matrix);
      continue;
    }
    const name = storedName(tensor.name, stored, tied);
    known.add(name);
    tensors.set(tensor.name, placeTensor(folder, stored.get(name), name, tensor));
  }
  for (const { file, name } of stored.values()) {
    if (known.has(name) || int4?.parts.has(name) || isNoWeight(name)) continue;
    throw new CriaFileError(file, name, "is not a tensor of the LLaMA that cria computes", unsupported);
  }
  return tensors;
}

/** Of embedding and output that are tied, files have one or the other; where both are there, the embedding is both. */
function storedName(name: string, stored: ReadonlyMap<string, SafetensorsTensor>, tied: boolean): string {
  const own = huggingFaceName(name);
  if (!tied || name !== "token_embd.weight" || stored.has(own)) return own;
  const output = huggingFaceName("output.weight");
  return stored.has(output) ? output : own;
}

function placeTensor(
  folder: string,
  stored: SafetensorsTensor | undefined,
  name: string,
  { name: ours, kind, rows, cols }: LlamaTensor,
): FileTensor {
  const shape = kind === "vector" ? [cols] : [rows, cols];
  const tensor = required(stored, folder, name, shape);
  const { file, offset, bytes, dtype } = tensor;
  return { name: ours, type: floatTypeOf(tensor, dtype), rows, cols, file, offset, bytes };
}
