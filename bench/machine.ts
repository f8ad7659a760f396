import { execFileSync } from "node:child_process";
import { release, type as systemType } from "node:os";

import { devices } from "../lib/device.js";
import { CriaError } from "../lib/errors.js";
import { packageRoot } from "../lib/package.js";
import type { Limits, Machine, Report, Result } from "./schema.js";

/** What a run measured, as a report. */
export function reportOf(argv: readonly string[], limits: Limits, results: Result[]): Report {
  const commit = commitOf(packageRoot);
  return {
    version: 1,
    date: new Date().toISOString(),
    ...(commit !== undefined && { commit }),
    command: ["npm run bench --", ...argv].join(" "),
    machine: machine(),
    limits,
    results,
  };
}

/** The machine that this runs on. */
export function machine(): Machine {
  const cpu = devices()[0]!;
  if (!cpu.available) throw new CriaError("ERR_CRIA_INTERNAL", "device: there must be a CPU");
  return {
    processor: cpu.name,
    cores: cpu.threads,
    memoryBytes: cpu.memoryBytes,
    system: `${systemType()} ${release()}`,
    node: process.version,
  };
}

/** A clone's commit, with "+" after it where files have changed since; nothing outside of one, or without git. */
function commitOf(folder: string): string | undefined {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", folder, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    return git("rev-parse", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+");
  } catch {
    return undefined;
  }
}
