/** Where the native addon comes from. */
import type { Native } from "./native.js";
import { packageRoot } from "./package.js";

/** The addon was not found, or its file could not be loaded. */
export class BindingError extends Error {
  /** @param file the addon's, where one was found */
  constructor(
    readonly file: string | undefined,
    override readonly cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
}

let provided: (() => Native) | undefined;

/** Has `load` give the addon, as `cria/linux-x64` does for bundles, rather than what is found in the package's folder. */
export function provideBinding(load: () => Native): void {
  provided = load;
}

/** The addon that a local build made, or else the prebuilt one for this system. @throws BindingError */
export function loadBinding(): Native {
  if (provided !== undefined) return provided();
  const file = bindingFile();
  try {
    return require(file);
  } catch (cause) {
    throw new BindingError(file, cause);
  }
}

/** The file that {@link loadBinding} takes unless one was provided. @throws BindingError where there is none */
export function bindingFile(): string {
  try {
    return require("node-gyp-build").path(packageRoot);
  } catch (cause) {
    throw new BindingError(undefined, cause);
  }
}
