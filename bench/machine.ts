import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { release, type as systemType } from "node:os";

import { type DeviceInfo, devices } from "../lib/device.js";
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
  const { name, threads, memoryBytes } = cpu();
  return {
    processor: name,
    cores: threads,
    memoryBytes,
    system: `${systemType()} ${release()}`,
    node: process.version,
  };
}

/** What the CPU is, and would choose. */
export function cpu(): DeviceInfo {
  const [found] = devices();
  if (!found?.available) throw new CriaError("ERR_CRIA_INTERNAL", "device: there must be a CPU");
  return found;
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

/** Of the last cache, where the system does not say: that of a desktop's processor. */
const usualCacheBytes = 32 * 2 ** 20;

/** Bytes that operands in turn must have for no cache to hold them: four times the last one. */
export function rotationBytes(): number {
  try {
    const size = readFileSync("/sys/devices/system/cpu/cpu0/cache/index3/size", "utf8");
    return 4 * Number.parseInt(size, 10) * 2 ** 10; // "32768K"
  } catch {
    return 4 * usualCacheBytes;
  }
}
