import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { Device } from "../../lib/device.js";
import { estimateMemory } from "../../lib/memory.js";
import { loadModel } from "../../lib/model.js";
import { packModel } from "../../lib/pack.js";
import { readModel } from "../../lib/weights/model-file.js";
import { type LoadedType, quantisedTypeFor, quantisedTypes } from "../../lib/weights/quantized.js";
import { weightBytes } from "../../lib/weights/source.js";
import { WeightStore } from "../../lib/weights/store.js";
import { dataFile, needFiles } from "../support/data.js";
import { nmse } from "../support/float64.js";
import { encodeGguf, llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { fromHalf } from "../support/half.js";
import { smallTensors, writeModel } from "../support/hugging-face.js";
import { scalar } from "../support/isas.js";

/** The logits after each token, with an f32 cache, and what the weights take. */
async function read(path: string, tokens: Int32Array, quantize?: LoadedType) {
  const model = await loadModel(path, { cache: "f32", ...(quantize === undefined ? {} : { quantize }) });
  try {
    using sequence = model.sequence();
    return { logits: await sequence.forward(tokens, "all"), bytes: model.weightBytes };
  } finally {
    model.dispose();
  }
}

describe("matrices that become quantised ones", () => {
  const folder = dataFile("tinystories-656k-hf");

  // What rounding weights and activations to so many bits does to a model of 128 dimensions; a wrong scale or a row out
  // of its place makes it about 1.
  test.for([
    ["q8_0", 1e-3],
    ["q6_K", 1e-3],
    ["q5_1", 1e-2],
    ["q4_0", 5e-2],
    ["q4_K", 5e-2],
  ] as const)("a real model in f32 as %s is near its exact logits, and smaller", async ([type, most], context) => {
    needFiles(context, folder);
    const { tokens } = JSON.parse(readFileSync(join(folder, "exact.json"), "utf8"));
    const exact = new Float32Array(readFileSync(join(folder, "exact.logits.f32")).buffer.slice(0));
    const { logits, bytes } = await read(folder, Int32Array.from(tokens), type);
    const error = nmse(logits, exact);
    expect(error).toBeLessThan(most);
    expect(error).toBeGreaterThan(1e-7);
    const estimate = await estimateMemory(folder, { quantize: type });
    expect(bytes).toBe(estimate.weights);
    expect(bytes).toBeLessThan((await estimateMemory(folder)).weights / 2);
  });

  test("in bf16 or f32, the same weights become the same blocks", async () => {
    const blocksOf = async (dtype: "F32" | "BF16") => {
      await using folder = await temporaryFolder();
      const path = await writeModel(folder, { tensors: smallTensors(dtype) });
      using device = new Device(scalar);
      using source = (await readModel(path, { quantize: "q8_0" })).source();
      using store = new WeightStore(device, source);
      const names = ["blk.1.attn_q.weight", "blk.1.attn_k.weight"];
      await store.matrix(...names);
      return names.map((name) => {
        const { rows, cols } = store.tensors.get(name)!;
        const bytes = new Uint8Array(weightBytes("q8_0", rows, cols));
        store.unpack(name, 0, rows, bytes);
        return bytes;
      });
    };
    const [queries, keys] = await blocksOf("F32");
    expect(await blocksOf("BF16")).toEqual([queries, keys]);
    // Weights are multiples of 1/256 below 1/4, and a block's largest is 127 times its scale.
    const first = smallTensors()["model.layers.1.self_attn.k_proj.weight"]!.data!;
    const weights = new Float32Array(Uint8Array.from(first.subarray(0, 4 * 32)).buffer);
    const scale = fromHalf(keys![0]! | (keys![1]! << 8));
    weights.forEach((weight, i) => {
      expect(Math.abs(((keys![2 + i]! << 24) >> 24) * scale - weight)).toBeLessThan(0.25 / 127);
    });
  });

  test("rows that are no whole blocks stay, and so do vectors", async () => {
    await using folder = await temporaryFolder();
    const types = (await readModel(await writeModel(folder), { quantize: "q8_0" })).tensors;
    expect(types.get("blk.0.ffn_down.weight")!.type).toBe("f32");
    expect(types.get("blk.0.ffn_up.weight")!.type).toBe("q8_0");
    expect(types.get("blk.0.ffn_norm.weight")!.type).toBe("f32");
  });

  test("a GGUF file's float matrices too, while those that are quantised stay", async () => {
    await using folder = await temporaryFolder();
    const typesOf = async (type: "f16" | "q8_0") => {
      const path = await folder.write(`${type}.gguf`, encodeGguf(llamaFile({ type })));
      const { tensors } = await readModel(path, { quantize: "q4_0" });
      return new Set([...tensors.values()].map((info) => info.type));
    };
    expect(await typesOf("f16")).toEqual(new Set(["q4_0", "f32"]));
    expect(await typesOf("q8_0")).toEqual(new Set(["q8_0", "f32"]));
  });

  test("rows that are no whole number of blocks become what the type gives way to, or stay", () => {
    expect(quantisedTypes).toContain("q4_K");
    expect(quantisedTypes).not.toContain("f16");
    expect(quantisedTypes).not.toContain("q4_z");
    expect(quantisedTypeFor("q4_K", 512)).toBe("q4_K");
    expect(quantisedTypeFor("q4_K", 128)).toBe("q5_0");
    expect(quantisedTypeFor("q6_K", 96)).toBe("q8_0");
    expect(quantisedTypeFor("q2_K", 32)).toBe("iq4_nl");
    expect(quantisedTypeFor("q4_K", 48)).toBeUndefined();
    expect(quantisedTypeFor("q8_0", 40)).toBeUndefined();
  });
});

test("a load tells of them, a line for each type that gave way to another", async () => {
  await using folder = await temporaryFolder();
  const load = async (dim: number, quantize: LoadedType) => {
    const shape = { dim, ffn: 100, heads: dim / 8, kvHeads: 1, type: "f32" } as const;
    const path = await folder.write("model.gguf", encodeGguf(llamaFile(shape)));
    const warnings: string[] = [];
    (
      await loadModel(path, { quantize, onWarning: (message) => warnings.push(message.replace(`${path}: `, "")) })
    ).dispose();
    return warnings;
  };
  const stay = "2 matrices, the first blk.0.ffn_down.weight, are f32, not";
  expect(await load(96, "q4_K")).toEqual([
    "14 matrices, the first token_embd.weight, are q5_0, not q4_K: rows of 96 weights are no whole number of blocks of 256",
    `${stay} q4_K: rows of 100 weights are no whole number of blocks of 256`,
  ]);
  expect(await load(96, "q8_0")).toEqual([`${stay} q8_0: rows of 100 weights are no whole number of blocks of 32`]);
  expect(await load(40, "q8_0")).toEqual([
    "16 matrices, the first token_embd.weight, are f32, not q8_0: rows of 40 and 100 weights are no whole number of blocks of 32",
  ]);
});

describe("what cannot be", () => {
  test("a type that is none", async () => {
    const path = dataFile("tinystories-656k-hf");
    await expect(readModel(path, { quantize: "f16" as never })).rejects.toThrow(RangeError);
    await expect(readModel(path, { quantize: "q4" as never })).rejects.toThrow("quantize: must be one of q8_0, q4_0, ");
    await expect(readModel(path, { quantize: 4 as never })).rejects.toThrow(TypeError);
  });

  test("a packed file of floats", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "packed");
    await packModel(await folder.write("model.gguf", encodeGguf(llamaFile({ type: "f16" }))), out);
    await expect(readModel(out, { quantize: "q8_0" })).rejects.toMatchObject({
      name: "CriaFileError",
      code: "ERR_CRIA_UNSUPPORTED",
      message: `${out}: quantize: must be left out for a packed file, whose weights stay`,
    });
  });

  test("weights that are no numbers, which are named", async () => {
    await using folder = await temporaryFolder();
    const { "lm_head.weight": head, ...rest } = smallTensors();
    const data = Buffer.from(head!.data!);
    data.writeFloatLE(Number.NaN, 4 * 32 * 7 + 4);
    const path = await writeModel(folder, { tensors: { ...rest, "lm_head.weight": { ...head!, data } } });
    const refused = loadModel(path, { quantize: "q8_0" });
    await expect(refused).rejects.toMatchObject({ code: "ERR_CRIA_NUMBERS" });
    await expect(refused).rejects.toThrow(`${path}: output.weight: `);
  });
});
