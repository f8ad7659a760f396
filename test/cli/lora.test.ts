import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

import { loadModel, tinyModel } from "../../lib/index.js";
import { expectSameBits } from "../support/compare.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { tinyAdapter } from "../support/lora.js";
import { cria } from "./run.js";

const tokens = Int32Array.of(1, 428, 436);

test("--lora FILE:SCALE, several times, sets adapters", async () => {
  await using folder = await temporaryFolder();
  const adapter = await tinyAdapter(folder);
  const logits = async (...options: string[]) => {
    const out = join(folder.path, "logits");
    const { code, stderr } = await cria(["logits", tinyModel, "--tokens", tokens.join(), "--out", out, ...options]);
    expect(code, stderr).toBe(0);
    return new Float32Array(new Uint8Array(readFileSync(out)).buffer);
  };
  const expected = async (...scales: number[]) => {
    using model = await loadModel(tinyModel, { adapters: scales.map((scale) => ({ path: adapter, scale })) });
    return await model.sequence().forward(tokens, "all");
  };
  expectSameBits(await logits("--lora", adapter), await expected(1));
  expectSameBits(await logits("--lora", `${adapter}:-0.5`), await expected(-0.5));
  expectSameBits(await logits("--lora", `${adapter}:2`, "--lora", `${adapter}:.25`), await expected(2, 0.25));
  expect(await expected(1)).not.toEqual(await expected());
});

test("--lora-merge merges them", async () => {
  await using folder = await temporaryFolder();
  const [adapter, out] = [await tinyAdapter(folder), join(folder.path, "logits")];
  const argv = ["logits", tinyModel, "--tokens", tokens.join(), "--out", out, "--lora", adapter, "--lora-merge"];
  const { code, stderr } = await cria(argv);
  expect(code, stderr).toBe(0);
  using model = await loadModel(tinyModel, { adapters: [{ path: adapter }], mergeAdapters: true });
  const expected = await model.sequence().forward(tokens, "all");
  expectSameBits(new Float32Array(new Uint8Array(readFileSync(out)).buffer), expected);
});

test("--lora of no adapter fails with its name, and of a colon without a number is a file's name", async () => {
  const { code, stderr } = await cria(["generate", tinyModel, "--lora", tinyModel]);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringMatching(/cria-tiny-q8_0\.gguf: general\.type: must be .*ERR_CRIA_/),
  });
  expect((await cria(["generate", tinyModel, "--lora", "absent:x"])).stderr).toMatch(/absent:x: cannot be read/);
  const scaled = await cria(["generate", tinyModel, "--lora", `${tinyModel}:x`]);
  expect(scaled).toMatchObject({ code: 2, stderr: expect.stringMatching(/not a scale of "x"/) });
  const merged = await cria(["generate", tinyModel, "--lora-merge"]);
  expect(merged).toMatchObject({ code: 2, stderr: expect.stringMatching(/--lora-merge: must come with --lora/) });
});

test("bench takes --lora for a model's file alone", async () => {
  const { code, stderr } = await cria(["bench", "--lora", "adapter.gguf"]);
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr: expect.stringContaining("--lora: must only stand with --model"),
  });
});
