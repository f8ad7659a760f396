import { isUtf8 } from "node:buffer";
import { type FileHandle, open, readFile } from "node:fs/promises";
import type { Readable } from "node:stream";

import { CriaFileError } from "../errors.js";
import { unwritten } from "../files.js";
import { unreadable } from "../weights/open.js";

/** Where text goes: a process's stream, or a test's. */
export interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/**
 * Text of a model or a file as a terminal may have it: it must neither move the cursor, nor ring the bell, nor set
 * anything.
 */
export const visible = (text: string): string => text.replace(/\r\n?/g, "\n").replace(/[^\P{Cc}\n\t]/gu, "\ufffd");

/** Writes such a text: {@link visible} at a terminal, and as it is elsewhere. */
export function writeText(output: Output, text: string): void {
  output.write(output.isTTY ? visible(text) : text);
}

/** Where text comes from. */
export interface Input extends Readable {
  readonly isTTY?: boolean;
  /** Of a terminal: whether it gives each key as it is pressed, Ctrl-C too, and shows none. */
  setRawMode?(raw: boolean): unknown;
}

/** What a command has of the world. */
export interface Io {
  readonly stdin: Input;
  /** A command's own output and nothing else. */
  readonly stdout: Output;
  /** What people read beside it: progress, warnings, errors. */
  readonly stderr: Output;
  /** Aborted with an {@link Interruption} when the command should end. */
  readonly signal: AbortSignal;
  /**
   * From now on Ctrl-C aborts `signal`; until then it ends the process. For commands that heed the signal.
   *
   * @param heard is called instead, each time
   */
  catchInterrupts(heard?: () => void): void;
}

/** Why a command should end, and the exit code that it then ends with. */
export class Interruption extends Error {
  constructor(
    message: string,
    readonly exitCode: number,
  ) {
    super(message);
  }
}

/** 128 and SIGINT's number, as shells have it. */
export const interrupted = 130;

/**
 * The process's own. A reader of the output who has gone, as `head` does, ends a command quietly; a full disk with a
 * word, and exit code 1, also where the command had ended by then. Whether anybody reads what is told beside it is no
 * matter.
 */
export function processIo(): Io {
  const controller = new AbortController();
  process.stderr.on("error", () => undefined);
  process.stdout.on("error", ({ code, message }: NodeJS.ErrnoException) => {
    if (controller.signal.aborted) return;
    const exitCode = code === "EPIPE" ? 0 : 1;
    if (exitCode !== 0) {
      process.stderr.write(`cria: the output: ${message}\n`);
      process.exitCode = exitCode;
    }
    controller.abort(new Interruption("the output cannot be written", exitCode));
  });
  let listener = () => {};
  const abort = () => controller.abort(new Interruption("interrupted", interrupted));
  return {
    // Made when it is asked for: to look at it begins to read it.
    get stdin() {
      return process.stdin;
    },
    stdout: process.stdout,
    stderr: process.stderr,
    signal: controller.signal,
    // Of those that abort only the first does: a second Ctrl-C ends the process, whatever it is at.
    catchInterrupts: (heard) => {
      process.off("SIGINT", listener);
      listener = heard ?? abort;
      if (heard === undefined) process.once("SIGINT", listener);
      else process.on("SIGINT", listener);
    },
  };
}

/** Opens a file to write it anew. @throws CriaFileError where that cannot be */
export async function openOutput(path: string): Promise<FileHandle> {
  try {
    return await open(path, "w");
  } catch (cause) {
    throw unwritten(path, cause);
  }
}

/**
 * A file's text. What is no UTF-8 is refused: with U+FFFD in its place it would be another text.
 *
 * @throws CriaFileError where it cannot be read, or is no UTF-8: it names the first byte at fault
 */
export async function readText(path: string): Promise<string> {
  let bytes: Buffer;
  let text: string;
  try {
    bytes = await readFile(path);
    text = bytes.toString("utf8"); // which Node refuses to make longer than half a GiB
  } catch (cause) {
    throw unreadable(path, undefined, cause);
  }
  if (isUtf8(bytes)) return text;
  const at = strayByte(bytes, text);
  throw new CriaFileError(path, `byte ${at}`, `must be UTF-8, not 0x${bytes.toString("hex", at, at + 1)}`);
}

/** Where bytes cease to be those of the text that they were decoded to: the first of those that became U+FFFD. */
function strayByte(bytes: Buffer, text: string): number {
  const again = Buffer.from(text);
  let at = bytes.findIndex((byte, i) => byte !== again[i]);
  if (at === -1) at = bytes.length; // cut within a character
  // Of U+FFFD's own three bytes the stray ones may have had some.
  while ((again[at]! & 0xc0) === 0x80) at -= 1;
  return at;
}

/** Redrawn at most this often, in milliseconds: more is not seen, and costs the work that it tells of. */
const redrawMs = 100;

/**
 * Shows how far a work has come, as "LABEL 42 %" on one line that goes away when it is done. Only people at a terminal
 * see it.
 */
export class Progress implements Disposable {
  readonly #output: Output;
  readonly #label: string;
  #drawn = Number.NEGATIVE_INFINITY;

  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = label;
  }

  update(done: number, total: number): void {
    if (done >= total) this.clear();
    else if (this.#output.isTTY && performance.now() - this.#drawn >= redrawMs) this.#draw(done, total);
  }

  #draw(done: number, total: number): void {
    this.#drawn = performance.now();
    this.#output.write(`\r${this.#label} ${Math.floor((100 * done) / total)} %`);
  }

  /** Makes the line free for something else, until the next update. */
  clear(): void {
    if (Number.isFinite(this.#drawn)) this.#output.write(`\r${eraseLine}`);
    this.#drawn = Number.NEGATIVE_INFINITY;
  }

  [Symbol.dispose](): void {
    this.clear();
  }
}

/** ECMA-48's "erase in line", from the cursor to the end. */
const eraseLine = "\x1b[K";
