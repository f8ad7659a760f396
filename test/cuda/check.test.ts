/**
 * Every CUDA kernel against the scalar CPU kernels, and a forward pass of them against the CPU's, through the emulation
 * (cuda/check/), with blocks, warps and lanes taking turns in three orders.
 */
import { execFile, execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { packageRoot } from "../../lib/package.js";

const check = join(packageRoot, "build/Release/cria_emulated_check");
const built = existsSync(check);
const ops = built ? execFileSync(check, ["--list"], { encoding: "utf8" }).trim().split("\n") : [];

test.skipIf(built)("the CUDA kernels are built for the CPU", ({ skip }) => {
  skip(`${check} is not there: "npm run build:native" builds it`);
});

describe.runIf(built)("the CUDA kernels, emulated", { concurrent: true, timeout: 120_000 }, () => {
  test.each(ops)("%s is what the CPU has, in whatever order threads take turns", async (op) => {
    for (const order of ["forward", "reverse", "random"]) {
      expect(await checked(op, order), order).toEqual({ failed: [], code: 0, some: true });
    }
  });

  test("arguments that it does not know are refused", () => {
    expect(() => execFileSync(check, ["--only", "nothing"], { stdio: "pipe" })).toThrow(/usage: /);
  });
});

/** The lines of the checks that do not begin with "ok", the exit code, and whether any was there. */
async function checked(op: string, order: string) {
  const run = promisify(execFile)(check, ["--only", op, "--order", order], { maxBuffer: 2 ** 26 });
  const { stdout, code } = await run.then(
    ({ stdout }) => ({ stdout, code: 0 }),
    ({ stdout, code }: { stdout: string; code: number }) => ({ stdout, code }),
  );
  const lines = stdout
    .split("\n\n")[0]!
    .split("\n")
    .filter((line) => line !== "");
  return { failed: lines.filter((line) => !line.startsWith("ok ")), code, some: lines.length > 0 };
}
