import { open, stat } from "node:fs/promises";
import { getSystemErrorMap } from "node:util";

import { CriaError, CriaFileError } from "../errors.js";

/**
 * Opens a regular file, reads something of it and closes it.
 *
 * @param subject what of a model the file is, for errors
 * @throws CriaFileError where it is absent, empty, no regular file or cannot be read, and what `read` throws of ours
 */
export async function readFrom<T>(
  path: string,
  subject: string | undefined,
  read: (fd: number, size: number) => T,
): Promise<T> {
  try {
    // Asked before opening it, which would wait for the other end of a pipe.
    if (!(await stat(path)).isFile()) throw new CriaFileError(path, subject, "must be a regular file");
    await using file = await open(path);
    const { size } = await file.stat();
    if (size === 0) throw new CriaFileError(path, subject, "must not be empty");
    return read(file.fd, size);
  } catch (error) {
    if (error instanceof CriaError) throw error;
    throw unreadable(path, subject, error);
  }
}

/** Whether a path is a folder's. @throws CriaFileError where there is nothing of that name */
export async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    throw unreadable(path, undefined, error);
  }
}

/** What the system had against reading a file, with its name. */
export const unreadable = (path: string, subject: string | undefined, cause: unknown): CriaFileError =>
  new CriaFileError(path, subject, `cannot be read: ${reason(cause)}`, "ERR_CRIA_FILE", { cause });

/** What the system, or Node, has to say of a failed call, without the path. */
export function reason(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException;
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? message;
}
