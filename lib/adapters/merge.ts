/// <reference lib="esnext.disposable" preserve="true" />
import type { Device } from "../device.js";
import { CriaFileError } from "../errors.js";
import { native, type TensorHandle } from "../native.js";
import { encodeFloats, type FloatType, isFloatType } from "../weights/encode.js";
import type { TensorInfo } from "../weights/source.js";
import type { ModelFile, WeightSource } from "../weights/store.js";
import type { AdapterFile } from "./adapter-file.js";
import { type Part, partsOf, type ScaledParts, stackedA, stackedB } from "./beside.js";
import { transposed } from "./transposed.js";

/** Rows are merged so many bytes of f32 at a time: enough that the calls cost nothing beside the work. */
const chunkBytes = 4 * 2 ** 20;

/**
 * Checks that adapters can be merged into a model.
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED where a matrix is of a type that weights cannot be rounded to, where it is
 *   both the embedding and the output and only one is to change, or where the file's matrices are mapped as they are
 */
export function checkMergeable({ path, mappable, tensors }: ModelFile, files: readonly AdapterFile[]): void {
  const fail = (subject: string | undefined, problem: string) =>
    new CriaFileError(
      path,
      subject,
      `${problem}; an adapter beside the weights can be applied`,
      "ERR_CRIA_UNSUPPORTED",
    );
  if (mappable) throw fail(undefined, "must not be packed to have an adapter merged");
  for (const file of files) {
    if (file.kind === "lora") continue;
    throw new CriaFileError(file.path, undefined, "must be a LoRA to be merged into weights", "ERR_CRIA_UNSUPPORTED");
  }
  for (const { target } of files.flatMap((file) => (file.kind === "lora" ? file.pairs : []))) {
    const tied = !tensors.has("output.weight") && (target === "output.weight" || target === "token_embd.weight");
    if (tied) throw fail(target, "must not be embedding and output in one to have an adapter of either merged");
    const { type } = tensors.get(target)!;
    if (!isFloatType(type)) {
      throw fail(target, `must be F32, F16 or BF16 to have an adapter merged, not ${type.toUpperCase()}`);
    }
  }
}

/**
 * The weights with adapters merged into them: each row of W becomes that of W + s B A, computed in f32 and rounded to the
 * type of W.
 */
export function mergedSource(
  source: WeightSource & Disposable,
  device: Device,
  adapters: readonly ScaledParts[],
): WeightSource & Disposable {
  return {
    tensors: source.tensors,
    async pack(info, into, row) {
      await source.pack(info, into, row);
      const parts = partsOf(adapters, [[info.name, info.rows]]);
      if (parts.length > 0) await merge(device, info, parts, into, row);
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

/** Adds the parts to a matrix that was packed at `first`. */
async function merge(
  device: Device,
  { type, rows, cols }: TensorInfo,
  parts: readonly Part[],
  into: TensorHandle,
  first: number,
): Promise<void> {
  const rank = parts.reduce((sum, { update }) => sum + update.rank, 0);
  const b = stackedB(parts, rows, rank);
  const inputs = native.matrixCreate(device.handle, "f32", cols, rank);
  try {
    native.tensorPack(inputs, 0, cols, encodeFloats("f32", transposed(stackedA(parts), rank)));
    const most = Math.max(1, Math.floor(chunkBytes / (4 * cols)));
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      const change = new Float32Array(count * cols);
      native.matmul(device.handle, inputs, b.subarray(row * rank, (row + count) * rank), change);
      const weights = new Float32Array(count * cols);
      native.embed(device.handle, into, rowsFrom(first + row, count), weights);
      for (let i = 0; i < weights.length; i++) weights[i]! += change[i]!;
      native.tensorPack(into, first + row, count, encodeFloats(type as FloatType, weights));
      await new Promise((resolve) => setImmediate(resolve)); // others have their turn
    }
  } finally {
    native.free(inputs);
  }
}

const rowsFrom = (first: number, count: number) => Int32Array.from({ length: count }, (_, i) => first + i);
