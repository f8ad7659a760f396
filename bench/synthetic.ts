import type { Device } from "../lib/device.js";
import { loadLlama } from "../lib/llama.js";
import { checkMemory } from "../lib/model.js";
import { native } from "../lib/native.js";
import { Runtime, type RuntimeOptions } from "../lib/runtime.js";
import { typedLlamaTensors } from "../lib/weights/llama-tensors.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { type LoadOptions, type WeightSource, WeightStore } from "../lib/weights/store.js";

/**
 * A model of random weights, made in memory, every matrix of one type: the speed of a real one of that shape, and none of its
 * sense. `tied`: the embedding is the output matrix.
 */
export async function syntheticModel(
  device: Device,
  config: LlamaConfig,
  type: WeightType,
  { tied, ...options }: RuntimeOptions & LoadOptions & { tied: boolean },
): Promise<{ runtime: Runtime; store: WeightStore }> {
  const tensors = typedLlamaTensors(config, tied, () => type);
  checkMemory("random weights", { config, tensors }, device, options);
  // A stacked matrix is filled whole with its first part. Rows of that deviation keep activations near 1.
  const pack: WeightSource["pack"] = async ({ cols }, into, row) => {
    if (row === 0) await native.tensorFillRandom(into, cols, 1 / Math.sqrt(cols));
  };
  const store = new WeightStore(device, { tensors, pack }, options);
  const weights = await loadLlama(config, store);
  return { runtime: new Runtime(device, config, weights, options), store };
}
