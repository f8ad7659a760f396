import { loadModel } from "../../../lib/index.js";
import { readVocabulary } from "../../../lib/weights/model-file.js";
import type { Target } from "../target.js";

/**
 * GGUF files: the index, the vocabulary and, of those that are sound, the whole model, which reads some tokens.
 */
export const gguf: Target = {
  dictionary: [
    "GGUF",
    "general.architecture",
    "general.alignment",
    "llama",
    "llama.vocab_size",
    "llama.block_count",
    "llama.context_length",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.expert_count",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.rope.scale_linear",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "split.count",
    "split.no",
    "split.tensors.count",
    "output.weight",
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "linear",
    "none",
    "<0x0A>",
    "<0x-1>",
    "\ufeff",
  ],
  async run(_, path) {
    await readAndSpeak(path);
    await readVocabulary(path);
  },
};

/** Loads a model, which reads a few tokens and says some. */
export async function readAndSpeak(path: string): Promise<void> {
  const model = await loadModel(path, { threads: 1, onWarning: () => undefined });
  try {
    const tokens = Int32Array.of(0, model.config.vocab - 1).subarray(0, model.config.contextLength);
    using sequence = model.sequence();
    await sequence.forward(tokens, "last");
    for await (const _ of model.generate(tokens.subarray(0, 1), { maxTokens: 2, seed: 1 }));
  } finally {
    model.dispose();
  }
}
