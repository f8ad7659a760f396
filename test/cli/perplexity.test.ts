import { describe, expect, it } from "vitest";

import { loadModel } from "../../lib/model.js";
import { chunkTokens } from "../../lib/scheduler.js";
import { tinyModel } from "../../lib/tiny.js";
import { dataFile, needFiles } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

const stories260K = dataFile("stories260K", "stories260Ktok512.gguf");
const stories = dataFile("tinystories", "validation_100.txt");

interface Report {
  tokens: number;
  bytes: number;
  nll: number;
  perplexity: number;
  bitsPerByte: number;
}

/** The tiny model's score of a text. */
async function score(text: string, ...options: string[]): Promise<Report> {
  await using folder = await temporaryFolder();
  const file = await folder.write("text", Buffer.from(text));
  return await criaJson<Report>("perplexity", tinyModel, "--file", file, ...options);
}

const day = "Once upon a time, there was a little girl named Lily.";
const night = "It was dark. The moon was big.";

describe("perplexity", () => {
  it("stories260K: 100 stories as published, and reproduced in float64", async (context) => {
    needFiles(context, stories260K, stories);
    const report = await criaJson<Report>("perplexity", stories260K, "--file", stories);
    expect(Object.keys(report)).toEqual(["tokens", "bytes", "nll", "perplexity", "bitsPerByte"]);
    expect(report).toMatchObject({ tokens: 12_685, bytes: 27_821 });
    expect(Math.abs(report.bitsPerByte - 0.8132)).toBeLessThan(0.0002);
    expect(Math.abs(report.perplexity - 3.4426)).toBeLessThan(0.0005);
  });

  it("stories260K: a q8_0 cache costs at most 2 %, and either side of it no more", async (context) => {
    needFiles(context, stories260K, stories);
    const perplexity = async (cache: string) =>
      (await criaJson<Report>("perplexity", stories260K, "--file", stories, "--cache", cache)).perplexity;
    const f16 = await perplexity("f16");
    for (const cache of ["q8_0", "q8_0:f16", "f16:q8_0"]) {
      const quantised = await perplexity(cache);
      expect(quantised).toBeLessThanOrEqual(1.02 * f16);
      expect(quantised).not.toBe(f16);
    }
  });

  it("documents know nothing of each other, nor of the white space before them", async () => {
    const both = await score(`${day}<|endoftext|>\n\n ${night}\n<|endoftext|>\n`);
    const [first, second] = [await score(day), await score(`${night}\n`)];
    expect(both.tokens).toBe(first.tokens + second.tokens);
    expect(both.bytes).toBe(day.length + night.length + 1);
    expect(both.nll).toBeCloseTo(first.nll + second.nll, 9);
  });

  it("--context cuts documents, and a text without separators into windows", async () => {
    const ids = await criaJson<number[]>("tokenize", tinyModel, "--text", day);
    const cut = await score(`${day}<|endoftext|>`, "--context", "5");
    expect(cut).toMatchObject({ tokens: 4, bytes: Buffer.byteLength("Once upon a time") });
    const windows = await score(day, "--context", "5");
    expect(windows).toMatchObject({ tokens: ids.length, bytes: day.length });
    expect(windows.nll).toBeGreaterThan((await score(day)).nll);
  });

  it("a window longer than a chunk of the forward pass scores as its logits say", async () => {
    const text = `${day} `.repeat(25);
    using model = await loadModel(tinyModel, { contextLength: 1024, onWarning: () => undefined });
    const { bos } = model.tokenizer;
    const tokens = model.tokenizer.encode(text);
    expect(tokens.length).toBeGreaterThan(chunkTokens + 1);
    const logits = await model.sequence().forward(Int32Array.of(bos!, ...tokens), "all");
    let nll = 0;
    for (const [i, token] of tokens.entries()) {
      const row = [...logits.subarray(i * 1024, (i + 1) * 1024)];
      nll += Math.log(row.reduce((sum, logit) => sum + Math.exp(logit), 0)) - row[token]!;
    }
    const report = await score(text, "--context", "1024");
    expect(report.tokens).toBe(tokens.length);
    expect(report.nll).toBeCloseTo(nll, 6);
    expect(report.perplexity).toBeCloseTo(Math.exp(nll / tokens.length), 6);
    expect(report.bitsPerByte).toBeCloseTo(nll / Math.log(2) / text.length, 6);
  });

  it.each([
    ["latin1", Buffer.from("caf\xe9 au lait", "latin1"), "byte 3: must be UTF-8, not 0xe9"],
    ["cut", Buffer.from("caf\u00e9").subarray(0, 4), "byte 3: must be UTF-8, not 0xc3"],
    ["like U+FFFD", Buffer.from([0x61, 0xef, 0xbf, 0x62]), "byte 1: must be UTF-8, not 0xef"],
    ["cut like U+FFFD", Buffer.from([0x61, 0xef, 0xbf]), "byte 1: must be UTF-8, not 0xef"],
    ["after U+FFFD", Buffer.concat([Buffer.from("\ufffd"), Buffer.of(0x80)]), "byte 3: must be UTF-8, not 0x80"],
  ])("a file that is no UTF-8, %s, is refused with the place", async (_, bytes, problem) => {
    await using folder = await temporaryFolder();
    const file = await folder.write("text", bytes);
    const { code, stderr } = await cria(["perplexity", tinyModel, "--file", file]);
    expect({ code, stderr }).toEqual({ code: 1, stderr: `cria: ${file}: ${problem} (ERR_CRIA_FILE)\n` });
  });

  it("a text's own U+FFFD is three bytes", async () => {
    expect((await score("a\ufffdb")).bytes).toBe(5);
  });

  it("tells people the same", async () => {
    await using folder = await temporaryFolder();
    const file = await folder.write("text", Buffer.from(day));
    const { bitsPerByte, tokens } = await score(day);
    const { stdout, stderr } = await cria(["perplexity", tinyModel, "--file", file]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(new RegExp(`^ {2}tokens +${tokens}$`, "m"));
    expect(stdout).toMatch(new RegExp(`^ {2}bits per byte +${bitsPerByte.toFixed(4).replace(".", "\\.")}$`, "m"));
  });
});
