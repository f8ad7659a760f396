/** The native targets: built by clang with its sanitizers, driven by libFuzzer (https://llvm.org/docs/LibFuzzer.html). */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";

import { CriaError } from "../lib/errors.js";
import { packageRoot } from "../lib/package.js";
import { corpusOf, crashesOf } from "./folders.js";
import type { FuzzOptions } from "./main.js";
import type { Finding, Result } from "./result.js";

const build = join(packageRoot, "build/fuzz/native");

/** Of clang's, in the order of preference. */
const compilers = ["clang++", "clang++-19", "clang++-16", "clang++-14"];

/** More than an input of any target need be. */
const mostBytes = 2048;

/**
 * Seconds that an input may take, and MiB that the process may hold: many times what any does. What takes less is not
 * noted as slow, which an input is by the clock alone, while others keep the machine busy.
 */
const limits = ["-timeout=20", "-report_slow_units=20", "-rss_limit_mb=2048"];

/** Of what a run says, the end is kept: it has the totals, and the finding. */
const mostLog = 2 ** 20;

/** Of memory's history, as much as tells where a finding came from, and little enough to leave the time to the inputs. */
const sanitizers = {
  ASAN_OPTIONS: "malloc_context_size=6:quarantine_size_mb=16:detect_leaks=1",
  UBSAN_OPTIONS: "print_stacktrace=1",
};

/** @throws CriaError ERR_CRIA_UNSUPPORTED where there is no clang */
export function compiler(): string {
  for (const command of compilers) {
    try {
      execFileSync(command, ["--version"], { stdio: "ignore" });
      return command;
    } catch {
      // not there
    }
  }
  throw new CriaError("ERR_CRIA_UNSUPPORTED", `the native targets need clang, as one of ${compilers.join(", ")}`);
}

export const compilerVersion = (): string =>
  execFileSync(compiler(), ["--version"], { encoding: "utf8" }).split("\n")[0]!;

/**
 * Builds the native targets.
 *
 * Optimised a little: code with checks in it is no faster for more, and takes several times as long to compile.
 */
export async function buildNative(targets: readonly string[]): Promise<void> {
  const options = {
    CMAKE_CXX_COMPILER: compiler(),
    CMAKE_BUILD_TYPE: "Fuzz",
    CMAKE_CXX_FLAGS_FUZZ: "-O1 -DNDEBUG",
    CRIA_FUZZ: "ON",
    CRIA_SANITIZE: "address,undefined",
    CRIA_CUDA: "OFF",
  };
  const defines = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
  await cmake("-S", packageRoot, "-B", build, ...defines);
  await cmake("--build", build, ...targets.flatMap((target) => ["--target", `fuzz_${target}`]));
}

/** @throws CriaError where it fails, with what it said on the screen */
function cmake(...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("cmake", args, { stdio: ["ignore", "ignore", "inherit"] });
    child.on("error", reject).on("close", (code) => {
      if (code === 0) return resolve();
      reject(new CriaError("ERR_CRIA_UNSUPPORTED", `cmake ${args[0]} failed with exit code ${code}`));
    });
  });
}

/** Runs one target until its time is up, or to its first finding. */
export async function fuzzNative(target: string, { seconds, seed, work, onLine }: FuzzOptions): Promise<Result> {
  const found = join(work, "corpus", target);
  const findings = join(work, "findings");
  mkdirSync(found, { recursive: true });
  mkdirSync(findings, { recursive: true });
  const before = new Set(readdirSync(findings));
  const seeds = [corpusOf(target), crashesOf(target)].filter((folder) => existsSync(folder));
  const times = [`-max_total_time=${seconds}`, `-seed=${seed}`, `-max_len=${mostBytes}`, "-len_control=0"];
  const output = ["-print_final_stats=1", `-artifact_prefix=${findings}/${target}-`];
  const begin = performance.now();
  const { code, log } = await run(target, [...limits, ...times, ...output, found, ...seeds], onLine);
  const inputs = readdirSync(findings)
    .filter((name) => !before.has(name) && name.startsWith(`${target}-`))
    .map((name): Finding => ({ what: whatOf(log), input: relative(packageRoot, join(findings, name)) }));
  const lost = code === 0 || inputs.length > 0 ? [] : [{ what: `exit code ${code}: ${whatOf(log)}`, input: "none" }];
  if (code !== 0) console.error(log.slice(log.search(/^(finding|==\d+==|.*runtime error)/m)));
  return {
    target,
    inputs: Number(last(log, /stat::number_of_executed_units: (\d+)/g) ?? last(log, /^#(\d+)/gm) ?? 0),
    seconds: (performance.now() - begin) / 1000,
    coverage: Number(last(log, /cov: (\d+)/g) ?? 0),
    corpus: Number(last(log, /corp: (\d+)/g) ?? 0),
    findings: [...inputs, ...lost],
  };
}

/** libFuzzer writes all that it says, and the sanitizers theirs, to stderr. */
function run(
  target: string,
  args: readonly string[],
  onLine: (line: string) => void,
): Promise<{ code: number | string | null; log: string }> {
  return new Promise((resolve, reject) => {
    const stdio = ["ignore", "ignore", "pipe"] as const;
    const child = spawn(join(build, `fuzz_${target}`), args, {
      stdio: [...stdio],
      env: { ...process.env, ...sanitizers },
    });
    let log = "";
    child.stderr!.setEncoding("utf8").on("data", (text: string) => {
      log = (log + text).slice(-mostLog);
      for (const line of text.split("\n")) if (/pulse|DONE/.test(line)) onLine(`${target}: ${line.trim()}`);
    });
    child.on("error", reject).on("close", (code, signal) => resolve({ code: code ?? signal, log }));
  });
}

/** The line that says what was found. */
const whatOf = (log: string): string =>
  last(log, /^(finding: .*|.*runtime error: .*|SUMMARY: .*|ERROR: .*)$/gm) ?? "no sentence";

/** The first group of the last match. */
const last = (text: string, pattern: RegExp): string | undefined => [...text.matchAll(pattern)].at(-1)?.[1];
