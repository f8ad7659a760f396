/** Processes of the scripts in processes/: how they end is what is tested. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import type { TestContext } from "vitest";

import { needFiles, packageFile } from "../support/data.js";

export interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** Skips the test where nothing was compiled. */
export const needCompiled = (context: TestContext): void => needFiles(context, packageFile("dist/lib/index.mjs"));

/** Runs a program to its end, which comes within a minute or another `timeout`, or by SIGKILL. */
export async function ending(command: string, args: readonly string[], timeout: number = 60_000): Promise<Ending> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], timeout, killSignal: "SIGKILL" });
  const said = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      said[name] += text;
    });
  }
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on("error", reject).on("close", (code, signal) => resolve([code, signal]));
  });
  return { code, signal, ...said };
}

/** Runs a script of processes/ under Node.js, with a garbage collector to call. */
export const script = (name: string, ...args: string[]): Promise<Ending> =>
  ending(process.execPath, ["--expose-gc", packageFile("test/hardening/processes", name), ...args]);

/** A program that was built beside the library, and whether it was. */
export function builtProgram(name: string): { path: string; built: boolean } {
  const path = packageFile("build/Release", name);
  return { path, built: existsSync(path) };
}
