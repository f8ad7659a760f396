import type { Device } from "../device.js";
import { CriaError, CriaFileError } from "../errors.js";
import { native } from "../native.js";
import type { TensorInfo } from "./source.js";

/**
 * Checks that a device has what tensors need, before any is read.
 *
 * @throws CriaFileError ERR_CRIA_UNSUPPORTED for a tensor that the GPU has no kernel for, or whose input it would have
 *   to gather
 */
export function requireTypes(path: string, tensors: Iterable<TensorInfo>, { info }: Device): void {
  if (info.kind === "cpu") return;
  const refuse = (name: string, problem: string, cause?: CriaError) => {
    throw new CriaFileError(path, name, `${problem}; device "cpu" runs it`, "ERR_CRIA_UNSUPPORTED", { cause });
  };
  for (const { name, type, rows, cols, columns } of tensors) {
    try {
      native.matrixBytes(info.kind, type, rows, cols);
    } catch (error) {
      if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_UNSUPPORTED") throw error;
      refuse(name, error.message.replace(/^type: /, ""), error);
    }
    if (columns !== undefined) refuse(name, "must have its columns in the order of its inputs to run on a GPU");
  }
}
