/// <reference lib="esnext.disposable" preserve="true" />
import { randomUUID } from "node:crypto";
import { readSync } from "node:fs";
import { type FileHandle, open, realpath, rename, stat, unlink } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { getSystemErrorMap } from "node:util";

import { CriaFileError, outOfRange, wrongArgument, wrongType } from "./errors.js";

/**
 * A file's or a folder's path, as a caller gives it.
 *
 * @throws TypeError or RangeError where it is neither a path nor a URL of the scheme file:
 */
export function pathOf(name: string, path: string | URL): string {
  if (path instanceof URL) return pathOfUrl(name, path);
  if (typeof path !== "string") throw wrongType(name, "a string or a file: URL", path);
  if (path === "") throw wrongArgument(`${name}: must not be empty`);
  return path;
}

function pathOfUrl(name: string, url: URL): string {
  try {
    return fileURLToPath(url);
  } catch {
    throw outOfRange(name, "a file: URL of this machine", String(url));
  }
}

/** Reads until `into` is full, or to the file's end. Returns the bytes read. */
export function readAll(fd: number, into: Uint8Array, position: number): number {
  for (let done = 0; ; ) {
    const got = done === into.length ? 0 : readSync(fd, into, done, into.length - done, position + done);
    if (got === 0) return done;
    done += got;
  }
}

/** As {@link readAll}, while others have their turn. */
export async function readAllOf(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  for (let done = 0; ; ) {
    if (done === into.length) return done;
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) return done;
    done += bytesRead;
  }
}

/**
 * The bytes of a range of a file, whose length was checked, at the beginning of an array buffer of their own.
 *
 * @throws CriaFileError where the file was cut meanwhile
 */
export function readRange(
  fd: number,
  path: string,
  { name, offset, bytes }: { readonly name: string; readonly offset: number; readonly bytes: number },
): Buffer {
  const into = Buffer.from(new ArrayBuffer(bytes));
  if (readAll(fd, into, offset) === bytes) return into;
  throw new CriaFileError(path, name, "was cut while it was read");
}

/** Writes all of `bytes`, which the system may take in parts, from `position` on, or where the file is without one. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position?: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const at = position === undefined ? null : position + done;
    done += (await file.write(bytes, done, bytes.length - done, at)).bytesWritten;
  }
}

/**
 * A file that takes its name only when it is whole and on the disk: until then it stands beside, and what the name was
 * before stays. What is no regular file, such as a pipe, is written as it is.
 */
export class Replacement implements AsyncDisposable {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #target: string;
  /** Its name until it is whole. */
  #partial: string | undefined;

  private constructor(file: FileHandle, path: string, target: string, partial: string | undefined) {
    this.#file = file;
    this.#path = path;
    this.#target = target;
    this.#partial = partial;
  }

  /** @throws CriaFileError where there can be no such file */
  static async open(path: string): Promise<Replacement> {
    try {
      const existing = await stat(path).catch(() => undefined);
      if (existing !== undefined && !existing.isFile()) {
        return new Replacement(await open(path, "w"), path, path, undefined);
      }
      // A link stays one, to the new file.
      const target = existing === undefined ? path : await realpath(path);
      const partial = `${target}.${randomUUID()}.partial`;
      return new Replacement(await open(partial, "wx"), path, target, partial);
    } catch (cause) {
      throw unwritten(path, cause);
    }
  }

  /** Writes what follows. @throws CriaFileError where the system refuses */
  async write(what: Uint8Array | string): Promise<void> {
    try {
      await writeAll(this.#file, typeof what === "string" ? Buffer.from(what) : what);
    } catch (cause) {
      throw unwritten(this.#path, cause);
    }
  }

  /** Gives it its name. @throws CriaFileError where the system refuses */
  async finish(): Promise<void> {
    if (this.#partial === undefined) return;
    try {
      await this.#file.sync();
      await rename(this.#partial, this.#target);
    } catch (cause) {
      throw unwritten(this.#path, cause);
    }
    this.#partial = undefined;
  }

  /** Closes it, and removes what was not finished. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    if (this.#partial !== undefined) await unlink(this.#partial).catch(() => undefined);
  }
}

/** What the system had against writing a file, with its name. */
export const unwritten = (path: string, cause: unknown): CriaFileError =>
  new CriaFileError(path, undefined, `cannot be written: ${reason(cause)}`, "ERR_CRIA_FILE", { cause });

/** What the system, or Node, has to say of a failed call, without the path. */
export function reason(error: unknown): string {
  const { errno, message } = error as NodeJS.ErrnoException;
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? message;
}
