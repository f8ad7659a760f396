import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";

const execute = promisify(execFile);

/** What a program of test/capi/ says, as the strictest C has it. */
async function run(name: string): Promise<{ code: number; stdout: string }> {
  await using folder = await temporaryFolder();
  const program = join(folder.path, name);
  const library = packageFile("build", "Release");
  await execute("cc", [
    ...["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Wpedantic", "-Werror"],
    ...[`-I${packageFile("csrc")}`, "-o", program, packageFile("test", "capi", `${name}.c`)],
    ...[`-L${library}`, "-lcria", `-Wl,-rpath,${library}`],
  ]);
  return await execute(program).then(
    ({ stdout }) => ({ code: 0, stdout }),
    ({ code, stdout }) => ({ code, stdout }),
  );
}

test("callers' structs may be of another size than the library's", async () => {
  expect(await run("structs")).toEqual({ code: 0, stdout: "" });
});

test("the library's threads are sent no signals of the host's", async () => {
  expect(await run("signals")).toEqual({ code: 0, stdout: "2\n" });
});
