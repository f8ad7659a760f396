import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { publint } from "publint";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import * as cria from "../lib/index.js";
import * as kernels from "../lib/kernels.js";
import * as native from "../lib/native.js";
import packageJson from "../package.json" with { type: "json" };
import { packageFile } from "./support/data.js";
import { copyBinaries, installedProject, type Project } from "./support/installed.js";

let project: Project;
beforeAll(async () => {
  project = await installedProject();
}, 120_000);
afterAll(() => project?.[Symbol.asyncDispose]());

const installed = (...parts: string[]) => join(project.folder, "node_modules", "cria", ...parts);

/** Runs `code` in the project, as the kind of module that its name says; what it prints, as JSON. */
async function printed<T>(name: string, code: string): Promise<T> {
  await writeFile(join(project.folder, name), code);
  return JSON.parse(await project.node(name)) as T;
}

/** All of cria's code that `cria/kernels` needs. */
const kernelFiles = [
  "binding",
  "device",
  "elf",
  "errors",
  "kernels",
  "kv-block",
  "load-error",
  "native",
  "options",
  "package",
  "system",
  "weights/source",
].map((name) => `dist/lib/${name}.js`);

describe("the package", () => {
  test("is without fault to publint", async () => {
    const file = await readFile(project.tarball);
    const tarball = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength) as ArrayBuffer;
    expect((await publint({ pack: { tarball }, strict: true })).messages).toEqual([]);
  });

  test("has the types of each entry point right for require, import, bundlers and TypeScript's old resolution", async () => {
    const attw = packageFile("node_modules", "@arethetypeswrong", "cli", "dist", "index.js");
    const options = ["--format", "json", "--profile", "strict", "--exclude-entrypoints", "include/cria.h"];
    const { stdout } = await promisify(execFile)(process.execPath, [attw, project.tarball, ...options]);
    const { entrypoints, problems } = JSON.parse(stdout).analysis;
    expect(Object.keys(entrypoints)).toEqual([".", "./kernels", "./native", "./linux-x64", "./package.json"]);
    expect(problems).toEqual([]);
  });

  test("has declarations that hold together, in both kinds of modules", async () => {
    const imports = `import { type GenerateOptions, loadModel, type Model } from "cria";
      import { type Execution, rmsNorm } from "cria/kernels";
      import native, { type CpuInfo } from "cria/native";
      import "cria/linux-x64";
      export type { CpuInfo, Execution, GenerateOptions, Model };\n`;
    const uses = `export const threads: number = (native.deviceDescribe("cpu") as CpuInfo).threads;
      export const load = async (): Promise<Model> => loadModel("m.gguf", { threads });
      // @ts-expect-error: it takes an object, of which dist/ knows what it must have
      rmsNorm({ x: threads });\n`;
    for (const name of ["types.cts", "types.mts"]) await writeFile(join(project.folder, name), imports + uses);
    const settings = { noEmit: true, strict: true, skipLibCheck: false, module: "nodenext", types: ["node"] };
    const compilerOptions = { ...settings, typeRoots: [packageFile("node_modules", "@types")] };
    const config = JSON.stringify({ compilerOptions, files: ["types.cts", "types.mts"] });
    await writeFile(join(project.folder, "tsconfig.json"), config);
    const tsc = packageFile("node_modules", "typescript", "bin", "tsc");
    const { stdout } = await promisify(execFile)(process.execPath, [tsc, "-p", project.folder]).catch((error) => error);
    expect(stdout).toBe("");
  });

  test("holds what its files need and nothing else", () => {
    const files = readdirSync(installed(), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(installed().length + 1));
    const parts = /^(dist|models|prebuilds)\/|^(csrc\/cria\.h|bindings\.d\.ts|package\.json|README\.md|LICENSE)$/;
    for (const file of files) expect(file).toMatch(parts);
    for (const file of files) expect(file).not.toMatch(/\.map$|\.test\.|(?<!\.d)\.m?ts$/);

    const needed = files
      .filter((file) => /\.m?js$/.test(file))
      .flatMap((file) =>
        Array.from(
          readFileSync(installed(file), "utf8").matchAll(
            /(?:require(?:\.resolve)?|import)\("(\w[\w@/:.-]*|@[\w/.-]+)"\)/g,
          ),
        ),
      )
      .map(([, name]) => name!)
      .filter((name) => !isBuiltin(name));
    expect([...new Set(needed)].sort()).toEqual(["cria/package.json", ...Object.keys(packageJson.dependencies)].sort());
  });

  test("has its command", async () => {
    const command = "node_modules/.bin/cria";
    const options = ["--prompt", "Once upon a time", "--temperature", "0", "--max-tokens", "8"];
    expect(await project.node(command, "generate", ...options)).toMatch(/^, there was a little girl/);
    const report = packageFile("bench", "results", "2026-11-22-zen5", "stories15m-q4_0.json");
    expect(await project.node(command, "bench", "--from", report, "--compare", report)).toContain("0 faster, 0 slower");
  });
});

