import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

describe("inspect", () => {
  it("--json: hyper-parameters, tensors by type and the memory of each part", async () => {
    await using folder = await temporaryFolder();
    const shape = {
      layers: 2,
      dim: 64,
      heads: 4,
      kvHeads: 2,
      ffn: 96,
      vocab: 300,
      contextLength: 40,
      type: "q8_0",
    } as const;
    const path = await folder.write("model.gguf", llamaFile(shape));
    const matrices = 2 * (64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 96) + 2 * 300 * 64;
    const vectors = (2 * 2 + 1) * 64;
    const q8 = (matrices / 32) * 34;
    // 40 tokens take 3 blocks of 16, each with 2 layers' k and v of 2 heads of 16.
    const cached = 48 * 2 * 2 * 2 * 16;
    const [perRow, qkv] = [3 * 64 + 96, (4 + 2 * 2) * 16];
    expect(await criaJson("inspect", path)).toEqual({
      path,
      format: "GGUF v3",
      name: "a test",
      config: {
        layers: 2,
        dim: 64,
        heads: 4,
        kvHeads: 2,
        headDim: 16,
        ffn: 96,
        vocab: 300,
        contextLength: 40,
        eps: Math.fround(1e-5),
        rope: { theta: 10_000, scale: 1, dim: 16, pairing: "adjacent" },
      },
      vocabulary: { size: 300, bos: 1, eos: 2, unknown: 0, addBos: true },
      parameters: matrices + vectors,
      tensors: { q8_0: { count: 16, bytes: q8 }, f32: { count: 5, bytes: vectors * 4 } },
      memory: {
        weights: q8 + vectors * 4,
        cache: { q8_0: (cached * (16 + 2)) / 16, f16: cached * 2, f32: cached * 4 },
        activations: 4 * (40 * (perRow + qkv) + perRow + 300),
      },
    });
  });

  it("tells people the same", async () => {
    const { code, stdout, stderr } = await cria(["inspect", tinyModel]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\S+: GGUF v3, cria-tiny\n/);
    expect(stdout).toMatch(/^ {2}parameters +504672$/m);
    expect(stdout).toMatch(/^ {2}q8_0 +29, 522\.75 KiB$/m);
    expect(stdout).toMatch(/^ {2}cache of 192 tokens +78\.00 KiB as q8_0, 144\.00 KiB as f16, 288\.00 KiB as f32$/m);
  });
});
