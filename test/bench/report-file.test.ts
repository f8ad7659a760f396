import { describe, expect, it } from "vitest";

import { readReport } from "../../bench/report-file.js";
import type { Report, Result } from "../../bench/schema.js";
import { sampleReport } from "../support/bench-report.js";
import { temporaryFolder } from "../support/gguf-writer.js";

const sample = sampleReport({ models: ["7b"], isas: ["avx2"], tokens: [1], ops: ["matmul_q4"] });
const report = (results: Result[]): Report => ({ ...sample, results });
const result = (changes: Partial<Result> = {}): Result => ({ ...sample.results[0]!, ...changes });

describe("readReport", () => {
  it("reads what was written", async () => {
    await using folder = await temporaryFolder();
    const written = sample;
    const path = await folder.write("report.json", Buffer.from(JSON.stringify(written)));
    expect(await readReport(path)).toEqual(written);
  });

  it.for([
    ["no JSON", "{"],
    ["null", "null"],
    ["another version", JSON.stringify({ ...report([]), version: 2 })],
    ["no results", JSON.stringify({ ...report([]), results: undefined })],
    ["a result without a name", JSON.stringify(report([{ ...result(), name: 1 as never }]))],
    ["no machine", JSON.stringify({ ...report([]), machine: {} })],
    ["a limit that is none", JSON.stringify({ ...report([]), limits: { ...report([]).limits, readGBs: 0 } })],
    ["a place that is an object", JSON.stringify(report([result({ at: { shape: {} as never } })]))],
    ["a ratio without a peer", JSON.stringify({ ...report([]), ratios: [{ name: "decode", isa: "avx2", value: 1 }] })],
    ["a time that is a text", JSON.stringify(report([result({ micros: "1" as never })]))],
    ["a result of nothing", JSON.stringify(report([result({ value: 0 })]))],
    ["a result of no number", JSON.stringify(report([result({ value: Number.NaN })]))],
  ] as const)("refuses %s, and names the file", async ([, text]) => {
    await using folder = await temporaryFolder();
    const path = await folder.write("report.json", Buffer.from(text));
    await expect(readReport(path)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: `${path}: must be a report that cria's bench wrote with --json, of version 1`,
    });
  });

  it("refuses a file that is not there", async () => {
    await expect(readReport("/absent.json")).rejects.toMatchObject({ code: "ERR_CRIA_FILE", file: "/absent.json" });
  });
});
