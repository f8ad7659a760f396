import { cp, readFile, rename, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import * as kernels from "../../lib/kernels.js";
import { packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { copyBinaries, installedProject, type Project } from "../support/installed.js";
import { matmul, parse, program } from "./examples.js";
import { firstExample, said } from "./first-example.js";
import product from "./fixtures/product.cjs";
import { bun, deno, needProgram, needRuntime, printed, run, runtimes } from "./runtimes.js";

describe("the package, packed and installed without scripts,", () => {
  let project: Project;

  beforeAll(async () => {
    project = await installedProject();
    await cp(packageFile("test", "runtimes", "fixtures"), project.folder, { recursive: true });
    await writeFile(join(project.folder, "first-example.mjs"), await firstExample());
  }, 120_000);
  afterAll(() => project[Symbol.asyncDispose]());

  describe.each(runtimes)("on $name", (runtime) => {
    test("runs the README's first example", async (context) => {
      needRuntime(context, runtime);
      expect(await run(runtime, "first-example.mjs", project.folder)).toBe(await said(64));
    });

    test.for(["import.mjs", "require.cjs"])(
      "by %s: generates, multiplies, refuses, aborts, and outlives its workers",
      async (file, context) => {
        needRuntime(context, runtime);
        const text = await said(24);
        expect(JSON.parse(await run(runtime, file, project.folder))).toEqual({
          text,
          product: product(kernels),
          refused: { name: "RangeError", code: "ERR_CRIA_ARGUMENT", known: ["RangeError"] },
          detached: { name: "TypeError", code: "ERR_CRIA_ARGUMENT", known: ["TypeError"] },
          absent: { name: "CriaFileError", code: "ERR_CRIA_FILE", known: [] },
          aborted: { name: "CriaError", code: "ERR_CRIA_ABORTED", known: [] },
          worker: [text],
          afterwards: true,
          disposed: { name: "CriaError", code: "ERR_CRIA_DISPOSED", known: [] },
        });
      },
    );
  });

  test("tells Deno which permission it needs", async (context) => {
    needRuntime(context, deno);
    await writeFile(
      join(project.folder, "forbidden.mjs"),
      `import("cria").catch(({ code, message }) => console.log(code, message));`,
    );
    const allowed = ["run", "--no-prompt", "--allow-ffi", "--allow-read", "--node-modules-dir=manual"];
    const said = await printed(deno.executable, [...allowed, "forbidden.mjs"], project.folder);
    expect(said).toMatch(/^ERR_CRIA_LOAD /);
    expect(said).toContain('Deno was started without the permission "env"');
  });

  test("tells Deno what is missing, with no more allowed than it needs", async (context) => {
    needRuntime(context, deno);
    const core = join(project.folder, "node_modules", "cria", "prebuilds", "linux-x64", "libcria.so");
    await rename(core, `${core}.away`);
    try {
      await writeFile(
        join(project.folder, "broken.mjs"),
        `import("cria").catch(({ code, message }) => console.log(code, message));`,
      );
      const said = await run(deno, "broken.mjs", project.folder);
      expect(said).toMatch(/^ERR_CRIA_LOAD cria's native addon could not be loaded on linux-x64, glibc, Deno \d/);
      expect(said).toContain("libcria.so, which must stand beside it, is missing");
    } finally {
      await rename(`${core}.away`, core);
    }
  });

  test("goes into an executable of Bun's, the core library beside it", async (context) => {
    needRuntime(context, bun);
    await writeFile(
      join(project.folder, "one-kernel.mjs"),
      `import "cria/linux-x64";
       import { add } from "cria/kernels";
       const out = new Float32Array(2);
       add({ x: Float32Array.of(1, 2), y: Float32Array.of(0.5, 0.25), out });
       console.log(out.join(" "));`,
    );
    await printed(bun.executable, ["build", "--compile", "one-kernel.mjs", "--outfile", "one-kernel"], project.folder);
    await using folder = await temporaryFolder();
    await rename(join(project.folder, "one-kernel"), join(folder.path, "one-kernel"));
    await copyBinaries(folder.path);
    expect(await printed("sh", ["-ec", "LD_LIBRARY_PATH=. ./one-kernel"], folder.path)).toBe("1.5 2.25\n");
  });

  /** What the head of an example says is to be done once the package is installed. */
  function commandsOf(source: string): string {
    const [, lines] = source.match(
      /^.*(?:npm install|bun add|deno add) (?:npm:)?cria\n((?:(?: \*|\/\/)? {3,}\S.*\n)+)/m,
    )!;
    return lines!.replace(/^(?: \*|\/\/)? +/gm, "");
  }

  test.for([
    ["c/matmul.c", matmul],
    ["c/program.c", program],
    ["cpp/matmul.cc", matmul],
    ["python/matmul.py", matmul],
    ["bun/matmul.ts", matmul],
    ["deno/matmul.ts", matmul],
  ] as const)("runs examples/%s as its head says", async ([name, expected], context) => {
    for (const each of ["cc", "c++", "python3"]) await needProgram(context, each);
    for (const each of [bun, deno]) needRuntime(context, each);
    const file = packageFile("examples", name);
    await cp(file, join(project.folder, basename(name)));
    const path = [bun, deno].map(({ executable }) => dirname(executable)).join(":");
    const commands = commandsOf(await readFile(file, "utf8"));
    expect(parse(await printed("sh", ["-ec", `PATH=${path}:$PATH\n${commands}`], project.folder))).toEqual(expected());
  });
});
