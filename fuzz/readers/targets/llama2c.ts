import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { readVocabulary } from "../../../lib/weights/model-file.js";
import type { Target } from "../target.js";
import { readAndSpeak } from "./gguf.js";

/**
 * llama2.c's models with their vocabularies: an input is the length of a `tokenizer.bin` as a u16, that file, and the
 * model. What is sound is loaded, and says some tokens.
 */
export const llama2c: Target = {
  dictionary: ["24ka", "<unk>", "\n<s>\n", "\n</s>\n", "<0x0A>", "\u2581", "GGUF"],
  async run(input, path) {
    const length = Buffer.from(input).subarray(0, 2);
    const end = 2 + (length.length === 2 ? length.readUInt16LE() : 0);
    const folder = `${path}.folder`;
    await mkdir(folder, { recursive: true });
    const [tokenizer, model] = [join(folder, "tokenizer.bin"), join(folder, "model.bin")];
    await writeFile(tokenizer, input.subarray(2, end));
    await writeFile(model, input.subarray(end));
    await readAndSpeak(model);
    await readVocabulary(tokenizer);
  },
};
