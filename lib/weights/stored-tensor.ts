import { CriaFileError } from "../errors.js";
import type { FloatType } from "./source.js";

/** A tensor of a format that names tensors and no more. Its elements stand in a file. */
export interface StoredTensor {
  readonly name: string;
  /** Slowest first: a matrix is [rows, cols]. A scalar's is empty. */
  readonly shape: readonly number[];
  readonly file: string;
  /** From the file's beginning. */
  readonly offset: number;
  readonly bytes: number;
}

/** A shape as an error shows it. */
export const showShape = (shape: readonly (number | bigint)[]): string => `[${shape.join(", ")}]`;

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((n, i) => n === b[i]);

/**
 * A tensor that must be there, in that shape.
 *
 * @param file where one that is missing would be
 * @throws CriaFileError where it is not
 */
export function required<T extends Pick<StoredTensor, "file" | "shape">>(
  tensor: T | undefined,
  file: string,
  name: string,
  shape: readonly number[],
): T {
  const wanted = showShape(shape);
  if (tensor === undefined) {
    throw new CriaFileError(file, name, `must be a tensor of shape ${wanted}, but is missing`);
  }
  if (sameShape(tensor.shape, shape)) return tensor;
  throw new CriaFileError(tensor.file, name, `must be of shape ${wanted}, not ${showShape(tensor.shape)}`);
}

const floatTypes: readonly string[] = ["f32", "f16", "bf16"] satisfies readonly FloatType[];

/** The type of a tensor that must be of floats, which `type` names in letters of any size. @throws CriaFileError */
export function floatTypeOf({ file, name }: Pick<StoredTensor, "file" | "name">, type: string): FloatType {
  const found = type.toLowerCase();
  if (floatTypes.includes(found)) return found as FloatType;
  throw new CriaFileError(file, name, `must be of type F32, F16 or BF16, not ${type}`, "ERR_CRIA_UNSUPPORTED");
}
