import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { llamaFile, string, temporaryFolder } from "../support/gguf-writer.js";
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
    // What is multiplied is quantised to rows of up to 2 times 64, each with 2 scales, 2 seeds and 2 sums; RoPE turns 8
    // pairs.
    const activations = 4 * (40 * (perRow + qkv) + perRow + 300) + 40 * (2 * (64 + 24) + 2 * 8 * 4);
    // In memory the 96 columns of ffn_down are 2 superblocks too, and the 300 rows of the vocabulary 19 panels of 16.
    const weights = ((matrices + 2 * 64 * 32 + 2 * 4 * 64) / 32) * 34 + vectors * 4;
    const pieces = 300 * 600;
    const total = weights + cached * 2 + activations + pieces;
    const description = await criaJson<{ memory: { available: number } }>("inspect", path);
    expect(description.memory.available).toBeGreaterThan(total);
    expect(description).toEqual({
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
      chat: { own: false },
      parameters: matrices + vectors,
      tensors: { q8_0: { count: 16, bytes: q8 }, f32: { count: 5, bytes: vectors * 4 } },
      memory: {
        weights,
        mapped: 0,
        cache: { q8_0: (cached * (16 + 2)) / 16, f16: cached * 2, f32: cached * 4 },
        cacheTokens: 48,
        activations,
        vocabulary: pieces,
        total,
        available: description.memory.available,
        fits: true,
      },
    });
  });

  it("--context, --cache and --cache-size: the memory that loading with them takes", async () => {
    const memory = async (...options: string[]) => {
      const { memory } = await criaJson<{ memory: Record<string, unknown> }>("inspect", tinyModel, ...options);
      return memory;
    };
    const block = 16 * 2 * 4 * 2 * 24 * 2; // tokens, K and V, layers, heads, dimensions, bytes
    expect(await memory("--context", "100")).toMatchObject({ cacheTokens: 112, cache: { f16: 7 * block } });
    expect(await memory("--cache-size", "64")).toMatchObject({ cacheTokens: 64 });
    const kib = 64 * 1024;
    expect(await memory("--cache-size", "64KiB")).toMatchObject({ cacheTokens: 16 * Math.floor(kib / block) });
    const f32 = await memory("--cache-size", "64KiB", "--cache", "f32");
    expect(f32).toMatchObject({ cacheTokens: 16 * Math.floor(kib / (2 * block)) });
    const half = (await memory("--cache-size", "0.5%")) as { available: number; cache: { f16: number } };
    expect(half.cache.f16 / (0.005 * half.available)).toBeCloseTo(1, 2);
  });

  it.each([
    [
      "--cache-size",
      "4096tokens",
      /^cria inspect: --cache-size: must be such as 4096, 2GiB or 50%, not "4096tokens"\n/,
    ],
    ["--cache-size", "1.5", /^cria inspect: --cache-size: must be such as 4096, /],
    ["--cache-size", "0", /^cria inspect: --cache-size\.tokens: must be an integer from 1 to 2147483648, not 0\n/],
    ["--cache-size", "200%", /^cria inspect: --cache-size\.share: must be a number above 0 and up to 1, not 2\n/],
    ["--cache-size", "1KiB", /^cria inspect: --cache-size\.bytes: must be an integer of at least \d+, not 1024\n/],
    ["--context", "0", /^cria inspect: --context: must be an integer from 1 /],
  ])("%s %s is wrong usage", async (option, value, message) => {
    const { code, stderr } = await cria(["inspect", tinyModel, option, value]);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it.each<[file: string, own: string | undefined, chat: object, people: string]>([
    ["model.gguf", undefined, { own: false }, "none, nor a name that tells of one"],
    ["Vicuna-13B.gguf", undefined, { own: false, template: "vicuna" }, "vicuna, by its name"],
    ["vicuna.gguf", "{{ messages }}", { own: true, template: "jinja" }, "its own"],
    [
      "x.gguf",
      "<step>Destination: user",
      { own: true, template: "code-llama-70b" },
      "its own, which is code-llama-70b",
    ],
  ])("says which template a chat with %s would take, its own being %s", async (file, own, chat, people) => {
    await using folder = await temporaryFolder();
    const model = llamaFile();
    if (own !== undefined) model.metadata["tokenizer.chat_template"] = string(own);
    const path = await folder.write(file, model);
    expect((await criaJson<{ chat: object }>("inspect", path)).chat).toEqual(chat);
    expect((await cria(["inspect", path])).stdout).toContain(`\n  chat template  ${people}\n`);
  });

  it("sends a terminal no control characters of a file", async () => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    file.metadata["general.name"] = string("a\x1b[2Jb");
    const path = await folder.write("model.gguf", file);
    expect((await cria(["inspect", path])).stdout).toContain(", a\x1b[2Jb\n");
    expect((await cria(["inspect", path], { isTTY: true })).stdout).toContain(", a\ufffd[2Jb\n");
  });

  it("tells people the same", async () => {
    const { code, stdout, stderr } = await cria(["inspect", tinyModel]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^\S+: GGUF v3, cria-tiny\n/);
    expect(stdout).toMatch(/^ {2}parameters +504672$/m);
    expect(stdout).toMatch(/^ {2}q8_0 +29, 522\.75 KiB$/m);
    expect(stdout).toMatch(/^ {2}cache of 192 tokens +78\.00 KiB as q8_0, 144\.00 KiB as f16, 288\.00 KiB as f32$/m);
    expect(stdout).toMatch(/^ {2}available +[\d.]+ \w+, enough$/m);
  });
});
