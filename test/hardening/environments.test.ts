import { expect, test } from "vitest";

import { needCompiled, script } from "./processes.js";

test("of two worker threads one ends in a run, and the other, and the main thread, say the same as ever", async (context) => {
  needCompiled(context);
  const { stdout, ...seen } = await script("environments.mjs");
  expect(seen).toEqual({ code: 0, signal: null, stderr: "" });
  expect(stdout).toMatch(/^\d+ texts\n$/);
});
