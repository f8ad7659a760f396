import { readFileSync } from "node:fs";
import { describe, expect, it, onTestFinished, vi } from "vitest";

import { Interruption } from "../../lib/cli/io.js";
import { native } from "../../lib/native.js";
import { tinyModel } from "../../lib/tiny.js";
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
  logprobs?: { token: number; logprob: number; top: { token: number }[] }[];
  promptLogprobs?: object[];
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
  it("says the same with prompt lookup, and with a draft", async () => {
    const argv = ["generate", "--prompt", "Once upon a time", ...greedy, "--max-tokens", "60"];
    const plain = await cria(argv);
    for (const how of [
      ["--speculate", "prompt"],
      ["--draft", tinyModel],
    ]) {
      const { code, stdout, stderr } = await cria([...argv, ...how]);
      expect(stdout).toBe(plain.stdout);
      expect(stderr).toMatch(/\d+ of \d+ guesses right, prompt of 5 at/);
      expect(code).toBe(0);
    }
    const { speculation } = await criaJson<{ speculation: object }>(...argv, "--draft", tinyModel);
    expect(Object.keys(speculation)).toEqual(["proposed", "accepted", "steps", "off"]);
  });

  it("has no draft of another vocabulary", async (context) => {
    needFiles(context, stories260K);
    const { code, stderr } = await cria(["generate", "--draft", stories260K]);
    expect(stderr).toContain(`${stories260K}: must have 1024 tokens, as the model has, not 512 (ERR_CRIA_FILE)`);
    expect(code).toBe(1);
  });

  it("speaks where no model is given", async () => {
    const { code, stdout, stderr } = await cria(["generate", "--prompt", "Once upon a time", ...greedy]);
    expect(stdout).toMatch(/^, there was a little girl named Lily\. She loved to play/);
    expect(stderr).toMatch(
      /^cria: \d+ tokens \(the context is full\) at [\d.]+ tokens\/s, prompt of 5 at [\d.]+ tokens\/s/,
    );
    expect(code).toBe(0);
  });

  it("tells why --device auto is the CPU, and of the CPU where nobody asked", async () => {
    const describe = native.deviceDescribe;
    const absent = { available: false, kind: "cuda", code: "ERR_CRIA_UNSUPPORTED", reason: "none here" } as const;
    vi.spyOn(native, "deviceDescribe").mockImplementation((kind) => (kind === "cuda" ? absent : describe(kind)));
    onTestFinished(() => void vi.restoreAllMocks());
    const told = async (...options: string[]) => {
      const { stderr } = await cria(["generate", "--max-tokens", "2", "--seed", "1", ...options]);
      return /; (cpu, .*), seed 1\n$/.exec(stderr)?.[1];
    };
    expect(await told()).toMatch(/^cpu, \w+, \d+ threads?$/);
    expect(await told("--device", "auto")).toMatch(
      /^cpu, \w+, \d+ threads? \(device: cuda is not available: none here\)$/,
    );
    expect(await told("--device", "auto", "--threads", "1")).toMatch(
      /^cpu, \w+, 1 thread \(--threads is of the CPU\)$/,
    );
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
    expect(await say("--typical-p", "0.3")).not.toBe(await say());
    expect(await say(...greedy, "--repeat-penalty", "2")).not.toBe(best);
    const plain = await say();
    expect(plain).not.toBe(best);
    expect(await say("--seed", "4")).not.toBe(plain);
    expect(await say("--temperature", "2")).not.toBe(plain);
  });

  it("the generation's options reach the generation", async () => {
    const argv = ["generate", "--prompt", "Once upon a time", ...greedy, "--max-tokens", "12"];
    const say = (...options: string[]) => criaJson<Report>(...argv, ...options);
    const plain = await say();
    const [first, second] = plain.tokenIds;
    expect((await say("--stop", "nowhere", "--stop", "girl")).text).toBe(plain.text.split("girl")[0]);
    expect(await say("--stop-tokens", `5,${second}`)).toMatchObject({
      tokenIds: [first],
      finishReason: "stop",
      stop: second,
    });
    const late = await say("--stop-tokens", String(second), "--min-tokens", "12");
    expect(late).toMatchObject({ tokens: 12, finishReason: "length" });
    expect(late.tokenIds).not.toContain(second);
    const never = await say("--logit-bias", `${first}=-inf`, "--logit-bias", `${second}=-inf`);
    expect(never.tokenIds).not.toContain(first);
    expect(never.tokenIds).not.toContain(second);
    expect((await say("--logit-bias", "300=50.5")).tokenIds).toEqual(new Array(12).fill(300));
    const penalised = async (...options: string[]) =>
      (await say("--logit-bias", "300=50", ...options)).tokenIds.filter((id) => id === 300).length;
    expect(await penalised("--presence-penalty", "100")).toBe(1);
    // Its logit is some 8 below the best ones': 50 - 8 is above 0, 10, ... and 40.
    expect(await penalised("--frequency-penalty", "10")).toBe(5);
    const scored = await say("--logprobs", "2", "--echo");
    expect(scored.tokenIds).toEqual(plain.tokenIds);
    expect(scored.logprobs!.map(({ top }) => top.map(({ token }) => token))).toEqual(
      plain.tokenIds.map((token) => [token, expect.any(Number)]),
    );
    expect(scored.promptLogprobs).toHaveLength(4);
  });

  it.for([
    [["--logit-bias", "300"], '--logit-bias: must be an id and a number, such as 29889=-1.5, not "300"'],
    [["--logit-bias", "x=1"], '--logit-bias: must be an integer, not "x"'],
    [["--logit-bias", "1=2=3"], '--logit-bias: must be a number, not "2=3"'],
    [["--logit-bias", "-1=2"], "--logit-bias: must be an integer of at least 0, not -1"],
    [["--logit-bias", "1024=2"], "--logit-bias: must be for tokens from 0 to 1023, not 1024"],
    [["--min-tokens", "300"], "--min-tokens: must be an integer from 0 to 256, not 300"],
    [["--stop-tokens", "1,x"], '--stop-tokens: must be an integer, not "x"'],
    [["--logprobs", "21"], "--logprobs: must be an integer from 0 to 20, not 21"],
    [["--typical-p", "2"], "--typical-p: must be a number from 0 to 1, not 2"],
  ] as const)("refuses %j", async ([options, message]) => {
    const { code, stderr } = await cria(["generate", ...options]);
    expect(stderr).toContain(message);
    expect(code).toBe(2);
  });

  it("at a terminal the prompt comes before the text, and a line's end after it", async () => {
    const argv = ["generate", "--prompt", "Once upon a time", ...greedy, "--max-tokens", "10"];
    const [piped, shown] = [await cria(argv), await cria(argv, { isTTY: true })];
    expect(shown.stdout).toBe(`Once upon a time${piped.stdout}\n`);
  });

  it("sends a terminal no control characters, and a pipe what there is", async () => {
    const bias = "--logit-bias=30=1000"; // <0x1B>, after three tokens of no byte
    const argv = ["generate", "--prompt", "\x1b[2J", ...greedy, "--max-tokens", "2", bias];
    expect((await cria(argv)).stdout).toBe("\x1b\x1b");
    expect((await cria(argv, { isTTY: true })).stdout).toBe("\ufffd[2J\ufffd\ufffd\n");
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
