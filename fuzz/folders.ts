import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { packageRoot } from "../lib/package.js";

const fuzz = join(packageRoot, "fuzz");

/** Inputs that a target begins with. */
export const corpusOf = (target: string): string => join(fuzz, "corpus", target);

/** Inputs that were findings once, and are no more. */
export const crashesOf = (target: string): string => join(fuzz, "crashes", target);

/** What a folder of inputs holds, by name, in the order of the names. */
export function inputsIn(folder: string): { name: string; bytes: Buffer }[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => ({ name, bytes: readFileSync(join(folder, name)) }));
}
