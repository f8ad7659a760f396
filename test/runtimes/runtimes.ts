import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import type { TestContext } from "vitest";

import { packageFile } from "../support/data.js";

const execute = promisify(execFile);

/** A program in the package of npm's that holds it for this kind of machine. */
const installed = (...path: string[]) => packageFile("test", "runtimes", "node_modules", ...path);

export interface Runtime {
  name: string;
  executable: string;
  /** What stands before the file to run. */
  options: readonly string[];
}

export const node: Runtime = { name: "Node", executable: process.execPath, options: [] };
/** Those of package.json's "engines", from the first to the newest. */
const otherNodes: readonly Runtime[] = ["oldest", "newest"].map((age) => ({
  name: `the ${age} Node`,
  executable: installed(`node-${age}`, "bin", "node"),
  options: [],
}));
export const bun: Runtime = { name: "Bun", executable: installed("@oven", "bun-linux-x64", "bin", "bun"), options: [] };
export const deno: Runtime = {
  name: "Deno",
  executable: installed("@deno", "linux-x64-glibc", "deno"),
  // What the addon needs is all that it is allowed.
  options: ["run", "--no-prompt", "--allow-ffi", "--allow-read", "--allow-env", "--node-modules-dir=manual"],
};
export const runtimes: readonly Runtime[] = [node, ...otherNodes, bun, deno];

/** Skips the running test, saying why, unless the runtime is there. */
export function needRuntime({ skip }: TestContext, { name, executable }: Runtime): void {
  if (!existsSync(executable)) skip(`${name} is absent: npm ci --prefix test/runtimes --ignore-scripts`);
}

/** Skips the running test, saying why, unless a program of the system's can be started. */
export async function needProgram({ skip }: TestContext, name: string): Promise<void> {
  await execute(name, ["--version"]).catch(() => skip(`${name} is absent`));
}

/** What a program prints; an error with what it said on stderr unless it ends with 0 and says nothing there. */
export async function printed(executable: string, args: readonly string[], cwd: string): Promise<string> {
  const { stdout, stderr } = await execute(executable, args, {
    cwd,
    env: { ...process.env, NO_COLOR: "1", PREBUILDS_ONLY: "1" },
  });
  if (stderr !== "") throw new Error(`${executable} ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** What a file prints, run on a runtime. */
export const run = ({ executable, options }: Runtime, file: string, cwd: string): Promise<string> =>
  printed(executable, [...options, file], cwd);
