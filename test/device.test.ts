import { describe, expect, test } from "vitest";

import { Device, devices, type LimitKind } from "../lib/device.js";
import { available, type Isa } from "./support/isas.js";

describe("devices", () => {
  test("are each what it is, or why it is absent", () => {
    const [cpu, cuda] = devices();
    if (!cpu?.available) throw new Error("there is always a CPU");
    expect(cpu.kind).toBe("cpu");
    expect(cpu.isas).toContain(cpu.isa);
    expect(cpu.threads).toBeGreaterThanOrEqual(1);
    expect(cpu.availableBytes).toBeLessThanOrEqual(cpu.memoryBytes);
    expect(cuda).toEqual({
      available: false,
      kind: "cuda",
      code: "ERR_CRIA_UNSUPPORTED",
      reason: "this version has no CUDA backend",
    });
  });
});

describe("a device", () => {
  test("is the CPU where nothing is asked for, with what was asked for otherwise", () => {
    const cpu = devices()[0]!;
    expect(new Device().info).toMatchObject({ ...cpu, availableBytes: expect.any(Number) });
    expect(new Device({ isa: "scalar", threads: 3 }).info).toMatchObject({ kind: "cpu", isa: "scalar", threads: 3 });
  });

  test("that is absent is an error, never another one", () => {
    const message = "device: cuda is not available: this version has no CUDA backend";
    expect(() => new Device({ device: "cuda" })).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_UNSUPPORTED", message }),
    );
  });

  test.each([
    [{ device: "tpu" }, RangeError, 'device: must be auto, cpu or cuda, not "tpu"'],
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
