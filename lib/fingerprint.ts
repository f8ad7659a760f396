import { createHash } from "node:crypto";

import { llamaTensors } from "./weights/llama-tensors.js";
import { type LlamaConfig, type TensorInfo, weightBytes } from "./weights/source.js";

/** Bytes of a fingerprint: SHA-256's. */
export const fingerprintBytes = 32;

/** Changes where two versions of cria would make different fingerprints of one model. */
const version = 1;

/**
 * Tensors of no more bytes are hashed whole: those of small models, and every vector of large ones. Of the others it is
 * the first and the last row: training moves nearly every row of a matrix that it moves at all, and another
 * quantisation changes every block. In a 7B those are two million weights. A row stands in its panel between fifteen
 * others, so each costs as much reading as sixteen; these take some 10 ms, in f16 some 25.
 */
const wholeBytes = 64 * 2 ** 10;

/** A loaded model's weights. */
export interface FingerprintSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Fills `into` with rows of a tensor as they stand in a GGUF file, a vector's as f32. */
  unpack(name: string, row: number, rows: number, into: Uint8Array): void;
}

/**
 * What tells whether two models fill a KV cache alike: a SHA-256 of the configuration, of every tensor's name, type and
 * shape, of small tensors' weights and of a sample of the others'. It is not made to withstand someone who alters
 * weights so that none of the sample changes.
 *
 * A GGUF file and the packed one that was made of it have the same: what is hashed are rows as the device gives them
 * back, and vectors as f32, which either keeps them as. What a cache does not depend on is left out: the vocabulary,
 * the name, the context that the model was trained with.
 */
export function modelFingerprint(config: LlamaConfig, source: FingerprintSource): Buffer {
  const { contextLength: _, ...shape } = config;
  const hash = createHash("sha256");
  hash.update(JSON.stringify(["cria", version, "llama", sorted(shape)]));
  for (const { name, kind, rows, cols } of llamaTensors(config, !source.tensors.has("output.weight"))) {
    const type = kind === "vector" ? "f32" : source.tensors.get(name)!.type;
    hash.update(JSON.stringify([name, kind, type, rows, cols]));
    const rowBytes = weightBytes(type, 1, cols);
    if (rows * rowBytes <= wholeBytes) {
      const all = new Uint8Array(rows * rowBytes);
      source.unpack(name, 0, rows, all);
      hash.update(all);
      continue;
    }
    const row = new Uint8Array(rowBytes);
    for (const i of [0, rows - 1]) {
      source.unpack(name, i, 1, row);
      hash.update(row);
    }
  }
  return hash.digest();
}

/** An object's keys and values by key, those of objects in it likewise: the same for equal objects. */
function sorted(value: object): unknown[] {
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, of]) => [key, typeof of === "object" ? sorted(of as object) : of]);
}
