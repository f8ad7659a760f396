import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

import type { Target } from "../target.js";
import { readAndSpeak } from "./gguf.js";

/** What an input holds, one after another, with a zero byte between them: the last is the rest. */
export const parts = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "generation_config.json",
  "model.safetensors",
] as const;

/** Hugging Face folders of small files: what is sound is loaded, and says some tokens. Empty files are not there. */
export const huggingFace: Target = {
  dictionary: [
    '"architectures":["LlamaForCausalLM"]',
    '"num_key_value_heads":1',
    '"head_dim":8',
    '"tie_word_embeddings":true',
    '"rope_scaling":{"type":"linear","factor":2}',
    '"rope_parameters":{"rope_theta":5}',
    '"sliding_window":1',
    '"eos_token_id":[1,2]',
    '"bos_token":{"content":"<s>"}',
    '"added_tokens":[{"id":1,"content":"<x>","special":false}]',
    '"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true}',
    '"pre_tokenizer":{"type":"Metaspace","replacement":"\u2581"}',
    '"normalizer":null',
    '"ignore_merges":true',
    '"merges":[["a","b"]]',
    '"quantization_config":{"quant_method":"gptq","bits":4,"group_size":32}',
    '"quant_method":"awq"',
    '"checkpoint_format":"gptq_v2"',
    '"sym":false',
    "qweight",
    "g_idx",
    '"__proto__":',
    "null",
    "-1",
    "1e999",
    "[[[[",
  ],
  async run(input, path) {
    const folder = `${path}.folder`;
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder);
    let at = 0;
    for (const [i, name] of parts.entries()) {
      const zero = i === parts.length - 1 ? -1 : input.indexOf(0, at);
      const end = zero === -1 ? input.length : zero;
      if (end > at) await writeFile(join(folder, name), input.subarray(at, end));
      at = end + 1;
    }
    await readAndSpeak(folder);
  },
};
