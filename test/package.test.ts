import { expect, test } from "vitest";

import { packageRootOf } from "../lib/package.js";
import { describeError } from "./support/compare.js";
import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

test("the package is the nearest folder above with a package.json", () => {
  expect(`${packageRootOf(packageFile("lib", "cli"))}/`).toBe(packageFile(""));
});

test("without one, loading is a typed error", async () => {
  await using folder = await temporaryFolder();
  expect(describeError(() => packageRootOf(folder.path))).toEqual({
    name: "CriaError",
    code: "ERR_CRIA_LOAD",
    message: expect.stringContaining(`no package.json is in ${folder.path} or above it`),
  });
});
