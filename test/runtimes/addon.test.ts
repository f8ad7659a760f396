import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import * as kernels from "../../lib/kernels.js";
import { packageFile } from "../support/data.js";
import { installedProject, type Project } from "../support/installed.js";
import { firstExample, said } from "./first-example.js";
import product from "./fixtures/product.cjs";
import { needRuntime, run, runtimes } from "./runtimes.js";

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
});
