import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { CriaError } from "./errors.js";

/**
 * The nearest folder with a package.json, `folder` itself or one above it.
 *
 * @throws CriaError ERR_CRIA_LOAD where there is none
 */
export function packageRootOf(folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (existsSync(join(at, "package.json"))) return at;
    if (at === dirname(at)) {
      throw new CriaError(
        "ERR_CRIA_LOAD",
        `cria's files must lie in its package, with its native addon, but no package.json is in ${folder} or above it`,
      );
    }
  }
}

/** The package's folder: the sources' parent, or two above the compiled files. */
export const packageRoot: string = packageRootOf(dirname(fileURLToPath(import.meta.url)));
