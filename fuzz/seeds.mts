/** Writes the seeds that are made and not found, into fuzz/corpus: `npm run fuzz -- --seeds`. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { loadModel } from "../lib/index.js";
import { packModel } from "../lib/pack.js";
import { Xoshiro128 } from "../lib/random.js";
import { huggingFaceName } from "../lib/weights/hugging-face.js";
import { readLlama } from "../lib/weights/llama-gguf.js";
import { llamaTensors } from "../lib/weights/llama-tensors.js";
import { type LlamaConfig, type WeightType, weightBytes } from "../lib/weights/source.js";
import {
  bool,
  encodeGguf,
  f32,
  type GgufFile,
  llamaFile,
  string,
  temporaryFolder,
  u32,
} from "../test/support/gguf-writer.js";
import { smallConfig, smallTokenizer } from "../test/support/hugging-face.js";
import { int4Tensors, randomInt4 } from "../test/support/int4.js";
import { encodeLegacy, encodeV1, encodeV2, type Numbers, tokenizerBin } from "../test/support/llama2c-writer.js";
import { bytesOf, knownUpdates, loraGguf, peftFiles } from "../test/support/lora.js";
import { castTo, partsOf } from "../test/support/meta-writer.js";
import { encodeSafetensors, type SafetensorsSpec } from "../test/support/safetensors-writer.js";
import { bytesField, integerField, piece } from "../test/support/sentencepiece-writer.js";
import { encodeTorch, type TorchType } from "../test/support/torch-writer.js";
import { corpusOf } from "./folders.js";

const types = ["f32", "f16", "bf16", "q8_0", "q4_0"] as const satisfies WeightType[];

export async function writeSeeds(): Promise<void> {
  const ggufs = types.map((type) => [type, tinyGguf(type)] as const);
  writeAll("gguf", [...ggufs, ["options", optionsGguf()]]);
  await using folder = await temporaryFolder();
  const model = await folder.write("model.gguf", tinyGguf("f32"));
  writeAll("packed", [
    ["f32", await packedSeed(model, join(folder.path, "f32"))],
    ["q8_0", await packedSeed(await folder.write("q8_0.gguf", tinyGguf("q8_0")), join(folder.path, "q8_0"))],
  ]);
  writeAll("sessions", await sessionSeeds(model, join(folder.path, "session")));
  writeAll("tokenizer", tokenizerSeeds());
  writeAll("hugging-face", huggingFaceSeeds());
  writeAll("safetensors", [["small", encodeSafetensors({ tensors: tinyTensors("BF16"), metadata: { format: "pt" } })]]);
  writeAll("sentencepiece", [["small", smallSentencePiece()]]);
  writeAll("llama2c", llama2cSeeds());
  writeAll("adapters", adapterSeeds((await readLlama(model)).config));
  writeAll("torch", [
    ["f32", torchSeed("f32")],
    ["bf16", torchSeed("bf16")],
  ]);
}

/** The smallest model of {@link tinyGguf}, in each of llama2.c's forms, behind a vocabulary and its length. */
function llama2cSeeds(): [string, Buffer][] {
  const file = tinyLlama("f32");
  const numbers: Numbers = [8, 8, 1, 1, 1, 24, 64];
  const vocabulary = tokenizerBin(24);
  const length = Buffer.alloc(2);
  length.writeUInt16LE(vocabulary.length);
  const models = {
    legacy: encodeLegacy(file, numbers),
    v1: encodeV1(file, numbers),
    v2: encodeV2(file, numbers, 8).bytes,
  };
  return Object.entries(models).map(([form, model]) => [form, Buffer.concat([length, vocabulary, model])]);
}

/** The same model as Meta has it, in one part. */
const torchSeed = (type: TorchType): Buffer => encodeTorch(partsOf(castTo(type, tinyLlama("f32")), 1)[0]!);

function writeAll(target: string, seeds: readonly (readonly [name: string, bytes: Uint8Array])[]): void {
  mkdirSync(corpusOf(target), { recursive: true });
  for (const [name, bytes] of seeds) writeFileSync(join(corpusOf(target), name), bytes);
}

/** The smallest LLaMA with weights of a type: one layer, a head of 8 dimensions or a block of 32, 24 pieces. */
const tinyGguf = (type: WeightType): Buffer => encodeGguf(tinyLlama(type));

