#!/usr/bin/env node
// Fails where a binary of prebuilds/ would not run, or would do harm, on a system that cria is said to run on, and where
// the package would be too large:
//
//   - a file beside those that travel, or one of those missing: an addon and the core for each libc
//   - a function of glibc after 2.28 (RHEL 8, Debian 10) or of libgcc after GCC 8; any of libstdc++, for each holds its own
//   - a library needed that is not of the C library, libgcc or a neighbour; a neighbour looked for elsewhere than beside
//   - a version in a name; a stack that can be run; a symbol exported that is not listed
//   - 10 MB packed, 25 MB with the CUDA plugin
//
//     scripts/check-binaries.mjs [FOLDER]      in place of prebuilds/; the size is then left out
//
// It reads ELF files by readelf. Of binaries for macOS and Windows it knows their names only.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const mostPacked = { withoutCuda: 10e6, withCuda: 25e6 };

/** The youngest version of each kind that may be asked for. */
const youngest = { GLIBC: "2.28", GCC: "8.0.0" };

const addonExports = ["napi_register_module_v1", "node_api_module_get_api_version_v1"];
const coreExports = readFileSync(join(root, "csrc/cria.symbols"), "utf8").trim().split("\n");
const libc = ["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"];
const glibc = [...libc, "libgcc_s.so.1"];
const musl = ["libc.musl-x86_64.so.1"];

/** What may be in the folder of a platform; `name` is what the linker called it, before prebuildify did. */
const travels = {
  "linux-x64": {
    "cria.glibc.node": { name: "cria.node", needs: [...glibc, "libcria.so"], exports: addonExports },
    "libcria.so": { needs: glibc, exports: coreExports },
    "libcria_cuda.so": { needs: glibc, exports: ["cria_cuda_plugin"], optional: true },
    "cria.musl.node": { name: "cria.node", needs: [...musl, "libcria.musl.so"], exports: addonExports, optional: true },
    "libcria.musl.so": { needs: musl, exports: coreExports, optional: true },
  },
  "darwin-x64": { "cria.glibc.node": {}, "libcria.dylib": {} },
  "win32-x64": { "cria.glibc.node": {}, "libcria.dll": {}, "libcria_cuda.dll": { optional: true } },
};

const [folder, ...rest] = process.argv.slice(2);
if (rest.length > 0) {
  console.error("usage: scripts/check-binaries.mjs [FOLDER]");
  process.exit(2);
}
const prebuilds = folder ?? join(root, "prebuilds");
const problems = readdirSync(prebuilds).flatMap(problemsOfPlatform);
if (folder === undefined) problems.push(...problemsOfPackage());
for (const problem of problems) console.error(`binaries: ${problem}`);
process.exit(problems.length === 0 ? 0 : 1);

function problemsOfPlatform(platform) {
  const expected = travels[platform];
  if (expected === undefined) return [`prebuilds/${platform}: there is no such platform`];
  const there = readdirSync(join(prebuilds, platform));
  const missing = Object.keys(expected).filter((name) => !expected[name].optional && !there.includes(name));
  return [
    ...missing.map((name) => `prebuilds/${platform}/${name}: is missing`),
    ...there.flatMap((name) => {
      if (expected[name] === undefined) return [`prebuilds/${platform}/${name}: must not travel`];
      if (platform !== "linux-x64") return [];
      const found = problemsOfElf(readElf(join(prebuilds, platform, name)), { name, ...expected[name] });
      return found.map((problem) => `prebuilds/${platform}/${name}: ${problem}`);
    }),
  ];
}

/** What the dynamic linker will do with an ELF file, as readelf tells it. */
function readElf(path) {
  const args = ["--wide", "--dynamic", "--program-headers", "--version-info", "--dyn-syms", path];
  const text = execFileSync("readelf", args, { encoding: "utf8", maxBuffer: 2 ** 26 });
  const all = (pattern) => Array.from(text.matchAll(pattern), ([, found]) => found);
  return {
    name: all(/\(SONAME\).*\[(.*)\]/g)[0],
    needs: all(/\(NEEDED\).*\[(.*)\]/g),
    paths: all(/\((?:RPATH|RUNPATH)\).*\[(.*)\]/g),
    versions: [...new Set(all(/Name: (\S+) /g))],
    stack: all(/GNU_STACK.* (\S+) +0x/g)[0],
    // Num: Value Size Type Bind Vis Ndx Name
    exports: all(/^ +\d+: \S+ +\S+ \w+ +(?:GLOBAL|WEAK|UNIQUE) +\w+ +(?!UND)\w+ (\w+)/gm),
  };
}

function problemsOfElf(elf, { name, needs, exports }) {
  const found = [];
  if (elf.name !== name) found.push(`names itself ${elf.name}, not ${name}`);
  if (elf.stack !== "RW") found.push(`has a stack that is ${elf.stack ?? "as the system likes"}, not RW`);
  const neighbours = elf.needs.some((each) => each.startsWith("libcria"));
  if (elf.paths.join() !== (neighbours ? "$ORIGIN" : "")) {
    found.push(`looks for libraries in "${elf.paths.join()}", not ${neighbours ? "beside itself" : "as all do"}`);
  }
  for (const each of without(elf.needs, needs)) found.push(`needs ${each}`);
  for (const version of elf.versions) {
    const [kind, number] = version.split("_");
    if (!(compareVersions(number, youngest[kind]) <= 0)) found.push(`asks for ${version}`);
  }
  for (const symbol of without(elf.exports, exports)) found.push(`exports ${symbol}`);
  for (const symbol of without(exports, elf.exports)) found.push(`does not export ${symbol}`);
  return found;
}

/** Less than 0 where `a` is the older one; NaN where one is no version. */
function compareVersions(a = "", b = "") {
  const [left, right] = [a, b].map((version) => (version === "" ? [Number.NaN] : version.split(".").map(Number)));
  const differs = left.findIndex((part, i) => part !== (right[i] ?? 0));
  return differs === -1 ? 0 : left[differs] - (right[differs] ?? 0);
}

function without(list, others) {
  return list.filter((each) => !others.includes(each));
}

function problemsOfPackage() {
  const args = ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"];
  const [packed] = JSON.parse(
    execFileSync("npm", args, { cwd: root, encoding: "utf8", shell: process.platform === "win32" }),
  );
  const paths = packed.files.map(({ path }) => path);
  const found = [];
  const most = paths.some((path) => /_cuda\.(so|dll)$/.test(path)) ? mostPacked.withCuda : mostPacked.withoutCuda;
  if (packed.size >= most) found.push(`the package is ${packed.size} bytes packed, and must be less than ${most}`);
  if (paths.includes("binding.gyp")) found.push("the package has a binding.gyp, which npm would build");
  const { scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const name of ["preinstall", "install", "postinstall"]) {
    if (scripts[name] !== undefined) found.push(`the package has a script for ${name}`);
  }
  console.log(`binaries: the package is ${(packed.size / 1e6).toFixed(2)} MB packed, of at most ${most / 1e6}`);
  return found;
}
