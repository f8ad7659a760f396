#!/usr/bin/env node
// Whether the checks of the CUDA kernels notice a missing synchronisation: takes each barrier, wait, commit and fence
// out of the kernels, one at a time and in a copy of the sources, builds what is changed by it for the CPU, and runs the
// checks of its ops through the emulation, with threads taking turns forward, in reverse and at random.
//
//     scripts/cuda-mutants.mjs [--json FILE] [TEXT]    only lines whose "file:line" holds TEXT
//
// A mutant is caught where a check fails, or has not ended after a minute of a processor. The exit code is 1 where one
// survived.
import { execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const sources = join(root, "cuda");
const orders = ["forward", "reverse", "random"];

/** What orders one thread's reads and writes with another's, or with a copy's, each on a line of its own. */
const synchronisation =
  /^\s*(__syncthreads|__syncwarp|__threadfence\w*|named_barrier\w*|cp_async_(wait|commit)|mbarrier_wait|fence_\w+|wgmma_(fence|commit|wait)|grid_dependency_wait)\b.*;/;

/** Where the instructions are defined, not used. */
const definitions = new Set(["ptx.cuh"]);

/** The checks of a source that is not named after them. */
const checksOf = { advance: ["sample"], top_k: ["sample"] };

/** Of a processor, six times what the slowest check takes; on a busy machine a clock counts what others do. */
const mostSeconds = 60;

const { options, positionals } = parsed();
const scratch = mkdtempSync(join(tmpdir(), "cria-cuda-mutants-"));
try {
  const built = build(join(root, "build/mutants"));
  const mutants = findMutants().filter(({ place }) => positionals.every((text) => place.includes(text)));
  if (mutants.length === 0) fail(`no line of the kernels that synchronises holds ${positionals.join(" and ")}`);
  console.error(`cuda-mutants: ${mutants.length} mutants, ${availableParallelism()} at a time`);
  const left = [...mutants];
  const results = [];
  const worker = async (number) => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const result = { ...next, ...(await judge(next, built, join(scratch, String(number)))) };
      results.push(result);
      print(result);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, (_, number) => worker(number)));
  results.sort(
    (a, b) => mutants.findIndex(({ place }) => place === a.place) - mutants.findIndex(({ place }) => place === b.place),
  );
  const survivors = results.filter(({ caught }) => !caught);
  console.log(`\n${results.length} mutants, ${results.length - survivors.length} caught, ${survivors.length} survived`);
  for (const survivor of survivors) print(survivor);
  if (options.json) writeFileSync(options.json, `${JSON.stringify(reportOf(results), null, 2)}\n`);
  process.exitCode = survivors.length === 0 ? 0 : 1;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** The emulated kernels and their checks as they are: what a mutant takes all but its own objects from. */
function build(folder) {
  console.error(`cuda-mutants: building the kernels and their checks in ${folder}, the first time for minutes`);
  const cmake = (...args) => execFileSync("cmake", args, { stdio: ["ignore", "ignore", "inherit"] });
  cmake("-S", root, "-B", folder, "-DCRIA_CUDA=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON");
  cmake("--build", folder, "--target", "cria_emulated_check", "--parallel", String(availableParallelism()));
  const check = join(folder, "cria_emulated_check");
  const commands = JSON.parse(readFileSync(join(folder, "compile_commands.json"), "utf8"));
  const objects = commands
    .filter(({ command }) => command.includes("cria_cuda_emulated.dir"))
    .map(({ directory, command, file }) => {
      const object = join(directory, /-o (\S+)/.exec(command)[1]);
      return { directory, command, file, object, includes: includesOf(directory, command, file) };
    });
  const ops = execFileSync(check, ["--list"], { encoding: "utf8" }).trim().split("\n");
  return { check, objects, ops };
}

/** The files in cuda/ that a source includes, by whatever way; itself among them. */
function includesOf(directory, command, file) {
  const args = command.replace(/-o \S+ -c /, "-MM ");
  const listed = execFileSync("sh", ["-c", args], { cwd: directory, encoding: "utf8" });
  return new Set([file, ...listed.split(/[\s\\]+/)].map((path) => basename(path)));
}

