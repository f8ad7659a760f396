/** A small LLaMA of random weights, and what the tests of adapters do with it. */
import { onTestFinished } from "vitest";

import { loadModel, type Model, type ModelOptions } from "../../lib/index.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import type { LlamaConfig, WeightType } from "../../lib/weights/source.js";
import { fileRows, type WeightRows } from "./float64.js";
import { llamaFile, type TemporaryFolder } from "./gguf-writer.js";
import { randomLlama } from "./random-weights.js";

/** What it reads: tokens of its 300, the first and the last among them. */
export const tokens = Int32Array.of(1, 299, 17, 0, 150, 151, 42);

export interface SmallLlama {
  readonly path: string;
  readonly config: LlamaConfig;
  /** For the reference. */
  readonly rows: WeightRows;
}

interface SmallOptions {
  readonly seed: number;
  readonly type: WeightType;
  readonly tied?: boolean;
  readonly layers?: number;
  /** The type of a matrix, where they are not all of `type`. */
  readonly typeOf?: (name: string) => WeightType;
}

/** Writes one to a file of a folder. */
export async function smallLlama(
  folder: TemporaryFolder,
  name: string,
  { seed, type, tied = false, layers = 2, typeOf }: SmallOptions,
): Promise<SmallLlama> {
  const file = llamaFile({ type, tied, layers });
  const { config } = await readLlama(await folder.write("shape.gguf", file));
  const weights = randomLlama(config, { seed, tied, type: typeOf ?? type });
  for (const tensor of file.tensors) {
    const info = weights.tensors.get(tensor.name)!;
    Object.assign(tensor, { type: info.type, data: Uint8Array.from(weights.read(tensor.name, 0, info.rows)) });
  }
  const path = await folder.write(name, file);
  return { path, config, rows: fileRows((await readLlama(path)).tensors) };
}

/** Loads a model with an f32 cache, which hides nothing of its logits, for as long as the test runs. */
export async function load(path: string, options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(path, { cache: "f32", ...options });
  onTestFinished(() => model.dispose());
  return model;
}

/** The logits after each of the {@link tokens}. */
export async function logitsOf(model: Model): Promise<Float32Array> {
  using sequence = model.sequence();
  return await sequence.forward(tokens, "all");
}
