import { createHash } from "node:crypto";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { type FingerprintSource, modelFingerprint } from "../lib/fingerprint.js";
import { loadLlama } from "../lib/llama.js";
import { packModel } from "../lib/pack.js";
import { tinyModel } from "../lib/tiny.js";
import { typedLlamaTensors } from "../lib/weights/llama-tensors.js";
import { readModel } from "../lib/weights/model-file.js";
import { type LlamaConfig, type WeightType, weightBytes } from "../lib/weights/source.js";
import { WeightStore } from "../lib/weights/store.js";
import { f32, type GgufFile, llamaFile, string, type TensorSpec, temporaryFolder, u32 } from "./support/gguf-writer.js";
import { available } from "./support/isas.js";

/** The fingerprint of a model's file, loaded. */
async function fingerprint(path: string, options = {}): Promise<string> {
  const model = await readModel(path);
  using device = new Device(options);
  using source = model.source();
  using store = new WeightStore(device, source);
  await loadLlama(model.config, store);
  return modelFingerprint(model.config, store).toString("hex");
}

/** Bytes that are as good as random, for any type: what is hashed need not be finite. */
const weightData = (file: GgufFile) => {
  for (const tensor of file.tensors) {
    const type = tensor.type as WeightType;
    const [cols, rows = 1] = tensor.shape.map(Number) as [number, number?];
    const outputLength = weightBytes(type, rows, cols);
    tensor.data = createHash("shake256", { outputLength }).update(tensor.name).digest();
  }
  return file;
};

const yarn = (factor: number) => ({
  "llama.rope.scaling.type": string("yarn"),
  "llama.rope.scaling.factor": f32(factor),
});

const divisors = (last: number): TensorSpec => {
  const data = new Uint8Array(Float32Array.of(1, 1, 1, 1, 1, 1, 1, last).buffer);
  return { name: "rope_freqs.weight", shape: [8], type: "f32", data };
};

describe("a model's fingerprint", () => {
  test("is that of its packed file too, whatever the types", async () => {
    await using folder = await temporaryFolder();
    const mixed = llamaFile({ type: "q8_0", tied: true });
    for (const tensor of mixed.tensors) {
      if (tensor.shape.length === 1) tensor.type = "f16";
      else if (/attn_k|ffn_up/.test(tensor.name)) tensor.type = "f32";
    }
    const scaled = weightData(llamaFile({ dim: 96 }));
    scaled.tensors.push({
      ...divisors(8),
      shape: [12],
      data: new Uint8Array(Float32Array.from({ length: 12 }, (_, i) => 1 + i / 3).buffer),
    });
    const files = [tinyModel, await folder.write("mixed.gguf", withFiniteVectors(weightData(mixed)))];
    files.push(await folder.write("scaled.gguf", scaled));
    for (const type of ["f32", "f16", "bf16", "q4_0"] as const) {
      files.push(await folder.write(`${type}.gguf`, weightData(llamaFile({ type, dim: 96, ffn: 160 }))));
    }
    const seen = new Set<string>();
    for (const file of files) {
      const packed = join(folder.path, "packed");
      await packModel(file, packed);
      expect(await fingerprint(packed)).toBe(await fingerprint(file));
      seen.add(await fingerprint(file));
    }
    expect(seen.size).toBe(files.length);
  });

  test("does not depend on how the model is run", async () => {
    const one = await fingerprint(tinyModel);
    for (const isa of available) expect(await fingerprint(tinyModel, { isa, threads: 2 })).toBe(one);
  });

  test("changes with what decides a cache's contents, and with nothing else", async () => {
    await using folder = await temporaryFolder();
    const of = async (change: (file: GgufFile) => void) => {
      const file = weightData(llamaFile());
      change(file);
      return fingerprint(await folder.write("model.gguf", file));
    };
    const plain = await of(() => undefined);
    const same: ((file: GgufFile) => void)[] = [
      ({ metadata }) => Object.assign(metadata, { "general.name": string("another") }),
      ({ metadata }) => Object.assign(metadata, { "llama.context_length": u32(4096) }),
      ({ tensors }) => tensors.reverse(),
    ];
    for (const change of same) expect(await of(change)).toBe(plain);

    const spoil = (name: string, at: number) => (file: GgufFile) => {
      const data = file.tensors.find((tensor) => tensor.name === name)!.data!;
      data[at < 0 ? data.length + at : at]! ^= 1;
    };
    const changes: ((file: GgufFile) => void)[] = [
      ({ metadata }) => Object.assign(metadata, { "llama.rope.freq_base": f32(500_000) }),
      ({ metadata }) => Object.assign(metadata, { "llama.rope.dimension_count": u32(8) }),
      ({ metadata }) => Object.assign(metadata, { "llama.rope.scaling.factor": f32(2) }),
      ({ metadata }) => Object.assign(metadata, { "llama.rope.scaling.attn_factor": f32(2) }),
      ({ metadata }) => Object.assign(metadata, yarn(4)),
      ({ metadata }) => Object.assign(metadata, yarn(8)),
      ({ tensors }) => tensors.push(divisors(2)),
      ({ tensors }) => tensors.push(divisors(3)),
      ({ metadata }) => Object.assign(metadata, { "llama.attention.layer_norm_rms_epsilon": f32(1e-6) }),
      spoil("token_embd.weight", 0),
      spoil("blk.0.attn_k.weight", -1),
      spoil("blk.1.attn_v.weight", 100),
      spoil("blk.1.attn_norm.weight", -4),
      spoil("output.weight", -1),
    ];
    const seen = new Set([plain]);
    for (const change of changes) seen.add(await of(change));
    expect(seen.size).toBe(changes.length + 1);
  });

  test("of a large model looks at all of its vectors, and at the first and the last row of its matrices", () => {
    const config: LlamaConfig = {
      layers: 2,
      dim: 2048,
      heads: 16,
      kvHeads: 16,
      headDim: 128,
      ffn: 5632,
      vocab: 32_000,
      contextLength: 2048,
      eps: 1e-5,
      rope: { theta: 10_000, scale: 1, dim: 128, pairing: "adjacent" },
    };
    const tensors = typedLlamaTensors(config, false, () => "q4_0");
    const rows = new Map<string, number[]>();
    const source: FingerprintSource = {
      tensors,
      unpack: (name, row, count, into) => {
        into.fill(row);
        rows.set(name, [...(rows.get(name) ?? []), ...Array.from({ length: count }, (_, i) => row + i)]);
      },
    };
    modelFingerprint(config, source);
    expect([...rows.keys()]).toEqual([...tensors.keys()]);
    for (const [name, looked] of rows) {
      const { rows } = tensors.get(name)!;
      expect(looked).toEqual(rows === 1 ? [0] : [0, rows - 1]);
    }
  });
});

/** Vectors in f16 become f32: a signalling NaN, which would become quiet, is no weight. */
function withFiniteVectors(file: GgufFile): GgufFile {
  for (const { type, data } of file.tensors) {
    if (type === "f16") for (let at = 1; at < data!.length; at += 2) data![at]! &= 0x3f;
  }
  return file;
}
