/** csrc/check/: the library through its C ABI, without Node.js, under conditions that Node.js cannot make. */
import { describe, expect, test } from "vitest";

import { builtProgram, ending } from "./processes.js";

const races = builtProgram("cria_race_check");
const faults = builtProgram("cria_fault_check");

test.skipIf(races.built && faults.built)("the checks of the library are built", ({ skip }) => {
  skip(`${races.path} or ${faults.path} is not there: "npm run build:native" builds them, the second on glibc`);
});

// What a sanitizer says of the same program: scripts/sanitize.
describe.runIf(races.built)("a hundred threads over one device, program, cache and file", () => {
  test.each([
    ["cpu", 100, 6],
    ["cuda-emulated", 8, 2],
  ])("get what each would get alone: on %s", async (kind, threads, rounds) => {
    const args = ["--kind", kind, "--threads", `${threads}`, "--rounds", `${rounds}`];
    const { stdout, ...seen } = await ending(races.path, args);
    expect(stdout).toMatch(new RegExp(`^ok ${threads} threads, ${threads * rounds} rounds, \\d+ runs cancelled\\n$`));
    expect(seen).toEqual({ code: 0, signal: null, stderr: "" });
  });
});

describe.runIf(faults.built)(
  "memory or a thread that the system refuses",
  { concurrent: true, timeout: 300_000 },
  () => {
    const whole = /^ok (\d+) requests: (\d+) refusals failed their call, (\d+) did not matter, 0 went wrong\n$/;

    test.each([
      ["once", []],
      ["from then on", ["--on"]],
    ])("at the N-th request, for every N, %s: an error, nothing held, and the next attempt does", async (_, args) => {
      const { stdout, ...seen } = await ending(faults.path, args, 300_000);
      expect(stdout).toMatch(whole);
      const [requests, failed] = whole.exec(stdout)!.slice(1).map(Number);
      expect(requests).toBeGreaterThan(500);
      expect(failed).toBeGreaterThan(500);
      expect(seen).toEqual({ code: 0, signal: null, stderr: "" });
    });
  },
);
