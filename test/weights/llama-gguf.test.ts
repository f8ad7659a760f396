import { describe, expect, test } from "vitest";

import { readLlama } from "../../lib/weights/llama-gguf.js";
import { dataFile, needFiles, packageFile } from "../support/data.js";
import {
  array,
  bool,
  f32,
  f64,
  type GgufFile,
  i32,
  llamaFile,
  string,
  type TensorSpec,
  temporaryFolder,
  u8,
  u16,
  u32,
  u64,
  type Value,
} from "../support/gguf-writer.js";

async function read(file: GgufFile) {
  await using folder = await temporaryFolder();
  return await readLlama(await folder.write("model.gguf", file));
}

/** A sound file with some keys changed, or taken away where they are undefined. */
function withKeys(changes: Record<string, Value | undefined>, file = llamaFile()): GgufFile {
  const entries = Object.entries({ ...file.metadata, ...changes });
  const kept = entries.filter((entry): entry is [string, Value] => entry[1] !== undefined);
  return { ...file, metadata: Object.fromEntries(kept) };
}

/** A sound file with one tensor changed, or taken away. */
function withTensor(name: string, change: Partial<TensorSpec> | undefined, file = llamaFile()): GgufFile {
  const tensors = file.tensors.flatMap((it) => (it.name !== name ? [it] : change ? [{ ...it, ...change }] : []));
  return { ...file, tensors };
}

const withExtra = (...extra: TensorSpec[]): GgufFile => ({
  ...llamaFile(),
  tensors: [...llamaFile().tensors, ...extra],
});

const ropeFactors: TensorSpec = { name: "rope_freqs.weight", shape: [8], type: "f32" };

