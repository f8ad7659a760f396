import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, realpathSync } from "node:fs";
import { release, type as systemType } from "node:os";
import { join } from "node:path";

import { type CpuInfo, type Device, devices } from "../lib/device.js";
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
    command: ["npm run bench --", ...argv.map(quoted)].join(" "),
    machine: machine(),
    limits,
    results,
  };
}

/** An argument as a shell takes it. */
export const quoted = (argument: string): string =>
  /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;

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
export function cpu(): CpuInfo {
  const [found] = devices();
  if (!found?.available || found.kind !== "cpu")
    throw new CriaError("ERR_CRIA_INTERNAL", "device: there must be a CPU");
  return found;
}

/** What a device that bench measures is. It measures CPUs; a GPU is measured by cria_gpu_check, which needs no Node. */
export function cpuOf({ info }: Device): CpuInfo {
  if (info.kind === "cpu") return info;
  throw new CriaError("ERR_CRIA_UNSUPPORTED", `device: must be cpu to be measured by bench, not ${info.kind}`);
}

/**
 * A clone's commit, with "+" after it where files have changed since; nothing outside of one, or without git. A package
 * that is installed within someone's clone has no part in that.
 */
export function commitOf(folder: string): string | undefined {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", folder, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    if (git("rev-parse", "--show-toplevel") !== realpathSync(folder)) return undefined;
    return git("rev-parse", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+");
  } catch {
    return undefined;
  }
}

/** Of the last caches together, where the system does not say: that of a desktop's processor. */
const usualCacheBytes = 32 * 2 ** 20;

/** Bytes that operands in turn must have for no cache to hold them: four times the last caches of all processors. */
export const rotationBytes = (): number => 4 * (lastCacheBytes("/sys/devices/system/cpu") || usualCacheBytes);

/** Of the third-level caches, each of which some processors share; 0 where the system does not say. */
export function lastCacheBytes(folder: string): number {
  const caches = new Map<string, number>();
  for (const name of namesIn(folder).filter((name) => /^cpu\d+$/.test(name))) {
    const of = (file: string) => readFileSync(join(folder, name, "cache", "index3", file), "utf8").trim();
    try {
      caches.set(of("shared_cpu_list"), Number.parseInt(of("size"), 10) * 2 ** 10); // "32768K"
    } catch {
      // It has none, or is offline.
    }
  }
  return [...caches.values()].reduce((sum, bytes) => sum + bytes, 0);
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
