import { execFileSync, spawnSync } from "node:child_process";
import { describe, expect, test } from "vitest";

import { Device, devices, type LimitKind } from "../lib/device.js";
import { packageRoot } from "../lib/package.js";
import { available, type Isa } from "./support/isas.js";

/** Whether this machine has a GPU that cria can use: most, and those that test it, have none. */
const cuda = devices()[1]!;

/** Runs a command where /proc is empty, which takes the right to mount. */
const withoutProc = ["unshare", ["--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]] as const;
const canMount = spawnSync(withoutProc[0], [...withoutProc[1], "true"]).status === 0;

describe("devices", () => {
  test("are each what it is, or why it is absent", () => {
    const [cpu] = devices();
    if (!cpu?.available || cpu.kind !== "cpu") throw new Error("there is always a CPU");
    expect(cpu.isas).toContain(cpu.isa);
    expect(cpu.threads).toBeGreaterThanOrEqual(1);
    expect(cpu.availableBytes).toBeLessThanOrEqual(cpu.memoryBytes);
  });

  test.skipIf(!canMount)("are what they are where /proc is not mounted", () => {
    const print = 'console.log(JSON.stringify(require("node-gyp-build")(".").deviceDescribe("cpu")))';
    const args = [...withoutProc[1], process.execPath, "-e", print];
    const info = JSON.parse(execFileSync(withoutProc[0], args, { cwd: packageRoot, encoding: "utf8" }));
    const [cpu] = devices();
    expect(info).toMatchObject({ kind: "cpu", name: cpu?.available && cpu.name, isas: expect.any(Array) });
    expect(info.availableBytes).toBeGreaterThan(2 ** 20);
    expect(info.availableBytes).toBeLessThanOrEqual(info.memoryBytes);
  });

  test.skipIf(cuda.available)("says what a GPU lacks to be used", () => {
    expect(cuda).toEqual({
      available: false,
      kind: "cuda",
      code: "ERR_CRIA_UNSUPPORTED",
      reason: expect.stringMatching(
        /^(no NVIDIA driver is installed|the NVIDIA driver |the CUDA plugin |.* compute capability)/,
      ),
    });
  });
});

describe("a device", () => {
  test("is the CPU where threads or instructions are asked for", () => {
    const device = new Device({ isa: "scalar", threads: 3 });
    expect(device.info).toMatchObject({ kind: "cpu", isa: "scalar", threads: 3 });
    expect(device.withoutGpu).toBeUndefined();
  });

  test.skipIf(cuda.available)("is the CPU where nothing is asked for and there is no GPU", () => {
    const device = new Device();
    expect(device.info).toMatchObject({ ...devices()[0]!, availableBytes: expect.any(Number) });
    expect(() => new Device({ device: "cuda" })).toThrow(device.withoutGpu);
  });

  test.skipIf(cuda.available)("that is absent is an error, never another one", () => {
    const message = `device: cuda is not available: ${cuda.available || cuda.reason}`;
    expect(() => new Device({ device: "cuda" })).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_UNSUPPORTED", message }),
    );
  });

  test.each([
    [{ device: "tpu" }, RangeError, 'device: must be auto, cpu, cuda or cuda-emulated, not "tpu"'],
    [{ device: "cuda-emulated", threads: 2 }, RangeError, "threads: must be left out with cuda-emulated, not 2"],
    [{ isa: "neon" }, RangeError, 'isa: must be scalar, avx2 or avx512, not "neon"'],
    [{ threads: 0 }, RangeError, "threads: must be an integer from 1 to 256, not 0"],
    [{ threads: "2" }, TypeError, 'threads: must be a number, not "2"'],
  ])("refuses %j", (options, type, message) => {
    expect(() => new Device(options as never)).toThrow(expect.objectContaining({ code: "ERR_CRIA_ARGUMENT", message }));
    expect(() => new Device(options as never)).toThrow(type);
  });

  test.each(available)("of %s measures what it can do at most", async (isa) => {
    const device = new Device({ isa, threads: 2 });
    const kinds: Record<Isa, LimitKind[]> = {
      scalar: [],
      avx2: ["fma", "maddubs"],
      avx512: ["fma", "maddubs", "dpbusd"],
    };
    for (const kind of ["read", "copy", ...kinds[isa]] as const) {
      const samples = await device.measureLimit(kind, 3);
      expect(samples).toHaveLength(3);
      for (const rate of samples) expect(rate).toBeGreaterThan(0);
    }
  });

  test("refuses a limit that its instruction set lacks, or that there is not", async () => {
    const device = new Device({ isa: "scalar" });
    for (const kind of ["fma", "maddubs", "dpbusd", "bf16dot"] as const) {
      await expect(device.measureLimit(kind, 1)).rejects.toMatchObject({
        code: "ERR_CRIA_UNSUPPORTED",
        message: "limit: the processor, or the device's instruction set, lacks the instruction",
      });
    }
    await expect(device.measureLimit("write" as never, 1)).rejects.toThrow(RangeError);
    await expect(device.measureLimit("read", -1)).rejects.toThrow(RangeError);
  });
});
