import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer as Library } from "@huggingface/tokenizers";
import { describe, expect, it } from "vitest";

import { dataFile, needFiles } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { writeModel } from "../support/hugging-face.js";
import { cria, criaJson } from "./run.js";

describe("a Hugging Face folder", () => {
  it("is generated from, whole or quantised", async (context) => {
    const folder = dataFile("tinystories-656k-hf");
    needFiles(context, folder);
    const args = ["generate", folder, "--prompt", "One day", "--temperature", "0", "--max-tokens", "12"];
    const whole = await cria(args);
    expect(whole).toMatchObject({ code: 0 });
    expect(whole.stdout).toMatch(/^ a little girl named Susie was walking/);
    const quantised = await cria([...args, "--quantize", "q8_0"]);
    expect(quantised).toMatchObject({ code: 0 });
    expect(quantised.stdout).toMatch(/^ a little girl named/);
    expect(quantised.stdout).not.toBe(whole.stdout);
  });

  it("is a vocabulary too: the ids of @huggingface/tokenizers", async (context) => {
    const folder = dataFile("tinystories-656k-hf");
    needFiles(context, folder);
    const library = new Library(JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8")), {});
    const text = "Lily's red ball, and 2 dogs!";
    const { ids } = library.encode(text, { add_special_tokens: false });
    expect(await criaJson("tokenize", folder, "--text", text)).toEqual(ids);
    expect(await criaJson("tokenize", join(folder, "tokenizer.json"), "--text", text)).toEqual(ids);
  });

  it("is inspected: what was recognised, and the types, as they stand and as they would be quantised", async () => {
    await using folder = await temporaryFolder();
    const path = await writeModel(folder);
    expect(await criaJson("inspect", path)).toMatchObject({
      format: "Hugging Face LlamaForCausalLM, safetensors",
      config: { rope: { pairing: "halves" } },
      tensors: { f32: { count: 21 } },
    });
    expect(await criaJson("inspect", path, "--quantize", "q4_K")).toMatchObject({
      // Rows of 32 and 48 are no whole blocks of q4_K: the ones become q5_0, and the others stay.
      tensors: { q5_0: { count: 14 }, f32: { count: 7 } },
    });
    const { code, stderr } = await cria(["inspect", path, "--quantize", "q9"]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^cria inspect: --quantize: must be one of q8_0, q4_0, .*, not "q9"\n/);
  });

  it("that cria cannot run is an error that names the key", async () => {
    await using folder = await temporaryFolder();
    const path = await writeModel(folder, { config: { attention_bias: true } });
    const { code, stderr } = await cria(["generate", path]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${join(path, "config.json")}: attention_bias: must be false, not true`);
  });
});
