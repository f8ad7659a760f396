/**
 * The raw binding (`bindings.d.ts`), loaded from a local build or from the prebuilt binaries in the package.
 *
 * It is the layer that `cria` and `cria/kernels` stand on; its functions mirror `cria.h` and may change with it.
 */
import type * as Bindings from "../bindings.js";
import { loadBinding } from "./binding.js";
import { CriaError } from "./errors.js";

export type * from "../bindings.js";
export type Native = typeof Bindings;

function load(): Native {
  try {
    const binding = loadBinding();
    binding.setErrorClass(CriaError);
    return binding;
  } catch (cause) {
    throw new CriaError(
      "ERR_CRIA_LOAD",
      `cria's native addon could not be loaded on ${process.platform}-${process.arch}. In a clone, build it with "npm ci" ` +
        `(it needs cmake and a C++20 compiler); cria runs on Linux on x86-64. Cause: ${(cause as Error).message}`,
      { cause },
    );
  }
}

export const native: Native = load();
export default native;
