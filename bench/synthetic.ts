import type { Device } from "../lib/device.js";
import { loadLlama } from "../lib/llama.js";
import { checkMemory } from "../lib/memory.js";
import { native } from "../lib/native.js";
import { Runtime, type RuntimeOptions } from "../lib/runtime.js";
import { typedLlamaTensors } from "../lib/weights/llama-tensors.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { type LoadOptions, type WeightSource, WeightStore } from "../lib/weights/store.js";
import { Cleanup } from "./cleanup.js";

/**
 * Random weights for a LLaMA of a shape, every matrix of one type: the speed of real ones, and none of their sense.
 * `tied`: the embedding is the output matrix.
 */
export function randomWeights(config: LlamaConfig, type: WeightType, tied: boolean): WeightSource {
  return {
    tensors: typedLlamaTensors(config, tied, () => type),
    // A stacked matrix is filled whole with its first part. Rows of that deviation keep activations near 1.
    pack: async ({ cols }, into, row) => {
      if (row === 0) await native.tensorFillRandom(into, cols, 1 / Math.sqrt(cols));
    },
  };
}

/** A model of {@link randomWeights}, made in memory. */
export async function syntheticModel(
  device: Device,
  config: LlamaConfig,
  type: WeightType,
  { tied, ...options }: RuntimeOptions & LoadOptions & { tied: boolean },
): Promise<{ runtime: Runtime; store: WeightStore }> {
  const source = randomWeights(config, type, tied);
  const { cacheTokens } = await checkMemory("random weights", { config, tensors: source.tensors }, device, options);
  using made = new Cleanup();
  const store = made.use(new WeightStore(device, source, options));
  const weights = await loadLlama(config, store);
  const runtime = new Runtime(device, config, weights, { ...options, cacheSize: { tokens: cacheTokens } });
  made.move();
  return { runtime, store };
}
