/** A packed file that is cut while a model is loaded from it. What is cut earlier is test/weights/packed.test.ts's. */
import { join } from "node:path";
import { expect, test } from "vitest";

import { temporaryFolder } from "../support/gguf-writer.js";
import { needCompiled, script } from "./processes.js";

const said = /^before: (".+")\n$/;
const saidTwice = /^before: (".+")\nafter: \1\n$/;

test("ends the process with SIGBUS where it is mapped, as the documentation says", async (context) => {
  needCompiled(context);
  await using folder = await temporaryFolder();
  const { stdout, stderr, ...seen } = await script("truncate.mjs", join(folder.path, "packed"), "true");
  expect(seen).toEqual({ code: null, signal: "SIGBUS" });
  expect(stdout).toMatch(said);
});

test("changes nothing with mmap: false", async (context) => {
  needCompiled(context);
  await using folder = await temporaryFolder();
  const { stdout, ...seen } = await script("truncate.mjs", join(folder.path, "packed"), "false");
  expect(seen).toEqual({ code: 0, signal: null, stderr: "" });
  expect(stdout).toMatch(saidTwice);
});
