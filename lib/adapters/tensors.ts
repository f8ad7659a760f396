import { CriaFileError } from "../errors.js";
import { isSafetensors, readSafetensors } from "../weights/safetensors.js";
import type { FileTensor, WeightType } from "../weights/source.js";
import { readTorch } from "../weights/torch.js";
import { isZip } from "../weights/zip.js";

/** A tensor of an adapter's file, in a format that names them and no more. */
export interface NamedTensor {
  readonly name: string;
  /** As the format calls it. */
  readonly type: string;
  /** Slowest first: a matrix is [rows, cols]. */
  readonly shape: readonly number[];
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Whether a file has named tensors: safetensors, or what torch.save wrote. @throws CriaFileError where it cannot be read */
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

const types: Readonly<Record<string, WeightType>> = { f32: "f32", f16: "f16", bf16: "bf16" };

/** A tensor as a matrix of so many columns. @throws CriaFileError where it is none, or not of floats */
export function matrixOf({ name, type, shape, file, offset, bytes }: NamedTensor): FileTensor {
  const [rows, cols] = shape;
  if (shape.length !== 2 || rows === 0 || cols === 0) {
    throw new CriaFileError(file, name, `must be a matrix, not of shape [${shape.join(", ")}]`);
  }
  return { name, type: floatType(file, name, type), rows: rows!, cols: cols!, file, offset, bytes };
}

/** A tensor as one row, whatever its dimensions. @throws CriaFileError where it is empty, or not of floats */
export function rowOf({ name, type, shape, file, offset, bytes }: NamedTensor): FileTensor {
  const cols = shape.reduce((product, n) => product * n, 1);
  if (cols === 0) throw new CriaFileError(file, name, `must not be empty, of shape [${shape.join(", ")}]`);
  return { name, type: floatType(file, name, type), rows: 1, cols, file, offset, bytes };
}

function floatType(file: string, name: string, type: string): WeightType {
  const found = types[type.toLowerCase()];
  if (found !== undefined) return found;
  throw new CriaFileError(file, name, `must be of type F32, F16 or BF16, not ${type}`, "ERR_CRIA_UNSUPPORTED");
}