describe("models", () => {
  test("the shape, the vocabulary and the tensors of a small file", async () => {
    const model = await read(llamaFile());
    expect(model).toMatchObject({ format: "GGUF v3", name: "a test" });
    expect(model.config).toEqual({
      layers: 2,
      dim: 64,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      ffn: 96,
      vocab: 300,
      contextLength: 128,
      eps: Math.fround(1e-5),
      rope: { theta: 10_000, scale: 1, dim: 16, pairing: "adjacent" },
    });
    expect(model.vocabulary).toMatchObject({ bos: 1, eos: 2, unknown: 0, addBos: true, addSpacePrefix: true });
    expect(model.vocabulary.pieces.slice(257, 261)).toEqual(["<0xFE>", "<0xFF>", "▁", "▁w0"]);
    expect(model.vocabulary.types.slice(0, 4)).toEqual([2, 3, 3, 6]);
    expect(model.vocabulary.scores.slice(258, 261)).toEqual([0, -1, -2]);
    expect(model.tensors.get("blk.1.ffn_down.weight")).toMatchObject({ type: "q8_0", rows: 64, cols: 96 });
    expect(model.tensors.get("output_norm.weight")).toMatchObject({ type: "f32", rows: 1, cols: 64 });
  });

  test("the template of its chats, as it is", async () => {
    const template = "{{ bos_token }}{% for message in messages %}\ud83e\udd99{% endfor %}";
    expect((await read(llamaFile())).chatTemplate).toBeUndefined();
    expect((await read(withKeys({ "tokenizer.chat_template": string(template) }))).chatTemplate).toBe(template);
    await expect(read(withKeys({ "tokenizer.chat_template": u32(1) }))).rejects.toThrow(
      "chat_template: must be a string",
    );
  });

  test("keys that may be absent", async () => {
    const absent = {
      "general.name": undefined,
      "llama.attention.head_count_kv": undefined,
      "llama.rope.dimension_count": undefined,
      "tokenizer.ggml.bos_token_id": undefined,
      "tokenizer.ggml.eos_token_id": u32(0xffffffff),
      "tokenizer.ggml.unknown_token_id": i32(-1),
    };
    const { name, config, vocabulary } = await read(withKeys(absent, llamaFile({ kvHeads: 4 })));
    expect(name).toBeUndefined();
    expect(config).toMatchObject({ heads: 4, kvHeads: 4, rope: { dim: 16 } });
    expect(vocabulary).toMatchObject({ bos: undefined, eos: undefined, unknown: undefined, addBos: false });
  });

  test("integers of any width, floats of both", async () => {
    const { config } = await read(
      withKeys({
        "llama.context_length": u64(4096),
        "llama.block_count": u8(2),
        "llama.attention.head_count": u16(4),
        "llama.feed_forward_length": i32(96),
        "llama.rope.freq_base": f64(1e6),
      }),
    );
    expect(config).toMatchObject({ contextLength: 4096, layers: 2, heads: 4, ffn: 96, rope: { theta: 1e6 } });
  });

  test("heads whose dimension is not dim / heads", async () => {
    const { config } = await read(withKeys({ "llama.attention.value_length": u32(32) }, llamaFile({ headDim: 32 })));
    expect(config).toMatchObject({ dim: 64, heads: 4, headDim: 32, rope: { dim: 32 } });
  });

  test("tied embeddings have no output.weight", async () => {
    const { tensors } = await read(llamaFile({ tied: true }));
    expect(tensors.has("output.weight")).toBe(false);
  });

  test("what the tokenizer's keys say", async () => {
    const keys = { "tokenizer.ggml.add_bos_token": bool(false), "tokenizer.ggml.add_space_prefix": bool(false) };
    expect((await read(withKeys(keys))).vocabulary).toMatchObject({ bos: 1, addBos: false, addSpacePrefix: false });
  });

  const scalings: [what: string, scale: number, keys: Record<string, Value>][] = [
    ["linear, by a factor", 4, { "llama.rope.scaling.type": string("linear"), "llama.rope.scaling.factor": f32(4) }],
    ["no type, by a factor", 2, { "llama.rope.scaling.factor": f32(2) }],
    [
      "none, whatever the factor",
      1,
      { "llama.rope.scaling.type": string("none"), "llama.rope.scaling.factor": f32(4) },
    ],
    ["linear, without a factor", 1, { "llama.rope.scaling.type": string("linear") }],
    ["a factor of 0, which stands for 1", 1, { "llama.rope.scaling.factor": f32(0) }],
    ["under its old name", 8, { "llama.rope.scale_linear": f32(8) }],
  ];
  test.each(scalings)("RoPE scaling: %s", async (_, scale, keys) => {
    const rope = { theta: 10_000, scale, dim: 16, pairing: "adjacent" };
    expect((await read(withKeys(keys))).config.rope).toEqual(rope);
  });

  test("RoPE's divisors, a tensor, which is none of the forward pass", async () => {
    const divisors = Float32Array.of(1, 1, 1, 1.5, 3.25, 8, 8, 1e30);
    const tensor: TensorSpec = { ...ropeFactors, data: new Uint8Array(divisors.buffer) };
    const { config, tensors } = await read(withExtra(tensor));
    expect(config.rope).toEqual({ theta: 10_000, scale: 1, dim: 16, pairing: "adjacent", divisors: [...divisors] });
    expect([...tensors.keys()]).toEqual(llamaFile().tensors.map(({ name }) => name));
  });
});

