import { chmod, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";

import type { Report } from "../../bench/schema.js";
import { packModel } from "../../lib/pack.js";
import { tinyModel } from "../../lib/tiny.js";
import { readLlama } from "../../lib/weights/llama-gguf.js";
import { cria } from "../cli/run.js";
import { temporaryFolder } from "../support/gguf-writer.js";

// They take seconds, and are not what is tested here.
vi.mock(import("../../bench/limits.js"), async (original) => ({
  ...(await original()),
  readGBs: async () => [10],
  limitsOf: async () => ({
    readGBs: 10,
    copyGBs: 10,
    fmaGflops: 100,
    maddubsGops: 100,
    dpbusdGops: 100,
    bf16dotGflops: null,
  }),
}));

const short = ["--prompt", "5", "--gen", "3", "--threads", "1"];

/** A llama-bench that needs the model's file, and notes where it is. */
async function standIn(folder: string): Promise<string> {
  const path = join(folder, "llama-bench");
  const answer = `echo '[{"build_commit": "abc", "build_number": 7, "samples_ns": [1000000000]}]'`;
  await writeFile(
    path,
    `#!/bin/sh\n[ "$1" = --help ] && echo --n-depth && exit\ntest -s "$2" || exit 9\necho "$2" > '${folder}/model'\n${answer}\n`,
  );
  await chmod(path, 0o755);
  return path;
}

async function benchJson(...argv: string[]): Promise<Report> {
  const { code, stdout, stderr } = await cria(["bench", ...argv, ...short, "--json", "-"]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout) as Report;
}

describe("bench --peer", () => {
  it("a model's file is run by both, and the ratios are of the medians", async () => {
    await using folder = await temporaryFolder();
    const peer = await standIn(folder.path);
    const { results, ratios } = await benchJson("--model", tinyModel, "--peer", `llama-bench:${peer}`);
    expect(await readFile(join(folder.path, "model"), "utf8")).toBe(`${tinyModel}\n`);
    const theirs = results.filter(({ by }) => by === "llama-bench abc (7)");
    expect(theirs.map(({ name, value }) => [name, value])).toEqual([
      ["prefill", 5],
      ["decode", 3],
    ]);
    for (const { name, value, peer } of ratios!) {
      const median = (by: string) => results.find((result) => result.name === name && result.by === by)!.value;
      expect(value).toBe(median("cria") / median("llama-bench abc (7)"));
      expect(peer).toBe("llama-bench abc (7), as built");
    }
    expect(ratios!.map(({ name }) => name)).toEqual(["prefill", "decode"]);
  });

  it("random weights are written for both, and removed in the end", async () => {
    await using folder = await temporaryFolder();
    const peer = await standIn(folder.path);
    const { results } = await benchJson("--shape", "stories15m", "--peer", `llama-bench:${peer}`);
    expect(results[0]).toMatchObject({ name: "prefill", by: "cria", at: { model: "stories15m", format: "q4_0" } });
    const model = (await readFile(join(folder.path, "model"), "utf8")).trim();
    expect(model).toMatch(/cria-bench-.*\.gguf$/);
    expect(await readdir(tmpdir())).not.toContain(model.split("/").at(-2));
  });

  it.for([
    [["--peer", "ollama"], 2, "--peer: must be node-llama-cpp or llama-bench:PATH"],
    [["--peer", "llama-bench:/absent"], 1, "/absent: cannot be run as llama-bench"],
    [["--model", tinyModel, "--write-gguf", "/absent/x"], 2, "--write-gguf: must be left out where there is a model's"],
    [["--write-gguf", "/absent/x"], 1, "/absent/x: cannot be written"],
    [["--compare", "/absent.json"], 1, "/absent.json: cannot be read"],
  ] as const)("%j: exit code %i", async ([argv, exitCode, message]) => {
    const { code, stdout, stderr } = await cria(["bench", ...argv, ...short]);
    expect({ code, stdout }).toEqual({ code: exitCode, stdout: "" });
    expect(stderr).toContain(message);
  });

  it("a packed file is refused", async () => {
    await using folder = await temporaryFolder();
    const [peer, model] = [`llama-bench:${await standIn(folder.path)}`, join(folder.path, "tiny.cria")];
    await packModel(tinyModel, model);
    const { code, stderr } = await cria(["bench", "--model", model, "--peer", peer, ...short]);
    expect(code).toBe(2);
    expect(stderr).toContain("cria bench: --model: must be a GGUF file beside a peer, which reads no packed one, not ");
  });

  it("one sequence at a time", async () => {
    await using folder = await temporaryFolder();
    const peer = `llama-bench:${await standIn(folder.path)}`;
    const { code, stderr } = await cria(["bench", "--model", tinyModel, "--peer", peer, "--sequences", "2", ...short]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^cria bench: --sequences: must be 1 beside a peer, not 2\n/);
  });
});

describe("bench --write-gguf and --compare", () => {
  it("writes the weights that it measures; a later run says what changed", async () => {
    await using folder = await temporaryFolder();
    const [model, old] = [join(folder.path, "model.gguf"), join(folder.path, "old.json")];
    const weights = ["--shape", "stories15m", "--format", "q8_0"];
    const first = await cria(["bench", ...weights, "--write-gguf", model, ...short, "--json", old]);
    expect(first.stderr).toBe("");
    expect((await readLlama(model)).config).toMatchObject({ dim: 288, layers: 6, vocab: 32000 });

    // The old report may be where the new one is written.
    const second = await cria(["bench", ...weights, ...short, "--compare", old, "--json", old]);
    expect({ code: second.code, stderr: second.stderr }).toEqual({ code: 0, stderr: "" });
    expect(second.stdout).toMatch(/^decode +[\d.]+ → [\d.]+ tok\/s +× [\d.]+ +(faster|slower|within the noise) +cria/m);
    expect(second.stdout).toMatch(/^against .*old\.json of .*: .* 2 only there, 0 only here\n$/m);
  });
});
