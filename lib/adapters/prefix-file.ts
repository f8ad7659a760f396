import { CriaFileError } from "../errors.js";
import type { Complete } from "../options.js";
import { peftConfig } from "../weights/adapter-names.js";
import { ggufName } from "../weights/hugging-face.js";
import type { FileTensor, LlamaConfig } from "../weights/source.js";
import { matrixOf, readTensors, rowOf } from "./tensors.js";

/** How a gated prefix is read, which its file does not say. */
export interface PrefixOptions {
  /** Of a LLaMA-Adapter, the keys of a layer. Default: 10, as in all that were published. */
  prefixLength?: number | undefined;
  /**
   * Of a LLaMA-Adapter, whether gates are taken as they are, as Gorilla's are, and not by their tanh. Default: false.
   */
  rawGates?: boolean | undefined;
}

/** The index of a LLaMA-Adapter's file: prompts for the last layers, and a gate for each head. */
export interface PrefixFile extends Complete<PrefixOptions> {
  readonly kind: "prefix";
  readonly path: string;
  readonly format: string;
  /** [layers · prefixLength, dim] */
  readonly prompts: FileTensor;
  /** By the layer, [heads]; of layers without prompts too. */
  readonly gates: ReadonlyMap<number, FileTensor>;
}

/** The op's own limit (csrc/core/prefix.h). */
export const mostPrefix = 256;

/**
 * Reads the index of a LLaMA-Adapter (Zhang et al. 2023): what its authors' code saves with torch.save, or the same
 * tensors as safetensors: `adapter_query.weight`, and of each layer N a `layers.N.attention.gate`.
 *
 * @throws CriaFileError ERR_CRIA_FILE for a file that is damaged or lacks a tensor, ERR_CRIA_UNSUPPORTED for a sound
 *   one that holds something else
 */
export async function readPrefix(path: string, options: Complete<PrefixOptions>): Promise<PrefixFile> {
  let prompts: FileTensor | undefined;
  const gates = new Map<number, FileTensor>();
  for (const tensor of await readTensors(path)) {
    const [, layer] = /^layers\.(0|[1-9]\d{0,8})\.attention\.gate$/.exec(tensor.name) ?? [];
    if (layer !== undefined) gates.set(Number(layer), rowOf(tensor));
    else if (tensor.name === "adapter_query.weight") prompts = matrixOf(tensor);
    else throw stranger(path, tensor.name);
  }
  if (prompts === undefined) throw new CriaFileError(path, "adapter_query.weight", "must be there, but is missing");
  return { kind: "prefix", path, format: "LLaMA-Adapter", ...options, prompts, gates };
}

/** The error of a tensor of something else: what that is, as far as the name tells. */
function stranger(path: string, name: string): CriaFileError {
  let problem = "is not a tensor of a LLaMA-Adapter";
  if (/\.lora_(embedding_)?[AB]\b/.test(name)) problem += `, but of a LoRA: give the folder with its ${peftConfig}`;
  else if (ggufName(name) !== undefined) problem += ", but of a model, to be given as one";
  return new CriaFileError(path, name, problem, "ERR_CRIA_UNSUPPORTED");
}

/** The first layer that has a prefix; all after it have one too. */
export const firstLayer = ({ prompts, prefixLength }: PrefixFile, { layers }: LlamaConfig): number =>
  layers - prompts.rows / prefixLength;

/**
 * Checks that a prefix is for a model of that shape.
 *
 * @throws CriaFileError that names the first tensor that does not fit
 */
export function checkPrefixFits(file: PrefixFile, config: LlamaConfig): void {
  const { path, prompts, prefixLength, gates } = file;
  const { layers, dim, heads } = config;
  const fail = (problem: string) => new CriaFileError(path, prompts.name, problem);
  if (prompts.cols !== dim) throw fail(`must be for ${dim} dimensions, as the model has, not ${prompts.cols}`);
  if (prompts.rows % prefixLength !== 0 || prompts.rows > layers * prefixLength) {
    throw fail(`must be of ${prefixLength} rows for each of at most ${layers} layers, not of ${prompts.rows}`);
  }
  for (let layer = firstLayer(file, config); layer < layers; layer++) {
    const name = `layers.${layer}.attention.gate`;
    const found = gates.get(layer);
    if (found === undefined) throw new CriaFileError(path, name, "must be there, but is missing");
    if (found.cols === heads) continue;
    throw new CriaFileError(path, name, `must be of ${heads} heads, as the model has, not ${found.cols}`);
  }
  const beyond = [...gates.keys()].find((layer) => layer >= layers);
  if (beyond === undefined) return;
  const problem = `must be of one of the model's ${layers} layers`;
  throw new CriaFileError(path, `layers.${beyond}.attention.gate`, problem);
}
