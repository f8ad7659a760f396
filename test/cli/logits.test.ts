import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, type TestContext } from "vitest";

import { loadModel } from "../../lib/model.js";
import { chunkTokens } from "../../lib/scheduler.js";
import { tinyModel } from "../../lib/tiny.js";
import { dataFile, needFiles } from "../support/data.js";
import { nmse } from "../support/float64.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

const floats = (bytes: Buffer) => new Float32Array(new Uint8Array(bytes).buffer);

/** The error of the logits that the command line writes, against the exact ones; skips where they are absent. */
async function errorOf(name: string, context: TestContext, ...options: string[]): Promise<number> {
  const file = (ending: string) => dataFile("fixtures", `${name}.${ending}`);
  needFiles(context, file("gguf"), file("json"), file("logits.f32"));
  const { tokens } = JSON.parse(readFileSync(file("json"), "utf8")) as { tokens: number[] };
  await using folder = await temporaryFolder();
  const out = join(folder.path, "logits");
  const { code, stderr } = await cria(["logits", file("gguf"), "--tokens", tokens.join(), "--out", out, ...options]);
  expect(code, stderr).toBe(0);
  return nmse(floats(readFileSync(out)), floats(readFileSync(file("logits.f32"))));
}

describe("logits", () => {
  // Every weight type's distance is test/fixtures.test.ts's.
  it("tiny-q8_0: no further from the exact ones than 1.1 x llama.cpp's distance", async (context) => {
    expect(await errorOf("tiny-q8_0", context)).toBeLessThanOrEqual(1.1 * 8.1e-4);
  });

  it("tiny-f32: float32's own error with an f32 cache, and f16's with the one by default", async (context) => {
    expect(await errorOf("tiny-f32", context, "--cache", "f32")).toBeLessThan(1e-9);
    const error = await errorOf("tiny-f32", context);
    expect(error).toBeGreaterThan(1e-9);
    expect(error).toBeLessThanOrEqual(1.1 * 2.7e-6);
  });

  it("a long text's come in order, chunk after chunk", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "logits");
    const data = (_name: string, _type: string, rows: number, cols: number) =>
      new Uint8Array(Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i)).buffer);
    const path = await folder.write("model.gguf", llamaFile({ type: "f32", contextLength: 2048, data }));
    const tokens = Int32Array.from({ length: 2 * chunkTokens + 7 }, (_, i) => (i * 7) % 300);
    const { code, stderr } = await cria(["logits", path, "--tokens", tokens.join(), "--out", out]);
    expect(code, stderr).toBe(0);
    using model = await loadModel(path);
    const expected = await model.sequence().forward(tokens, "all");
    expect(floats(readFileSync(out))).toEqual(expected);
    expect(new Set(expected).size).toBeGreaterThan(tokens.length);
  });

  it("--json tells of the file, and writes it as [tokens, vocabulary]", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "logits");
    const report = await criaJson("logits", tinyModel, "--tokens", "1, 428,436", "--out", out);
    expect(report).toEqual({ tokens: 3, vocab: 1024, out });
    expect(readFileSync(out)).toHaveLength(3 * 1024 * 4);
  });
});
