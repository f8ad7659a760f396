import { stat } from "node:fs/promises";

import { CriaFileError } from "../errors.js";
import { readAll } from "../files.js";
import { readFrom, unreadable } from "../weights/open.js";
import type { LoraFile } from "./lora-file.js";
import { readLoraGguf } from "./lora-gguf.js";
import { peftConfig, readPeft } from "./peft.js";

/** What GGUF files begin with. */
const ggufMagic = "GGUF";

/**
 * Reads the index of a LoRA adapter: a GGUF file, or a folder that PEFT wrote. What it is, its content tells.
 *
 * @throws CriaFileError as what reads the format
 */
export async function readAdapterFile(path: string): Promise<LoraFile> {
  if (await isFolder(path)) return readPeft(path);
  if (await isGguf(path)) return readLoraGguf(path);
  throw new CriaFileError(path, undefined, `must be a GGUF file, or a folder with ${peftConfig}`);
}

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch (error) {
    throw unreadable(path, undefined, error);
  }
}

const isGguf = (path: string): Promise<boolean> =>
  readFrom(path, undefined, (fd) => {
    const first = Buffer.alloc(ggufMagic.length);
    readAll(fd, first, 0);
    return first.toString("latin1") === ggufMagic;
  });
