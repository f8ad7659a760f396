import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

const checker = packageFile("scripts/check-binaries.mjs");
const names = (text: string) => text.trim().split("\n").sort();

describe("the C ABI", () => {
  const listed = names(readFileSync(packageFile("csrc/cria.symbols"), "utf8"));

  test("is listed, every function of the header", () => {
    const header = readFileSync(packageFile("csrc/cria.h"), "utf8");
    const declared = Array.from(header.matchAll(/^CRIA_API [^(;]*?(\w+)\(/gm), ([, name]) => name!);
    expect(declared.sort()).toEqual(listed);
  });

  test("is what the library exports, and all that it exports", () => {
    const library = packageFile("build/Release/libcria.so");
    const symbols = execFileSync("nm", ["--dynamic", "--defined-only", "--format=just-symbols", library]);
    expect(names(symbols.toString())).toEqual(listed);
  });
});

test.skipIf(!existsSync(packageFile("prebuilds")))("what `npm run prebuild` made may travel", () => {
  const { status, stderr } = spawnSync(process.execPath, [checker], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
});

describe("the check of the binaries", () => {
  const good = ["-x", "c++", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcria_cuda.so", "-Wl,--no-as-needed"];
  const plugin = 'extern "C" { int cria_cuda_plugin; }';

  /** What it says of a CUDA plugin that was compiled so, which is not complete without the rest of the package. */
  async function problemsOf(source: string, options: readonly string[]): Promise<string[]> {
    const folder = await temporaryFolder();
    onTestFinished(() => folder[Symbol.asyncDispose]());
    const platform = join(folder.path, "linux-x64");
    await mkdir(platform);
    execFileSync("g++", [...good, "-o", join(platform, "libcria_cuda.so"), "-", ...options], {
      input: source,
      cwd: folder.path,
    });
    const { status, stderr } = spawnSync(process.execPath, [checker, folder.path], { encoding: "utf8" });
    expect(status).toBe(1);
    const lines = names(stderr);
    expect(lines).toContain("binaries: prebuilds/linux-x64/libcria.so: is missing");
    const prefix = "binaries: prebuilds/linux-x64/libcria_cuda.so: ";
    return lines.filter((line) => line.startsWith(prefix)).map((line) => line.slice(prefix.length));
  }

  test.each([
    ["nothing", [], plugin, []],
    [
      "a version in the name",
      ["-Wl,-soname,libcria_cuda.so.1"],
      plugin,
      ["names itself libcria_cuda.so.1, not libcria_cuda.so"],
    ],
    ["a path of the builder's", ["-Wl,-rpath,/opt/lib"], plugin, ['looks for libraries in "/opt/lib", not as all do']],
    ["a stack that can be run", ["-Wl,-z,execstack"], plugin, ["has a stack that is RWE, not RW"]],
    ["the system's C++ library", ["-lstdc++"], plugin, ["needs libstdc++.so.6"]],
    ["one more symbol", [], `${plugin} int more;`, ["exports more"]],
    ["no symbol", [], "static int none;", ["does not export cria_cuda_plugin"]],
  ])("finds %s", async (_, options, source, problems) => {
    expect(await problemsOf(source, options)).toEqual(problems);
  });

  test.each([
    ["GLIBC_2.28", []],
    ["GLIBC_2.29", ["asks for GLIBC_2.29"]],
    ["GLIBC_3.0", ["asks for GLIBC_3.0"]],
    ["GLIBC_ABI_DT_RELR", ["asks for GLIBC_ABI_DT_RELR"]],
    ["GLIBCXX_3.4", ["asks for GLIBCXX_3.4"]],
  ])("knows whether %s may be asked for", async (version, problems) => {
    const folder = await temporaryFolder();
    onTestFinished(() => folder[Symbol.asyncDispose]());
    const library = join(folder.path, "libc.so.6");
    const script = join(folder.path, "map");
    await writeFile(script, `${version} { global: young; };`);
    const options = ["-Wl,-soname,libc.so.6", `-Wl,--version-script=${script}`, "-o", library];
    execFileSync("g++", [...good, ...options, "-"], { input: 'extern "C" { int young; }' });
    const source = `${plugin} extern "C" int young; int* const use [[gnu::used]] = &young;`;
    expect(await problemsOf(source, ["-x", "none", library])).toEqual(problems);
  });

  test("finds what must not travel", async () => {
    await using folder = await temporaryFolder();
    await mkdir(join(folder.path, "linux-x64"));
    await writeFile(join(folder.path, "linux-x64/libcria_cuda_emulated.so"), "");
    const { stderr } = spawnSync(process.execPath, [checker, folder.path], { encoding: "utf8" });
    expect(stderr).toContain("prebuilds/linux-x64/libcria_cuda_emulated.so: must not travel");
  });
});
