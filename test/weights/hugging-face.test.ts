import { readFileSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";

import { CriaError } from "../../lib/errors.js";
import { loadModel } from "../../lib/model.js";
import { readModel } from "../../lib/weights/model-file.js";
import type { FileTensor } from "../../lib/weights/source.js";
import { expectSameBits } from "../support/compare.js";
import { dataFile, needFiles } from "../support/data.js";
import { fileRows, forward64, nmse } from "../support/float64.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { smallTensors, writeModel } from "../support/hugging-face.js";
import { executions, scalar } from "../support/isas.js";
import { mutate, mutation } from "../support/mutants.js";
import { encodeSafetensors } from "../support/safetensors-writer.js";

type Changes = NonNullable<Parameters<typeof writeModel>[1]>;

async function read(changes: Changes = {}) {
  await using folder = await temporaryFolder();
  return await readModel(await writeModel(folder, changes));
}

/** The logits after each token, with an f32 cache. */
async function logitsOf(path: string, tokens: Int32Array, options: object = scalar): Promise<Float32Array> {
  const model = await loadModel(path, { cache: "f32", ...options });
  try {
    using sequence = model.sequence();
    return await sequence.forward(tokens, "all");
  } finally {
    model.dispose();
  }
}

describe("a real model, of which only lm_head is stored", () => {
  const folder = dataFile("tinystories-656k-hf");

  test.for(executions)("its logits are the exact ones: $isa, $threads threads", async (execution, context) => {
    needFiles(context, folder);
    const { tokens, vocab } = JSON.parse(readFileSync(join(folder, "exact.json"), "utf8"));
    const exact = new Float32Array(readFileSync(join(folder, "exact.logits.f32")).buffer.slice(0));
    expect(exact).toHaveLength(tokens.length * vocab);
    const logits = await logitsOf(folder, Int32Array.from(tokens), execution);
    expect(nmse(logits, exact)).toBeLessThan(1e-9);
    expectSameBits(logits, await logitsOf(folder, Int32Array.from(tokens)));
  });

  test("it tells a story", async (context) => {
    needFiles(context, folder);
    const model = await loadModel(folder);
    onTestFinished(() => model.dispose());
    const generation = model.generate("", { temperature: 0, maxTokens: 300 });
    let text = "";
    for await (const piece of generation) text += piece;
    expect(text).toMatch(/^Once upon a time, there was a little girl named Lily\. She had a toy car that she loved/);
  });
});

describe("recognition", () => {
  test("a folder, its config.json, and its file of weights are the same model", async () => {
    await using folder = await temporaryFolder();
    const path = await writeModel(folder);
    const model = await readModel(path);
    expect(model).toMatchObject({ format: "Hugging Face LlamaForCausalLM, safetensors", mappable: false });
    expect(model.name).toMatch(/^cria-/);
    for (const name of ["config.json", "model.safetensors"]) {
      const { source: _, path: __, ...same } = await readModel(join(path, name));
      expect(model).toMatchObject(same);
    }
  });

  test("a file of weights that no index lists is read alone, and a shard with its others", async () => {
    await using folder = await temporaryFolder();
    const path = await writeModel(folder, { tensors: smallTensors("BF16") });
    await folder.write("other.safetensors", encodeSafetensors({ tensors: smallTensors() }));
    const types = async (name: string) => {
      return new Set([...(await readModel(join(path, name))).tensors.values()].map(({ type }) => type));
    };
    expect(await types("other.safetensors")).toEqual(new Set(["f32"]));
    expect(await types("model.safetensors")).toEqual(new Set(["bf16"]));
  });

  test("a file of weights without a config.json is no model", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.safetensors", encodeSafetensors({ tensors: smallTensors() }));
    const message = `${path}: must have a config.json beside it`;
    await expect(readModel(path)).rejects.toMatchObject({ name: "CriaFileError", file: path, message });
    await mkdir(join(folder.path, "empty"));
    await expect(readModel(join(folder.path, "empty"))).rejects.toMatchObject({ name: "CriaFileError" });
    await expect(readModel(join(folder.path, "none"))).rejects.toThrow("no such file or directory");
  });

  test("its own tokenizer is not asked for where another vocabulary is given", async (context) => {
    const path = dataFile("tinystories-656k-hf");
    needFiles(context, path);
    await using folder = await temporaryFolder();
    for (const name of ["config.json", "model.safetensors"]) await copyFile(join(path, name), join(folder.path, name));
    await expect(readModel(folder.path)).rejects.toThrow("must have a tokenizer.json or a tokenizer.model");
  });
});

