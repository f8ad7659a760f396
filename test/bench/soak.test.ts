import { execFile } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";

import { growth, type Verdict } from "../../bench/soak/flat.js";
import { phaseOf, type SoakReport, type Work } from "../../bench/soak/soak.js";
import { type CancelHandle, native } from "../../lib/native.js";
import { needFiles, packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";

describe("the growth of a series", () => {
  const series = (of: (i: number) => number) => Array.from({ length: 60 }, (_, i) => of(i));

  test("is what it rises by over its second half", () => {
    expect(growth(series(() => 7))).toBe(0);
    expect(growth(series((i) => 3 * i))).toBeCloseTo(3 * 29, 10);
    expect(growth(series((i) => -i))).toBeCloseTo(-29, 10);
  });

  test("is not moved by the first half, nor by a few that are disturbed", () => {
    expect(growth(series((i) => Math.min(i, 30)))).toBe(0);
    expect(growth(series((i) => (i % 10 === 9 ? 1e9 : 5)))).toBe(0);
  });

  test("needs numbers, and enough of them", () => {
    expect(() => growth(new Array(11).fill(1))).toThrow(RangeError);
    expect(() => growth(series((i) => (i === 59 ? Number.NaN : 1)))).toThrow(RangeError);
  });
});

/** The amounts that were not flat in a phase whose work does this, over and over. */
async function leaksOf(round: (i: number) => void, held: Work["held"] = () => ({})): Promise<string[]> {
  let done = 0;
  const run = async (until: number) => {
    for (; done < until; done++) round(done);
    return done;
  };
  const counts = () => ({ outcomes: {}, facts: {} });
  const { amounts } = await phaseOf("rounds", { total: 120, stocktakings: 12, run, held, counts });
  return amounts.filter((amount) => exact(amount) && !amount.flat).map(({ name }) => name);
}

/** Whether an amount is counted one by one, so that a short soak can tell of it. */
const exact = ({ allowed }: Verdict) => allowed === 0;

describe("a phase", () => {
  test("without a leak is flat", async () => {
    expect(await leaksOf(() => native.free(native.cancelCreate()))).toEqual([]);
  });

  test("tells of a handle that is not freed in each round", async () => {
    const leaked: CancelHandle[] = [];
    onTestFinished(() => {
      for (const handle of leaked) native.free(handle);
    });
    expect(await leaksOf(() => void leaked.push(native.cancelCreate()))).toEqual(["handles: cancel"]);
  });

  test("tells of one that is left to the garbage collector", async () => {
    expect(await leaksOf(() => void native.cancelCreate())).toEqual(["handles collected"]);
  });

  test("tells of one in sixty files that stays open", async () => {
    const leaked: number[] = [];
    onTestFinished(() => leaked.forEach(closeSync));
    expect(await leaksOf((i) => void (i % 60 === 30 && leaked.push(openSync("/dev/null", "r"))))).toEqual([
      "descriptors",
    ]);
  });

  test("tells of what the work itself holds", async () => {
    let held = 0;
    expect(
      await leaksOf(
        () => void held++,
        () => ({ "blocks held": held }),
      ),
    ).toEqual(["blocks held"]);
  });
});

const program = packageFile("dist", "bench", "soak", "main.js");

/** Runs the command line; what it prints, and its exit code. */
async function run(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, [program, ...argv]).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, stdout, stderr }) => ({ code, stdout, stderr }),
  );
}

describe("npm run soak", () => {
  test("finds nothing that leaks in a short time", async (context) => {
    needFiles(context, program);
    await using folder = await temporaryFolder();
    const path = join(folder.path, "soak.json");
    const { stdout, stderr } = await run("--loads", "120", "--steps", "6000", "--json", path);
    expect(stderr).toBe("");
    const { phases }: SoakReport = JSON.parse(await readFile(path, "utf8"));
    expect(phases.map(({ name, done }) => [name, done >= (name === "loads" ? 120 : 6000)])).toEqual([
      ["loads", true],
      ["steps", true],
    ]);
    for (const { name, amounts, outcomes } of phases) {
      expect(stdout).toContain(` ${name} in `);
      expect(
        amounts.filter((amount) => exact(amount) && !amount.flat),
        name,
      ).toEqual([]);
      expect(outcomes.ERR_CRIA_ABORTED, name).toBeGreaterThan(0);
      // The arenas of malloc's threads fill meanwhile; sixty models would be 60 MiB and more.
      expect(amounts.find((amount) => amount.name === "resident")?.growth).toBeLessThan(40 * 2 ** 20);
    }
  });

  test("refuses what it does not know", async (context) => {
    needFiles(context, program);
    expect(await run("--load", "1")).toMatchObject({ code: 2, stdout: "", stderr: expect.stringContaining("--load") });
    expect(await run("--steps", "0")).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^soak: --steps: must be /),
    });
    expect(await run("--help")).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Usage: npm run soak/) });
  });
});
