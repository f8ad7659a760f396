import { CriaFileError, show } from "../errors.js";
import { readRange } from "../files.js";
import type { Rope } from "../rope-scaling.js";
import { adapterProblem } from "./adapter-names.js";
import { type Gguf, type GgufTensor, readGguf } from "./gguf.js";
import type { GgufMetadata } from "./gguf-metadata.js";
import { readGgufVocabulary } from "./gguf-vocabulary.js";
import { most, readHeads } from "./llama-limits.js";
import { type LlamaTensor, llamaTensors } from "./llama-tensors.js";
import { readFrom } from "./open.js";
import { checkRopeDivisors, readGgufRope, ropeDivisorsName } from "./rope-keys.js";
import type { FileTensor, LlamaConfig, ModelIndex, Vocabulary } from "./source.js";
import { fileSource, type ModelFile } from "./store.js";
import { required } from "./stored-tensor.js";

/**
 * Reads the index of a LLaMA from a GGUF file, or from any part of a split one: hyper-parameters, vocabulary, and where
 * each weight stands. Keys and tensors are those that llama.cpp writes for the architecture "llama".
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that is damaged or lacks a key or a tensor, ERR_CRIA_UNSUPPORTED for a
 *   sound one that holds another architecture, or asks for what cria's forward pass does not do
 */
export async function readLlama(path: string): Promise<LlamaGguf> {
  const file = await readGguf(path);
  const { config: inKeys, ...keys } = readLlamaKeys(file.metadata);
  const config = { ...inKeys, rope: await readDivisors(file, inKeys.rope) };
  const tensors = new Map(file.tensors);
  tensors.delete(ropeDivisorsName);
  checkTensors({ ...file, tensors }, config);
  const format = `GGUF v${file.version}`;
  const source = () => fileSource(tensors);
  return { path, format, ...keys, config, keys: file.metadata.entries, tensors, mappable: false, source };
}

/** A model whose tensors stand one by one in GGUF files. */
export interface LlamaGguf extends ModelFile {
  readonly tensors: ReadonlyMap<string, FileTensor>;
}

/**
 * What the keys of a LLaMA say: its name, its hyper-parameters, its vocabulary and the template of its chats.
 *
 * @throws CriaFileError as {@link readLlama}
 */
export function readLlamaKeys(
  metadata: GgufMetadata,
): Pick<ModelIndex, "name" | "config" | "vocabulary" | "chatTemplate"> {
  if (metadata.entries.get("general.type")?.value === "adapter") {
    throw new CriaFileError(metadata.file, undefined, adapterProblem, "ERR_CRIA_UNSUPPORTED");
  }
  const architecture = metadata.string("general.architecture");
  if (architecture !== "llama") {
    throw metadata.error("general.architecture", `must be "llama", not ${show(architecture)}`, "ERR_CRIA_UNSUPPORTED");
  }
  const vocabulary = readGgufVocabulary(metadata);
  const config = readConfig(metadata, vocabulary.pieces.length);
  const chatTemplate = metadata.string("tokenizer.chat_template", undefined);
  return { name: metadata.string("general.name", undefined), config, vocabulary, chatTemplate };
}

/**
 * Reads the vocabulary of a GGUF file, which need not hold a model.
 *
 * @throws CriaFileError as {@link readLlama}
 */
export async function readLlamaVocabulary(path: string): Promise<Vocabulary> {
  const { metadata } = await readGguf(path);
  return readGgufVocabulary(metadata);
}

const headKeys = {
  dim: "llama.embedding_length",
  heads: "llama.attention.head_count",
  kvHeads: "llama.attention.head_count_kv",
  headDim: "llama.attention.key_length",
};

function readConfig(metadata: GgufMetadata, vocab: number): LlamaConfig {
  refuseExperts(metadata);
  const declaredVocab = metadata.integer("llama.vocab_size", 1, most.vocab, vocab);
  if (declaredVocab !== vocab) {
    throw metadata.error(
      "llama.vocab_size",
      `must be ${vocab}, the number of tokenizer.ggml.tokens, not ${declaredVocab}`,
    );
  }
  const shape = readHeads(metadata, headKeys);
  const { headDim } = shape;
  const valueLength = metadata.integer("llama.attention.value_length", 1, most.dim, headDim);
  if (valueLength !== headDim) {
    const problem = `must be ${headDim}, the dimension of the keys, not ${valueLength}`;
    throw metadata.error("llama.attention.value_length", problem, "ERR_CRIA_UNSUPPORTED");
  }
  const contextLength = metadata.integer("llama.context_length", 1, most.contextLength);
  return {
    layers: metadata.integer("llama.block_count", 1, most.layers),
    ...shape,
    ffn: metadata.integer("llama.feed_forward_length", 1, most.ffn),
    vocab,
    contextLength,
    eps: metadata.float("llama.attention.layer_norm_rms_epsilon", "an f32 above 0 and below 1", (x) => x > 0 && x < 1),
    rope: readGgufRope(metadata, { headDim, contextLength }),
  };
}

function refuseExperts(metadata: GgufMetadata): void {
  const experts = metadata.integer("llama.expert_count", 0, 2 ** 31, 0);
  if (experts > 0) {
    throw metadata.error(
      "llama.expert_count",
      `must be 0, for cria has no mixture of experts, not ${experts}`,
      "ERR_CRIA_UNSUPPORTED",
    );
  }
}

/** The rope of the keys with the divisors that stand among the tensors, where there are some. */
async function readDivisors(file: Gguf, rope: Rope): Promise<Rope> {
  const tensor = file.tensors.get(ropeDivisorsName);
  if (tensor === undefined) return rope;
  checkTensor(file, { name: ropeDivisorsName, kind: "vector", rows: 1, cols: rope.dim / 2 });
  if (tensor.type !== "f32") {
    throw new CriaFileError(tensor.file, ropeDivisorsName, `must be of type F32, not ${tensor.type.toUpperCase()}`);
  }
  const bytes = await readFrom(tensor.file, undefined, (fd) => readRange(fd, tensor.file, tensor));
  const divisors = Array.from({ length: rope.dim / 2 }, (_, i) => bytes.readFloatLE(4 * i));
  return { ...rope, divisors: checkRopeDivisors(tensor.file, ropeDivisorsName, divisors, rope.dim) };
}

/** Checks that the file has every tensor of the forward pass in its shape, and no other. */
function checkTensors(file: Gguf, config: LlamaConfig): void {
  const expected = llamaTensors(config, !file.tensors.has("output.weight"));
  for (const tensor of expected) checkTensor(file, tensor);
  const names = new Set(expected.map(({ name }) => name));
  for (const { name, file: part } of file.tensors.values()) {
    if (names.has(name)) continue;
    throw new CriaFileError(part, name, "is not a tensor of the LLaMA that cria computes", "ERR_CRIA_UNSUPPORTED");
  }
}

function checkTensor(file: Gguf, { name, kind, rows, cols }: LlamaTensor): void {
  const shape = kind === "vector" ? [cols] : [cols, rows]; // GGUF's are fastest first
  const tensor = required(file.tensors.get(name), file.path, name, shape);
  if (kind === "vector") checkVector(tensor);
}

/** Vectors, the weights of RMSNorm, are never quantised. */
function checkVector({ file, name, type }: GgufTensor): void {
  if (type === "f32" || type === "f16" || type === "bf16") return;
  throw new CriaFileError(file, name, `must be of type F32, F16 or BF16, not ${type.toUpperCase()}`);
}
