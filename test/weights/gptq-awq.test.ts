import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { convertModel } from "../../lib/convert.js";
import { CriaError } from "../../lib/errors.js";
import { loadModel } from "../../lib/model.js";
import { native } from "../../lib/native.js";
import { packModel } from "../../lib/pack.js";
import { Xoshiro128 } from "../../lib/random.js";
import { huggingFaceName } from "../../lib/weights/hugging-face.js";
import { llamaTensors } from "../../lib/weights/llama-tensors.js";
import { readModel } from "../../lib/weights/model-file.js";
import { type FileTensor, type TensorInfo, weightBytes } from "../../lib/weights/source.js";
import type { Random } from "../support/arbitraries.js";
import { expectSameBits } from "../support/compare.js";
import { fileRows, forward64, nmse, type WeightRows } from "../support/float64.js";
import { type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { toHalf } from "../support/half.js";
import { smallConfig, writeModel } from "../support/hugging-face.js";
import {
  type Int4Options,
  type Int4Weights,
  int4Blocks,
  int4Tensors,
  orderOf,
  randomInt4,
  type Stored,
} from "../support/int4.js";
import { available } from "../support/isas.js";
import { mutate, mutation } from "../support/mutants.js";
import { encodeSafetensors, type SafetensorsSpec } from "../support/safetensors-writer.js";

// Rows of 160 and 96: whole and broken groups of every size.
const shape = { layers: 2, dim: 160, heads: 5, kvHeads: 5, headDim: 32, ffn: 96, vocab: 300 } as const;
const config = {
  ...smallConfig,
  hidden_size: shape.dim,
  num_attention_heads: shape.heads,
  num_key_value_heads: shape.kvHeads,
  intermediate_size: shape.ffn,
};

interface Case extends Stored, Omit<Int4Options, "outputs" | "inputs"> {
  tied?: boolean;
  /** Of quantization_config, beside what follows from the rest. */
  keys?: Record<string, unknown>;
}

interface Small {
  readonly tensors: Record<string, SafetensorsSpec>;
  /** The 4-bit matrices under GGUF's names. */
  readonly matrices: ReadonlyMap<string, Int4Weights>;
  readonly config: Record<string, unknown>;
}

/** Matrices of one input have their groups in one order, as the quantisers make them. */
function smallInt4({ tied = false, keys, ...how }: Case): Small {
  const random = Xoshiro128.fromSeed(11);
  const next: Random = () => random.next();
  const tensors: Record<string, SafetensorsSpec> = {};
  const matrices = new Map<string, Int4Weights>();
  const orders = new Map<string, Int4Weights["groupOf"]>();
  for (const { name, kind, rows, cols } of llamaTensors(shape, tied)) {
    const stored = huggingFaceName(name);
    if (!name.startsWith("blk.") || kind === "vector") {
      const values = Uint16Array.from({ length: rows * cols }, () =>
        toHalf(((next() % 128) - 64) / 1024 + (kind === "vector" ? 1 : 0)),
      );
      const bytes = new Uint8Array(values.buffer);
      tensors[stored] = { dtype: "F16", shape: kind === "vector" ? [cols] : [rows, cols], data: bytes };
      continue;
    }
    const made = randomInt4({ ...how, outputs: rows, inputs: cols }, next);
    const input = name.replace(/attn_[qkv]/, "attn").replace(/ffn_(gate|up)/, "ffn");
    const groupOf = orders.get(input) ?? made.groupOf;
    orders.set(input, groupOf);
    const matrix = { ...made, groupOf };
    matrices.set(name, matrix);
    for (const [part, tensor] of Object.entries(int4Tensors(matrix, how))) {
      tensors[stored.replace(/weight$/, part)] = tensor;
    }
  }
  return { tensors, matrices, config: { ...config, tie_word_embeddings: tied, ...quantization(how, keys) } };
}

const quantization = ({ layout, groupSize, zerosLessOne, symmetric }: Case, keys: object = {}) => ({
  quantization_config: {
    quant_method: layout,
    bits: 4,
    group_size: groupSize,
    ...(layout === "awq"
      ? { version: "gemm", zero_point: true }
      : { checkpoint_format: zerosLessOne ? "gptq" : "gptq_v2", sym: symmetric ?? false, desc_act: false }),
    ...keys,
  },
});

const write = (folder: TemporaryFolder, { tensors, config }: Small) => writeModel(folder, { config, tensors });

/** The weights of a folder, the 4-bit ones from the numbers that they were made of. */
function rowsOf(tensors: ReadonlyMap<string, TensorInfo>, matrices: Small["matrices"]): WeightRows {
  const files = fileRows(tensors as ReadonlyMap<string, FileTensor>);
  const blocks = new Map<string, Uint8Array>();
  return {
    tensors,
    read(name, row, rows) {
      const matrix = matrices.get(name);
      if (matrix === undefined) return files.read(name, row, rows);
      const { type, cols } = tensors.get(name)!;
      const bytes = blocks.get(name) ?? int4Blocks(matrix, type as "q4_z");
      blocks.set(name, bytes);
      return bytes.subarray(weightBytes(type, row, cols), weightBytes(type, row + rows, cols));
    },
  };
}

async function logitsOf(path: string, tokens: Int32Array, options: object): Promise<Float32Array> {
  const model = await loadModel(path, { cache: "f32", ...options });
  try {
    using sequence = model.sequence();
    return await sequence.forward(tokens, "all");
  } finally {
    model.dispose();
  }
}

const cases: [string, Case][] = [
  ["GPTQ, groups of 32", { layout: "gptq", groupSize: 32, zerosLessOne: true }],
  ["GPTQ, groups of 64", { layout: "gptq", groupSize: 64, zerosLessOne: true }],
  ["GPTQ, groups of 128, v2", { layout: "gptq", groupSize: 128 }],
  ["GPTQ, one group", { layout: "gptq", groupSize: -1, zerosLessOne: true }],
  ["GPTQ, symmetric", { layout: "gptq", groupSize: 32, zerosLessOne: true, symmetric: true }],
  ["GPTQ, symmetric, v2", { layout: "gptq", groupSize: 64, symmetric: true }],
  ["GPTQ, act-order", { layout: "gptq", groupSize: 32, zerosLessOne: true, actOrder: true }],
  ["GPTQ, act-order, groups of 128", { layout: "gptq", groupSize: 128, zerosLessOne: true, actOrder: true }],
  [
    "GPTQ, act-order, symmetric",
    { layout: "gptq", groupSize: 64, zerosLessOne: true, actOrder: true, symmetric: true },
  ],
  ["GPTQ, act-order, tied", { layout: "gptq", groupSize: 32, zerosLessOne: true, actOrder: true, tied: true }],
  ["GPTQ, scales in BF16", { layout: "gptq", groupSize: 64, zerosLessOne: true, dtype: "BF16" }],
  ["GPTQ, scales in F32", { layout: "gptq", groupSize: 32, zerosLessOne: true, dtype: "F32" }],
  ["AWQ, groups of 32", { layout: "awq", groupSize: 32 }],
  ["AWQ, groups of 64", { layout: "awq", groupSize: 64 }],
  ["AWQ, groups of 128, tied", { layout: "awq", groupSize: 128, tied: true }],
  ["AWQ, one group", { layout: "awq", groupSize: -1 }],
];

describe("a folder of 4-bit weights computes what they are", () => {
  // Few enough that no activation of them lies so close to the middle between two int8 that float32 and float64 part ways.
  const tokens = Int32Array.from({ length: 12 }, (_, i) => (i * 37 + 1) % shape.vocab);

  test.each(cases)("%s", async (_, how) => {
    await using folder = await temporaryFolder();
    const small = smallInt4(how);
    const path = await write(folder, small);
    const { config, tensors } = await readModel(path);
    for (const [name, matrix] of small.matrices) {
      const { columns } = orderOf(matrix);
      const inOrder = columns.every((input, i) => input === i);
      expect(tensors.get(name)!.type).toBe(how.symmetric ? "q4_0" : "q4_z");
      expect(tensors.get(name)!.columns).toEqual(inOrder ? undefined : Int32Array.from(columns));
    }
    const weights = rowsOf(tensors, small.matrices);
    const exact = forward64({ config, weights, activations: "int8" }, tokens).flatMap((row) => [...row]);
    const scalar = await logitsOf(path, tokens, { isa: "scalar", threads: 1 });
    expect(nmse(scalar, exact)).toBeLessThan(1e-9);
    for (const isa of available) expectSameBits(await logitsOf(path, tokens, { isa, threads: 3 }), scalar);
    // What int8 activations cost: up to 1.1e-3 here, where zeros are drawn from all that there are.
    const unrounded = forward64({ config, weights }, tokens).flatMap((row) => [...row]);
    expect(nmse(scalar, unrounded)).toBeLessThan(2e-3);
  });
});

describe.runIf(native.deviceDescribe("cuda-emulated").available)("a folder of 4-bit weights on a GPU", () => {
  const tokens = Int32Array.of(1, 5, 9);
  test.each<[string, Case, RegExp]>([
    [
      "zeros of their own",
      { layout: "gptq", groupSize: 32, zerosLessOne: true },
      /weight: must be f32, .* on a GPU, not q4_z; device "cpu" runs it$/,
    ],
    ["AWQ", { layout: "awq", groupSize: 32 }, /weight: must be f32, .* on a GPU, not q4_z; device "cpu" runs it$/],
    [
      "act-order",
      { layout: "gptq", groupSize: 64, zerosLessOne: true, actOrder: true, symmetric: true },
      /weight: must have its columns in the order of its inputs to run on a GPU; device "cpu" runs it$/,
    ],
  ])("%s: is refused by name before weights are read", async (_, how, message) => {
    await using folder = await temporaryFolder();
    const path = await write(folder, smallInt4(how));
    const before = native.handleCounts();
    const created = vi.spyOn(native, "matrixCreate");
    onTestFinished(() => void created.mockRestore());
    await expect(logitsOf(path, tokens, { device: "cuda-emulated" })).rejects.toMatchObject({
      code: "ERR_CRIA_UNSUPPORTED",
      message: expect.stringMatching(message),
    });
    expect(created).not.toHaveBeenCalled();
    expect(native.handleCounts()).toEqual(before);
  });

  test("computes what they are where their zeros are 8 and their columns in order", async () => {
    await using folder = await temporaryFolder();
    const small = smallInt4({ layout: "gptq", groupSize: 64, symmetric: true });
    const path = await write(folder, small);
    const { config, tensors } = await readModel(path);
    const exact = forward64({ config, weights: rowsOf(tensors, small.matrices) }, tokens).flatMap((row) => [...row]);
    expect(nmse(await logitsOf(path, tokens, { device: "cuda-emulated" }), exact)).toBeLessThan(1e-3);
  });
});

describe("a folder of 4-bit weights as GGUF", () => {
  const tokens = Int32Array.from({ length: 12 }, (_, i) => (i * 37 + 1) % shape.vocab);

  test.each<[string, Case]>([
    ["act-order", { layout: "gptq", groupSize: 32, zerosLessOne: true, actOrder: true }],
    ["symmetric, tied", { layout: "gptq", groupSize: 64, symmetric: true, tied: true }],
  ])("%s: has its weights, their columns in the inputs' order", async (_, how) => {
    await using folder = await temporaryFolder();
    const small = smallInt4(how);
    const path = await write(folder, small);
    const { config, tensors } = await readModel(path);
    const exact = forward64({ config, weights: rowsOf(tensors, small.matrices) }, tokens).flatMap((row) => [...row]);
    const [floats, own] = [join(folder.path, "f32.gguf"), join(folder.path, "own.gguf")];
    await convertModel(path, floats, { type: "f32" });
    expect(nmse(await logitsOf(floats, tokens, {}), exact)).toBeLessThan(1e-9);
    if (how.actOrder) {
      const refused = {
        code: "ERR_CRIA_UNSUPPORTED",
        message: expect.stringContaining("in their order, for it to be packed"),
      };
      await expect(packModel(path, join(folder.path, "packed"))).rejects.toMatchObject(refused);
    }
    // Zeros become minima in f16, and columns out of act-order stand in blocks with those of other groups' scales.
    const warnings: string[] = [];
    await convertModel(path, own, { onWarning: (message) => warnings.push(message) });
    const lossy = expect.stringContaining("quantised again they lose more");
    expect(warnings).toEqual(how.actOrder ? expect.arrayContaining([lossy]) : []);
    expect((await readModel(own)).tensors.get("blk.0.ffn_up.weight")!.type).toBe(how.symmetric ? "q4_0" : "q4_1");
    expect(nmse(await logitsOf(own, tokens, {}), exact)).toBeLessThan(how.actOrder ? 0.2 : 1e-3);
  });
});

const gptq: Case = { layout: "gptq", groupSize: 32, zerosLessOne: true };

describe("what files differ in", () => {
  test("query, key and value are one product where their groups agree, and three where they do not", async () => {
    await using folder = await temporaryFolder();
    const small = smallInt4({ ...gptq, actOrder: true });
    const name = "model.layers.0.self_attn.k_proj.g_idx";
    const other = small.tensors["model.layers.0.mlp.up_proj.g_idx"]!;
    const path = await write(folder, { ...small, tensors: { ...small.tensors, [name]: other } });
    const { config, tensors } = await readModel(path);
    const columns = (part: string) => tensors.get(`blk.0.${part}.weight`)!.columns;
    expect(columns("attn_q")).toBe(columns("attn_v"));
    expect(columns("attn_k")).not.toEqual(columns("attn_q"));
    expect(columns("attn_k")).toBe(columns("ffn_up"));
    const matrix = small.matrices.get("blk.0.attn_k.weight")!;
    const { groupOf } = small.matrices.get("blk.0.ffn_up.weight")!;
    const weights = rowsOf(tensors, new Map(small.matrices).set("blk.0.attn_k.weight", { ...matrix, groupOf }));
    const tokens = Int32Array.of(1, 5, 9);
    const exact = forward64({ config, weights, activations: "int8" }, tokens).flatMap((row) => [...row]);
    expect(nmse(await logitsOf(path, tokens, { isa: "scalar" }), exact)).toBeLessThan(1e-9);
  });

  test("a quantize_config.json is read where config.json has nothing, and a g_idx may be absent", async () => {
    await using folder = await temporaryFolder();
    const { tensors, config } = smallInt4(gptq);
    const { quantization_config, ...rest } = config;
    const kept = Object.entries(tensors).filter(([name]) => !name.endsWith("g_idx"));
    const files = { "quantize_config.json": { ...(quantization_config as object), quant_method: undefined } };
    const path = await writeModel(folder, { config: rest, tensors: Object.fromEntries(kept), files });
    const { format, tensors: read } = await readModel(path);
    expect(format).toBe("Hugging Face LlamaForCausalLM, GPTQ in safetensors");
    expect(read.get("blk.0.attn_q.weight")).toMatchObject({ type: "q4_z", rows: 160, cols: 160 });
  });

  test("a quantize_config.json beside floats is left from other weights, whatever it says", async () => {
    await using folder = await temporaryFolder();
    const path = await writeModel(folder, { files: { "quantize_config.json": { bits: 8, group_size: 128 } } });
    expect((await readModel(path)).format).toBe("Hugging Face LlamaForCausalLM, safetensors");
  });

  test("symmetric weights whose zeros are stored as they are, under the name of the first version", async () => {
    await using folder = await temporaryFolder();
    const { tensors, config } = smallInt4({ ...gptq, zerosLessOne: false, symmetric: true });
    const keys = { ...(config.quantization_config as object), checkpoint_format: "gptq" };
    const path = await writeModel(folder, { tensors, config: { ...config, quantization_config: keys } });
    expect((await readModel(path)).tensors.get("blk.0.ffn_up.weight")!.type).toBe("q4_0");
  });

  test("an output matrix of 4 bits, linear layers of floats, and biases of zeros", async () => {
    await using folder = await temporaryFolder();
    const { tensors, config } = smallInt4(gptq);
    const next = Xoshiro128.fromSeed(3);
    const output = randomInt4({ outputs: 304, inputs: 160, groupSize: 32 }, () => next.next());
    delete tensors["lm_head.weight"];
    tensors["model.embed_tokens.weight"] = { dtype: "F16", shape: [304, 160] };
    for (const [part, tensor] of Object.entries(int4Tensors(output, gptq))) tensors[`lm_head.${part}`] = tensor;
    for (const part of ["qweight", "qzeros", "scales", "g_idx"]) delete tensors[`model.layers.1.mlp.up_proj.${part}`];
    tensors["model.layers.1.mlp.up_proj.weight"] = { dtype: "F16", shape: [96, 160] };
    tensors["model.layers.0.mlp.up_proj.bias"] = { dtype: "F16", shape: [96] };
    const path = await writeModel(folder, { tensors, config: { ...config, vocab_size: 304 } });
    const { tensors: read } = await readModel(path);
    expect(read.get("output.weight")).toMatchObject({ type: "q4_z", rows: 304 });
    expect(read.get("blk.1.ffn_up.weight")).toMatchObject({ type: "f16" });
    expect(await logitsOf(path, Int32Array.of(1, 2), { isa: "scalar" })).toHaveLength(608);
  });
});

describe("a folder that is wrong is refused by the name of what is", () => {
  const part = "model.layers.1.mlp.down_proj";
  const spec = (dtype: string, shape: number[], data?: Uint8Array): SafetensorsSpec =>
    data === undefined ? { dtype, shape } : { dtype, shape, data };
  const gIdx = (group: number) => new Uint8Array(new Int32Array(96).fill(1).with(7, group).buffer);
  const third = new Uint8Array(new Float32Array(480).fill(1 / 3).buffer);

  const tensorCases: [string, Record<string, SafetensorsSpec | undefined>, string, string?][] = [
    ["zeros", { qzeros: undefined }, "qzeros: must be a tensor of shape [3, 20], but is missing"],
    ["scales", { scales: undefined }, "scales: must be a tensor of shape [3, 160], but is missing"],
    ["weights", { qweight: undefined }, "weight: must be a tensor of shape [160, 96], but is missing"],
    ["shape", { qweight: spec("I32", [96, 20]) }, "qweight: must be of shape [12, 160], not [96, 20]"],
    ["groups", { scales: spec("F16", [2, 160]) }, "scales: must be of shape [3, 160], not [2, 160]"],
    ["zeros' shape", { qzeros: spec("I32", [3, 160]) }, "qzeros: must be of shape [3, 20], not [3, 160]"],
    ["g_idx' shape", { g_idx: spec("I32", [95]) }, "g_idx: must be of shape [96], not [95]"],
    ["type of zeros", { qzeros: spec("F16", [3, 20]) }, "qzeros: must be of type I32, not F16"],
    ["type of weights", { qweight: spec("U8", [12, 160]) }, "qweight: must be of type I32, not U8"],
    ["type of scales", { scales: spec("F64", [3, 160]) }, "scales: must be of type F16 or BF16 or F32, not F64"],
    ["type of g_idx", { g_idx: spec("I64", [96]) }, "g_idx: must be of type I32, not I64"],
    ["group", { g_idx: spec("I32", [96], gIdx(3)) }, "g_idx: its element 7 must be one of the 3 groups, not 3"],
    [
      "group below 0",
      { g_idx: spec("I32", [96], gIdx(-1)) },
      "g_idx: its element 7 must be one of the 3 groups, not -1",
    ],
    [
      "rounded scales",
      { scales: spec("F32", [3, 160], third) },
      "scales: must be of type F16, or of values that it can hold, not of F32 and others",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "bias",
      { bias: spec("F16", [160], new Uint8Array(320).fill(1)) },
      "bias: must be zeros, for a LLaMA has no biases",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "more",
      { perm: spec("I32", [96]) },
      "perm: is not a tensor of the LLaMA that cria computes",
      "ERR_CRIA_UNSUPPORTED",
    ],
  ];
  test.each(tensorCases)("%s", async (_, changes, message, code = "ERR_CRIA_FILE") => {
    await using folder = await temporaryFolder();
    const small = smallInt4(gptq);
    const tensors = new Map(Object.entries(small.tensors));
    for (const [name, tensor] of Object.entries(changes)) {
      if (tensor === undefined) tensors.delete(`${part}.${name}`);
      else tensors.set(`${part}.${name}`, tensor);
    }
    const path = await write(folder, { ...small, tensors: Object.fromEntries(tensors) });
    await expect(readModel(path)).rejects.toMatchObject({
      name: "CriaFileError",
      code,
      message: expect.stringContaining(`${part}.${message}`),
    });
  });

  const keyCases: [key: string, value: unknown, message: string, code?: string, how?: Case][] = [
    ["quant_method", "bitsandbytes", 'must be "gptq" or "awq", not "bitsandbytes"'],
    ["quant_method", undefined, "must be a string, but is missing", "ERR_CRIA_FILE"],
    ["bits", 8, "must be 4, not 8"],
    ["bits", "4", 'must be an integer from 1 to 32, not "4"', "ERR_CRIA_FILE"],
    ["group_size", 16, "must be -1 or a multiple of 32, not 16"],
    ["group_size", 0, "must be -1 or a multiple of 32, not 0"],
    ["group_size", -2, "must be an integer from -1 to 2147483647, not -2", "ERR_CRIA_FILE"],
    ["checkpoint_format", "marlin", 'must be "gptq" or "gptq_v2", not "marlin"'],
    ["is_marlin_format", true, "must be false, not true"],
    ["sym", 1, "must be true or false, not 1", "ERR_CRIA_FILE"],
    ["dynamic", { "+:.*": { bits: 8 } }, "must be empty, not Object"],
    ["version", "gemv", 'must be "gemm", not "gemv"', "ERR_CRIA_UNSUPPORTED", { layout: "awq", groupSize: 32 }],
    ["zero_point", false, "must be true, not false", "ERR_CRIA_UNSUPPORTED", { layout: "awq", groupSize: 32 }],
  ];
  test.each(keyCases)("%s: %j", async (key, value, message, code = "ERR_CRIA_UNSUPPORTED", how = gptq) => {
    await using folder = await temporaryFolder();
    const path = await write(folder, smallInt4({ ...how, keys: { [key]: value } }));
    await expect(readModel(path)).rejects.toMatchObject({
      name: "CriaFileError",
      code,
      message: expect.stringContaining(`quantization_config.${key}: ${message}`),
    });
  });

  test("its weights mutated, a model is loaded or refused", async () => {
    await using folder = await temporaryFolder();
    const { tensors, config } = smallInt4({ ...gptq, actOrder: true });
    const path = await writeModel(folder, { tensors, config });
    const bytes = encodeSafetensors({ tensors, metadata: { format: "pt" } });
    await fc.assert(
      fc.asyncProperty(fc.boolean(), mutation, async (anywhere, change) => {
        const header = Number(bytes.readBigUInt64LE()) + 8;
        await writeFile(join(path, "model.safetensors"), mutate(bytes, anywhere ? bytes.length : header, change));
        try {
          await logitsOf(path, Int32Array.of(1, 2), { threads: 1 });
        } catch (error) {
          if (!(error instanceof CriaError) || error.code === "ERR_CRIA_INTERNAL") throw error;
        }
      }),
      { numRuns: 100 },
    );
  });
});

test("a shard of 4-bit matrices alone is a file of the model, which is not written over", async () => {
  await using folder = await temporaryFolder();
  const { tensors, config } = smallInt4({ layout: "gptq", groupSize: 32 });
  const all = Object.entries(tensors);
  const shards = [false, true].map((wanted) =>
    Object.fromEntries(all.filter(([name]) => /\.(qweight|qzeros|scales|g_idx)$/.test(name) === wanted)),
  );
  const [floats, matrices] = ["floats.safetensors", "matrices.safetensors"];
  const map = shards.flatMap((shard, i) => Object.keys(shard).map((name) => [name, i === 0 ? floats : matrices]));
  const model = await writeModel(folder, {
    config,
    files: {
      "model.safetensors": undefined,
      [floats]: encodeSafetensors({ tensors: shards[0]! }),
      [matrices]: encodeSafetensors({ tensors: shards[1]! }),
      "model.safetensors.index.json": { weight_map: Object.fromEntries(map) },
    },
  });
  const out = join(model, matrices);
  const message = `${out}: must not be a file of the model itself, ${out}`;
  await expect(convertModel(join(model, floats), out)).rejects.toMatchObject({ code: "ERR_CRIA_FILE", message });
});
