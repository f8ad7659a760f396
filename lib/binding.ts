/** Where the native addon comes from. */
import { dirname, join } from "node:path";

import { damageOf } from "./elf.js";
import type { Native } from "./native.js";
import { packageRoot } from "./package.js";

/** The addon was not found, or what was found could not be loaded. `cause` says why, in the loader's own words. */
export class BindingError extends Error {
  /** @param file the addon's, where one was found */
  constructor(
    readonly file: string | undefined,
    override readonly cause: unknown,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
}

/** A library that must not be loaded. */
export class DamagedFile extends Error {
  constructor(file: string, damage: string) {
    super(`${file} ${damage}`);
  }
}

/** CRIA_ABI_VERSION of the addon that this code calls. */
export const abiVersion = 1;

let provided: (() => Native) | undefined;

/**
 * Has `load` give the addon, as `cria/linux-x64` does for bundles, rather than what is found in the package's folder.
 */
export function provideBinding(load: () => Native): void {
  provided = load;
}

/** @throws BindingError */
export function loadBinding(): Native {
  return provided === undefined ? openBinding(bindingFile()) : ofThisVersion(provided(), "the bundled addon");
}

/**
 * The addon that a local build made, or else the prebuilt one for this system.
 *
 * @throws BindingError where there is none
 */
export function bindingFile(): string {
  try {
    return require("node-gyp-build").path(packageRoot);
  } catch (cause) {
    throw new BindingError(undefined, cause);
  }
}

/** @throws BindingError where it cannot be loaded */
function openBinding(file: string): Native {
  requireWhole(file);
  try {
    return ofThisVersion(require(file), file);
  } catch (cause) {
    throw cause instanceof BindingError ? cause : new BindingError(file, cause);
  }
}

function ofThisVersion(binding: Native, file: string): Native {
  const version = (binding as Partial<Native>).abiVersion?.();
  if (version === abiVersion) return binding;
  throw new BindingError(file, new Error(`it was built for version ${version} of the C ABI, not ${abiVersion}`));
}

/** What the addon loads from beside itself, where it is there. */
const neighbours = ["libcria.so", "libcria.musl.so", "libcria_cuda.so"];

/** Loading one that is not would end the process. */
function requireWhole(addon: string): void {
  if (process.platform !== "linux") return;
  for (const file of [addon, ...neighbours.map((name) => join(dirname(addon), name))]) {
    const damage = damageOf(file);
    if (damage !== undefined) throw new BindingError(addon, new DamagedFile(file, damage));
  }
}
