import { stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

describe("quantize", () => {
  it("writes a file that the other commands take, and tells machines of it", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "tiny.gguf");
    const told = await criaJson("quantize", tinyModel, out, "--type", "q4_0", "--threads", "1");
    expect(told).toEqual({ path: tinyModel, out, bytes: (await stat(out)).size, tensors: { f32: 9, q4_0: 29 } });
    const { code, stdout } = await cria([
      "generate",
      out,
      "--prompt",
      "Once",
      "--max-tokens",
      "8",
      "--temperature",
      "0",
    ]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^ upon a time/) });
  });

  it("tells people how far it is, what it warns of, and of the file at the end", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "tiny.gguf");
    const { code, stdout, stderr } = await cria(["quantize", tinyModel, out, "--type", "q4_K"], { isTTY: true });
    expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
    expect(stderr).toMatch(/^cria: warning: the weights are quantised already \(q8_0\)/);
    const gaveWay = stderr.split("\n").filter((line) => line.includes("not q4_K"));
    expect(gaveWay).toEqual([
      expect.stringMatching(/^cria: warning: 25 matrices, .*, are q5_0, not q4_K: rows of 96 weights/),
    ]);
    expect(stderr.endsWith(`${out}: ${(await stat(out)).size} bytes\n`)).toBe(true);
  });
});

describe("convert", () => {
  it("leaves the weights as they are, or makes them what it is told", async () => {
    await using folder = await temporaryFolder();
    const out = join(folder.path, "tiny.gguf");
    expect(await criaJson("convert", tinyModel, out)).toMatchObject({ tensors: { f32: 9, q8_0: 29 } });
    expect(await criaJson("convert", out, `${out}.f16`, "--type", "f16")).toMatchObject({
      tensors: { f32: 9, f16: 29 },
    });
  });
});
