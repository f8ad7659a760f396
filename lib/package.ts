import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** The folder of the package `name`: `folder` itself or the nearest above it; undefined where none is. */
export function packageRootOf(folder: string, name: string): string | undefined {
  for (let at = folder; ; at = dirname(at)) {
    if (packageIn(at) === name) return at;
    if (at === dirname(at)) return undefined;
  }
}

function packageIn(folder: string): string | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name;
  } catch {
    return undefined; // most folders have none
  }
}

/** Where this file lies. A bundle that is an ES module has no __dirname. */
const here = typeof __dirname === "string" ? __dirname : process.cwd();

/**
 * The package's folder: the sources' parent, or two above the compiled files. In a bundle, which has left the package,
 * the bundle's own folder: what it should find must be copied beside it.
 */
export const packageRoot: string = packageRootOf(here, "cria") ?? here;
