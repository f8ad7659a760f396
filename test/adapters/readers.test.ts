/** Files of LoRA adapters, sound and damaged, and for another model. */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { checkAdapterFits, readAdapterFile } from "../../lib/adapters/adapter-file.js";
import type { LoraFile } from "../../lib/adapters/lora-file.js";
import { CriaError } from "../../lib/index.js";
import { ggufName, huggingFaceName } from "../../lib/weights/hugging-face.js";
import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import {
  encodeGguf,
  f32,
  type GgufFile,
  string,
  type TemporaryFolder,
  temporaryFolder,
  u32,
} from "../support/gguf-writer.js";
import { writeModel } from "../support/hugging-face.js";
import { knownUpdates, loraGguf, peftFiles, writePeft } from "../support/lora.js";
import { mutate, mutation } from "../support/mutants.js";

const config: LlamaConfig = {
  ...{ layers: 2, dim: 32, heads: 2, kvHeads: 1, headDim: 16, ffn: 48, vocab: 40, contextLength: 64, eps: 1e-5 },
  rope: { theta: 1e4, scale: 1, dim: 16, pairing: "adjacent" },
};

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

/** Reads an adapter, and checks that it is for the model. */
async function read(path: string): Promise<LoraFile> {
  const file = await readAdapterFile(path, { prefixLength: 10, rawGates: false });
  checkAdapterFits(file, config);
  return file as LoraFile;
}

async function refused(path: string): Promise<{ code: string; message: string }> {
  try {
    await read(path);
  } catch (error) {
    if (!(error instanceof CriaError)) throw error;
    expect(error.message.startsWith(folder.path)).toBe(true);
    return { code: error.code, message: error.message };
  }
  return expect.fail("nothing was thrown");
}

const soundGguf = () => loraGguf(knownUpdates(config, /attn_q|output|token_embd/, { seed: 1 }));

