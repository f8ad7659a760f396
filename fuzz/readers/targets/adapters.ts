import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { loadModel, type Model } from "../../../lib/index.js";
import { corpusOf } from "../../folders.js";
import type { Target } from "../target.js";

/** What a folder of PEFT's begins with as an input: then its configuration's length, a u16, the configuration, the weights. */
const peftMagic = "PEFT";

let loaded: Promise<Model> | undefined;

/** The model that the seeds are for, itself a seed. */
function model(): Promise<Model> {
  loaded ??= loadModel(join(corpusOf("gguf"), "f32"), { threads: 1, onWarning: () => undefined });
  return loaded;
}

/** Adapters: LoRA's in GGUF files and PEFT's folders, and LLaMA-Adapter's. Those that are sound are set, and read with. */
export const adapters: Target = {
  dictionary: [
    "GGUF",
    "general.type",
    "adapter",
    "adapter.type",
    "lora",
    "adapter.lora.alpha",
    "general.architecture",
    "llama",
    ".lora_a",
    ".lora_b",
    "blk.0.attn_q.weight",
    "blk.1.attn_norm.weight",
    "output.weight",
    "adapter_query.weight",
    "layers.0.attention.gate",
    "lora_embedding_A",
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
    '"rank_pattern":{"q_proj":2}',
    '"use_rslora":true',
    '"peft_type":"LORA"',
    peftMagic,
  ],
  async run(input, path) {
    const owner = await model();
    const folder = `${path}.peft`;
    const adapter = Buffer.from(input).toString("latin1", 0, 4) === peftMagic ? writeFolder(folder, input) : path;
    try {
      await readWith(owner, adapter);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

function writeFolder(folder: string, input: Uint8Array): string {
  const bytes = Buffer.from(input);
  const start = peftMagic.length + 2;
  const end = bytes.length < start ? bytes.length : start + bytes.readUInt16LE(peftMagic.length);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "adapter_config.json"), bytes.subarray(start, end));
  writeFileSync(join(folder, "adapter_model.safetensors"), bytes.subarray(end));
  return folder;
}

async function readWith(owner: Model, path: string): Promise<void> {
  using adapter = await owner.loadAdapter(path, { prefixLength: 2 });
  await owner.setAdapters([{ adapter, scale: 0.5 }]);
  using sequence = owner.sequence();
  await sequence.forward(Int32Array.of(0, 5), "last");
}
