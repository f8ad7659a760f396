import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";

import { packageFile } from "./support/data.js";

test("the API documentation is whole: every type and link leads somewhere, every class and interface is described", () => {
  const typedoc = packageFile("node_modules", "typedoc", "bin", "typedoc");
  const { status, stdout, stderr } = spawnSync(process.execPath, [typedoc, "--emit", "none"], {
    cwd: packageFile(""),
    encoding: "utf8",
  });
  expect({ status, told: stdout + stderr }).toEqual({ status: 0, told: expect.not.stringContaining("warning") });
});