describe("a GGUF adapter", () => {
  test("has its pairs, each with alpha over its rank", async () => {
    const file = await read(await folder.write("sound.gguf", soundGguf()));
    expect([file.format, file.pairing]).toEqual(["GGUF v3", "adjacent"]);
    expect(file.pairs.map(({ target, scale }) => [target, scale])).toEqual([
      ["token_embd.weight", 3 / 2],
      ["blk.0.attn_q.weight", 3 / 3],
      ["blk.0.attn_output.weight", 3 / 4],
      ["blk.1.attn_q.weight", 3 / 2],
      ["blk.1.attn_output.weight", 3 / 3],
      ["output.weight", 3 / 4],
    ]);
  });

  test.each(["absent", 0])("has a scale of 1 where alpha is %s", async (alpha) => {
    const sound = soundGguf();
    if (alpha === 0) sound.metadata["adapter.lora.alpha"] = f32(0);
    else delete sound.metadata["adapter.lora.alpha"];
    const { pairs } = await read(await folder.write("alpha.gguf", sound));
    expect(new Set(pairs.map(({ scale }) => scale))).toEqual(new Set([1]));
  });

  const tensor = (file: GgufFile, name: string) => file.tensors.find((each) => each.name === name)!;
  const query = "blk.1.attn_q.weight";
  const bad: [string, (file: GgufFile) => void, "FILE" | "UNSUPPORTED", RegExp][] = [
    [
      "a model",
      (f) => (f.metadata["general.type"] = string("model")),
      "UNSUPPORTED",
      /general\.type: must be "adapter", not "model": this is a model, to be given as one$/,
    ],
    [
      "no type",
      (f) => delete f.metadata["general.type"],
      "UNSUPPORTED",
      /general\.type: must be "adapter", but is missing: this is a model, to be given as one$/,
    ],
    ["of another type", (f) => (f.metadata["general.type"] = string("mmproj")), "UNSUPPORTED", /not "mmproj"$/],
    ["for GPT-2", (f) => (f.metadata["general.architecture"] = string("gpt2")), "UNSUPPORTED", /must be "llama", not/],
    ["a control vector", (f) => (f.metadata["adapter.type"] = string("cvec")), "UNSUPPORTED", /type: must be "lora"/],
    [
      "alpha of another type",
      (f) => (f.metadata["adapter.lora.alpha"] = u32(1)),
      "FILE",
      /must be a finite f32, not 1/,
    ],
    ["alpha no number", (f) => (f.metadata["adapter.lora.alpha"] = f32(Number.NaN)), "FILE", /must be a finite f32/],
    [
      "one that begins within a text",
      (f) => (f.metadata["adapter.alora.invocation_tokens"] = u32(1)),
      "UNSUPPORTED",
      /invocation_tokens: must be absent/,
    ],
    ["no tensors", (f) => (f.tensors = []), "FILE", /must have tensors, but has none/],
    ["half a pair", (f) => f.tensors.pop(), "FILE", /output\.weight\.lora_b: must be there beside its other half/],
    ["half another", (f) => f.tensors.shift(), "FILE", /token_embd\.weight\.lora_a: must be there beside/],
    [
      "a tensor that is none of a pair",
      (f) => (f.tensors[0]!.name = "output_norm.weight"),
      "UNSUPPORTED",
      /output_norm\.weight: is not a tensor of a LoRA/,
    ],
    [
      "a third dimension",
      (f) => (tensor(f, `${query}.lora_a`).shape = [32, 1, 2]),
      "FILE",
      /attn_q\.weight\.lora_a: must have two dimensions, not 3/,
    ],
    [
      "two ranks",
      (f) => Object.assign(tensor(f, `${query}.lora_b`), { shape: [3, 32], data: Buffer.alloc(4 * 96) }),
      "FILE",
      /attn_q\.weight\.lora_b: must be of rank 2, as blk\.1\.attn_q\.weight\.lora_a is, not 3/,
    ],
    [
      "of another dimension",
      (f) => Object.assign(tensor(f, `${query}.lora_a`), { shape: [64, 2], data: Buffer.alloc(4 * 128) }),
      "FILE",
      /lora_a: must be for 32 inputs, as the model's blk\.1\.attn_q\.weight has, not 64/,
    ],
    [
      "of other heads",
      (f) => Object.assign(tensor(f, `${query}.lora_b`), { shape: [2, 16], data: Buffer.alloc(4 * 32) }),
      "FILE",
      /lora_b: must be for 32 outputs, as the model's blk\.1\.attn_q\.weight has, not 16/,
    ],
    [
      "of another vocabulary",
      (f) => Object.assign(tensor(f, "token_embd.weight.lora_a"), { shape: [2, 41], data: Buffer.alloc(4 * 82) }),
      "FILE",
      /token_embd\.weight\.lora_a: must be for 40 outputs/,
    ],
    [
      "of more layers",
      (f) => {
        for (const half of ["a", "b"]) tensor(f, `${query}.lora_${half}`).name = `blk.2.attn_q.weight.lora_${half}`;
      },
      "FILE",
      /blk\.2\.attn_q\.weight\.lora_a: must be of one of the model's 2 layers, not of layer 2/,
    ],
    [
      "of a norm",
      (f) => {
        for (const half of ["a", "b"]) tensor(f, `${query}.lora_${half}`).name = `blk.1.attn_norm.weight.lora_${half}`;
      },
      "UNSUPPORTED",
      /blk\.1\.attn_norm\.weight\.lora_a: is not for a matrix/,
    ],
  ];
  test.each(bad)("is refused: %s", async (_, spoil, code, message) => {
    const file = soundGguf();
    spoil(file);
    expect(await refused(await folder.write("bad.gguf", file))).toEqual({
      code: `ERR_CRIA_${code}`,
      message: expect.stringMatching(message),
    });
  });

  test("cut and mutated, is read or refused", async () => {
    const sound = encodeGguf(soundGguf());
    const path = await folder.write("mutant.gguf", sound);
    const { pairs } = await read(path);
    const header = Math.min(...pairs.flatMap(({ a, b }) => [a.tensor.offset, b.tensor.offset]));
    await expectReadOrRefused(path, sound, header, path);
  });
});

