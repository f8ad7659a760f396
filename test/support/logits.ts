import { logitsInChunks } from "../../lib/logits.js";
import { loadModel, type ModelOptions } from "../../lib/model.js";

/** The logits after each of some tokens, of a model in a file or a folder. */
export async function logitsOf(path: string, tokens: Int32Array, options: ModelOptions = {}): Promise<Float32Array> {
  using model = await loadModel(path, options);
  using sequence = model.sequence();
  const chunks: Float32Array[] = [];
  for await (const chunk of logitsInChunks(sequence, tokens, { signal: new AbortController().signal })) {
    chunks.push(Float32Array.from(chunk));
  }
  return Float32Array.from(chunks.flatMap((chunk) => [...chunk]));
}

/** Weights for `llamaFile`: by a tensor's name, of either sign, of the size of 1 / √cols, none of which is like another. */
export function variedWeights(name: string, _: string, rows: number, cols: number): Uint8Array {
  let state = [...name].reduce((hash, letter) => (Math.imul(hash, 31) + letter.charCodeAt(0)) >>> 0, 7);
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0; // Numerical Recipes' generator
    return state / 2 ** 32 - 0.5;
  };
  const weights = new Float32Array(rows * cols);
  for (let i = 0; i < weights.length; i++) weights[i] = rows === 1 ? 1 + next() : (3 * next()) / Math.sqrt(cols);
  return new Uint8Array(weights.buffer);
}