describe("each entry point", () => {
  test.each([
    ["cria", cria],
    ["cria/kernels", kernels],
    ["cria/native", native],
  ])("%s has one implementation, required or imported", async (name, sources) => {
    const same = await printed(
      "same.mjs",
      `import { createRequire } from "node:module";
       import * as imported from "${name}";
       const required = createRequire(import.meta.url)("${name}");
       const names = (module) => Object.keys(module).sort();
       const differ = names(required).filter((key) => required[key] !== imported[key]);
       console.log(JSON.stringify({ imported: names(imported), required: names(required), differ }));`,
    );
    const names = Object.keys(sources).sort();
    expect(same).toEqual({ imported: names, required: names, differ: [] });
  });

  test("cria/linux-x64 gives the prebuilt addon", async () => {
    const load = `console.log(JSON.stringify([typeof require("cria/native").native.rmsnorm, Object.keys(require.cache)]));`;
    const [rmsnorm, loaded] = await printed<[string, string[]]>("linux.cjs", `require("cria/linux-x64"); ${load}`);
    expect(rmsnorm).toBe("function");
    expect(loaded.filter((file) => file.endsWith(".node"))).toEqual([
      expect.stringMatching(/linux-x64\/cria\.\w+\.node$/),
    ]);
    expect(loaded.filter((file) => file.includes("node-gyp-build"))).toEqual([]);
  });

  test("the others are files", async () => {
    const code = `console.log(JSON.stringify([require.resolve("cria/include/cria.h"), require("cria/package.json").name]));`;
    const [header, name] = await printed<string[]>("files.cjs", code);
    expect(readFileSync(header!)).toEqual(readFileSync(packageFile("csrc", "cria.h")));
    expect(name).toBe("cria");
  });
});

describe("a kernel alone", () => {
  const example = `
    const x = Float32Array.of(3, 4);
    rmsNorm({ x, weight: Float32Array.of(1, 1), eps: 1e-5, out: x });`;
  const loaded = `Object.keys(require.cache).map((file) => file.split("/node_modules/cria/")[1]).filter((file) => file?.endsWith(".js"))`;

  test.each([
    ["required", "one.cjs", `const { rmsNorm } = require("cria/kernels");`],
    [
      "imported",
      "one.mjs",
      `import { createRequire } from "node:module";
       import { rmsNorm } from "cria/kernels";
       const require = createRequire(import.meta.url);`,
    ],
  ])("%s, loads no code of models", async (_, name, load) => {
    const files = await printed<string[]>(name, `${load} ${example} console.log(JSON.stringify(${loaded}));`);
    expect(files.sort()).toEqual(kernelFiles);
  });

  test("in a bundle brings no code of models, and finds the addon beside it", async () => {
    const folder = project.folder;
    await writeFile(
      join(folder, "bundle.mjs"),
      `import "cria/linux-x64";
       import { rmsNorm } from "cria/kernels"; ${example} console.log(JSON.stringify([...x]));`,
    );
    const { metafile } = await build({
      ...{ absWorkingDir: folder, entryPoints: ["bundle.mjs"], outdir: "out", metafile: true, logLevel: "error" },
      ...{ bundle: true, platform: "node", format: "cjs", loader: { ".node": "copy" } },
    });
    const files = Object.keys(metafile.inputs).filter((file) => file.startsWith("node_modules/cria/dist"));
    const entries = ["dist/lib/kernels.mjs", "dist/lib/linux-x64.mjs", "dist/lib/linux-x64.js"];
    expect(files.map((file) => file.slice("node_modules/cria/".length)).sort()).toEqual(
      [...kernelFiles, ...entries].sort(),
    );

    await copyBinaries(join(folder, "out")); // the core library, which the addon looks for beside itself
    await rename(installed(), `${installed()}-gone`);
    try {
      const [first, second] = JSON.parse(await project.node("out/bundle.js"));
      expect(first).toBeCloseTo(0.8485, 4);
      expect(second).toBeCloseTo(1.1314, 4);
    } finally {
      await rename(`${installed()}-gone`, installed());
    }
  });
});
