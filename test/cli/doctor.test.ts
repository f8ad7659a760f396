import { spawnSync } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";

import { abiVersion } from "../../lib/binding.js";
import { whyThreads } from "../../lib/cli/doctor.js";
import { type CpuInfo, devices } from "../../lib/device.js";
import { packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { copyBinaries } from "../support/installed.js";
import { cria, criaJson } from "./run.js";

const [cpu, gpu] = devices() as [CpuInfo, ReturnType<typeof devices>[number]];

interface Findings {
  ok: boolean;
  system: { libc: string; libcVersion: string; runtime: string };
  processor: { name: string; features: string[]; processors: number; cores: number };
  kernels?: { isa: string; isas: string[]; threads: number };
  gpu?: object;
  addon?: object;
  causes?: { cause: string; cure: string }[];
}

/** The compiled command line, with the prebuilt addon of `folder`. */
function doctorOf(folder: string, ...options: string[]) {
  const main = packageFile("dist", "lib", "cli", "main.js");
  const env = { ...process.env, PREBUILDS_ONLY: "1", CRIA_PREBUILD: folder };
  return spawnSync(process.execPath, [main, "doctor", ...options], { encoding: "utf8", env });
}

async function emptyFolder(): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  return folder.path;
}

describe("cria doctor", () => {
  it("tells of what cria runs on", async () => {
    const found = await criaJson<Findings>("doctor");
    expect(found).toMatchObject({
      ok: true,
      version: (await import("../../package.json")).default.version,
      system: { platform: "linux", arch: "x64", runtime: `Node.js ${process.versions.node}` },
      processor: { name: cpu.name },
      kernels: { isa: cpu.isa, isas: cpu.isas, threads: cpu.threads },
      memory: { total: cpu.memoryBytes, available: expect.any(Number) },
      gpu,
      addon: { file: packageFile("build", "Release", "cria.node"), kind: "local build", abiVersion },
    });
    expect(found.causes).toBeUndefined();
    const { features, processors, cores } = found.processor;
    // What each instruction set's kernels are made of: CMakeLists.txt.
    if (cpu.isas.includes("avx2")) expect(features).toEqual(expect.arrayContaining(["avx2", "fma", "f16c"]));
    if (cpu.isas.includes("avx512")) {
      expect(features).toEqual(expect.arrayContaining(["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"]));
    }
    expect(cores).toBeGreaterThanOrEqual(1);
    expect(cores).toBeLessThanOrEqual(processors);
    expect(cpu.threads).toBeLessThanOrEqual(cores);
  });

  it("tells people a line of each", async () => {
    const { code, stdout, stderr } = await cria(["doctor"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const names = ["cria", "system", "runtime", "processor", "features", "kernels", "threads", "memory"];
    const lines = stdout.trimEnd().split("\n");
    expect(lines.map((line) => line.slice(2).split("  ")[0])).toEqual([...names, "huge pages", "GPU", "addon"]);
    expect(stdout).toMatch(new RegExp(`^ {2}kernels +${cpu.isa}, of ${cpu.isas.join(", ")}$`, "m"));
    expect(stdout).toMatch(new RegExp(`^ {2}threads +${cpu.threads}: .* that this process may use$`, "m"));
    if (!gpu.available) expect(stdout).toContain(`none: ${gpu.reason}`);
  });

  it("says that an addon is prebuilt", async () => {
    const folder = await emptyFolder();
    await copyBinaries(join(folder, "prebuilds", "linux-x64"));
    const { status, stdout } = doctorOf(folder, "--json");
    expect(status).toBe(0);
    expect(JSON.parse(stdout).addon).toMatchObject({
      file: expect.stringMatching(/\/prebuilds\/linux-x64\/cria\.\w+\.node$/),
      kind: "prebuilt",
    });
  });

  it("without an addon tells what it can, each cause and its cure, and fails", async () => {
    const folder = await emptyFolder();
    await mkdir(join(folder, "prebuilds", "darwin-x64"), { recursive: true });
    const people = doctorOf(folder);
    expect(people.status).toBe(1);
    expect(people.stdout).toMatch(/^ {2}features +\S/m);
    expect(people.stdout).toMatch(/^ {2}addon +cannot be loaded$/m);
    expect(people.stderr).toMatch(/^cria: cria's native addon could not be loaded on linux-x64, .*:\n- there is no/);
    expect(people.stderr).toMatch(/\(ERR_CRIA_LOAD\)\n$/);

    const { status, stdout } = doctorOf(folder, "--json");
    expect(status).toBe(1);
    const { ok, causes, kernels, addon, processor }: Findings = JSON.parse(stdout);
    expect({ ok, kernels, addon }).toEqual({ ok: false });
    expect(processor.features.length).toBeGreaterThan(0);
    const cause = "there is no prebuilt addon for linux-x64, only for darwin-x64";
    expect(causes).toEqual([{ cause, cure: expect.stringContaining("Run Node.js on one of these") }]);
  });
});

describe("the number of threads", () => {
  it.each([
    [2, 2, "2: the 2 physical cores (4 processors) that this process may use"],
    [1, 2, "1: all that the control group's quota leaves of 2 physical cores (4 processors) that this process may use"],
    [256, 384, "256: all that a device has, of 384 physical cores (768 processors) that this process may use"],
    [2, 0, "2"], // where /proc is not mounted
  ])("%i of %i cores is explained", (threads, cores, why) => {
    expect(whyThreads(threads, { cores, processors: 2 * cores })).toBe(why);
  });
});
