import type { Device } from "../lib/device.js";
import { loadLlama } from "../lib/llama.js";
import { native } from "../lib/native.js";
import { Runtime, type RuntimeOptions } from "../lib/runtime.js";
import { typedLlamaTensors } from "../lib/weights/llama-tensors.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { WeightStore } from "../lib/weights/store.js";

/**
 * A model of random weights, made in memory, with untied embeddings and every matrix of one type: the speed of a real one
 * of that shape, and none of its sense.
 */
export async function syntheticModel(
  device: Device,
  config: LlamaConfig,
  type: WeightType,
  options: RuntimeOptions,
): Promise<{ runtime: Runtime; store: WeightStore }> {
  const store = new WeightStore(device, {
    tensors: typedLlamaTensors(config, false, () => type),
    // A stacked matrix is filled whole with its first part. Rows of that deviation keep activations near 1.
    pack: async ({ cols }, into, row) => {
      if (row === 0) await native.tensorFillRandom(into, cols, 1 / Math.sqrt(cols));
    },
  });
  const weights = await loadLlama(config, store);
  return { runtime: new Runtime(device, config, weights, options), store };
}
