/** LLaMA-Adapter's gated prefixes: files, logits, and what else may be set beside them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { packPrefix } from "../../lib/adapters/prefix.js";
import { CriaError, Device } from "../../lib/index.js";
import { native } from "../../lib/native.js";
import { Xoshiro128 } from "../../lib/random.js";
import type { LlamaConfig, WeightType } from "../../lib/weights/source.js";
import { expectClose, expectSameBits } from "../support/compare.js";
import { forward64, type GatedPrefix, nmse } from "../support/float64.js";
import { type TemporaryFolder, temporaryFolder } from "../support/gguf-writer.js";
import { executions, scalar } from "../support/isas.js";
import { bytesOf, knownUpdates, loraGguf, mergedRows } from "../support/lora.js";
import { encodeSafetensors, type SafetensorsSpec } from "../support/safetensors-writer.js";
import { load, logitsOf, type SmallLlama, smallLlama, tokens } from "../support/small-llama.js";
import { encodeTorch } from "../support/torch-writer.js";

/** What float32's rounding leaves, as beside LoRA. */
const float32 = 1e-11;

let folder: TemporaryFolder;
let small: SmallLlama;
beforeAll(async () => {
  folder = await temporaryFolder();
  small = await smallModel("f32");
});
afterAll(() => folder[Symbol.asyncDispose]());

/** Three layers; q, k and v are one matrix, or with types of their own each one. */
const smallModel = (type: WeightType, apart = false) =>
  smallLlama(folder, `${type}${apart ? "-apart" : ""}.gguf`, {
    seed: 31,
    type,
    layers: 3,
    typeOf: (name) => (apart && /attn_k/.test(name) ? "f16" : type),
  });

type Tensors = Record<string, { shape: number[]; floats: Float32Array }>;

/** The tensors for the last `layers` layers, with gates for all, as the authors' code saves them. */
function tensorsFor({ layers, dim, heads }: LlamaConfig, last: number, length: number, seed = 5): Tensors {
  const random = Xoshiro128.fromSeed(seed);
  const floats = (count: number) => Float32Array.from({ length: count }, () => random.next() / 2 ** 31 - 1);
  const gates = Array.from({ length: layers }, (_, i): [string, Tensors[string]] => [
    `layers.${i}.attention.gate`,
    { shape: [1, heads, 1, 1], floats: floats(heads) },
  ]);
  return {
    ...Object.fromEntries(gates),
    "adapter_query.weight": { shape: [last * length, dim], floats: floats(last * length * dim) },
  };
}

function write(name: string, tensors: Tensors): Promise<string> {
  const specs = Object.entries(tensors).map(([tensor, { shape, floats }]): [string, SafetensorsSpec] => [
    tensor,
    { dtype: "F32", shape, data: bytesOf(floats) },
  ]);
  return folder.write(name, encodeSafetensors({ tensors: Object.fromEntries(specs) }));
}

const writeTorch = (name: string, tensors: Tensors) =>
  folder.write(
    name,
    encodeTorch(
      Object.entries(tensors).map(([tensor, { shape, floats }]) => ({
        name: tensor,
        type: "f32",
        shape,
        data: bytesOf(floats),
      })),
    ),
  );

/** For the reference, with the gates' tanh unless they are taken as they are. */
function prefixesOf(
  tensors: Tensors,
  { layers, dim }: LlamaConfig,
  length: number,
  { scale = 1, raw = false } = {},
): Map<number, GatedPrefix> {
  const { floats } = tensors["adapter_query.weight"]!;
  const last = floats.length / (length * dim);
  return new Map(
    Array.from({ length: last }, (_, i) => {
      const layer = layers - last + i;
      const rows = Array.from({ length }, (_, j) =>
        Float64Array.from(floats.subarray((i * length + j) * dim, (i * length + j + 1) * dim)),
      );
      const gates = Float64Array.from(
        tensors[`layers.${layer}.attention.gate`]!.floats,
        (gate) => scale * (raw ? gate : Math.tanh(gate)),
      );
      return [layer, { prompts: rows, gates }];
    }),
  );
}

const referenceOf = (prefixes: ReadonlyMap<number, GatedPrefix>, weights = small.rows) =>
  forward64({ config: small.config, weights, prefixes }, tokens).flatMap((logits) => [...logits]);

