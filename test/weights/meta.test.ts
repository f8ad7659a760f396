import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { loadModel } from "../../lib/model.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { cria } from "../cli/run.js";
import { expectSameBits } from "../support/compare.js";
import {
  type GgufFile,
  type LlamaShape,
  llamaFile,
  type TemporaryFolder,
  temporaryFolder,
} from "../support/gguf-writer.js";
import { logitsOf, variedWeights } from "../support/logits.js";
import { castTo, type PartsOptions, partsOf, writeMeta } from "../support/meta-writer.js";
import { encodeTorch, type TorchSpec } from "../support/torch-writer.js";

const shape = { layers: 2, dim: 128, heads: 8, kvHeads: 8, ffn: 384, vocab: 320 };
const params = { dim: 128, n_layers: 2, n_heads: 8, n_kv_heads: 8, vocab_size: -1, multiple_of: 64, norm_eps: 1e-5 };
const tokens = Int32Array.of(1, 299, 260, 7, 7, 319);

const modelOf = (changes: LlamaShape = {}): GgufFile =>
  llamaFile({ ...shape, type: "f32", data: variedWeights, contextLength: 4096, ...changes });

interface Written extends PartsOptions {
  parts?: number;
  /** Of `params.json`. */
  changes?: Record<string, unknown>;
  /** Changes the parts before they are written. */
  spoil?: (parts: TorchSpec[][]) => unknown;
}

async function written(folder: TemporaryFolder, file: GgufFile, options: Written = {}): Promise<string> {
  const { parts = 1, changes, spoil, ...rest } = options;
  const path = join(folder.path, "7B");
  const all = partsOf(file, parts, rest);
  spoil?.(all);
  await writeMeta(path, { ...params, ...changes }, all, shape.vocab);
  return path;
}

describe("Meta's checkpoint", () => {
  test.for([
    [1, 8, "columns", "f32"],
    [2, 8, "columns", "f16"],
    [4, 4, "columns", "bf16"],
    [8, 8, "columns", "f32"],
    [2, 2, "rows", "bf16"],
    [8, 8, "rows", "f16"],
  ] as const)(
    "in %i parts, %i KV heads, the embedding cut into %s, %s: the logits of its GGUF, bit for bit",
    async ([parts, kvHeads, embedding, type]) => {
      await using folder = await temporaryFolder();
      const file = castTo(type, modelOf({ kvHeads }));
      const path = await written(folder, file, {
        parts,
        embedding,
        freqs: parts > 2,
        changes: { n_kv_heads: kvHeads },
      });
      const logits = await logitsOf(path, tokens);
      expectSameBits(logits, await logitsOf(await folder.write("model.gguf", file), tokens));
      expect(new Set(logits).size).toBeGreaterThan(1000);
      expect((await readModel(path)).format).toBe(`Meta's checkpoint in ${parts} ${parts === 1 ? "part" : "parts"}`);
    },
  );

  test("of matrices that are joined in several chunks: the same", async () => {
    await using folder = await temporaryFolder();
    const file = modelOf({ layers: 1, kvHeads: 2, ffn: 8448 });
    const changes = { n_layers: 1, n_kv_heads: 2, ffn_dim_multiplier: 24.7, multiple_of: 256 };
    const path = await written(folder, file, { parts: 2, changes });
    expectSameBits(await logitsOf(path, tokens), await logitsOf(await folder.write("model.gguf", file), tokens));
  });

  test("becomes quantised while its parts are joined: the logits of its GGUF, quantised likewise", async () => {
    await using folder = await temporaryFolder();
    const file = castTo("bf16", modelOf());
    const path = await written(folder, file, { parts: 4 });
    const gguf = await folder.write("model.gguf", file);
    const logits = await logitsOf(path, tokens, { quantize: "q8_0" });
    expectSameBits(logits, await logitsOf(gguf, tokens, { quantize: "q8_0" }));
    expect(logits).not.toEqual(await logitsOf(path, tokens));
  });

  test("of Llama 3.1 has its scaling, and its context", async () => {
    await using folder = await temporaryFolder();
    const changes = { use_scaled_rope: true, rope_theta: 5e5, rope_scaling_factor: 32 };
    const { config } = await readModel(await written(folder, modelOf(), { changes }));
    expect(config.contextLength).toBe(131_072);
    expect(config.rope).toMatchObject({
      theta: 5e5,
      pairing: "adjacent",
      scaling: { type: "llama3", factor: 32, originalContextLength: 8192 },
    });
  });

  test("is found by its folder, its params.json and its parts, and inspect says so", async () => {
    await using folder = await temporaryFolder();
    const path = await written(folder, modelOf(), { parts: 2 });
    const format = "Meta's checkpoint in 2 parts";
    for (const name of ["", "params.json", "consolidated.01.pth"]) {
      expect(await readModel(join(path, name))).toMatchObject({ format, path });
    }
    expect((await cria(["inspect", path])).stdout.split("\n")[0]).toBe(`${path}: ${format}, 7B`);
    const { code } = await cria(["generate", path, "--prompt", "w1", "--max-tokens", "3"]);
    expect(code).toBe(0);
  });

  test("in one consolidated.pth, without an output matrix and with the tokenizer one folder up", async () => {
    await using folder = await temporaryFolder();
    const file = modelOf({ tied: true });
    const path = await written(folder, file);
    await rename(join(path, "consolidated.00.pth"), join(path, "consolidated.pth"));
    await rename(join(path, "tokenizer.model"), join(folder.path, "tokenizer.model"));
    expectSameBits(await logitsOf(path, tokens), await logitsOf(await folder.write("model.gguf", file), tokens));
    expect((await readVocabulary(path)).pieces.slice(258, 261)).toEqual(["<0xFF>", "▁", "▁w0"]);
    using model = await loadModel(path);
    expect(model.tokenizer.decode(model.tokenizer.encode("a w7"))).toBe("a w7");
  });

  test("takes the vocabulary that is given, and needs none beside it then", async () => {
    await using folder = await temporaryFolder();
    const path = await written(folder, modelOf());
    await rm(join(path, "tokenizer.model"));
    const tokenizer = await folder.write("other.gguf", llamaFile({ vocab: 320 }));
    expect((await readModel(path, { tokenizer })).vocabulary).toEqual(await readVocabulary(tokenizer));
    await expect(readModel(path)).rejects.toMatchObject({
      message: `${path}: tokenizer: must be given, or stand in the folder or in the one around it as tokenizer.model`,
    });
  });

  test.for([
    [{}, 4096],
    [{ norm_eps: 1e-6 }, 2048],
    [{ rope_theta: 1e6 }, 16_384],
    [{ rope_theta: 5e5 }, 8192],
    [{ max_seq_len: 777 }, 777],
  ] as const)("with %j has its context, and its other hyper-parameters", async ([changes, contextLength]) => {
    await using folder = await temporaryFolder();
    const { config } = await readModel(
      await written(folder, modelOf({ kvHeads: 2 }), { changes: { ...changes, n_kv_heads: 2 } }),
    );
    const { norm_eps: eps = 1e-5, rope_theta: theta = 10_000 } = changes as { norm_eps?: number; rope_theta?: number };
    expect(config).toEqual({
      layers: 2,
      dim: 128,
      heads: 8,
      kvHeads: 2,
      headDim: 16,
      ffn: 384,
      vocab: 320,
      contextLength,
      eps,
      rope: { theta, scale: 1, dim: 16, pairing: "adjacent" },
    });
  });
});

