import type { Target } from "./target.js";
import { adapters } from "./targets/adapters.js";
import { gguf } from "./targets/gguf.js";
import { huggingFace } from "./targets/hugging-face.js";
import { llama2c } from "./targets/llama2c.js";
import { packed } from "./targets/packed.js";
import { safetensors } from "./targets/safetensors.js";
import { sentencepiece } from "./targets/sentencepiece.js";
import { sessions } from "./targets/sessions.js";
import { tokenizer } from "./targets/tokenizer.js";
import { torch } from "./targets/torch.js";

/** The readers that are fuzzed, by name. */
export const readerTargets: Readonly<Record<string, Target>> = {
  adapters,
  gguf,
  packed,
  sessions,
  tokenizer,
  "hugging-face": huggingFace,
  safetensors,
  sentencepiece,
  llama2c,
  torch,
};