describe("the logits are those of a float64 forward pass", () => {
  const cases: [string, { last?: number; length?: number; scale?: number; raw?: boolean }][] = [
    ["of the last two of three layers", {}],
    ["of all layers", { last: 3 }],
    ["of 17 keys", { length: 17 }],
    ["with half of the gates", { scale: 0.5 }],
    ["with gates as they are", { raw: true, last: 1, length: 3 }],
  ];
  test.each(cases)("%s", async (_, { last = 2, length = 10, scale = 1, raw = false }) => {
    const tensors = tensorsFor(small.config, last, length);
    const path = await write("prefix.safetensors", tensors);
    const model = await load(small.path, { adapters: [{ path, scale, prefixLength: length, rawGates: raw }] });
    const logits = await logitsOf(model);
    expect(nmse(logits, referenceOf(prefixesOf(tensors, small.config, length, { scale, raw })))).toBeLessThan(float32);
    expect(nmse(logits, referenceOf(new Map()))).toBeGreaterThan(1e6 * float32);
  });

  test("beside a LoRA, whose keys and values the prefix has too", async () => {
    const tensors = tensorsFor(small.config, 2, 10);
    const updates = knownUpdates(small.config, /attn/, { seed: 6 });
    const lora = await folder.write("lora.gguf", loraGguf(updates));
    const model = await load(small.path, { adapters: [{ path: lora }, { path: await write("beside", tensors) }] });
    const merged = mergedRows(small.rows, [[updates, 1]]);
    const exact = referenceOf(prefixesOf(tensors, small.config, 10), merged);
    expect(nmse(await logitsOf(model), exact)).toBeLessThan(float32);
    const other = await load(small.path, { adapters: [{ path: lora }], mergeAdapters: true });
    await other.setAdapters([{ adapter: await other.loadAdapter(await write("beside", tensors)) }]);
    expect(nmse(await logitsOf(other), exact)).toBeLessThan(float32);
  });

  test("of queries, keys and values that are matrices of their own", async () => {
    const { path, config, rows } = await smallModel("f32", true);
    const tensors = tensorsFor(config, 2, 10);
    const model = await load(path, { adapters: [{ path: await write("apart", tensors) }] });
    expect(nmse(await logitsOf(model), referenceOf(prefixesOf(tensors, config, 10), rows))).toBeLessThan(float32);
  });
});

test("keys and values are those of matrices whose columns have an order of their own", () => {
  const config: LlamaConfig = { ...small.config, dim: 32, heads: 4, kvHeads: 2, headDim: 8 };
  const random = Xoshiro128.fromSeed(9);
  const floats = (count: number) => Float32Array.from({ length: count }, () => random.next() / 2 ** 31 - 1);
  const [rows, prompt, gates] = [64, floats(3 * 32), floats(4)];
  const weights = floats(rows * 32);
  // Column c is input 7 c modulo 32, and the last eight are nobody's.
  const columns = Int32Array.from({ length: 40 }, (_, c) => (c < 32 ? (7 * c) % 32 : -1));
  const ordered = Float32Array.from({ length: rows * 40 }, (_, i) => {
    const input = columns[i % 40]!;
    return input < 0 ? 1 : weights[Math.floor(i / 40) * 32 + input]!;
  });
  using device = new Device(scalar);
  const packed = (matrix: Float32Array, cols: number, order?: Int32Array) => {
    const handle = native.matrixCreate(device.handle, "f32", rows, cols);
    native.tensorPack(handle, 0, rows, bytesOf(matrix));
    const made: Float32Array[] = [];
    const known = order && new Map([[handle, order]]);
    packPrefix(
      device,
      config,
      { qkv: [handle], columns: known, beside: undefined },
      { prompt, gates, scale: 1 },
      (vector) => {
        made.push(vector);
        return handle;
      },
    );
    native.free(handle);
    return made;
  };
  const expected = packed(weights, 32);
  for (const [i, vector] of packed(ordered, 40, columns).entries()) {
    expectClose(vector, expected[i]!, () => 1e-5);
  }
});

test("options that are undefined are those by default", async () => {
  const path = await write("defaults", tensorsFor(small.config, 2, 10));
  const none = { prefixLength: undefined, rawGates: undefined };
  const model = await load(small.path, { adapters: [{ path, scale: undefined, ...none }] });
  expect(model.adapters.map(({ scale }) => scale)).toEqual([1]);
  await model.setAdapters([{ adapter: await model.loadAdapter(path, none), scale: undefined }]);
  expect(model.adapters.map(({ scale }) => scale)).toEqual([1]);
});

test("what torch.save wrote gives the bits of safetensors, on every instruction set and any number of threads", async () => {
  const { path } = await smallModel("q8_0");
  const tensors = tensorsFor(small.config, 2, 10);
  const [saved, torch] = [await write("same", tensors), await writeTorch("same.pth", tensors)];
  const expected = await logitsOf(await load(path, { ...scalar, adapters: [{ path: saved }] }));
  for (const execution of executions) {
    expectSameBits(await logitsOf(await load(path, { ...execution, adapters: [{ path: torch }] })), expected);
  }
});

test.runIf(native.deviceDescribe("cuda-emulated").available)(
  "the logits on a GPU are those of the float64 pass",
  async () => {
    const tensors = tensorsFor(small.config, 2, 10);
    const model = await load(small.path, {
      device: "cuda-emulated",
      adapters: [{ path: await write("gpu", tensors) }],
    });
    expect(nmse(await logitsOf(model), referenceOf(prefixesOf(tensors, small.config, 10)))).toBeLessThan(float32);
  },
);

