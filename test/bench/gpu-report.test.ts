import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";

import { writePage } from "../../bench/page/page.js";
import { readReport } from "../../bench/report-file.js";

const folder = mkdtempSync(join(tmpdir(), "cria-gpu-report-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** As `cria_gpu_check --json` writes it (cuda/check/report.cc), of made-up figures. */
const report = {
  version: 1,
  date: "2026-03-14T09:26:53Z",
  command: "build/cria_gpu_check --json gpu.json",
  machine: {
    processor: "NVIDIA Test",
    cores: 132,
    memoryBytes: 150e9,
    system: "Linux 6.1",
    gpu: { capability: "9.0", cuda: "13.0, driver 13.0", clocks: "1980 MHz, 3201 MHz" },
  },
  limits: {
    readGBs: 4300,
    copyGBs: 4000,
    fmaGflops: null,
    maddubsGops: null,
    dpbusdGops: null,
    bf16dotGflops: null,
    tensorBf16Gflops: 790123,
    tensorInt8Gops: 1500123,
  },
  results: [
    {
      name: "matmul_q/7b.qkv/1",
      by: "cria",
      isa: "cuda",
      threads: 1,
      value: 3440,
      unit: "GB/s",
      limit: 4300,
      share: 0.8,
      spread: 0.01,
      samples: 9,
      micros: 8.2,
      bytes: 28e6,
      operations: 100e6,
      model: "bytes at the read bandwidth",
      at: { format: "q4_0", tokens: 1 },
    },
    {
      name: "decode",
      by: "cria",
      isa: "cuda",
      threads: 1,
      value: 700,
      unit: "tok/s",
      limit: 1100,
      share: 0.636,
      spread: 0.02,
      samples: 32,
      model: "weights read once a step",
      at: { model: "7b", format: "q4_0", context: 128, sequences: 1, layers: 32, graphs: "on" },
    },
  ],
  checks: [{ op: "rmsnorm", shape: "1x4096", error: 1e-7, tolerance: 2e-6, passed: true }],
};

function written(value: unknown): string {
  const path = join(folder, "gpu.json");
  writeFileSync(path, JSON.stringify(value));
  return path;
}

describe("a GPU's report", () => {
  it("is read, and drawn with the GPU's own limits instead of the CPU's", async () => {
    const page = writePage(await readReport(written(report)));
    const text = page.replace(/<[^>]*>/g, "\n");
    for (const said of ["NVIDIA Test", "13.0, driver 13.0", "1980 MHz, 3201 MHz", "790,123", "tensor, int8", "qkv"]) {
      expect(text).toContain(said);
    }
    expect(text).not.toMatch(/NaN|undefined|dpbusd|Node\.js/);
  });

  it.each([
    ["machine", { ...report.machine, gpu: { capability: 9 } }],
    ["limits", { ...report.limits, tensorInt8Gops: 0 }],
  ])("of another form in its %s is refused", async (name, part) => {
    const path = written({ ...report, [name]: part });
    await expect(readReport(path)).rejects.toMatchObject({ code: "ERR_CRIA_FILE" });
  });
});
