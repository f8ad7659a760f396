/** A kernel that fails leaves a GPU's context of no use for the rest of the process, but the process lives. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";

import { Device, type DeviceKind, devices } from "../../lib/device.js";
import { swiGlu } from "../../lib/kernels.js";
import { loadModel } from "../../lib/model.js";
import { native } from "../../lib/native.js";
import { packageRoot } from "../../lib/package.js";
import { tinyModel } from "../../lib/tiny.js";

// Moves in the cache fail, and nothing else; the report on stderr is for whoever looks for a fault.
process.env.CRIA_EMULATION_FAULT = "KvMove";
process.env.CRIA_EMULATION_QUIET = "1";
const emulation = join(packageRoot, "build/Release/libcria_cuda_emulated.so");
const found = native.deviceDescribe("cuda-emulated");
const emulated = { device: "cuda-emulated" } as const;
const tokens = Int32Array.of(1, 300, 301);
const failed = expect.objectContaining({
  name: "CriaError",
  code: "ERR_CRIA_DEVICE",
  message: expect.stringMatching(/^device: .+ failed: .*; it cannot be used any more in this process$/),
});

test("the emulation loads where it is built", ({ skip }) => {
  if (!existsSync(emulation)) skip(`${emulation} is not there: "npm run build:native" builds it`);
  expect(found).toMatchObject({ available: true });
});

// In this order, in a process of its own: nothing works on the emulated GPU afterwards.
describe.runIf(found.available).sequential("a kernel that fails", () => {
  test("fails its run, and all that is asked of the device afterwards", async () => {
    using cpu = await loadModel(tinyModel, { device: "cpu" });
    using model = await loadModel(tinyModel, emulated);
    const sequence = model.sequence();
    const before = await sequence.forward(tokens, "last");
    expect(before).toHaveLength(model.config.vocab);

    await expect(sequence.removeRange(0, 1)).rejects.toEqual(failed);
    await expect(model.sequence().forward(tokens, "last")).rejects.toEqual(failed);
    const texts = async () => {
      for await (const _ of model.generate("Once")) throw new Error("there is nothing to say");
    };
    await expect(texts()).rejects.toEqual(failed);
    expect(await cpu.sequence().forward(tokens, "last")).toHaveLength(cpu.config.vocab);
  });

  test("fails whoever opens the device anew, and single kernels", async () => {
    expect(() => new Device(emulated)).toThrow(expect.objectContaining({ code: "ERR_CRIA_DEVICE" }));
    await expect(loadModel(tinyModel, emulated)).rejects.toMatchObject({ code: "ERR_CRIA_DEVICE" });
    const floats = { gateUp: Float32Array.of(1, 2), dim: 1, out: new Float32Array(1) };
    expect(() => swiGlu({ ...floats, ...emulated })).toThrow(expect.objectContaining({ code: "ERR_CRIA_DEVICE" }));
    swiGlu({ ...floats, device: "cpu" });
    expect(floats.out[0]).toBeCloseTo(1.46, 2);
  });

  test("leaves auto the CPU, which says why, and whoever asks for the GPU without one", async () => {
    // In the place of a real one, which this machine may lack.
    const { deviceDescribe, deviceOpen } = native;
    const standIn = (kind: DeviceKind) => (kind === "cuda" ? "cuda-emulated" : kind);
    vi.spyOn(native, "deviceDescribe").mockImplementation((kind) => deviceDescribe(standIn(kind)));
    vi.spyOn(native, "deviceOpen").mockImplementation((kind, ...how) => deviceOpen(standIn(kind), ...how));
    expect(devices()[1]).toMatchObject({ available: true });

    expect(() => new Device({ device: "cuda" })).toThrow(expect.objectContaining({ code: "ERR_CRIA_DEVICE" }));
    using device = new Device();
    expect(device.info.kind).toBe("cpu");
    expect(device.withoutGpu).toMatchObject({
      code: "ERR_CRIA_DEVICE",
      message: expect.stringMatching(/^device: the GPU could not be opened: ./),
    });
    const onWarning = vi.fn();
    using model = await loadModel(tinyModel, { onWarning });
    expect(onWarning).toHaveBeenCalledExactlyOnceWith(`${device.withoutGpu?.message}; the CPU computes instead`);
    expect(await model.sequence().forward(tokens, "last")).toHaveLength(model.config.vocab);

    const { device: open } = native.handleCounts();
    const thrown = new Error("the caller's");
    const onThrow = () => {
      throw thrown;
    };
    await expect(loadModel(tinyModel, { onWarning: onThrow })).rejects.toBe(thrown);
    expect(native.handleCounts().device).toBeLessThanOrEqual(open);
  });
});
