import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

import { Device } from "../../lib/device.js";
import { native } from "../../lib/native.js";

const folder = mkdtempSync(join(tmpdir(), "cria-packing-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** This process's resident memory in bytes, now or at its most since `resetPeak`. */
const resident = (field: "VmRSS" | "VmHWM") =>
  Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(readFileSync("/proc/self/status", "utf8"))![1]) * 1024;
const resetPeak = () => writeFileSync("/proc/self/clear_refs", "5");

describe("packing from a file", () => {
  test.each([1, 2])("on %i threads takes the memory of the weights once", async (threads) => {
    const [rows, cols] = [16_384, 1024];
    const bytes = rows * cols * 4;
    const path = join(folder, "weights");
    writeFileSync(path, Buffer.alloc(bytes, 7));
    const device = new Device({ threads });

    const before = resident("VmRSS");
    resetPeak();
    const tensor = native.matrixCreate(device.handle, "f32", rows, cols);
    await native.tensorPackFile(tensor, 0, rows, path, 0);
    expect(resident("VmHWM") - before).toBeLessThan(1.15 * bytes);
    native.free(tensor);
    expect(resident("VmRSS") - before).toBeLessThan(0.15 * bytes);
  });

  test("of a pipe that nobody writes to is refused, not waited for", async () => {
    const path = join(folder, "pipe");
    execFileSync("mkfifo", [path]);
    const tensor = native.matrixCreate(new Device().handle, "f32", 1, 1);
    await expect(native.tensorPackFile(tensor, 0, 1, path, 0)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: must be a regular file`,
    });
  });

  test("of a file that ends inside the tensor is refused", async () => {
    const path = join(folder, "short");
    writeFileSync(path, Buffer.alloc(100));
    const tensor = native.matrixCreate(new Device().handle, "f32", 8, 8);
    await expect(native.tensorPackFile(tensor, 0, 8, path, 0)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: ends at byte 100, inside a tensor`,
    });
  });
});