describe("Meta's checkpoint is refused:", () => {
  const tensor = (parts: TorchSpec[][], part: number, name: string) => parts[part]!.find((spec) => spec.name === name)!;
  const wk = "layers.1.attention.wk.weight";

  test.for<[string, Written, string, string?]>([
    [
      "a part that lacks a tensor",
      { parts: 2, spoil: (parts) => (parts[1] = parts[1]!.filter(({ name }) => name !== wk)) },
      `consolidated.01.pth: ${wk}: must be among the tensors, but is missing`,
    ],
    [
      "a part with a tensor of another",
      { spoil: (parts) => parts[0]!.push({ ...tensor(parts, 0, wk), name: "lora.weight" }) },
      "consolidated.00.pth: lora.weight: is not a tensor of the LLaMA that cria computes",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "a layer too many",
      { changes: { n_layers: 1 } },
      "layers.1.attention_norm.weight: is not a tensor",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "parts that do not fit",
      { parts: 2, spoil: (parts) => Object.assign(tensor(parts, 1, wk), { shape: [32, 256] }) },
      `consolidated.01.pth: ${wk}: must be of shape [64, 128], one of 2 parts of [128, 128], not [32, 256]`,
    ],
    [
      "parts of other types",
      {
        parts: 2,
        spoil: (parts) => Object.assign(tensor(parts, 1, wk), { type: "f16", length: 16_384, shape: [64, 128] }),
      },
      `${wk}: must be of type f32, as in`,
    ],
    [
      "embeddings cut in two ways",
      { parts: 2, spoil: (parts) => Object.assign(tensor(parts, 1, "tok_embeddings.weight"), { shape: [160, 128] }) },
      "tok_embeddings.weight: must be of shape [320, 64], one of 2 parts of [320, 128], not [160, 128]",
    ],
    [
      "a vector for a matrix",
      { spoil: (parts) => Object.assign(tensor(parts, 0, wk), { shape: [16_384] }) },
      "must be of shape [128, 128], not [16384]",
    ],
    [
      "a vocabulary of another size",
      { changes: { vocab_size: 400 } },
      "tokenizer.model: must have 400 tokens, as the model has, not 320",
    ],
    [
      "an ffn that does not follow",
      { changes: { multiple_of: 256 } },
      "params.json: multiple_of: must give w1 its 384 rows, with dim and ffn_dim_multiplier, not 512",
    ],
    ["heads that do not divide", { changes: { n_heads: 7 } }, "params.json: n_heads: must divide dim, 128, not be 7"],
    [
      "KV heads that do not divide",
      { changes: { n_kv_heads: 3 } },
      "params.json: n_kv_heads: must divide the 8 heads, not be 3",
    ],
    [
      "heads of 4 dimensions",
      { changes: { n_heads: 32 } },
      "must give heads of a multiple of 8 dimensions up to 256, not of 4",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "no dimension",
      { changes: { dim: null } },
      "params.json: dim: must be an integer from 1 to 65536, but is missing",
    ],
    [
      "a dimension of text",
      { changes: { dim: "128" } },
      'params.json: dim: must be an integer from 1 to 65536, not "128"',
    ],
    ["a vocabulary of none", { changes: { vocab_size: 0 } }, "vocab_size: must be -1"],
    ["an eps of 1", { changes: { norm_eps: 1 } }, "norm_eps: must be a number above 0 and below 1, not 1"],
    ["a theta of 0", { changes: { rope_theta: 0 } }, "rope_theta: must be a number from 1 to 1e12, not 0"],
    [
      "no w1",
      { spoil: (parts) => (parts[0] = parts[0]!.filter(({ name }) => !name.includes("w1"))) },
      "layers.0.feed_forward.w1.weight: must be among the tensors, but is missing",
    ],
  ])("%s", async ([, options, message, code = "ERR_CRIA_FILE"]) => {
    await using folder = await temporaryFolder();
    const refused = expect(readModel(await written(folder, modelOf(), options))).rejects;
    await refused.toThrow(message);
    await refused.toMatchObject({ name: "CriaFileError", code });
  });

  test.for<[string, number, (path: string) => Promise<unknown>, string]>([
    [
      "no part",
      1,
      (path) => rm(join(path, "consolidated.00.pth")),
      "consolidated.00.pth: must stand beside params.json",
    ],
    [
      "a gap",
      4,
      (path) => rm(join(path, "consolidated.02.pth")),
      "consolidated.02.pth: must stand beside consolidated.03.pth",
    ],
    [
      "no first part",
      2,
      (path) => rm(join(path, "consolidated.00.pth")),
      "consolidated.00.pth: must stand beside consolidated.01.pth",
    ],
    [
      "three parts",
      4,
      (path) => rm(join(path, "consolidated.03.pth")),
      "consolidated.03.pth: must stand beside consolidated.02.pth: a model has 1, 2, 4 or 8 parts, not 3",
    ],
    [
      "half of the parts",
      2,
      (path) => rm(join(path, "consolidated.01.pth")),
      "consolidated.01.pth: must stand beside consolidated.00.pth, which by its shapes is one of 2 parts",
    ],
    [
      "a part and a whole",
      1,
      (path) => writeFile(join(path, "consolidated.pth"), ""),
      "must have consolidated.pth or numbered parts, not also consolidated.00.pth",
    ],
    [
      "an empty part",
      1,
      (path) => writeFile(join(path, "consolidated.00.pth"), ""),
      "consolidated.00.pth: part 1 of 1: must not be empty",
    ],
    [
      "params.json that is none",
      1,
      (path) => writeFile(join(path, "params.json"), "{dim: 5}"),
      "params.json: must be JSON",
    ],
    [
      "a part that is no zip archive",
      1,
      (path) => writeFile(join(path, "consolidated.00.pth"), "\x80\x02\x8a"),
      "must begin as a zip archive, which torch.save writes since its version 1.6",
    ],
  ])("%s", async ([, parts, spoil, message]) => {
    await using folder = await temporaryFolder();
    const path = await written(folder, modelOf(), { parts });
    await spoil(path);
    const refused = expect(readModel(path)).rejects;
    await refused.toThrow(message);
    await refused.toMatchObject({ name: "CriaFileError", code: "ERR_CRIA_FILE" });
  });

  test("a part that was cut while the model is loaded", async () => {
    await using folder = await temporaryFolder();
    const path = await written(folder, modelOf(), { parts: 2 });
    const cut = join(path, "consolidated.01.pth");
    let spoilt: Promise<unknown> | undefined;
    const index = await readModel(path);
    expect(index.tensors.size).toBe(21);
    const onProgress = () => {
      spoilt ??= writeFile(cut, encodeTorch([]).subarray(0, 100));
    };
    await expect(loadModel(path, { onProgress })).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringMatching(/consolidated\.01\.pth: [\w.]+: ends at byte \d+, inside a tensor$/),
    });
    await spoilt;
  });
});
