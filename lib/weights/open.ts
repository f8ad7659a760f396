import { open, stat } from "node:fs/promises";

import { CriaError, CriaFileError } from "../errors.js";
import { readAll, reason } from "../files.js";

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

/**
 * The whole of a file.
 *
 * @throws CriaFileError as {@link readFrom}, and for a file of more than `most` bytes
 */
export const readWhole = (path: string, most: number, subject?: string): Promise<Buffer> =>
  readFrom(path, subject, (fd, size) => {
    if (size > most) throw new CriaFileError(path, subject, `must be of at most ${most} bytes, not ${size}`);
    const bytes = Buffer.alloc(size);
    return bytes.subarray(0, readAll(fd, bytes, 0));
  });

/** The first bytes of a file, of which there may be fewer than asked for. @throws CriaFileError as {@link readFrom} */
export const readStart = (path: string, length: number): Promise<Buffer> =>
  readFrom(path, undefined, (fd) => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readAll(fd, bytes, 0));
  });

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
