import { CriaFileError } from "../errors.js";
import { llamaTensors } from "../weights/llama-tensors.js";
import type { FileTensor, LlamaConfig } from "../weights/source.js";

/** A matrix of an adapter's file. */
export interface Factor {
  readonly tensor: FileTensor;
  /** Whether it stands there with rows and columns exchanged. */
  readonly transposed: boolean;
}

/** What an adapter has for one matrix W of a model: W + scale · B A (Hu et al. 2021, §4.1). */
export interface LoraPair {
  /** The tensor of the model, under GGUF's name. */
  readonly target: string;
  /** [outputs, rank] */
  readonly b: Factor;
  /** [rank, inputs] */
  readonly a: Factor;
  /** alpha / rank, or what the adapter's configuration has instead. */
  readonly scale: number;
}

/** The index of a LoRA adapter's file. Its matrices are not read, and fit one another. */
export interface LoraFile {
  readonly kind: "lora";
  readonly path: string;
  /** What was recognised, for people: "PEFT", or "GGUF v3". */
  readonly format: string;
  /** How the rows of B are ordered that queries and keys get; as `config.rope.pairing` of a model. */
  readonly pairing: LlamaConfig["rope"]["pairing"];
  readonly pairs: readonly LoraPair[];
}

/** More than any layer's rank that is worth a LoRA; it keeps a damaged file's from being worth a try. */
export const mostRank = 65_536;

export const upright = (tensor: FileTensor): Factor => ({ tensor, transposed: false });
export const turned = (tensor: FileTensor): Factor => ({ tensor, transposed: true });

/** Rows and columns of a factor as it is used. */
export const shapeOf = ({ tensor: { rows, cols }, transposed }: Factor): { rows: number; cols: number } =>
  transposed ? { rows: cols, cols: rows } : { rows, cols };

/** The rank of a pair. @throws CriaFileError where its matrices have not the same, or one that is too large */
export function rankOf({ a, b }: Pick<LoraPair, "a" | "b">): number {
  const rank = shapeOf(a).rows;
  const of = shapeOf(b).cols;
  if (of !== rank) {
    throw new CriaFileError(b.tensor.file, b.tensor.name, `must be of rank ${rank}, as ${a.tensor.name} is, not ${of}`);
  }
  if (rank <= mostRank) return rank;
  throw new CriaFileError(a.tensor.file, a.tensor.name, `must be of a rank of at most ${mostRank}, not ${rank}`);
}

/**
 * Checks that an adapter is for a model of that shape: that the model has each matrix, in the adapter's shape.
 *
 * @throws CriaFileError that names the first tensor that does not fit
 */
export function checkFits({ pairs }: LoraFile, config: LlamaConfig): void {
  // An output of its own has also a model whose embedding stands in for it.
  const matrices = new Map(llamaTensors(config, false).map((tensor) => [tensor.name, tensor]));
  for (const { target, a, b } of pairs) {
    const base = matrices.get(target);
    if (base === undefined || base.kind === "vector") throw strange(a.tensor, target, config);
    const [outputs, inputs] = [shapeOf(b).rows, shapeOf(a).cols];
    if (outputs !== base.rows) throw unfit(b, "outputs", outputs, target, base.rows);
    if (inputs !== base.cols) throw unfit(a, "inputs", inputs, target, base.cols);
  }
}

function strange({ file, name }: FileTensor, target: string, { layers }: LlamaConfig): CriaFileError {
  const [, layer] = /^blk\.(\d+)\./.exec(target) ?? [];
  if (layer !== undefined && Number(layer) >= layers) {
    return new CriaFileError(file, name, `must be of one of the model's ${layers} layers, not of layer ${layer}`);
  }
  return new CriaFileError(file, name, "is not for a matrix of the LLaMA that cria computes", "ERR_CRIA_UNSUPPORTED");
}

const unfit = ({ tensor: { file, name } }: Factor, what: string, found: number, target: string, wanted: number) =>
  new CriaFileError(file, name, `must be for ${wanted} ${what}, as the model's ${target} has, not ${found}`);
