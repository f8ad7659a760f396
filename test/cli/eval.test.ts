import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

const item = {
  context: "Once upon a time, there was a little girl",
  choices: [" stone of the, and and", " named Lily."],
  answer: 1,
};

describe("eval", () => {
  it("--task choice: the accuracy by each rule", async () => {
    await using folder = await temporaryFolder();
    const file = await folder.write("items.jsonl", Buffer.from(`\ufeff${JSON.stringify(item)}\n`)); // as Windows writes it
    const report = { task: "choice", items: 1, accuracy: { sum: 1, perCharacter: 1, normalised: 1 } };
    expect(await criaJson("eval", file, tinyModel, "--task", "choice")).toEqual(report);
    const { code, stdout, stderr } = await cria(["eval", file, tinyModel, "--task", "choice"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^ {2}items +1\n {2}right by likelihood +100\.00 %\n/);
  });

  it("--task perplexity: as the command of that name", async () => {
    await using folder = await temporaryFolder();
    const text = "Once upon a time, there was a little girl named Lily.";
    const items = await folder.write("items.jsonl", Buffer.from(JSON.stringify({ text })));
    const file = await folder.write("text", Buffer.from(text));
    const perplexity = await criaJson<object>("perplexity", tinyModel, "--file", file);
    expect(await criaJson("eval", items, tinyModel, "--task", "perplexity")).toEqual({
      task: "perplexity",
      items: 1,
      ...perplexity,
    });
  });

  it("a wrong line or task is told before the model is loaded", async () => {
    await using folder = await temporaryFolder();
    const file = await folder.write("items.jsonl", Buffer.from(`${JSON.stringify(item)}\n{"context": "a"}\n`));
    const absent = `${tinyModel}.absent`;
    const wrong = await cria(["eval", file, absent, "--task", "choice"]);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/items\.jsonl: line 2: choices: must be .*\(ERR_CRIA_FILE\)\n$/);
    const unknown = await cria(["eval", file, absent, "--task", "chess"]);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toMatch(/^cria eval: --task: must be choice or perplexity, not "chess"\n/);
  });
});
