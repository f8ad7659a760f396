import { existsSync, readFileSync, writeFileSync } from "node:fs";

import { commitOf, machine } from "../bench/machine.js";
import type { Machine } from "../bench/schema.js";
import { packageRoot } from "../lib/package.js";

/** What came of fuzzing one target. */
export interface Result {
  readonly target: string;
  readonly inputs: number;
  readonly seconds: number;
  /** What the inputs ran: libFuzzer's edges of the native code, or ways through the functions of the JavaScript. */
  readonly coverage: number;
  /** Inputs kept, each for something that it alone ran first. */
  readonly corpus: number;
  /** Of the run's end; none where it came to its time. */
  readonly findings: readonly Finding[];
}

export interface Finding {
  readonly what: string;
  /** The input, from the package's folder. */
  readonly input: string;
}

/** A result with what it was got with. */
export interface Receipt extends Result {
  readonly date: string;
  readonly commit: string | undefined;
  readonly command: string;
  readonly machine: Machine;
  /** What compiled the native targets; none for the others. */
  readonly compiler: string | undefined;
}

/** Notes a result in a file of receipts, in the place of the target's last one. */
export function note(path: string, result: Result, argv: readonly string[], compiler: string | undefined): void {
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const before = text === "" ? [] : (JSON.parse(text) as Receipt[]);
  const receipt: Receipt = {
    ...result,
    date: new Date().toISOString(),
    commit: commitOf(packageRoot),
    command: ["npm run fuzz --", ...argv].join(" "),
    machine: machine(),
    compiler,
  };
  const others = before.filter(({ target }) => target !== result.target);
  writeFileSync(path, `${JSON.stringify([...others, receipt], undefined, 2)}\n`);
}

/** One line for people. */
export function line({ target, inputs, seconds, coverage, corpus, findings }: Result): string {
  const rate = Math.round(inputs / Math.max(seconds, 1));
  const found =
    findings.length === 0 ? "no finding" : findings.map(({ what, input }) => `${what} (${input})`).join("; ");
  return `${target}: ${inputs} inputs in ${Math.round(seconds)} s (${rate} a second), coverage ${coverage}, corpus ${corpus}: ${found}`;
}
