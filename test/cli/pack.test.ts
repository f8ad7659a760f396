import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import type { Report } from "../../bench/schema.js";
import { tinyModel } from "../../lib/tiny.js";
import { readVocabulary } from "../../lib/weights/model-file.js";
import { skipLimits } from "../support/bench.js";
import { array, encodeGguf, llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { tokenizerBin } from "../support/llama2c-writer.js";
import { cria, criaJson } from "./run.js";

describe("pack", () => {
  it("takes a tokenizer in place of the model's own", async () => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    const tokens = array(
      "string",
      Array.from({ length: 300 }, (_, id) => `<${id}>`),
    );
    const types = array("i32", Array(300).fill(1));
    const metadata = { ...file.metadata, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types };
    const model = await folder.write("model.gguf", encodeGguf({ ...file, metadata }));
    const [tokenizer, out] = [await folder.write("tok.bin", tokenizerBin(300)), join(folder.path, "packed")];
    await criaJson("pack", model, out, "--tokenizer", tokenizer);
    expect((await readVocabulary(out)).pieces).toEqual((await readVocabulary(tokenizer)).pieces);
  });

  it("writes a file that every command takes in the GGUF's place", async () => {
    await using folder = await temporaryFolder();
    const [out, logits] = [join(folder.path, "tiny.cria"), join(folder.path, "logits")];
    expect(await criaJson("pack", tinyModel, out)).toEqual({ path: tinyModel, out, bytes: (await stat(out)).size });

    for (const argv of [
      ["tokenize", "--text", "Once upon a time"],
      ["generate", "--prompt", "Once", "--max-tokens", "20", "--temperature", "0"],
      ["perplexity", "--file", "package.json", "--context", "64", "--json"],
      ["logits", "--tokens", "1,428,436", "--out", logits, "--json"],
    ]) {
      const [command, ...rest] = argv as [string, ...string[]];
      const packed = await cria([command, out, ...rest]);
      expect(packed.code, packed.stderr).toBe(0);
      const written = await readFile(logits).catch(() => undefined);
      expect(packed.stdout).toBe((await cria([command, tinyModel, ...rest])).stdout);
      if (command !== "tokenize") expect(await cria([command, out, ...rest, "--no-mmap"])).toMatchObject({ code: 0 });
      expect(await readFile(logits).catch(() => undefined)).toEqual(written);
    }
    skipLimits();
    const few = ["--prompt", "5", "--gen", "3", "--threads", "1"];
    const { results } = await criaJson<Report>("bench", "--model", out, ...few);
    expect(results.map(({ name, at }) => [name, at?.model])).toContainEqual(["decode", out]);
    const inspect = (file: string) => criaJson<{ memory: { weights: number } }>("inspect", file);
    const [packed, gguf] = [await inspect(out), await inspect(tinyModel)];
    const vectors = 9 * 96 * 4; // two norms of each of 4 layers, and the last; they alone are not mapped
    expect(packed).toEqual({
      ...gguf,
      path: out,
      format: expect.stringMatching(/^packed v1, layout \d+$/),
      memory: { ...gguf.memory, mapped: gguf.memory.weights - vectors, available: expect.any(Number) },
    });
  });

  it("tells people how far it is, and of the file at the end", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "tiny.cria");
    const { code, stdout, stderr } = await cria(["pack", tinyModel, out, "--threads", "1"], { isTTY: true });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
    expect(stderr).toMatch(/^\rpacking \d+ %/);
    expect(stderr.endsWith(`${out}: ${(await stat(out)).size} bytes\n`)).toBe(true);
  });

  it("stops at Ctrl-C, leaving nothing", async () => {
    await using folder = await temporaryFolder();
    const { code } = await cria(["pack", tinyModel, join(folder.path, "tiny.cria")], {
      signal: AbortSignal.abort({ exitCode: 130 }),
    });
    expect(code).toBe(130);
    expect(await readdir(folder.path)).toEqual([]);
  });
});
