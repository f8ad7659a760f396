import { CriaFileError } from "../errors.js";
import { isSafetensors, readSafetensors } from "../weights/safetensors.js";
import type { FileTensor } from "../weights/source.js";
import { floatTypeOf, type StoredTensor, showShape } from "../weights/stored-tensor.js";
import { readTorch } from "../weights/torch.js";
import { isZip } from "../weights/zip.js";

/** A tensor of an adapter's file. */
export interface NamedTensor extends StoredTensor {
  /** As the format calls it. */
  readonly type: string;
}

/**
 * Whether a file has named tensors: safetensors, or what torch.save wrote.
 *
 * @throws CriaFileError where it cannot be read
 */
export async function hasTensors(path: string): Promise<boolean> {
  return (await isSafetensors(path)) || (await isZip(path));
}

/**
 * Reads the index of a file of named tensors. What it is, its content tells.
 *
 * @throws CriaFileError as {@link readSafetensors} and {@link readTorch}, and where it has no tensor
 */
export async function readTensors(path: string): Promise<NamedTensor[]> {
  const tensors = (await isSafetensors(path))
    ? [...(await readSafetensors(path)).tensors.values()].map(({ dtype, ...rest }) => ({ ...rest, type: dtype }))
    : [...(await readTorch(path)).values()];
  if (tensors.length > 0) return tensors;
  throw new CriaFileError(path, undefined, "must have tensors, but has none");
}

/** A tensor as a matrix of so many columns. @throws CriaFileError where it is none, or not of floats */
export function matrixOf(tensor: NamedTensor): FileTensor {
  const { name, shape, file, offset, bytes } = tensor;
  const [rows, cols] = shape;
  if (shape.length !== 2 || rows === 0 || cols === 0) {
    throw new CriaFileError(file, name, `must be a matrix, not of shape ${showShape(shape)}`);
  }
  return { name, type: floatTypeOf(tensor, tensor.type), rows: rows!, cols: cols!, file, offset, bytes };
}

/** A tensor as one row, whatever its dimensions. @throws CriaFileError where it is empty, or not of floats */
export function rowOf(tensor: NamedTensor): FileTensor {
  const { name, shape, file, offset, bytes } = tensor;
  const cols = shape.reduce((product, n) => product * n, 1);
  if (cols === 0) throw new CriaFileError(file, name, `must not be empty, of shape ${showShape(shape)}`);
  return { name, type: floatTypeOf(tensor, tensor.type), rows: 1, cols, file, offset, bytes };
}
