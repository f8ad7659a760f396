import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";

import { CriaFileError } from "./errors.js";
import type { FileTensor, TensorInfo } from "./weights/source.js";
import type { ModelFile } from "./weights/store.js";

/**
 * Checks that a file can be made of a model without harm to it.
 *
 * @throws CriaFileError where `out` is something that must not be replaced: no file, or one of the model's own
 */
export async function checkOut(out: string, model: ModelFile): Promise<void> {
  const existing = await stat(out).catch(() => undefined);
  if (existing === undefined) return;
  if (!existing.isFile()) throw new CriaFileError(out, undefined, "must be a regular file, or none yet, to be written");
  for (const file of await filesOf(model)) {
    const own = await stat(file).catch(() => undefined);
    if (own?.dev !== existing.dev || own.ino !== existing.ino) continue;
    throw new CriaFileError(out, undefined, `must not be a file of the model itself, ${file}`);
  }
}

/**
 * What a model may stand in: its file, those that its tensors are in, others that it names, and all that is in its
 * folder.
 */
async function filesOf({ path, tensors, files = [] }: ModelFile): Promise<Set<string>> {
  const inFolder = (await stat(path)).isDirectory() ? (await readdir(path)).map((name) => join(path, name)) : [];
  const fileOf = (info: TensorInfo) => (info as Partial<FileTensor>).file ?? path;
  return new Set([path, ...files, ...inFolder, ...[...tensors.values()].map(fileOf)]);
}
