import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";

import type { Report } from "../../bench/schema.js";
import { native } from "../../lib/native.js";
import { tinyModel } from "../../lib/tiny.js";
import { weightBytes } from "../../lib/weights/source.js";
import { readRate, skipLimits } from "../support/bench.js";
import { sampleReport } from "../support/bench-report.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { cria } from "./run.js";

const short = ["--prompt", "5", "--gen", "3", "--threads", "1"];

describe("bench", () => {
  it("--json FILE: a report for people, and in the file one for machines", async () => {
    skipLimits();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "bench.json");
    const { code, stdout, stderr } = await cria(["bench", "--model", tinyModel, ...short, "--json", file]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^decode +[\d.]+ tok\/s .*gen 3/m);
    const report = JSON.parse(readFileSync(file, "utf8")) as Report;
    expect(report).toMatchObject({
      version: 1,
      command: expect.stringContaining("--gen 3"),
      limits: { readGBs: readRate / 1e9 },
    });
    const results = report.results.map(({ name, by, threads, unit }) => ({ name, by, threads, unit }));
    // Of a model as small as this, whether loading took memory is the garbage collector's to say.
    const resident = { name: "resident", by: "cria", threads: 1, unit: "x" };
    expect(results.length === 4 ? results : [...results, resident]).toEqual([
      { name: "prefill", by: "cria", threads: 1, unit: "tok/s" },
      { name: "decode", by: "cria", threads: 1, unit: "tok/s" },
      { name: "load", by: "cria", threads: 1, unit: "s" },
      resident,
    ]);
    for (const { value } of report.results) expect(value).toBeGreaterThan(0);
  });

  it.for([true, false])(
    "--json -: of the weights, one token reads all but an untied embedding (tied: %j)",
    async (tied) => {
      skipLimits();
      await using folder = await temporaryFolder();
      // 300 rows are packed as 304, whole panels of 16.
      const shape = { layers: 1, dim: 64, heads: 4, kvHeads: 2, ffn: 96, vocab: 300, type: "q8_0", tied } as const;
      const model = await folder.write("model.gguf", llamaFile(shape));
      const { code, stdout, stderr } = await cria(["bench", "--model", model, ...short, "--json", "-"]);
      expect(code, stderr).toBe(0);
      const decode = (JSON.parse(stdout) as Report).results.find(({ name }) => name === "decode")!;
      const rows = 304 + 64 + 2 * 32 + 64 + 2 * 96;
      const matrices = weightBytes("q8_0", rows, 64) + weightBytes("q8_0", 64, 96);
      const vectors = 3 * 64 * 4;
      const cached = 2 * 2 * 16 * 2; // K and V, heads, dimensions, bytes
      // Rows are padded to whole steps of 64 columns: the 96 of ffn_down to 128.
      const padding = weightBytes("q8_0", 64, 32);
      const bytesPerToken = matrices + padding + vectors + cached * (5 + (1 + 2 + 3) / 3);
      expect(decode.limit).toBeCloseTo(readRate / bytesPerToken, 6);
    },
  );

  it("--ops: a line for each op, and the report in a file", async () => {
    skipLimits();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "ops.json");
    const few = ["--shapes", "stories15m", "--tokens", "1", "--threads", "1", "--isa", "scalar"];
    const { code, stdout, stderr } = await cria(["bench", "--ops", "add", ...few, "--json", file]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^add +stories15m\.dim +1 +scalar +1 +[\d.]+ +[\d.]+ GB\/s +\d+ % +\d+ % +0 +PASS$/m);
    const { results } = JSON.parse(readFileSync(file, "utf8")) as Report;
    expect(results).toMatchObject([
      { name: "add/stories15m.dim/1", by: "cria", isa: "scalar", threads: 1, unit: "GB/s", error: 0, bytes: 12 * 288 },
    ]);
  });

  it("--ops: an op whose bits are not the scalar kernel's is a failure", async () => {
    skipLimits();
    const add = native.add;
    const spy = vi.spyOn(native, "add");
    let calls = 0;
    spy.mockImplementation((device, x, y, out) => {
      add(device, x, y, out);
      if (calls++ === 0) out[3] = Number.NaN;
    });
    onTestFinished(() => spy.mockRestore());
    const few = ["--shapes", "stories15m", "--tokens", "1", "--threads", "1", "--isa", "scalar"];
    const { code, stdout, stderr } = await cria(["bench", "--ops", "add", ...few]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/ NaN +FAIL$/m);
    expect(stderr).toContain("but these did not: add/stories15m.dim/1 (scalar, 1 threads) (ERR_CRIA_INTERNAL)");
  });

  it("--ops --json -: one JSON object and nothing else", async () => {
    skipLimits();
    const few = ["--shapes", "stories15m", "--tokens", "1", "--threads", "1", "--isa", "scalar"];
    const { code, stdout } = await cria(["bench", "--ops", "rmsnorm", ...few, "--json", "-"]);
    expect(code).toBe(0);
    expect((JSON.parse(stdout) as Report).results.map(({ name }) => name)).toEqual(["rmsnorm/stories15m.dim/1"]);
  });

  it.for([
    [["--model", tinyModel, ...short]],
    [["--ops", "add", "--shapes", "stories15m", "--tokens", "1", "--threads", "1", "--isa", "scalar"]],
  ])("%j: Ctrl-C ends it while it measures", async ([argv]) => {
    skipLimits();
    const controller = new AbortController();
    const measured = vi.mocked(native.measureLimit);
    const said = measured.getMockImplementation()!;
    // By then everything is loaded.
    measured.mockImplementation((...args) => {
      controller.abort({ exitCode: 130 });
      return said(...args);
    });
    const { code, stdout } = await cria(["bench", ...argv!], { signal: controller.signal });
    expect(code).toBe(130);
    expect(stdout).not.toMatch(/^decode/m);
  });

  it("the loading is told of until everything is loaded", async () => {
    skipLimits();
    const { stderr } = await cria(["bench", "--model", tinyModel, ...short], { isTTY: true });
    expect(stderr).toMatch(/^(\rloading \d+ %)+\r.\[K$/);
  });

  it("--json: a run that ends early leaves the old file, and nothing beside it", async () => {
    skipLimits();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "bench.json");
    writeFileSync(file, "old");
    const signal = AbortSignal.abort({ exitCode: 130 });
    expect((await cria(["bench", "--model", tinyModel, ...short, "--json", file], { signal })).code).toBe(130);
    expect(readdirSync(folder.path)).toEqual(["bench.json"]);
    expect(readFileSync(file, "utf8")).toBe("old");
  });

  it("--json: what is no file stays what it is", async () => {
    skipLimits();
    expect((await cria(["bench", "--model", tinyModel, ...short, "--json", "/dev/null"])).code).toBe(0);
    expect(statSync("/dev/null").isCharacterDevice()).toBe(true);
  });

  it("--json: a file that cannot be written is found before anything is measured", async () => {
    const open = vi.spyOn(native, "deviceOpen");
    onTestFinished(() => open.mockRestore());
    const { code, stdout, stderr } = await cria(["bench", "--json", "/absent/bench.json"]);
    expect(stderr).toMatch(
      /^cria: \/absent\/bench\.json: cannot be written: no such file or directory \(ERR_CRIA_FILE\)\n$/,
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(open).not.toHaveBeenCalled();
  });

  it("--report FILE: draws what was measured", async () => {
    skipLimits();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "out.html");
    const { code, stdout, stderr } = await cria(["bench", "--model", tinyModel, ...short, "--report", file]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toMatch(/^decode +[\d.]+ tok\/s/m);
    const page = readFileSync(file, "utf8");
    expect(page).toContain('<th scope="row" class="text">cria, ');
    expect(page).toContain(tinyModel);
  });

  describe("--from", () => {
    const report = sampleReport({ models: ["7b"], isas: ["avx2"], tokens: [1], ops: ["add"] });

    it("joins reports, draws them, and measures nothing", async () => {
      const open = vi.spyOn(native, "deviceOpen");
      onTestFinished(() => open.mockRestore());
      await using folder = await temporaryFolder();
      const write = (name: string, half: Report) => folder.write(name, Buffer.from(JSON.stringify(half)));
      const { results } = report;
      const first = await write("a.json", { ...report, results: results.slice(0, 5) });
      const second = await write("b.json", { ...report, results: results.slice(5) });
      const page = join(folder.path, "out.html");
      // The joined report replaces one of those that it is of.
      const args = ["bench", "--from", `${first},${second}`, "--report", page, "--json", first];
      expect(await cria(args)).toEqual({ code: 0, stdout: "", stderr: "" });
      expect(JSON.parse(readFileSync(first, "utf8"))).toEqual(report);
      expect(readFileSync(page, "utf8")).toContain(`${results.length} results`);
      expect(open).not.toHaveBeenCalled();
    });

    it("compares reports that lie there", async () => {
      await using folder = await temporaryFolder();
      const results = report.results.map((result) => ({ ...result, value: 2 * result.value }));
      const [old, now] = await Promise.all(
        [report, { ...report, results }].map((one, i) => folder.write(`${i}.json`, Buffer.from(JSON.stringify(one)))),
      );
      const { code, stdout, stderr } = await cria(["bench", "--from", now!, "--compare", old!]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toContain(" 0 within the noise; 0 only there, 0 only here\n");
    });

    it("needs to know what to do with them", async () => {
      const { code, stderr } = await cria(["bench", "--from", "a.json"]);
      expect(code).toBe(2);
      expect(stderr).toContain(
        "--from: must be given with --report, --json or --compare, which say what to do with them",
      );
    });

    it("refuses reports of two machines", async () => {
      await using folder = await temporaryFolder();
      const other = { ...report, machine: { ...report.machine, processor: "another" } };
      const paths = await Promise.all(
        [report, other].map((one, i) => folder.write(`${i}.json`, Buffer.from(JSON.stringify(one)))),
      );
      const page = join(folder.path, "out.html");
      const { code, stderr } = await cria(["bench", "--from", paths.join(","), "--report", page]);
      expect(code).toBe(2);
      expect(stderr).toMatch(/--from: must be reports of one machine, AMD EPYC.*, not "another, 2 cores"/);
    });
  });
});