function tinyLlama(type: WeightType): GgufFile {
  const dim = type === "q8_0" || type === "q4_0" ? 32 : 8;
  const shape = {
    layers: 1,
    dim,
    heads: dim / 8,
    kvHeads: 1,
    ffn: dim,
    vocab: 24,
    contextLength: 64,
    type,
    tied: true,
  };
  return llamaFile({ ...shape, data });
}

/** One with every key that may be there, and an output matrix of its own. */
function optionsGguf(): Buffer {
  const file = llamaFile({
    layers: 1,
    dim: 8,
    heads: 1,
    kvHeads: 1,
    ffn: 8,
    vocab: 24,
    contextLength: 64,
    type: "f16",
    data,
  });
  Object.assign(file.metadata, {
    "general.alignment": u32(32),
    "llama.vocab_size": u32(24),
    "llama.expert_count": u32(0),
    "llama.attention.key_length": u32(8),
    "llama.attention.value_length": u32(8),
    "llama.rope.freq_base": f32(500_000),
    "llama.rope.scaling.type": string("linear"),
    "llama.rope.scaling.factor": f32(2),
    "tokenizer.ggml.add_bos_token": bool(true),
    "tokenizer.ggml.add_space_prefix": bool(false),
  });
  return encodeGguf(file);
}

/** Bytes that are small finite numbers in every type: 0.008 as f32 and bf16, 0.06 and 1 as f16 and as scales. */
function data(_: string, type: WeightType, rows: number, cols: number): Uint8Array {
  return new Uint8Array(weightBytes(type, rows, cols)).map((_, i) => [0x00, 0x2c, 0x00, 0x3c][i % 4]!);
}

/** Without its size and checksum, which the target fills in (readers/targets/packed.ts). */
async function packedSeed(model: string, out: string): Promise<Buffer> {
  await packModel(model, out);
  const bytes = readFileSync(out);
  bytes.fill(0, 24, 32);
  bytes.fill(0, 48, 80);
  return bytes;
}

/** One of each format, for the smallest LLaMA (readers/targets/adapters.ts). */
function adapterSeeds(config: LlamaConfig): [string, Uint8Array][] {
  const updates = knownUpdates(config, /attn_[qk]|ffn_up|token_embd|^output/, { seed: 1 });
  const peft = peftFiles(config, updates);
  const settings = Buffer.from(JSON.stringify(peft.config));
  const length = Buffer.alloc(2);
  length.writeUInt16LE(settings.length);
  const gates = new Float32Array(config.heads).fill(0.5);
  const prompts = new Float32Array(2 * config.dim).fill(0.25);
  const prefix = {
    "layers.0.attention.gate": [[1, 1, 1, 1], gates],
    "adapter_query.weight": [[2, config.dim], prompts],
  } as const;
  const tensors = Object.entries(prefix).map(([name, [shape, floats]]) => ({
    name,
    shape: [...shape],
    data: bytesOf(floats),
  }));
  const safetensors = Object.fromEntries(tensors.map(({ name, ...rest }) => [name, { dtype: "F32", ...rest }]));
  return [
    ["lora", encodeGguf(loraGguf(updates))],
    ["peft", Buffer.concat([Buffer.from("PEFT"), length, settings, encodeSafetensors({ tensors: peft.tensors })])],
    ["prefix", encodeSafetensors({ tensors: safetensors })],
    ["torch", encodeTorch(tensors.map((tensor) => ({ ...tensor, type: "f32" })))],
  ];
}

/** Sequences of some tokens, without sizes and checksums (readers/targets/sessions.ts). */
async function sessionSeeds(path: string, out: string): Promise<[string, Buffer][]> {
  const model = await loadModel(path, { threads: 1, onWarning: () => undefined });
  const seeds: [string, Buffer][] = [];
  for (const count of [1, 20, 64]) {
    using sequence = model.sequence();
    await sequence.forward(new Int32Array(count).fill(7), "none");
    await model.saveSequence(sequence, out);
    const bytes = readFileSync(out);
    bytes.fill(0, 16, 24);
    bytes.fill(0, 80, 112);
    bytes.fill(0, bytes.length - 32);
    seeds.push([`${count}`, bytes]);
    rmSync(out);
  }
  model.dispose();
  return seeds;
}

const tinyDims = { layers: 1, dim: 8, heads: 1, kvHeads: 1, headDim: 8, ffn: 8, vocab: 12 } as const;

