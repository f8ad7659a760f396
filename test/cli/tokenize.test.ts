import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { dataFile, needFiles } from "../support/data.js";
import { cria, criaJson } from "./run.js";

const llama2 = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");

describe("tokenize", () => {
  it("gives llama.cpp's ids for its test texts, of a file without weights", async (context) => {
    needFiles(context, llama2);
    const texts = readFileSync(`${llama2}.inp`, "utf8").split("\n__ggml_vocab_test__\n");
    const ids = readFileSync(`${llama2}.out`, "utf8").split("\n");
    expect(texts).toHaveLength(47);
    for (const [i, text] of texts.entries()) {
      const { code, stdout } = await cria(["tokenize", llama2, `--text=${text}`]);
      expect(stdout, JSON.stringify(text)).toBe(`${ids[i]!.trim()}\n`);
      expect(code).toBe(0);
    }
  });

  it("--json: an array, without BOS", async () => {
    expect(await criaJson("tokenize", tinyModel, "--text", "Once upon a time")).toEqual([428, 436, 261, 399]);
    expect(await criaJson("tokenize", tinyModel, "--text", "")).toEqual([]);
  });
});
