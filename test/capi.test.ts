import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

const run = promisify(execFile);

test("callers' structs may be of another size than the library's", async () => {
  await using folder = await temporaryFolder();
  const program = join(folder.path, "structs");
  const library = packageFile("build", "Release");
  await run("cc", [
    ...["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", `-I${packageFile("csrc")}`, "-o", program],
    ...[packageFile("test", "capi", "structs.c"), `-L${library}`, "-lcria", `-Wl,-rpath,${library}`],
  ]);
  const { code, stdout } = await run(program).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error) => error,
  );
  expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
});