/** Weights as {@link data} has them. */
function tinyTensors(dtype: "F32" | "F16" | "BF16") {
  const type = ({ F32: "f32", F16: "f16", BF16: "bf16" } as const)[dtype];
  return Object.fromEntries(
    llamaTensors(tinyDims, true).map(({ name, kind, rows, cols }) => [
      huggingFaceName(name),
      { dtype, shape: kind === "vector" ? [cols] : [rows, cols], data: data(name, type, rows, cols) },
    ]),
  );
}

/** The same with matrices of 4 bits. */
function tinyInt4(layout: "gptq" | "awq"): Record<string, SafetensorsSpec> {
  const random = Xoshiro128.fromSeed(5);
  const matrix = () => randomInt4({ outputs: 8, inputs: 8, groupSize: -1 }, () => random.next());
  return Object.fromEntries(
    Object.entries(tinyTensors("F16")).flatMap(([name, tensor]): [string, SafetensorsSpec][] => {
      if (!name.endsWith("_proj.weight")) return [[name, tensor]];
      const parts = Object.entries(int4Tensors(matrix(), { layout, zerosLessOne: layout === "gptq" }));
      return parts.map(([part, spec]) => [name.replace(/weight$/, part), spec]);
    }),
  );
}

/** The smallest folders, as one file each (readers/targets/hugging-face.ts). */
function huggingFaceSeeds(): [string, Buffer][] {
  const config = {
    ...smallConfig,
    hidden_size: 8,
    intermediate_size: 8,
    num_attention_heads: 1,
    num_key_value_heads: 1,
    num_hidden_layers: 1,
    vocab_size: 12,
    tie_word_embeddings: true,
  };
  const pieces = ["<unk>", "<s>", "</s>", "\u2581", "a", "b", "ab", "\u2581a", "<0x0A>"];
  const { model, ...tokenizer } = smallTokenizer();
  const vocab = Object.fromEntries(pieces.map((piece, id) => [piece, id]));
  const json = { ...tokenizer, model: { ...(model as object), vocab } };
  const settings = { bos_token: "<s>", eos_token: { content: "</s>" }, add_bos_token: true };
  const folder = (keys: object, tensors: Record<string, SafetensorsSpec>) => {
    const objects = [{ ...config, ...keys }, json, settings, { eos_token_id: [2, 3] }];
    const texts = objects.map((value) => `${JSON.stringify(value)}\0`);
    return Buffer.concat([Buffer.from(texts.join("")), encodeSafetensors({ tensors })]);
  };
  const keys = { bits: 4, group_size: -1 };
  return [
    ...(["F32", "F16"] as const).map((dtype): [string, Buffer] => [dtype, folder({}, tinyTensors(dtype))]),
    ["GPTQ", folder({ quantization_config: { ...keys, quant_method: "gptq" } }, tinyInt4("gptq"))],
    ["AWQ", folder({ quantization_config: { ...keys, quant_method: "awq" } }, tinyInt4("awq"))],
  ];
}

/** LLaMA's first pieces, some bytes, and what a model says beside. */
const smallSentencePiece = () =>
  Buffer.concat([
    piece("<unk>", 0, 2),
    piece("<s>", 0, 3),
    piece("</s>", 0, 3),
    piece("<0x0A>", 0, 6),
    piece("\u2581", -1, 1),
    piece("\u2581a", -2, 1),
    bytesField(2, integerField(3, 2), integerField(40, 0), integerField(41, 1), integerField(42, 2)),
    bytesField(3, bytesField(1, "identity"), integerField(3, 1)),
  ]);

function tokenizerSeeds(): [string, Buffer][] {
  return randomSeeds(99, 400).map(([name, bytes], i): [string, Buffer] => {
    bytes[0] = i % 2 === 0 ? 0 : 255; // a whole vocabulary, or any
    return [name, bytes];
  });
}

/** Random bytes of several lengths, half of them small numbers. */
function randomSeeds(seed: number, most: number): [string, Buffer][] {
  const random = Xoshiro128.fromSeed(seed);
  return Array.from({ length: 24 }, (_, i): [string, Buffer] => {
    const length = Math.ceil((most * (i + 1)) / 24);
    const bytes = Buffer.from(Uint8Array.from({ length }, () => random.next() & (random.next() & 1 ? 0xff : 0x07)));
    return [`random-${String(i).padStart(2, "0")}`, bytes];
  });
}
