import { wrongType } from "../errors.js";
import { readAll } from "../files.js";
import { type LlamaGguf, readLlama, readLlamaVocabulary } from "./llama-gguf.js";
import { readFrom } from "./open.js";
import { magic, type PackedModel, packedSource, readPacked } from "./packed.js";
import type { Vocabulary } from "./source.js";
import { fileSource, type LoadOptions, type WeightSource } from "./store.js";

/** A model's index, with where its weights stand: one by one in GGUF files, or in the kernels' layout. */
export type ModelFile = LlamaGguf | PackedModel;

/**
 * Reads the index of a model. Which kind of file it is, its first bytes tell.
 *
 * @throws CriaFileError as {@link readLlama} and {@link readPacked}
 */
export async function readModel(path: string): Promise<ModelFile> {
  return (await isPacked(path)) ? readPacked(path) : readLlama(path);
}

/**
 * Reads the vocabulary of a file, which need not hold a model where it is a GGUF.
 *
 * @throws CriaFileError as {@link readModel}
 */
export async function readVocabulary(path: string): Promise<Vocabulary> {
  return (await isPacked(path)) ? (await readPacked(path)).vocabulary : readLlamaVocabulary(path);
}

/** The weights of a model; `mmap` as in {@link LoadOptions}. To be disposed when they were loaded. */
export function sourceOf(model: ModelFile, { mmap = true }: Pick<LoadOptions, "mmap"> = {}): WeightSource & Disposable {
  if ("packed" in model) return packedSource(model, mmap);
  return { ...fileSource(model.tensors), [Symbol.dispose]: () => undefined };
}

/** Whether a file is one that `cria pack` made. @throws CriaFileError where it cannot be read */
export async function isPacked(path: string): Promise<boolean> {
  if (typeof path !== "string") throw wrongType("path", "a string", path);
  return await readFrom(path, undefined, (fd) => {
    const first = Buffer.alloc(magic.length);
    readAll(fd, first, 0);
    return first.toString("latin1") === magic;
  });
}
