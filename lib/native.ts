/**
 * The raw binding (`bindings.d.ts`), loaded from a local build or from the prebuilt binaries in the package.
 *
 * It is the layer that `cria` and `cria/kernels` stand on; its functions mirror `cria.h` and may change with it.
 */
import type * as Bindings from "../bindings.js";
import { BindingError, loadBinding } from "./binding.js";
import { CriaError } from "./errors.js";
import { loadError } from "./load-error.js";

export type * from "../bindings.js";
export type Native = typeof Bindings;

/** @throws CriaError ERR_CRIA_LOAD with each cause and its cure */
function load(): Native {
  try {
    const binding = loadBinding();
    binding.setErrorClass(CriaError);
    return binding;
  } catch (error) {
    if (!(error instanceof BindingError)) throw error;
    throw loadError(error);
  }
}

export const native: Native = load();
export default native;