describe("models", () => {
  test("hyper-parameters, and those that may be absent", async () => {
    expect((await read()).config).toEqual({
      layers: 2,
      dim: 32,
      heads: 4,
      kvHeads: 2,
      headDim: 8,
      ffn: 48,
      vocab: 300,
      contextLength: 64,
      eps: 1e-5,
      rope: { theta: 10_000, scale: 1, dim: 8, pairing: "halves" },
    });
    const bare = {
      architectures: undefined,
      hidden_act: undefined,
      max_position_embeddings: undefined,
      num_key_value_heads: undefined,
      rms_norm_eps: undefined,
      rope_theta: undefined,
      tie_word_embeddings: undefined,
    };
    const square = Object.entries(smallTensors()).map(([name, tensor]) => {
      return [name, /[kv]_proj/.test(name) ? { dtype: "F32", shape: [32, 32] } : tensor] as const;
    });
    const { config } = await read({ config: bare, tensors: Object.fromEntries(square) });
    expect(config).toMatchObject({ kvHeads: 4, contextLength: 2048, eps: 1e-6, rope: { theta: 10_000 } });
  });

  test("the base and the scaling of RoPE, where older files have them and where newer ones do", async () => {
    const rope = async (config: object) => (await read({ config: { rope_theta: undefined, ...config } })).config.rope;
    const linear = { theta: 5e5, scale: 4, dim: 8, pairing: "halves" };
    expect(await rope({ rope_theta: 5e5, rope_scaling: { type: "linear", factor: 4 } })).toEqual(linear);
    expect(await rope({ rope_parameters: { rope_type: "linear", factor: 4, rope_theta: 5e5 } })).toEqual(linear);
    expect(await rope({ rope_parameters: { rope_type: "default", rope_theta: 5e5 } })).toEqual({ ...linear, scale: 1 });
    const llama3 = { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
    expect(await rope({ rope_scaling: { ...llama3, original_max_position_embeddings: 32 } })).toMatchObject({
      pairing: "halves",
      scaling: { type: "llama3", factor: 8, originalContextLength: 32 },
    });
  });

  test("heads of another width than the dimensions give", async () => {
    const wide = Object.entries(smallTensors()).map(([name, tensor]) => {
      const shape = name.includes("q_proj") ? [64, 32] : name.includes("o_proj") ? [32, 64] : undefined;
      const wider = /[kv]_proj/.test(name) ? [32, 32] : shape;
      return [name, wider === undefined ? tensor : { dtype: "F32", shape: wider }] as const;
    });
    expect((await read({ config: { head_dim: 16 }, tensors: Object.fromEntries(wide) })).config.headDim).toBe(16);
  });

  test("the chat template, and what else belongs to a Mistral of the same forward pass", async () => {
    const { chatTemplate, format, tensors } = await read({
      config: { architectures: ["MistralForCausalLM"], model_type: "mistral", sliding_window: 64 },
      tensors: { ...smallTensors(), "model.layers.0.self_attn.rotary_emb.inv_freq": { dtype: "F32", shape: [4] } },
      files: { "tokenizer_config.json": { chat_template: "{{ messages }}" } },
    });
    expect(format).toBe("Hugging Face MistralForCausalLM, safetensors");
    expect(chatTemplate).toBe("{{ messages }}");
    expect(tensors.size).toBe(21);
  });

  const tokens = Int32Array.from({ length: 24 }, (_, i) => (i * 37) % 300);
  test.each([
    ["F32", false, 1e-9],
    ["F32", true, 1e-9],
    // The activations that meet bfloat16 weights are rounded to bfloat16.
    ["BF16", false, 1e-4],
  ] as const)("the logits of a model in %s, tied: %s", async (dtype, tied, most) => {
    await using folder = await temporaryFolder();
    const changes = { config: { tie_word_embeddings: tied }, tensors: smallTensors(dtype, tied) };
    const path = await writeModel(folder, changes);
    const { config, tensors } = await readModel(path);
    const weights = fileRows(tensors as ReadonlyMap<string, FileTensor>);
    const exact = forward64({ config, weights }, tokens).flatMap((row) => Array.from(row));
    expect(nmse(await logitsOf(path, tokens), exact)).toBeLessThan(most);
  });

  test("shards give the logits of one file", async () => {
    await using whole = await temporaryFolder();
    await using split = await temporaryFolder();
    const path = await writeModel(whole);
    const all = Object.entries(smallTensors());
    const names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] as const;
    const [first, second] = [Object.fromEntries(all.slice(0, 9)), Object.fromEntries(all.slice(9))];
    const weightMap = Object.fromEntries(all.map(([name], i) => [name, names[i < 9 ? 0 : 1]]));
    await writeModel(split, {
      files: {
        "model.safetensors": undefined,
        "model.safetensors.index.json": { metadata: {}, weight_map: weightMap },
        [names[0]]: encodeSafetensors({ tensors: first }),
        [names[1]]: encodeSafetensors({ tensors: second }),
      },
    });
    for (const given of [split.path, join(split.path, names[1])]) {
      expect((await readModel(given)).format).toBe("Hugging Face LlamaForCausalLM, 2 safetensors shards");
      expectSameBits(await logitsOf(given, tokens), await logitsOf(path, tokens));
    }
  });

  test("of a tied model, the embedding, the output or both are stored", async () => {
    const { "model.embed_tokens.weight": embedding, ...rest } = smallTensors("F32", true);
    const config = { tie_word_embeddings: true };
    const logits = async (tensors: Changes["tensors"]) => {
      await using folder = await temporaryFolder();
      return await logitsOf(await writeModel(folder, { config, tensors: tensors! }), tokens);
    };
    const expected = await logits({ ...rest, "model.embed_tokens.weight": embedding! });
    expectSameBits(await logits({ ...rest, "lm_head.weight": embedding! }), expected);
    const other = { ...embedding!, data: Buffer.alloc(embedding!.data!.length) };
    expectSameBits(
      await logits({ ...rest, "model.embed_tokens.weight": embedding!, "lm_head.weight": other }),
      expected,
    );
  });
});

