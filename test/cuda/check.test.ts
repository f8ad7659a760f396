/**
 * Every CUDA kernel against the scalar CPU kernels, and a forward pass of them against the CPU's, through the emulation
 * (cuda/check/), with blocks, warps and lanes taking turns in three orders.
 */
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { packageRoot } from "../../lib/package.js";

const check = join(packageRoot, "build/Release/cria_emulated_check");
const built = existsSync(check);
const ops = built ? execFileSync(check, ["--list"], { encoding: "utf8" }).trim().split("\n") : [];

test("the CUDA kernels are built for the CPU", ({ skip }) => {
  if (!built) skip(`${check} is not there: "npm run build:native" builds it`);
  expect(ops.length).toBeGreaterThan(0);
});

describe.runIf(built)("the CUDA kernels, emulated", { concurrent: true, timeout: 300_000 }, () => {
  test.each(ops)("%s is what the CPU has, in whatever order threads take turns", async (op) => {
    for (const order of ["forward", "reverse", "random"]) {
      const { lines, ...found } = await checked(op, order);
      expect(found, order).toEqual({ failed: [], code: 0 });
      expect(lines).not.toEqual([]);
    }
  });

  test("are what the CPU has where a block of threads has the shared memory of an sm_86", async () => {
    const { lines, ...found } = await checked("attention", "forward", { CRIA_EMULATION_CAPABILITY: "8.6" });
    expect(found).toEqual({ failed: [], code: 0 });
    expect(lines).toContainEqual(expect.stringMatching(/ f16\/f16 .* head_dim 256 /));
  });

  test("are captured in no graph where none are wanted", async () => {
    const { lines, ...found } = await checked("graphs", "forward", { CRIA_CUDA_GRAPHS: "0" });
    expect(found).toEqual({ failed: [], code: 0 });
    for (const line of lines) expect(line).toContain(", without graphs");
  });

  test.each([
    [["--only", "nothing"], "--only: must be an op of --list, not nothing"],
    [["--only"], "--only: needs a value"],
    [["--order", "any"], "--order: must be forward, reverse or random, not any"],
    [["--all"], "there is no argument --all"],
  ])("refuse %j, and say why", (args, why) => {
    const { status, stderr } = spawnSync(check, args, { encoding: "utf8" });
    expect(status).toBe(2);
    expect(stderr).toMatch(new RegExp(`^${why}\n\nusage: `));
  });
});

test("the emulation catches what it says it catches", { timeout: 300_000 }, async ({ skip }) => {
  const selfTest = join(packageRoot, "build/Release/cria_emulation_test");
  if (!existsSync(selfTest)) skip(`${selfTest} is not there: "npm run build:emulation-test" builds it`);
  const { stdout } = await promisify(execFile)(selfTest, { maxBuffer: 2 ** 26 });
  expect(stdout).toMatch(/^ok /m);
});

/** The lines of the checks, those that do not begin with "ok", and the exit code. */
async function checked(op: string, order: string, variables: Record<string, string> = {}) {
  const env = { ...process.env, ...variables };
  const run = promisify(execFile)(check, ["--only", op, "--order", order], { env, maxBuffer: 2 ** 26 });
  const { stdout, code } = await run.then(
    ({ stdout }) => ({ stdout, code: 0 }),
    ({ stdout, code }: { stdout: string; code: number }) => ({ stdout, code }),
  );
  const lines = stdout
    .split("\n\n")[0]!
    .split("\n")
    .filter((line) => line !== "");
  return { lines, failed: lines.filter((line) => !line.startsWith("ok ")), code };
}
