/// <reference lib="esnext.disposable" preserve="true" />
import { unaborted } from "../abort.js";
import type { Device } from "../device.js";
import { CriaFileError } from "../errors.js";
import { native, type TensorHandle } from "../native.js";
import type { TensorInfo } from "../weights/source.js";
import { type ModelFile, namingNumbers, type WeightSource } from "../weights/store.js";
import type { AdapterFile } from "./adapter-file.js";
import { bytesOf, type Part, partsOf, type ScaledParts, stackedA, stackedB } from "./beside.js";
import { transposed } from "./transposed.js";

/** Rows are merged so many bytes of f32 at a time: enough that the calls cost nothing beside the work. */
const chunkBytes = 4 * 2 ** 20;

/**
 * Checks that adapters can be merged into a model.
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED where a matrix is both the embedding and the output and only one is to
 *   change, where one is GPTQ's or AWQ's, whose types weights are not rounded to, where the file's matrices are mapped
 *   as they are, or for another adapter than a LoRA
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
    const { type, columns } = tensors.get(target)!;
    if (type === "q4_z" || columns !== undefined)
      throw fail(target, "must not be GPTQ's or AWQ's to have an adapter merged");
  }
}

/**
 * The weights with adapters merged into them: each row of W becomes that of W + s B A, computed in f32 and encoded in
 * the type of W. Float matrices that become quantised ones while they are loaded do so after it.
 *
 * @param path the model's, for errors
 * @param signal stops the merging between two parts of a matrix
 */
export function mergedSource(
  path: string,
  source: WeightSource & Disposable,
  device: Device,
  adapters: readonly ScaledParts[],
  signal?: AbortSignal,
): WeightSource & Disposable {
  return {
    tensors: source.tensors,
    async pack(info, into, row) {
      const parts = partsOf(adapters, [[info.name, info.rows]]);
      if (parts.length === 0) return source.pack(info, into, row);
      try {
        await merge(device, source, info, parts, into, row, signal);
      } catch (error) {
        throw namingNumbers(error, path, info.name);
      }
    },
    [Symbol.dispose]: () => source[Symbol.dispose](),
  };
}

/** Packs a matrix at row `first` of `into`, the parts added to it. */
async function merge(
  device: Device,
  source: WeightSource,
  info: TensorInfo,
  parts: readonly Part[],
  into: TensorHandle,
  first: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { rows, cols } = info;
  const rank = parts.reduce((sum, { update }) => sum + update.rank, 0);
  const b = stackedB(parts, rows, rank);
  const temporary: TensorHandle[] = [];
  const matrix = (rows: number, cols: number) => {
    temporary.push(native.matrixCreate(device.handle, "f32", rows, cols));
    return temporary.at(-1)!;
  };
  try {
    const inputs = matrix(cols, rank);
    native.tensorPack(inputs, 0, cols, bytesOf(transposed(stackedA(parts), rank)));
    // Where the source has only its own type, what was packed is read back: it is what the file says.
    const exact = source.convert === undefined ? undefined : matrix(rows, cols);
    if (exact === undefined) await source.pack(info, into, first);
    else await source.convert!(info, exact, 0);
    const most = Math.max(1, Math.floor(chunkBytes / (4 * cols)));
    for (let row = 0; row < rows; row += most) {
      unaborted("the loading", signal);
      const count = Math.min(most, rows - row);
      const change = new Float32Array(count * cols);
      native.matmul(device.handle, inputs, b.subarray(row * rank, (row + count) * rank), change);
      const weights = new Float32Array(count * cols);
      native.embed(device.handle, exact ?? into, rowsFrom(exact === undefined ? first + row : row, count), weights);
      for (let i = 0; i < weights.length; i++) weights[i]! += change[i]!;
      native.tensorConvert(into, first + row, count, "f32", bytesOf(weights));
      await new Promise((resolve) => setImmediate(resolve)); // others have their turn
    }
  } finally {
    temporary.forEach(native.free);
  }
}

const rowsFrom = (first: number, count: number) => Int32Array.from({ length: count }, (_, i) => first + i);