function findMutants() {
  const files = readdirSync(sources).filter((name) => /\.cuh?$/.test(name) && !definitions.has(name));
  return files.flatMap((file) =>
    readFileSync(join(sources, file), "utf8")
      .split("\n")
      .flatMap((text, i) =>
        synchronisation.test(text) ? [{ place: `${file}:${i + 1}`, file, line: i + 1, statement: text.trim() }] : [],
      ),
  );
}

/** Builds a mutant in `folder` and runs its checks. */
async function judge({ file, line }, { check, objects, ops }, folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  cpSync(sources, join(folder, "cuda"), { recursive: true });
  symlinkSync(join(root, "csrc"), join(folder, "csrc"));
  const mutated = join(folder, "cuda", file);
  const lines = readFileSync(mutated, "utf8").split("\n");
  lines[line - 1] = ";"; // what stood behind an `if` has to be something
  writeFileSync(mutated, lines.join("\n"));

  const changed = objects.filter(({ includes }) => includes.has(file));
  for (const { directory, command, file: source, object } of changed) {
    const own = command
      .replace(/-o \S+/, `-o ${join(folder, basename(object))}`)
      .replace(`-c ${source}`, `-c ${join(folder, "cuda", basename(source))}`);
    await run("sh", ["-c", own], { cwd: directory });
  }
  const library = "libcria_cuda_emulated.so";
  const linked = objects.map((each) => (changed.includes(each) ? join(folder, basename(each.object)) : each.object));
  await run("c++", ["-shared", "-pthread", `-Wl,-soname,${library}`, "-o", join(folder, library), ...linked, "-ldl"]);
  copyFileSync(check, join(folder, "check")); // it loads the library beside itself
  const names = [...new Set(changed.flatMap(({ file }) => checksFor(basename(file, ".cu"), ops)))];
  return runChecks(join(folder, "check"), names);
}

/** Of a source: of its own name, of the op whose name its own begins with, or all. */
function checksFor(name, ops) {
  const named = checksOf[name] ?? ops.filter((op) => name === op || name.startsWith(`${op}_`));
  if (named.length > 0) return named;
  const family = ops.filter((op) => op.split("_")[0] === name.split("_")[0]); // matmul_gemm: matmul_q and matmul_f
  return family.length > 0 ? family : ops;
}

async function runChecks(check, names) {
  for (const order of orders) {
    for (const name of names) {
      const by = await failureOf(check, name, order);
      if (by !== undefined) return { caught: true, order, by };
    }
  }
  return { caught: false };
}

/** The first failure of an op's check, which it does not go on behind; undefined where there is none. */
async function failureOf(check, name, order) {
  const args = ["-c", `ulimit -t ${mostSeconds}; exec "$0" "$@"`, check, "--only", name, "--order", order];
  const child = spawn("sh", args, { stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(child, "exit"); // not "close", which waits for what nobody reads any more
  let failure;
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith("not ok")) continue;
    failure = line;
    child.kill();
    break;
  }
  const [code, signal] = await ended;
  if (failure !== undefined || code === 0) return failure;
  if (signal === null) return `${name} ended with ${code}`;
  return signal === "SIGKILL" || signal === "SIGXCPU" ? `${name} did not end` : `${name} ended by ${signal}`;
}

function print({ place, statement, caught, order, by }) {
  console.log(
    `${caught ? "caught  " : "SURVIVED"}  ${place.padEnd(26)} ${statement}${caught ? `\n${" ".repeat(10)}${order}: ${by.slice(0, 150)}` : ""}`,
  );
}

function reportOf(results) {
  const git = (...args) => execFileSync("git", ["-C", root, ...args], { encoding: "utf8" }).trim();
  const changed = git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+";
  const survived = results.filter(({ caught }) => !caught).length;
  return {
    date: new Date().toISOString(),
    commit: git("rev-parse", "HEAD") + changed,
    command: "scripts/cuda-mutants.mjs",
    mutants: results.length,
    survived,
    results: results.map(({ place, statement, caught, order, by }) => ({ place, statement, caught, order, by })),
  };
}

function parsed() {
  try {
    const { values, positionals } = parseArgs({ options: { json: { type: "string" } }, allowPositionals: true });
    return { options: values, positionals };
  } catch (error) {
    return fail(`${error.message}\nusage: scripts/cuda-mutants.mjs [--json FILE] [TEXT]`);
  }
}

function fail(message) {
  console.error(`cuda-mutants: ${message}`);
  process.exit(2);
}
