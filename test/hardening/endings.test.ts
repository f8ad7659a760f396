/** A process, a worker thread or an object that ends while work is loaded, waits, runs or settles: nothing aborts or hangs. */
import { describe, expect, test } from "vitest";

import { needCompiled, script } from "./processes.js";

const stages = ["loading", "idle", "queued", "running", "settling"] as const;

/** How each is seen from outside. */
const endings = {
  return: { code: 0 },
  dispose: { code: 0 },
  gc: { code: 0 },
  terminate: { code: 0 },
  exit: { code: 7 },
  throw: { code: 1, stderr: expect.stringContaining("Error: nobody catches this") },
  sigterm: { code: null, signal: "SIGTERM" },
} as const;
type EndingName = keyof typeof endings;
const quiet = (name: EndingName) => (name === "throw" ? endings.throw.stderr : "");

describe.each(stages)("while work is at the stage of %s", { concurrent: true }, (stage) => {
  test.for(Object.keys(endings) as EndingName[])("the ending %s is orderly", async (name, context) => {
    needCompiled(context);
    const seen = await script("end.mjs", stage, name);
    expect(seen).toEqual({ signal: null, stdout: "", ...endings[name], stderr: quiet(name) });
  });
});
