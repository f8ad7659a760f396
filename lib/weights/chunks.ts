import { type FileHandle, open } from "node:fs/promises";

import { CriaFileError } from "../errors.js";
import { readAllOf } from "../files.js";
import { native, type TensorHandle } from "../native.js";
import { unreadable } from "./open.js";
import { type TensorInfo, type WeightType, weightBytes } from "./source.js";

/** Bytes that are gathered at a time: they stay in the last-level cache, and packing them takes about 1 ms. */
const chunkBytes = 4 * 2 ** 20;

/** How rows come into a tensor: as they are, or as another type. */
export interface Placing {
  bytes(into: TensorHandle, row: number, rows: number, data: Uint8Array): void;
  file(into: TensorHandle, row: number, rows: number, path: string, offset: number): Promise<void>;
}

export const packing: Placing = { bytes: native.tensorPack, file: native.tensorPackFile };

/** Rows of type `from` become the tensor's own type. */
export const converting = (from: WeightType): Placing => ({
  bytes: (into, row, rows, data) => native.tensorConvert(into, row, rows, from, data),
  file: (into, row, rows, path, offset) => native.tensorConvertFile(into, row, rows, path, offset, from),
});

/**
 * Places rows that no file has as a tensor wants them, at row `row` of it, some at a time.
 *
 * @param fill fills a chunk with `count` rows from `from` on
 */
export async function placeChunks(
  { type, rows, cols }: TensorInfo,
  placing: Placing,
  into: TensorHandle,
  row: number,
  fill: (chunk: Buffer, from: number, count: number) => Promise<void>,
): Promise<void> {
  const rowBytes = weightBytes(type, 1, cols);
  const most = Math.max(1, Math.floor(chunkBytes / rowBytes));
  const chunk = Buffer.alloc(Math.min(most, rows) * rowBytes);
  for (let from = 0; from < rows; from += most) {
    const count = Math.min(most, rows - from);
    const part = chunk.subarray(0, count * rowBytes);
    await fill(part, from, count);
    placing.bytes(into, row + from, count, part);
  }
}

/** Files that are open while a tensor is gathered from them. */
export class OpenFiles implements AsyncDisposable {
  readonly #files: { path: string; handle: FileHandle }[] = [];

  /** @throws CriaFileError where one cannot be opened; the others are closed then */
  static async open(paths: readonly string[]): Promise<OpenFiles> {
    const files = new OpenFiles();
    for (const path of paths) {
      try {
        files.#files.push({ path, handle: await open(path) });
      } catch (error) {
        await files[Symbol.asyncDispose]();
        throw unreadable(path, undefined, error);
      }
    }
    return files;
  }

  /**
   * Fills `into` with what stands at `offset` in a file.
   *
   * @param index the file's, in the order of the paths
   * @throws CriaFileError where the file ends before it, or cannot be read
   */
  async read(index: number, into: Uint8Array, offset: number): Promise<void> {
    const { path, handle } = this.#files[index]!;
    const got = await readAllOf(handle, into, offset).catch((error: unknown) => {
      throw unreadable(path, undefined, error);
    });
    if (got < into.length) throw new CriaFileError(path, undefined, `ends at byte ${offset + got}, inside a tensor`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { handle } of this.#files) await handle.close();
  }
}
