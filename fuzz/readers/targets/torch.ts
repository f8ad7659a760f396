import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

import { loadModel } from "../../../lib/index.js";
import { readTorch } from "../../../lib/weights/torch.js";
import { corpusOf } from "../../folders.js";
import { Finding, type Target } from "../target.js";

/** Of the model that the seeds are, which takes the vocabulary of a seed of GGUF files. */
const params = { dim: 8, n_layers: 1, n_heads: 1, vocab_size: 24, multiple_of: 8, ffn_dim_multiplier: 0.4 };

/**
 * The files of Meta's checkpoints, zip archives with a pickle, beside a `params.json` that is sound. Whatever is read
 * lies within the file; what is sound is loaded, and reads a token.
 */
export const torch: Target = {
  dictionary: [
    "PK\x03\x04",
    "PK\x01\x02",
    "PK\x05\x06",
    "PK\x06\x06",
    "PK\x06\x07",
    "ctorch._utils\n_rebuild_tensor_v2\n",
    "ctorch\nHalfStorage\n",
    "ctorch\nBFloat16Storage\n",
    "ccollections\nOrderedDict\n",
    "cos\nsystem\n",
    "archive/data/0",
    "archive/data.pkl",
    "archive/byteorder",
    "layers.0.attention.wq.weight",
    "tok_embeddings.weight",
    "rope.freqs",
    "../",
  ],
  async run(input, path) {
    const folder = `${path}.folder`;
    await mkdir(folder, { recursive: true });
    const file = join(folder, "consolidated.00.pth");
    await writeFile(file, input);
    await writeFile(join(folder, "params.json"), JSON.stringify(params));
    for (const { name, offset, bytes } of (await readTorch(file)).values()) {
      if (offset <= 0 || bytes <= 0 || offset + bytes > input.length) throw new Finding(`${name} lies beyond the file`);
    }
    const tokenizer = join(corpusOf("gguf"), "f32");
    using model = await loadModel(folder, { threads: 1, tokenizer, onWarning: () => undefined });
    using sequence = model.sequence();
    await sequence.forward(Int32Array.of(1), "last");
  },
};