describe("models that cria cannot run", () => {
  const unsupported = "ERR_CRIA_UNSUPPORTED";
  const config = (changes: Record<string, unknown>): Changes => ({ config: changes });
  const tensor = (name: string, change: object | undefined): Changes => {
    const { [name]: old, ...rest } = smallTensors();
    return { tensors: change === undefined ? rest : { ...rest, [name]: { ...old!, ...change } } };
  };
  const embedding = "model.embed_tokens.weight";
  test.each<[subject: string, changes: Changes, message: string, code?: string]>([
    ["architectures", config({ architectures: ["FalconForCausalLM"] }), 'not "FalconForCausalLM"', unsupported],
    [
      "model_type",
      config({ architectures: [], model_type: "gpt2" }),
      'must be one of llama, mistral, not "gpt2"',
      unsupported,
    ],
    ["model_type", config({ architectures: undefined, model_type: undefined }), "must be a string, but is missing"],
    ["architectures", config({ architectures: "LlamaForCausalLM" }), "must be an array, not"],
    ["hidden_act", config({ hidden_act: "gelu" }), 'must be "silu", not "gelu"', unsupported],
    ["attention_bias", config({ attention_bias: true }), "must be false, not true", unsupported],
    ["mlp_bias", config({ mlp_bias: true }), "must be false, not true", unsupported],
    ["attention_bias", config({ attention_bias: 1 }), "must be true or false, not 1"],
    ["num_local_experts", config({ num_local_experts: 8 }), "mixture of experts, not 8", unsupported],
    ["sliding_window", config({ sliding_window: 32 }), "must be null or at least 64", unsupported],
    ["quantization_config.quant_method", config({ quantization_config: { quant_method: "fp8" } }), "fp8", unsupported],
    ["rope_scaling.rope_type", config({ rope_scaling: { rope_type: "longrope" } }), 'not "longrope"', unsupported],
    ["rope_scaling.factor", config({ rope_scaling: { type: "linear" } }), "from 1 to 1e6, but is missing"],
    ["rope_scaling.factor", config({ rope_scaling: { type: "linear", factor: 0 } }), "from 1 to 1e6, not 0"],
    ["rope_scaling", config({ rope_scaling: "linear" }), 'must be an object, not "linear"'],
    ["rope_theta", config({ rope_theta: 0 }), "must be a number from 1 to 1e12, not 0"],
    ["hidden_size", config({ hidden_size: undefined }), "must be an integer from 1 to 65536, but is missing"],
    ["hidden_size", config({ hidden_size: 32.5 }), "must be an integer from 1 to 65536, not 32.5"],
    ["num_hidden_layers", config({ num_hidden_layers: 2 ** 40 }), "must be an integer from 1 to 1024"],
    [
      "num_attention_heads",
      config({ num_attention_heads: 5, num_key_value_heads: 1 }),
      "must divide hidden_size, 32, not be 5",
    ],
    [
      "num_attention_heads",
      config({ num_attention_heads: 8 }),
      "must give heads of a multiple of 8 dimensions",
      unsupported,
    ],
    ["head_dim", config({ head_dim: 512 }), "up to 256, not of 512", unsupported],
    ["num_key_value_heads", config({ num_key_value_heads: 3 }), "must divide the 4 heads, not be 3"],
    ["vocab_size", config({ vocab_size: 0 }), "must be an integer from 1 to 1048576, not 0"],
    ["rms_norm_eps", config({ rms_norm_eps: 0 }), "must be a number above 0 and below 1, not 0"],
    ["tie_word_embeddings", config({ tie_word_embeddings: "yes" }), 'must be true or false, not "yes"'],
    [embedding, tensor(embedding, undefined), "must be a tensor of shape [300, 32], but is missing"],
    ["lm_head.weight", tensor("lm_head.weight", undefined), "must be a tensor of shape [300, 32], but is missing"],
    [
      embedding,
      { config: { tie_word_embeddings: true }, tensors: {} },
      "must be a tensor of shape [300, 32], but is missing",
    ],
    [embedding, tensor(embedding, { shape: [32, 300] }), "must be of shape [300, 32], not [32, 300]"],
    ["model.norm.weight", tensor("model.norm.weight", { shape: [1, 32] }), "must be of shape [32], not [1, 32]"],
    [
      "model.layers.1.mlp.up_proj.weight",
      tensor("model.layers.1.mlp.up_proj.weight", { dtype: "F64", data: Buffer.alloc(8 * 48 * 32) }),
      "must be of type F32, F16 or BF16, not F64",
      unsupported,
    ],
    [
      "model.layers.0.self_attn.q_proj.bias",
      tensor("model.layers.0.self_attn.q_proj.bias", { dtype: "F32", shape: [32] }),
      "is not a tensor of the LLaMA that cria computes",
      unsupported,
    ],
    [
      "model.layers.2.input_layernorm.weight",
      tensor("model.layers.2.input_layernorm.weight", { dtype: "F32", shape: [32] }),
      "is not a tensor of the LLaMA that cria computes",
      unsupported,
    ],
  ])("%s", async (subject, changes, message, code = "ERR_CRIA_FILE") => {
    const refused = read(changes);
    await expect(refused).rejects.toMatchObject({ name: "CriaFileError", subject, code });
    await expect(refused).rejects.toThrow(message);
  });

  test("its files cut and mutated, a model is read or refused", async () => {
    await using folder = await temporaryFolder();
    // A long text among the keys, in which a changed byte may be as good as what was there.
    const path = await writeModel(folder, { config: { _name_or_path: "x".repeat(500) } });
    const names = ["config.json", "tokenizer.json", "model.safetensors"] as const;
    const sound = Object.fromEntries(names.map((name) => [name, readFileSync(join(path, name))]));
    const outcomes = { read: 0, refused: 0 };
    const change = fc.record({ name: fc.constantFrom(...names), mutation });
    const property = fc.asyncProperty(change, async ({ name, mutation }) => {
      const bytes = sound[name]!;
      const header = name === "model.safetensors" ? Number(bytes.readBigUInt64LE()) + 8 : bytes.length;
      await writeFile(join(path, name), mutate(bytes, header, mutation));
      try {
        const { config, tensors, vocabulary } = await readModel(path);
        expect(vocabulary.pieces).toHaveLength(config.vocab);
        expect(tensors.size).toBe(config.layers * 9 + 3);
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof CriaError)) throw error;
        expect(error.message.startsWith(path)).toBe(true);
        outcomes.refused++;
      }
      await writeFile(join(path, name), bytes);
    });
    await fc.assert(property, { numRuns: 200, seed: 20_230_227 });
    // Both must occur, or the mutants test nothing.
    expect(outcomes.read).toBeGreaterThan(5);
    expect(outcomes.refused).toBeGreaterThan(100);
  });

  test("a config.json that is none, and weights that are none", async () => {
    await expect(read({ files: { "config.json": "{" } })).rejects.toThrow("config.json: must be JSON");
    await expect(read({ files: { "config.json": "[]" } })).rejects.toThrow("must hold a JSON object, not Array");
    await expect(read({ files: { "model.safetensors": "x" } })).rejects.toThrow("must begin with its header's length");
    await expect(read({ files: { "model.safetensors": undefined } })).rejects.toThrow("must have a model.safetensors");
  });
});
