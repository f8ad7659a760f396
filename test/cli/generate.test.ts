import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { Interruption } from "../../lib/cli/io.js";
import { dataFile, needFiles } from "../support/data.js";
import { available } from "../support/isas.js";
import { cria, criaJson } from "./run.js";

const stories260K = dataFile("stories260K", "stories260Ktok512.gguf");
const greedyText = dataFile("stories260K", "greedy.txt");
const llama2Vocabulary = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");

interface Report {
  text: string;
  tokens: number;
  tokenIds: number[];
  promptTokens: number;
  finishReason: string;
  seed: number;
  timings: Record<string, number>;
}

const greedy = ["--temperature", "0"];

describe("stories260K", () => {
  const executions = available.flatMap((isa) => [1, 2].map((threads) => ({ isa, threads })));

  it.for(executions)("says llama2.c's greedy text on $threads threads of $isa", async ({ isa, threads }, context) => {
    needFiles(context, stories260K, greedyText);
    const how = ["--isa", isa, "--threads", String(threads)];
    const argv = ["generate", stories260K, ...greedy, "--max-tokens", "200", "--ignore-eos", ...how];
    const { code, stdout, stderr } = await cria(argv);
    expect(stdout).toBe(readFileSync(greedyText, "utf8").trimStart());
    expect(stderr).toContain("warning: ");
    expect(stderr).toContain("a context of 128 tokens");
    expect(stderr).toContain(`${isa}, ${threads} thread`);
    expect(code).toBe(0);
  });

  it("stays within the trained context unless --max-tokens asks for more", async (context) => {
    needFiles(context, stories260K);
    const { stderr } = await cria(["generate", stories260K, ...greedy, "--ignore-eos"]);
    expect(stderr).toMatch(/^cria: 128 tokens \(the context is full\)/);
    const exact = await cria(["generate", stories260K, ...greedy, "--ignore-eos", "--max-tokens", "128"]);
    expect(exact.stderr).not.toContain("warning");
    const past = await cria(["generate", stories260K, ...greedy, "--ignore-eos", "--max-tokens", "129"]);
    expect(past.stderr).toContain("warning");
  });
});

describe("the tiny model", () => {
  it("speaks where no model is given", async () => {
    const { code, stdout, stderr } = await cria(["generate", "--prompt", "Once upon a time", ...greedy]);
    expect(stdout).toMatch(/^, there was a little girl named Lily\. She loved to play/);
    expect(stderr).toMatch(
      /^cria: \d+ tokens \(the context is full\) at [\d.]+ tokens\/s, prompt of 5 at [\d.]+ tokens\/s/,
    );
    expect(code).toBe(0);
  });

  it("--json: the text that is streamed otherwise, and nothing for people", async () => {
    const argv = ["generate", "--prompt", "Once upon a time", "--seed", "7", "--max-tokens", "20"];
    const streamed = await cria(argv);
    const { code, stdout, stderr } = await cria([...argv, "--json"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const report = JSON.parse(stdout) as Report;
    expect(Object.keys(report)).toEqual([
      "text",
      "tokens",
      "tokenIds",
      "promptTokens",
      "finishReason",
      "seed",
      "timings",
    ]);
    expect(report).toMatchObject({
      text: streamed.stdout,
      tokens: 20,
      promptTokens: 5,
      finishReason: "length",
      seed: 7,
    });
    expect(report.tokenIds).toHaveLength(20);
    const { loadMs, prefillMs, decodeMs, prefillTokensPerSecond, decodeTokensPerSecond } = report.timings;
    expect(Object.keys(report.timings)).toHaveLength(5);
    for (const time of [loadMs, prefillMs, decodeMs]) expect(time).toBeGreaterThan(0);
    expect(prefillTokensPerSecond).toBeCloseTo(5 / (prefillMs! / 1e3), 3);
    expect(decodeTokensPerSecond).toBeCloseTo(19 / (decodeMs! / 1e3), 3);
  });

  it("the sampler's options reach the sampler", async () => {
    const say = async (...options: string[]) =>
      (await criaJson<Report>("generate", "--seed", "3", "--max-tokens", "40", "--ignore-eos", ...options)).text;
    const best = await say(...greedy);
    expect(await say("--top-k", "1")).toBe(best);
    expect(await say("--top-p", "0")).toBe(best);
    expect(await say("--min-p", "1")).toBe(best);
    expect(await say(...greedy, "--repeat-penalty", "2")).not.toBe(best);
    const plain = await say();
    expect(plain).not.toBe(best);
    expect(await say("--seed", "4")).not.toBe(plain);
    expect(await say("--temperature", "2")).not.toBe(plain);
  });

  it("at a terminal the prompt comes before the text, and a line's end after it", async () => {
    const argv = ["generate", "--prompt", "Once upon a time", ...greedy, "--max-tokens", "10"];
    const [piped, shown] = [await cria(argv), await cria(argv, { isTTY: true })];
    expect(shown.stdout).toBe(`Once upon a time${piped.stdout}\n`);
  });

  it("--tokenizer takes another file's vocabulary, of the same size", async (context) => {
    needFiles(context, llama2Vocabulary);
    const { code, stderr } = await cria(["generate", "--tokenizer", llama2Vocabulary]);
    expect(stderr).toBe(
      `cria: ${llama2Vocabulary}: must have 1024 tokens, as the model has, not 32000 (ERR_CRIA_FILE)\n`,
    );
    expect(code).toBe(1);
  });

  it("ends with the interruption's exit code", async () => {
    const controller = new AbortController();
    const { code, stdout, stderr } = await cria(["generate", "--ignore-eos", "--max-tokens", "100000"], {
      signal: controller.signal,
      onOutput: () => controller.abort(new Interruption("interrupted", 130)),
    });
    expect(code).toBe(130);
    expect(stdout).not.toBe("");
    expect(stderr).not.toContain("ERR_CRIA");
  });
});
