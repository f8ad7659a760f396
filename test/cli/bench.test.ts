import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";

import type { BenchResult } from "../../bench/tokens.js";
import { native } from "../../lib/native.js";
import { tinyModel } from "../../lib/tiny.js";
import { weightBytes } from "../../lib/weights/source.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { cria } from "./run.js";

const short = ["--prompt", "5", "--gen", "3", "--threads", "1"];

/** The bandwidth's measurement reads gigabytes: here it is said to have taken a second a pass. */
function skipBandwidth(): void {
  const spy = vi.spyOn(native, "measureRead");
  spy.mockImplementation(async (_device, _bytes, passes) => new Float64Array(passes).fill(1));
  onTestFinished(() => spy.mockRestore());
}

describe("bench", () => {
  it("--json FILE: a report for people, and in the file one for machines", async () => {
    skipBandwidth();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "bench.json");
    const { code, stdout, stderr } = await cria(["bench", "--model", tinyModel, ...short, "--json", file]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^decode +[\d.]+ tok\/s .* 3 tokens$/m);
    const spread = { median: expect.any(Number), low: expect.any(Number), high: expect.any(Number) };
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
      machine: { threads: 1 },
      promptTokens: 5,
      generatedTokens: 3,
      prefillTokensPerSecond: spread,
      decodeTokensPerSecond: spread,
      readBytesPerSecond: { median: 2 ** 29 },
    });
  });

  it.for([true, false])(
    "--json -: of the weights, one token reads all but an untied embedding (tied: %j)",
    async (tied) => {
      skipBandwidth();
      await using folder = await temporaryFolder();
      // 300 rows are packed as 304, whole panels of 16.
      const shape = { layers: 1, dim: 64, heads: 4, kvHeads: 2, ffn: 96, vocab: 300, type: "q8_0", tied } as const;
      const model = await folder.write("model.gguf", llamaFile(shape));
      const { code, stdout, stderr } = await cria(["bench", "--model", model, ...short, "--json", "-"]);
      expect(code, stderr).toBe(0);
      const { bytesPerToken } = JSON.parse(stdout) as BenchResult;
      const rows = 304 + 64 + 2 * 32 + 64 + 2 * 96;
      const matrices = weightBytes("q8_0", rows, 64) + weightBytes("q8_0", 64, 96);
      const vectors = 3 * 64 * 4;
      const cached = 2 * 2 * 16 * 2; // K and V, heads, dimensions, bytes
      // Rows are padded to whole steps of 64 columns: the 96 of ffn_down to 128.
      const padding = weightBytes("q8_0", 64, 32);
      expect(bytesPerToken).toBe(matrices + padding + vectors + cached * (5 + (1 + 2 + 3) / 3));
    },
  );

  it("--json: a file that cannot be written is found before anything is measured", async () => {
    const open = vi.spyOn(native, "deviceOpen");
    onTestFinished(() => open.mockRestore());
    const { code, stdout, stderr } = await cria(["bench", "--json", "/absent/bench.json"]);
    expect(stderr).toMatch(/^cria: \/absent\/bench\.json: cannot be written: ENOENT: .* \(ERR_CRIA_FILE\)\n$/);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(open).not.toHaveBeenCalled();
  });
});
