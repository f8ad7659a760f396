/**
 * Libraries as files (ELF-64, the System V ABI, chapter 4): the dynamic linker reads past the end of one that was cut
 * short.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { arch } from "node:os";

const headerBytes = 64;
const magic = "7f454c46";

/** e_machine. */
const machines: Readonly<Record<number, string>> = { 3: "ia32", 40: "arm", 62: "x64", 183: "arm64", 243: "riscv64" };

/**
 * What keeps the system from loading a library, as a predicate: "is no library"; undefined where nothing does, or where
 * the file cannot be read, which the system tells better.
 *
 * @param architecture what it must be made for, as Node.js names it
 */
export function damageOf(file: string, architecture: string = arch()): string | undefined {
  const { head, bytes } = readHead(file);
  if (head === undefined) return undefined;
  if (head.length < headerBytes || head.toString("hex", 0, magic.length / 2) !== magic) {
    return `is no library: its ${bytes} bytes were damaged, or stand for a file that was not fetched`;
  }
  const made = head.readUInt16LE(18);
  if (machines[made] !== architecture) {
    return `was made for ${machines[made] ?? `the processor with ELF's number ${made}`}, not for ${architecture}`;
  }
  // Linkers put the table of sections last: e_shoff, e_shentsize, e_shnum.
  const whole = Number(head.readBigUInt64LE(40)) + head.readUInt16LE(58) * head.readUInt16LE(60);
  if (bytes < whole) return `was copied in part: it has ${bytes} of ${whole} bytes`;
  return undefined;
}

function readHead(file: string): { head?: Buffer; bytes: number } {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, "r");
    const head = Buffer.alloc(headerBytes);
    return { head: head.subarray(0, readSync(descriptor, head)), bytes: fstatSync(descriptor).size };
  } catch {
    return { bytes: 0 };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