const soundPeft = (changes: Record<string, unknown> = {}) =>
  peftFiles(config, knownUpdates(config, /attn_q|ffn_up|^output|token_embd/, { seed: 2, alpha: 6 }), changes);

test("Hugging Face's names of a LLaMA's tensors lead back to GGUF's, and no others", () => {
  const names = llamaTensors(config, false).map(({ name }) => name);
  expect(names.map((name) => ggufName(huggingFaceName(name)))).toEqual(names);
  for (const other of ["model.layers.00.mlp.up_proj.weight", "model.layers.0.mlp.weight", "score.weight", "norm"]) {
    expect(ggufName(other)).toBeUndefined();
  }
});

describe("a PEFT adapter", () => {
  const scales = async (changes: Record<string, unknown>) => {
    const { pairs } = await read(await writePeft(folder, "sound", soundPeft(changes)));
    return pairs.map(({ target, scale }) => [target, scale]);
  };

  test("has its pairs, each with alpha over its rank", async () => {
    expect(await scales({})).toEqual([
      ["token_embd.weight", 6 / 2],
      ["blk.0.attn_q.weight", 6 / 3],
      ["blk.0.ffn_up.weight", 6 / 4],
      ["blk.1.attn_q.weight", 6 / 2],
      ["blk.1.ffn_up.weight", 6 / 3],
      ["output.weight", 6 / 4],
    ]);
  });

  test("or, where its rank stabilises, over the root of it", async () => {
    const [[, first], [, second]] = (await scales({ use_rslora: true })) as [[string, number], [string, number]];
    expect([first, second]).toEqual([6 / Math.sqrt(2), 6 / Math.sqrt(3)]);
  });

  test("takes alpha and rank from the first pattern that a module's name matches, from a point on", async () => {
    const alpha_pattern = {
      q_proj: 12,
      "^layers.0.mlp.up_proj": 1,
      "^model\\.layers\\.0\\.mlp\\.up_proj$": 8,
      head: 1,
    };
    expect(await scales({ alpha_pattern })).toEqual([
      ["token_embd.weight", 6 / 2],
      ["blk.0.attn_q.weight", 12 / 3],
      ["blk.0.ffn_up.weight", 8 / 4],
      ["blk.1.attn_q.weight", 12 / 2],
      ["blk.1.ffn_up.weight", 6 / 3],
      ["output.weight", 6 / 4],
    ]);
  });

  test.each([true, false, null, "gaussian", "eva", "orthogonal"])(
    "is beside the model's own base where it began as %s",
    async (init_lora_weights) => {
      expect(await scales({ init_lora_weights })).toEqual(await scales({}));
    },
  );

  const badConfigs: [string, Record<string, unknown>, "FILE" | "UNSUPPORTED", RegExp][] = [
    ["another method", { peft_type: "IA3" }, "UNSUPPORTED", /peft_type: must be "LORA", not "IA3"/],
    ["no method", { peft_type: undefined }, "FILE", /peft_type: must be a string, but is missing/],
    ["transposed weights", { fan_in_fan_out: true }, "UNSUPPORTED", /fan_in_fan_out: must be false, not true/],
    ["DoRA", { use_dora: true }, "UNSUPPORTED", /use_dora: must be false/],
    ["biases", { bias: "all" }, "UNSUPPORTED", /bias: must be "none", not "all"/],
    ["biases of B", { lora_bias: true }, "UNSUPPORTED", /lora_bias: must be false/],
    [
      "whole modules",
      { modules_to_save: ["lm_head"] },
      "UNSUPPORTED",
      /modules_to_save: must be empty, not of 1, the first "lm/,
    ],
    ["layers twice", { layer_replication: [[0, 2]] }, "UNSUPPORTED", /layer_replication: must be empty/],
    ...["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga"].map(
      (name): [string, Record<string, unknown>, "UNSUPPORTED", RegExp] => [
        `beside another base, of ${name}`,
        { init_lora_weights: name },
        "UNSUPPORTED",
        new RegExp(`init_lora_weights: must be true, false, "gaussian", "eva", "orthogonal", not "${name}"`),
      ],
    ),
    ["an initialisation by number", { init_lora_weights: 1 }, "FILE", /init_lora_weights: must be a string, not 1/],
    ["no rank", { r: 0 }, "FILE", /: r: must be an integer from 1 to 65536, not 0/],
    ["a rank that is text", { r: "8" }, "FILE", /: r: must be an integer/],
    ["another rank", { rank_pattern: { q_proj: 3 } }, "FILE", /must be of rank 4, as adapter_config\.json says, not 2/],
    ["no alpha", { lora_alpha: null }, "FILE", /lora_alpha: must be a finite number, but is missing/],
    ["patterns that are none", { alpha_pattern: [1] }, "FILE", /alpha_pattern: must be an object/],
    ["a pattern's alpha", { alpha_pattern: { q_proj: "1" } }, "FILE", /alpha_pattern\.q_proj: must be a finite number/],
    [
      "a hostile pattern",
      { alpha_pattern: { "(a+)+b": 1 } },
      "UNSUPPORTED",
      /\(a\+\)\+b: must be the name of a module/,
    ],
  ];
  test.each(badConfigs)("is refused: %s", async (_, changes, code, message) => {
    expect(await refused(await writePeft(folder, "bad-config", soundPeft(changes)))).toEqual({
      code: `ERR_CRIA_${code}`,
      message: expect.stringMatching(message),
    });
  });

  const up = "base_model.model.model.layers.1.mlp.up_proj";
  type Tensors = ReturnType<typeof peftFiles>["tensors"];
  const rename = (from: string, to: string) => (tensors: Tensors) => {
    for (const name of Object.keys(tensors).filter((each) => each.startsWith(from))) {
      tensors[name.replace(from, to)] = tensors[name]!;
      delete tensors[name];
    }
  };
  const badTensors: [string, (tensors: Tensors) => void, "FILE" | "UNSUPPORTED", RegExp][] = [
    [
      "none",
      (t) => {
        for (const name of Object.keys(t)) delete t[name];
      },
      "FILE",
      /must have tensors, but has none/,
    ],
    ["no B", (t) => delete t[`${up}.lora_B.weight`], "FILE", /up_proj\.lora_A\.weight: must stand beside its lora_B/],
    ["no A", (t) => delete t[`${up}.lora_A.weight`], "FILE", /up_proj\.lora_B\.weight: must stand beside its lora_A/],
    [
      "another rank",
      (t) => (t[`${up}.lora_A.weight`] = { dtype: "F32", shape: [9, 32] }),
      "FILE",
      /up_proj\.lora_B\.weight: must be of rank 9, as .*lora_A\.weight is, not 3/,
    ],
    [
      "integers",
      (t) => (t[`${up}.lora_A.weight`] = { dtype: "I8", shape: [3, 32] }),
      "UNSUPPORTED",
      /must be of type F32, F16 or BF16, not I8/,
    ],
    [
      "a vector",
      (t) => (t[`${up}.lora_A.weight`] = { dtype: "F32", shape: [96] }),
      "FILE",
      /must be a matrix, not of shape \[96\]/,
    ],
    [
      "nothing",
      (t) => (t[`${up}.lora_A.weight`] = { dtype: "F32", shape: [0, 32] }),
      "FILE",
      /must be a matrix, not of shape \[0, 32\]/,
    ],
    [
      "other inputs",
      (t) => (t[`${up}.lora_A.weight`] = { dtype: "F32", shape: [3, 48] }),
      "FILE",
      /lora_A\.weight: must be for 32 inputs, as the model's blk\.1\.ffn_up\.weight has, not 48/,
    ],
    [
      "a layer too many",
      rename("base_model.model.lm_head", up.replace("1", "2").replace("up", "q").replace("mlp", "self_attn")),
      "FILE",
      /must be of one of the model's 2 layers, not of layer 2/,
    ],
    [
      "an unknown module",
      rename(up, up.replace("up_proj", "up_project")),
      "UNSUPPORTED",
      /up_project\.lora_A\.weight: is not a tensor of a LoRA/,
    ],
    [
      "an expert's module",
      rename("base_model.model.lm_head", "base_model.model.score"),
      "UNSUPPORTED",
      /score\.lora_A/,
    ],
    [
      "an embedding that is multiplied by",
      rename("base_model.model.lm_head", "base_model.model.model.embed_tokens"),
      "UNSUPPORTED",
      /embed_tokens\.lora_A\.weight: is not/,
    ],
    [
      "a whole matrix",
      (t) => (t["base_model.model.lm_head.weight"] = { dtype: "F32", shape: [1] }),
      "UNSUPPORTED",
      /lm_head\.weight: is not a tensor/,
    ],
    ["a constructor", rename(up, "base_model.model.model.layers.1.constructor"), "UNSUPPORTED", /constructor\.lora_A/],
  ];
  test.each(badTensors)("is refused: tensors, %s", async (_, spoil, code, message) => {
    const files = soundPeft();
    spoil(files.tensors);
    expect(await refused(await writePeft(folder, "bad-tensors", files))).toEqual({
      code: `ERR_CRIA_${code}`,
      message: expect.stringMatching(message),
    });
  });

  test("is refused where its weights are missing, or it is no such folder", async () => {
    const path = await writePeft(folder, "missing", soundPeft());
    await rm(join(path, "adapter_model.safetensors"));
    expect(await refused(path)).toEqual({ code: "ERR_CRIA_FILE", message: expect.stringContaining("cannot be read") });
    expect((await refused(folder.path)).message).toMatch(/: must have an adapter_config\.json$/);
    expect((await refused(join(folder.path, "absent"))).message).toMatch(/absent: cannot be read/);
    const text = await folder.write("text", Buffer.from("LoRA"));
    expect((await refused(text)).message).toMatch(/text: must be a GGUF file, a folder with adapter_config\.json, or/);
  });

  test("is its folder, and neither its weights alone nor a model", async () => {
    const path = await writePeft(folder, "whole", soundPeft());
    expect(await refused(join(path, "adapter_model.safetensors"))).toEqual({
      code: "ERR_CRIA_UNSUPPORTED",
      message: expect.stringMatching(
        /lora_\w+(\.weight)?: .* but of a LoRA: give the folder with its adapter_config\.json$/,
      ),
    });
    const model = await writeModel(folder);
    expect((await refused(model)).message).toMatch(
      /: must have an adapter_config\.json: this is a model, to be given as one$/,
    );
    expect((await refused(join(model, "model.safetensors"))).message).toMatch(/ but of a model, to be given as one$/);
  });

  test("whose configuration is cut and mutated, is read or refused", async () => {
    const path = await writePeft(folder, "mutant", soundPeft());
    const sound = Buffer.from(JSON.stringify(soundPeft().config));
    await expectReadOrRefused(join(path, "adapter_config.json"), sound, sound.length, path);
  });
});

/** Reads the adapter with mutants of one of its files. */
async function expectReadOrRefused(file: string, sound: Buffer, header: number, adapter: string): Promise<void> {
  const outcomes = { read: 0, refused: 0 };
  const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 2 }), async (changes) => {
    await writeFile(
      file,
      changes.reduce((bytes, change) => (bytes.length > 8 ? mutate(bytes, header, change) : bytes), sound),
    );
    try {
      await read(adapter);
      outcomes.read++;
    } catch (error) {
      if (!(error instanceof CriaError)) throw error;
      expect(error.message.startsWith(folder.path)).toBe(true);
      outcomes.refused++;
    }
  });
  await fc.assert(property, { numRuns: 400, seed: 1 });
  expect(outcomes.read).toBeGreaterThan(0);
  expect(outcomes.refused).toBeGreaterThan(200);
}