describe("models that cria cannot run", () => {
  const unsupported = "ERR_CRIA_UNSUPPORTED";
  const bias: TensorSpec = { name: "blk.0.attn_q.bias", shape: [64], type: "f32" };
  const many = "tokenizer.ggml.tokens";
  const refusals: [subject: string, problem: string, file: GgufFile, code?: typeof unsupported][] = [
    ["general.architecture", "must be a string, but is missing", withKeys({ "general.architecture": undefined })],
    [
      "general.architecture",
      'must be "llama", not "mpt"',
      withKeys({ "general.architecture": string("mpt") }),
      unsupported,
    ],

    // Hyper-parameters that are missing, of the wrong type, absurd, or at odds with each other.
    ...["block_count", "embedding_length", "feed_forward_length", "attention.head_count", "context_length"].map(
      (key): [string, string, GgufFile] => [
        `llama.${key}`,
        expect.stringMatching(/^must be an integer from 1 to \d+, but is missing$/),
        withKeys({ [`llama.${key}`]: undefined }),
      ],
    ),
    ["llama.block_count", "must be an integer from 1 to 1024, not 0 (u32)", withKeys({ "llama.block_count": u32(0) })],
    ["llama.block_count", "must be an integer from 1 to 1024, not 2 (f32)", withKeys({ "llama.block_count": f32(2) })],
    [
      "llama.block_count",
      "must be an integer from 1 to 1024, not 4294967295 (u32)",
      withKeys({ "llama.block_count": u32(0xffffffff) }),
    ],
    [
      "llama.embedding_length",
      "must be an integer from 1 to 65536, not 18446744073709551615n (u64)",
      withKeys({ "llama.embedding_length": u64(2n ** 64n - 1n) }),
    ],
    [
      "llama.embedding_length",
      "must be an integer from 1 to 65536, not an array of u32",
      withKeys({ "llama.embedding_length": array("u32", [64]) }),
    ],
    [
      "llama.feed_forward_length",
      "must be an integer from 1 to 262144, not 1000000 (u32)",
      withKeys({ "llama.feed_forward_length": u32(1_000_000) }),
    ],
    [
      "llama.context_length",
      "must be an integer from 1 to 16777216, not 0 (u32)",
      withKeys({ "llama.context_length": u32(0) }),
    ],
    [
      "llama.attention.head_count",
      "must divide llama.embedding_length, 64, not be 5",
      withKeys({ "llama.attention.head_count": u32(5), "llama.attention.head_count_kv": u32(1) }),
    ],
    [
      "llama.attention.head_count",
      "must give heads of a multiple of 8 dimensions up to 256, not of 4",
      withKeys({ "llama.attention.head_count": u32(16) }),
      unsupported,
    ],
    [
      "llama.attention.key_length",
      "must give heads of a multiple of 8 dimensions up to 256, not of 264",
      withKeys({ "llama.attention.key_length": u32(264) }),
      unsupported,
    ],
    [
      "llama.attention.value_length",
      "must be 16, the dimension of the keys, not 32",
      withKeys({ "llama.attention.value_length": u32(32) }),
      unsupported,
    ],
    [
      "llama.attention.head_count_kv",
      "must be an integer from 1 to 4, not 8 (u32)",
      withKeys({ "llama.attention.head_count_kv": u32(8) }),
    ],
    [
      "llama.attention.head_count_kv",
      "must divide the 4 heads, not be 3",
      withKeys({ "llama.attention.head_count_kv": u32(3) }),
    ],
    [
      "llama.attention.layer_norm_rms_epsilon",
      "must be an f32 above 0 and below 1, not NaN (f32)",
      withKeys({ "llama.attention.layer_norm_rms_epsilon": f32(Number.NaN) }),
    ],
    [
      "llama.attention.layer_norm_rms_epsilon",
      "must be an f32 above 0 and below 1, but is missing",
      withKeys({ "llama.attention.layer_norm_rms_epsilon": undefined }),
    ],
    ["llama.rope.dimension_count", "must be even, not 5", withKeys({ "llama.rope.dimension_count": u32(5) })],
    [
      "llama.rope.dimension_count",
      "must be an integer from 2 to 16, not 32 (u32)",
      withKeys({ "llama.rope.dimension_count": u32(32) }),
    ],
    [
      "llama.rope.freq_base",
      "must be an f32 from 1 to 1e12, not Infinity (f32)",
      withKeys({ "llama.rope.freq_base": f32(Number.POSITIVE_INFINITY) }),
    ],
    [
      "llama.rope.scaling.type",
      'must be "none", "linear" or "yarn", not "longrope"',
      withKeys({ "llama.rope.scaling.type": string("longrope"), "llama.rope.scaling.factor": f32(16) }),
      unsupported,
    ],
    [
      "llama.rope.scaling.factor",
      "must be 0 or an f32 from 1 to 1e6, not -1 (f32)",
      withKeys({ "llama.rope.scaling.factor": f32(-1) }),
    ],
    [
      "llama.expert_count",
      "must be 0, for cria has no mixture of experts, not 8",
      withKeys({ "llama.expert_count": u32(8) }),
      unsupported,
    ],

    // Vocabularies.
    ["llama.vocab_size", `must be 300, the number of ${many}, not 301`, withKeys({ "llama.vocab_size": u32(301) })],
    [
      "tokenizer.ggml.model",
      'must be "llama", which is SentencePiece, or "gpt2", which is byte-level BPE, not "bert"',
      withKeys({ "tokenizer.ggml.model": string("bert") }),
      unsupported,
    ],
    [many, "must be an array of strings, but is missing", withKeys({ [many]: undefined })],
    [many, "must be an array of strings, not an array of i32", withKeys({ [many]: array("i32", [1, 2]) })],
    [many, "must be 1 to 1048576 strings, not 0", withKeys({ [many]: array("string", []) })],
    [
      "tokenizer.ggml.scores",
      "must be an array of f32, not an array of u8",
      withKeys({ "tokenizer.ggml.scores": array("u8", new Array(300).fill(0)) }),
    ],
    [
      "tokenizer.ggml.scores",
      `must have 300 elements, as ${many} has, not 299`,
      withKeys({ "tokenizer.ggml.scores": array("f32", new Array(299).fill(0)) }),
    ],
    [
      "tokenizer.ggml.scores",
      "its element 299 must be a number, not NaN",
      withKeys({ "tokenizer.ggml.scores": array("f32", [...new Array(299).fill(0), Number.NaN]) }),
    ],
    [
      "tokenizer.ggml.token_type",
      "must be an array of i32, not an array of f32",
      withKeys({ "tokenizer.ggml.token_type": array("f32", new Array(300).fill(1)) }),
    ],
    [
      "tokenizer.ggml.token_type",
      "its element 1 must be 1 to 6, not 7",
      withKeys({ "tokenizer.ggml.token_type": array("i32", [1, 7, ...new Array(298).fill(1)]) }),
    ],
    [
      many,
      'its element 0 must be a byte as <0x0A>, not "<unk>"',
      withKeys({ "tokenizer.ggml.token_type": array("i32", [6, ...new Array(299).fill(1)]) }),
    ],
    [
      "tokenizer.ggml.bos_token_id",
      `must be below 300, the number of ${many}, not 300`,
      withKeys({ "tokenizer.ggml.bos_token_id": u32(300) }),
    ],
    [
      "cria.vocabulary",
      'must be what cria wrote of a vocabulary, not "{\\"wholeWords\\":true}"',
      withKeys({ "cria.vocabulary": string('{"wholeWords":true}') }),
    ],
    ["tokenizer.ggml.add_bos_token", "must be a bool, not 1 (u8)", withKeys({ "tokenizer.ggml.add_bos_token": u8(1) })],

    // Tensors.
    [
      "blk.1.attn_k.weight",
      "must be a tensor of shape [64, 32], but is missing",
      withTensor("blk.1.attn_k.weight", undefined),
    ],
    [
      "blk.1.attn_k.weight",
      "must be of shape [64, 32], not [32, 64]",
      withTensor("blk.1.attn_k.weight", { shape: [32, 64] }),
    ],
    [
      "token_embd.weight",
      "must be of shape [64, 300], not [64, 299]",
      withTensor("token_embd.weight", { shape: [64, 299] }),
    ],
    ["output_norm.weight", "must be of shape [64], not [64, 1]", withTensor("output_norm.weight", { shape: [64, 1] })],
    [
      "blk.0.ffn_norm.weight",
      "must be of type F32, F16 or BF16, not Q8_0",
      withTensor("blk.0.ffn_norm.weight", { type: "q8_0" }),
    ],
    ["blk.0.attn_q.bias", "is not a tensor of the LLaMA that cria computes", withExtra(bias), unsupported],
    ["rope_freqs.weight", "its element 0 must be above 0 and finite, not 0", withExtra(ropeFactors)],
    ["rope_freqs.weight", "must be of shape [8], not [16]", withExtra({ ...ropeFactors, shape: [16] })],
    ["rope_freqs.weight", "must be of shape [8], not [8, 1]", withExtra({ ...ropeFactors, shape: [8, 1] })],
    ["rope_freqs.weight", "must be of type F32, not F16", withExtra({ ...ropeFactors, type: "f16" })],
    [
      "blk.1.attn_norm.weight",
      "is not a tensor of the LLaMA that cria computes",
      withKeys({ "llama.block_count": u32(1) }),
      unsupported,
    ],
  ];
  test.each(refusals)("%s %s", async (subject, problem, file, code) => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.gguf", file);
    await expect(readLlama(path)).rejects.toSatisfy((error: Record<string, unknown>) => {
      expect(error).toMatchObject({ name: "CriaFileError", code: code ?? "ERR_CRIA_FILE", file: path, subject });
      expect(String(error.message).slice(`${path}: ${subject}: `.length)).toEqual(problem);
      return true;
    });
  });
});

