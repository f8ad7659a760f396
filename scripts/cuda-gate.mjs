#!/usr/bin/env node
// The compile gate of the CUDA kernels: compiles each for every GPU that CMake has it compiled for, and fails where the
// compiler's report (ptxas -v) has a kernel that spills registers to memory, or takes more registers, stack or static
// shared memory than cuda/budget.json allows, or that has no budget. A kernel whose warps share its registers out anew
// (setmaxnreg) may not take fewer than its budget either, for that is what there is to share.
//
//     scripts/cuda-gate.mjs            without nvcc: one line that says so, and success
//     scripts/cuda-gate.mjs --update   writes the budget, unless a kernel spills
//
// Registers are what a compiler's version makes of a kernel, so they are held against a budget of the same version
// only; with another one, spills alone fail.
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = fileURLToPath(new URL("..", import.meta.url));
const budgetFile = join(root, "cuda/budget.json");
const counted = { registers: "registers", stack: "bytes of stack", shared: "bytes of static shared memory" };

const update = process.argv[2] === "--update";
if (process.argv.length > (update ? 3 : 2)) {
  console.error("usage: scripts/cuda-gate.mjs [--update]");
  process.exit(2);
}

const nvcc = findNvcc();
if (nvcc === undefined) {
  console.log("CUDA compile gate: skipped, for nvcc was not found on the PATH, in CUDACXX or in CUDA_PATH");
  process.exit(0);
}
const version = /release ([\d.]+)/.exec(execFileSync(nvcc, ["--version"], { encoding: "utf8" }))[1];
const kernels = await compileAll();
const problems = update ? spills(kernels) : [...spills(kernels), ...overBudget(kernels)];
for (const problem of problems) console.error(`CUDA compile gate: ${problem}`);
if (update && problems.length === 0) writeBudget(kernels);
if (problems.length === 0) {
  const names = new Set(kernels.map(nameOf));
  console.log(`CUDA compile gate: ${names.size} kernels within their budgets, none spills (nvcc ${version})`);
}
process.exit(problems.length === 0 ? 0 : 1);

function findNvcc() {
  const { CUDACXX, CUDA_PATH } = process.env;
  for (const command of [CUDACXX, CUDA_PATH && join(CUDA_PATH, "bin/nvcc"), "nvcc"]) {
    if (!command) continue;
    try {
      execFileSync(command, ["--version"], { stdio: "ignore" });
      return command;
    } catch {
      // Not there.
    }
  }
  return undefined;
}

/** Compiles every source as CMake would, in a build of its own, and reads what the compiler says of each kernel. */
async function compileAll() {
  const build = mkdtempSync(join(tmpdir(), "cria-cuda-gate-"));
  try {
    const options = ["-DCRIA_CUDA=ON", `-DCMAKE_CUDA_COMPILER=${nvcc}`, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"];
    execFileSync("cmake", ["-S", root, "-B", build, ...options], { stdio: ["ignore", "ignore", "inherit"] });
    const commands = JSON.parse(readFileSync(join(build, "compile_commands.json"), "utf8"));
    const left = commands.filter(({ command }) => / -x cu /.test(command) && /cria_cuda\.dir/.test(command));
    const found = [];
    const worker = async () => {
      for (let next = left.pop(); next !== undefined; next = left.pop()) found.push(...(await compile(next)));
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
    return found.sort((a, b) => nameOf(a).localeCompare(nameOf(b)) || a.gpu.localeCompare(b.gpu));
  } finally {
    rmSync(build, { recursive: true, force: true });
  }
}

async function compile({ directory, command, file }) {
  const shell = ["-c", `${command} -Xptxas=-v 2>&1`];
  const { stdout } = await promisify(execFile)("sh", shell, { cwd: directory, maxBuffer: 2 ** 26 }).catch((error) => {
    console.error(error.stdout);
    throw new Error(`${file} did not compile`);
  });
  const sharing = readFileSync(file, "utf8").includes("setmaxnreg_");
  const report = execFileSync("c++filt", { input: stdout, encoding: "utf8" });
  return kernelsOf(basename(file), report).map((kernel) => ({
    ...kernel,
    sharing: sharing && kernel.gpu === "sm_90a",
  }));
}

/** Of each kernel, and of functions that it calls without holding them, which the compiler reports apart. */
function kernelsOf(file, report) {
  const found = [];
  let kernel;
  for (const line of report.split("\n")) {
    const entry = /Compiling entry function '(.*)' for '(\w+)'/.exec(line);
    if (entry) {
      kernel = { file, kernel: shortName(entry[1]), gpu: entry[2], registers: 0, stack: 0, shared: 0, spilled: 0 };
      found.push(kernel);
    }
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line);
    if (frame && kernel) {
      kernel.stack += Number(frame[1]);
      kernel.spilled += Number(frame[2]) + Number(frame[3]);
    }
    const used = /Used (\d+) registers/.exec(line);
    if (used && kernel) {
      kernel.registers = Number(used[1]);
      kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  return found;
}

/** "void cria::cuda::(anonymous namespace)::gemv<cria::cuda::Q4, 2>(cria::cuda::MatmulQ)": "gemv<Q4, 2>" */
function shortName(name) {
  const bare = name.replaceAll("(anonymous namespace)::", "").replaceAll("cria::cuda::", "");
  return bare.replace(/^void /, "").replace(/\([^()]*\)$/, "");
}

function nameOf({ file, kernel }) {
  return `${file}: ${kernel}`;
}

function spills(kernels) {
  return kernels
    .filter(({ spilled }) => spilled > 0)
    .map((kernel) => `${nameOf(kernel)} spills ${kernel.spilled} bytes on ${kernel.gpu}`);
}

function overBudget(kernels) {
  const budget = JSON.parse(readFileSync(budgetFile, "utf8"));
  const found = [];
  for (const kernel of kernels) {
    const allowed = budget.kernels[nameOf(kernel)]?.[kernel.gpu];
    if (allowed === undefined) {
      found.push(`${nameOf(kernel)} has no budget on ${kernel.gpu}: scripts/cuda-gate.mjs --update`);
      continue;
    }
    if (kernel.sharing && kernel.registers < allowed.registers) {
      found.push(
        `${nameOf(kernel)} starts with ${kernel.registers} registers; its warps share out ${allowed.registers} each`,
      );
    }
    if (budget.nvcc === version) {
      for (const [what, unit] of Object.entries(counted)) {
        if (kernel[what] <= allowed[what]) continue;
        found.push(`${nameOf(kernel)} takes ${kernel[what]} ${unit} on ${kernel.gpu}; its budget is ${allowed[what]}`);
      }
    }
  }
  const compiled = new Set(kernels.map(nameOf));
  const gone = Object.keys(budget.kernels).filter((name) => !compiled.has(name));
  return [...found, ...gone.map((name) => `${name} has a budget, but is no more: scripts/cuda-gate.mjs --update`)];
}

function writeBudget(kernels) {
  const budgets = {};
  for (const kernel of kernels) {
    const { registers, stack, shared } = kernel;
    budgets[nameOf(kernel)] = { ...budgets[nameOf(kernel)], [kernel.gpu]: { registers, stack, shared } };
  }
  // A line for each GPU of a kernel.
  const text = JSON.stringify({ nvcc: version, kernels: budgets }, null, 2);
  writeFileSync(
    budgetFile,
    `${text.replace(/\{\s+("registers": \d+),\s+("stack": \d+),\s+("shared": \d+)\s+\}/g, "{ $1, $2, $3 }")}\n`,
  );
}
