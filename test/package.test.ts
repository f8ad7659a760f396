import { expect, test } from "vitest";

import { packageRootOf } from "../lib/package.js";
import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

test("the package is the nearest folder above with its package.json", () => {
  expect(`${packageRootOf(packageFile("test", "cli"), "cria")}/`).toBe(packageFile("")); // test/ has one of no name
});

test("outside of it there is none", async () => {
  await using folder = await temporaryFolder();
  expect(packageRootOf(folder.path, "cria")).toBeUndefined();
});