test("is set and taken away as a LoRA is, and is one of the fingerprint's", async () => {
  const path = await write("set", tensorsFor(small.config, 2, 10));
  const other = await write("other", tensorsFor(small.config, 2, 10, 6));
  const model = await load(small.path);
  const plain = await logitsOf(model);
  const [adapter, second] = [await model.loadAdapter(path), await model.loadAdapter(other)];
  expect([adapter.format, adapter.targets]).toEqual(["LLaMA-Adapter", []]);
  await model.setAdapters([{ adapter }]);
  const changed = await logitsOf(model);
  await expect(model.setAdapters([{ adapter }, { adapter: second }])).rejects.toThrow(
    expect.objectContaining({
      code: "ERR_CRIA_ARGUMENT",
      message: "adapters: must be at most one LLaMA-Adapter, beside any number of LoRAs, not 2",
    }),
  );
  expectSameBits(await logitsOf(model), changed);
  const sequence = model.sequence();
  await sequence.forward(tokens, "none");
  await model.saveSequence(sequence, `${folder.path}/saved`);
  sequence.dispose();
  await model.setAdapters([{ adapter: second }]);
  expect(nmse(await logitsOf(model), changed)).toBeGreaterThan(1e-6);
  await expect(model.loadSequence(`${folder.path}/saved`)).rejects.toThrow(/fingerprint/);
  await model.setAdapters([{ adapter, scale: 0 }]);
  expectSameBits(await logitsOf(model), plain);
});

describe("a file is refused", () => {
  const refused = async (path: string) => {
    try {
      await load(small.path, { adapters: [{ path }] });
    } catch (error) {
      if (!(error instanceof CriaError)) throw error;
      return { code: error.code, message: error.message };
    }
    return expect.fail("nothing was thrown");
  };
  const gate = (layer: number) => `layers.${layer}.attention.gate`;
  const bad: [string, (tensors: Tensors) => void, "FILE" | "UNSUPPORTED", RegExp][] = [
    [
      "without prompts",
      (t) => delete t["adapter_query.weight"],
      "FILE",
      /adapter_query\.weight: must be there, but is m/,
    ],
    ["without a gate", (t) => delete t[gate(2)], "FILE", /layers\.2\.attention\.gate: must be there, but is missing/],
    [
      "with prompts of another dimension",
      (t) => (t["adapter_query.weight"] = { shape: [20, 32], floats: new Float32Array(640) }),
      "FILE",
      /adapter_query\.weight: must be for 64 dimensions, as the model has, not 32/,
    ],
    [
      "with prompts that are no layer's",
      (t) => (t["adapter_query.weight"] = { shape: [15, 64], floats: new Float32Array(960) }),
      "FILE",
      /must be of 10 rows for each of at most 3 layers, not of 15/,
    ],
    [
      "with prompts for more layers",
      (t) => (t["adapter_query.weight"] = { shape: [40, 64], floats: new Float32Array(2560) }),
      "FILE",
      /must be of 10 rows for each of at most 3 layers, not of 40/,
    ],
    [
      "with gates of other heads",
      (t) => (t[gate(1)] = { shape: [1, 8, 1, 1], floats: new Float32Array(8) }),
      "FILE",
      /layers\.1\.attention\.gate: must be of 4 heads, as the model has, not 8/,
    ],
    [
      "with a gate of no layer",
      (t) => (t[gate(3)] = { shape: [1, 4, 1, 1], floats: new Float32Array(4) }),
      "FILE",
      /layers\.3\.attention\.gate: must be of one of the model's 3 layers/,
    ],
    [
      "with another tensor",
      (t) => (t["visual_query.weight"] = { shape: [1], floats: new Float32Array(1) }),
      "UNSUPPORTED",
      /visual_query\.weight: is not a tensor of a LLaMA-Adapter/,
    ],
  ];
  test.each(bad)("%s", async (_, spoil, code, message) => {
    const tensors = tensorsFor(small.config, 2, 10);
    spoil(tensors);
    const expected = { code: `ERR_CRIA_${code}`, message: expect.stringMatching(message) };
    expect(await refused(await write("bad", tensors))).toEqual(expected);
    expect(await refused(await writeTorch("bad.pth", tensors))).toEqual(expected);
  });

  test("to be merged; and wrong options are", async () => {
    const path = await write("good", tensorsFor(small.config, 2, 10));
    await expect(load(small.path, { adapters: [{ path }], mergeAdapters: true })).rejects.toThrow(
      expect.objectContaining({
        code: "ERR_CRIA_UNSUPPORTED",
        message: expect.stringMatching(/must be a LoRA to be merged/),
      }),
    );
    const model = await load(small.path);
    await expect(model.loadAdapter(path, { prefixLength: 0 })).rejects.toThrow(
      "prefixLength: must be an integer from 1 to",
    );
    await expect(model.loadAdapter(path, { rawGates: 1 as never })).rejects.toThrow(
      "rawGates: must be a boolean, not 1",
    );
    await expect(model.loadAdapter(path, { raw: true } as never)).rejects.toThrow(
      "options.raw: is not an option of load",
    );
    await expect(load(small.path, { adapters: [{ path, prefixLength: 257 }] })).rejects.toThrow(
      "adapters[0].prefixLength: must be an integer from 1 to 256, not 257",
    );
  });
});
