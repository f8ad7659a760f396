import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestContext } from "vitest";

const packageRoot = fileURLToPath(new URL("../../", import.meta.url));

/** Where test data that is not part of the package stands: $CRIA_TEST_DATA, or shared/data beside the package. */
const dataRoot = resolve(process.env.CRIA_TEST_DATA ?? join(packageRoot, "..", "shared", "data"));

/** The absolute path of a file of the test data, which may be absent. */
export const dataFile = (...parts: string[]): string => join(dataRoot, ...parts);

/** The absolute path of a file of the package. */
export const packageFile = (...parts: string[]): string => join(packageRoot, ...parts);

/** Skips the running test, saying why, unless every one of `files` is there. */
export function needFiles({ skip }: TestContext, ...files: string[]): void {
  const absent = files.find((file) => !existsSync(file));
  if (absent !== undefined) skip(`${absent} is absent`);
}
