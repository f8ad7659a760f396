import { join } from "node:path";
import { expect, test } from "vitest";

import { estimateMemory } from "../../lib/memory.js";
import { loadModel } from "../../lib/model.js";
import { tinyModel } from "../../lib/tiny.js";
import { readModel, readVocabulary } from "../../lib/weights/model-file.js";
import { cria } from "../cli/run.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { writeModel } from "../support/hugging-face.js";
import { peftFiles, tinyAdapter, writePeft } from "../support/lora.js";
import { encodeTorch } from "../support/torch-writer.js";

test("a model gets the vocabulary of another file, where that has as many tokens", async () => {
  await using folder = await temporaryFolder();
  const other = await folder.write("other.gguf", llamaFile({ vocab: 1024 }));
  const index = await readModel(tinyModel, { tokenizer: other });
  expect(index.vocabulary).toEqual(await readVocabulary(other));
  expect(index.vocabulary).not.toEqual(await readVocabulary(tinyModel));
  using model = await loadModel(tinyModel, { tokenizer: other });
  expect(model.tokenizer.piece(261)).toBe("▁w1");
  expect(await estimateMemory(tinyModel, { tokenizer: other })).toMatchObject({ fits: true });
});

test("every command takes that vocabulary", async () => {
  await using folder = await temporaryFolder();
  const other = await folder.write("other.gguf", llamaFile({ vocab: 1024 }));
  const output = async (...argv: string[]) => (await cria([...argv, "--tokenizer", other, "--json"])).stdout;
  expect(JSON.parse(await output("tokenize", tinyModel, "--text", "w1"))).toEqual([259, 122, 52]);
  expect(JSON.parse(await output("inspect", tinyModel)).vocabulary.size).toBe(1024);
  const greedy = ["--prompt", "w1", "--max-tokens", "2", "--temperature", "0"];
  expect(JSON.parse(await output("generate", tinyModel, ...greedy)).promptTokens).toBe(4);
});

test("a vocabulary of another size, none, and what is no path are refused", async () => {
  await using folder = await temporaryFolder();
  const other = await folder.write("other.gguf", llamaFile({ vocab: 300 }));
  await expect(loadModel(tinyModel, { tokenizer: other })).rejects.toMatchObject({
    code: "ERR_CRIA_FILE",
    message: `${other}: must have 1024 tokens, as the model has, not 300`,
  });
  await expect(loadModel(tinyModel, { tokenizer: "absent.bin" })).rejects.toMatchObject({
    message: "absent.bin: cannot be read: no such file or directory",
  });
  await expect(loadModel(tinyModel, { tokenizer: 5 as never })).rejects.toThrow("tokenizer: must be a string, not 5");
});

test("a folder takes its own tokenizer.json, which has fewer pieces than the model rows, as it does by itself", async () => {
  await using folder = await temporaryFolder();
  const model = await writeModel(folder, { config: { bos_token_id: 1, eos_token_id: [2, 5] } });
  const tokenizer = join(model, "tokenizer.json");
  expect((await readVocabulary(tokenizer)).pieces).toHaveLength(264);
  const { vocabulary } = await readModel(model, { tokenizer });
  expect(vocabulary).toEqual((await readModel(model)).vocabulary);
  expect(vocabulary).toMatchObject({ bos: 1, eos: 2, ends: [2, 5] });
});

test("what torch.save wrote of others than Meta must be saved as safetensors", async () => {
  await using folder = await temporaryFolder();
  const model = await writeModel(folder);
  const path = await folder.write("pytorch_model.bin", encodeTorch([]));
  expect(path).toBe(join(model, "pytorch_model.bin"));
  await expect(loadModel(path)).rejects.toMatchObject({
    code: "ERR_CRIA_FILE",
    message: `${path}: must be a model, not a zip archive; weights that torch.save wrote, but for Meta's, must be saved as safetensors first`,
  });
  const part = await folder.write("consolidated.00.pth", encodeTorch([]));
  await expect(loadModel(part)).rejects.toMatchObject({ file: join(model, "params.json") });
});

test("an adapter is to be given beside its model", async () => {
  await using folder = await temporaryFolder();
  const peft = await writePeft(folder, "peft", peftFiles((await readModel(tinyModel)).config, new Map()));
  for (const path of [await tinyAdapter(folder), peft, join(peft, "adapter_model.safetensors")]) {
    await expect(loadModel(path)).rejects.toMatchObject({
      code: "ERR_CRIA_UNSUPPORTED",
      message: `${path}: is an adapter: give its model, and the adapter beside it (adapters, or --lora)`,
    });
  }
});

test("a folder that holds no model is told what it lacks", async () => {
  await using folder = await temporaryFolder();
  await expect(loadModel(folder.path)).rejects.toMatchObject({
    code: "ERR_CRIA_FILE",
    message: `${folder.path}: must be a model's file, or a folder with a params.json or a config.json`,
  });
});
