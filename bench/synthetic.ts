import type { Device } from "../lib/device.js";
import { loadLlama } from "../lib/llama.js";
import { native } from "../lib/native.js";
import { Runtime, type RuntimeOptions } from "../lib/runtime.js";
import type { LlamaConfig, TensorInfo, WeightType } from "../lib/weights/source.js";
import { WeightStore } from "../lib/weights/store.js";

/** A model's tensors by name, under GGUF's names, with untied embeddings and every matrix in one format. */
export function llamaTensors(config: LlamaConfig, type: WeightType): Map<string, TensorInfo> {
  const { layers, dim, heads, kvHeads, headDim, ffn, vocab } = config;
  const tensors = new Map<string, TensorInfo>();
  const matrix = (name: string, rows: number, cols: number) => tensors.set(name, { name, type, rows, cols });
  const norm = (name: string) => tensors.set(name, { name, type: "f32", rows: 1, cols: dim });

  matrix("token_embd.weight", vocab, dim);
  for (let i = 0; i < layers; i++) {
    norm(`blk.${i}.attn_norm.weight`);
    matrix(`blk.${i}.attn_q.weight`, heads * headDim, dim);
    matrix(`blk.${i}.attn_k.weight`, kvHeads * headDim, dim);
    matrix(`blk.${i}.attn_v.weight`, kvHeads * headDim, dim);
    matrix(`blk.${i}.attn_output.weight`, dim, heads * headDim);
    norm(`blk.${i}.ffn_norm.weight`);
    matrix(`blk.${i}.ffn_gate.weight`, ffn, dim);
    matrix(`blk.${i}.ffn_up.weight`, ffn, dim);
    matrix(`blk.${i}.ffn_down.weight`, dim, ffn);
  }
  norm("output_norm.weight");
  matrix("output.weight", vocab, dim);
  return tensors;
}

/** A model of random weights, made in memory: the speed of a real one of that shape, and none of its sense. */
export async function syntheticModel(
  device: Device,
  config: LlamaConfig,
  type: WeightType,
  options: RuntimeOptions,
): Promise<{ runtime: Runtime; store: WeightStore }> {
  const store = new WeightStore(device, {
    tensors: llamaTensors(config, type),
    // A stacked matrix is filled whole with its first part. Rows of that deviation keep activations near 1.
    pack: async ({ cols }, into, row) => {
      if (row === 0) await native.tensorFillRandom(into, cols, 1 / Math.sqrt(cols));
    },
  });
  const weights = await loadLlama(config, store);
  return { runtime: new Runtime(device, config, weights, options), store };
}