describe("real files", () => {
  test.for([
    [
      packageFile("models", "cria-tiny-q8_0.gguf"),
      { layers: 4, dim: 96, heads: 4, kvHeads: 2, headDim: 24, ffn: 256, vocab: 1024, contextLength: 192 },
    ],
    [dataFile("cria-tiny", "cria-tiny-f32.gguf"), { layers: 4, vocab: 1024 }],
    [dataFile("cria-tiny", "cria-tiny-q4_0.gguf"), { layers: 4, vocab: 1024 }],
    [
      dataFile("stories260K", "stories260Ktok512.gguf"),
      { layers: 5, dim: 64, heads: 8, kvHeads: 4, headDim: 8, ffn: 172, vocab: 512, contextLength: 128 },
    ],
    [dataFile("fixtures", "tiny-f32.gguf"), { layers: 2, dim: 256, heads: 8, kvHeads: 2 }],
    [dataFile("fixtures", "tiny-f16.gguf"), { headDim: 32 }],
    [dataFile("fixtures", "tiny-bf16.gguf"), { headDim: 32 }],
    [dataFile("fixtures", "tiny-q8_0.gguf"), { headDim: 32 }],
    [dataFile("fixtures", "tiny-q4_0.gguf"), { headDim: 32 }],
    [dataFile("fixtures", "tiny-mha-hd64.gguf"), { headDim: 64 }],
    [dataFile("fixtures", "tiny-odd.gguf"), { dim: 104, heads: 13, kvHeads: 1, headDim: 8, ffn: 172 }],
    [
      dataFile("fixtures", "tiny-theta1e6-linear4.gguf"),
      { rope: { theta: 1e6, scale: 4, dim: 32, pairing: "adjacent" } },
    ],
  ] as const)("%s", async ([path, config], context) => {
    needFiles(context, path);
    const model = await readLlama(path);
    expect(model.config).toMatchObject(config);
    expect(model.vocabulary).toMatchObject({ bos: 1, eos: 2, unknown: 0, addBos: true });
    expect(model.vocabulary.pieces).toHaveLength(model.config.vocab);
  });

  test.for([
    [
      "a vocabulary alone",
      ["tokenizer", "ggml-vocab-llama-spm.gguf"],
      "token_embd.weight: must be a tensor of shape [4096, 32000], but is missing",
      "ERR_CRIA_FILE",
    ],
    [
      "heads of 4",
      ["llama2-tiny-random", "llama-2-tiny-random.gguf"],
      "llama.attention.head_count: must give heads of a multiple of 8 dimensions up to 256, not of 4",
      "ERR_CRIA_UNSUPPORTED",
    ],
  ] as const)("%s", async ([, parts, problem, code], context) => {
    const path = dataFile(...parts);
    needFiles(context, path);
    await expect(readLlama(path)).rejects.toMatchObject({
      name: "CriaFileError",
      code,
      message: `${path}: ${problem}`,
    });
  });
});
