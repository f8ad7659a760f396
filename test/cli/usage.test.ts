import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { tinyModel } from "../../lib/tiny.js";
import { targetTypes } from "../../lib/weights/mixtures.js";
import { llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { cria, criaJson } from "./run.js";

const commands = [
  "generate",
  "chat",
  "tokenize",
  "logits",
  "perplexity",
  "eval",
  "inspect",
  "pack",
  "quantize",
  "convert",
  "doctor",
  "bench",
];

describe("help", () => {
  it("names every command", async () => {
    const { code, stdout, stderr } = await cria(["--help"]);
    expect(code).toBe(0);
    expect(stderr).toBe("");
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^ {2}${command} `, "m"));
  });

  it.for([
    [
      "generate",
      "prompt suffix max-tokens temperature top-k typical-p top-p min-p repeat-penalty presence-penalty frequency-penalty " +
        "logit-bias seed min-tokens stop stop-tokens ignore-eos window logprobs echo speculate draft tokenizer quantize threads isa " +
        "device cache cache-size lora lora-merge no-mmap json",
    ],
    [
      "chat",
      "template system max-tokens temperature top-k typical-p top-p min-p repeat-penalty presence-penalty " +
        "frequency-penalty logit-bias seed min-tokens stop stop-tokens ignore-eos window tokenizer quantize threads isa device " +
        "cache cache-size lora lora-merge no-mmap json",
    ],
    ["tokenize", "tokenizer text json"],
    ["logits", "tokens out tokenizer quantize threads isa device cache cache-size lora lora-merge no-mmap json"],
    ["perplexity", "file context tokenizer quantize threads isa device cache cache-size lora lora-merge no-mmap json"],
    ["eval", "task context tokenizer quantize threads isa device cache cache-size lora lora-merge no-mmap json"],
    ["inspect", "context tokenizer quantize cache cache-size json"],
    ["pack", "tokenizer threads json"],
    ["quantize", "type tokenizer threads json"],
    ["convert", "type tokenizer threads json"],
    ["doctor", "json"],
    [
      "bench",
      "ops shapes tokens shape format model prompt gen context serving sequences peer peer-dir write-gguf compare report from tokenizer quantize threads isa device cache cache-size lora lora-merge no-mmap json",
    ],
  ] as const)("%s: has its options, whatever else is wrong", async ([command, options]) => {
    const { code, stdout, stderr } = await cria([command, "--nonsense", "--help"]);
    expect(code).toBe(0);
    expect(stderr).toBe("");
    expect([...stdout.matchAll(/^ {2}--([a-z-]+)/gm)].map(([, name]) => name)).toEqual([...options.split(" "), "help"]);
  });

  it.each(["quantize", "convert"])("%s: has all types that it takes", async (command) => {
    const { stdout } = await cria([command, "--help"]);
    for (const type of targetTypes) expect(stdout).toMatch(new RegExp(`^ {2}--type .* ${type}\\b`, "m"));
  });

  it("--version is package.json's", async () => {
    const { version } = (await import("../../package.json")).default;
    expect(await cria(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  });
});

describe("a wrong command line is exit code 2, with a hint and nothing on stdout", () => {
  it.for<[string[], string]>([
    [[], "cria: a command must be given"],
    [["sing"], "cria: sing: is not a command"],
    [["constructor"], "cria: constructor: is not a command"],
    [["generate", "--volume", "11"], "cria generate: Unknown option '--volume'"],
    [["generate", "one.gguf", "two.gguf"], 'cria generate: MODEL: must be one file, not also "two.gguf"'],
    [["generate", "--seed"], "cria generate: Option '--seed <value>' argument missing"],
    [["generate", "--ignore-eos=yes"], "cria generate: Option '--ignore-eos' does not take an argument"],
    [
      ["generate", "--logit-bias", "foo"],
      'cria generate: --logit-bias: must be an id and a number, such as 29889=-1.5, not "foo"',
    ],
    [["generate", "--logit-bias", "foo=1"], 'cria generate: --logit-bias: must be an integer, not "foo"'],
    [["generate", "--top-k", "12abc"], 'cria generate: --top-k: must be an integer, not "12abc"'],
    [["generate", "--top-k", "0x10"], 'cria generate: --top-k: must be an integer, not "0x10"'],
    [["generate", "--top-k", "1.5"], 'cria generate: --top-k: must be an integer, not "1.5"'],
    [["generate", "--top-k", ""], 'cria generate: --top-k: must be an integer, not ""'],
    [["generate", "--top-k=-1"], "cria generate: --top-k: must be an integer of at least 0, not -1"],
    [
      ["generate", "--seed", "99999999999999999999"],
      'cria generate: --seed: must be an integer, not "99999999999999999999"',
    ],
    [["generate", "--temperature", "0x1"], 'cria generate: --temperature: must be a number, not "0x1"'],
    [["generate", "--temperature", "NaN"], 'cria generate: --temperature: must be a number, not "NaN"'],
    [["generate", "--temperature=-1"], "cria generate: --temperature: must be a number of at least 0, not -1"],
    [["generate", "--min-p", "1.5"], "cria generate: --min-p: must be a number from 0 to 1, not 1.5"],
    [["generate", "--max-tokens", "0"], "cria generate: --max-tokens: must be an integer from 1 to 16777216, not 0"],
    [["generate", "--threads", "0"], "cria generate: --threads: must be an integer from 1 to 256, not 0"],
    [["generate", "--isa", "neon"], 'cria generate: --isa: must be scalar, avx2 or avx512, not "neon"'],
    [["generate", "--device", "tpu"], 'cria generate: --device: must be auto, cpu, cuda or cuda-emulated, not "tpu"'],
    [["generate", "--cache", "f64"], 'cria generate: --cache: must be one of f32, f16, q8_0, not "f64"'],
    [["generate", "--cache", "f16:"], 'cria generate: --cache.values: must be one of f32, f16, q8_0, not ""'],
    [
      ["generate", "--cache", "f16:f16:f16"],
      'cria generate: --cache: must be one of f32, f16, q8_0, not "f16:f16:f16"',
    ],
    [["generate", "--speculate", "draft"], 'cria generate: --speculate: must be prompt, not "draft"'],
    [
      ["generate", "--speculate", "prompt", "--draft", tinyModel],
      "cria generate: --draft: must not be given with --speculate",
    ],
    [["generate", "--window", "--speculate", "prompt"], "cria generate: --window: must not be given with --speculate"],
    [["generate", "--window", "--draft", tinyModel], "cria generate: --window: must not be given with --draft"],
    [["generate", "--logprobs", "3"], "cria generate: --logprobs: must be given with --json, which tells of it"],
    [["generate", "--echo"], "cria generate: --echo: must be given with --json, which tells of it"],
    [["tokenize", "--text", "a"], "cria tokenize: MODEL: must be given"],
    [["tokenize", tinyModel], "cria tokenize: --text: must be given"],
    [["logits", tinyModel, "--out", "x"], "cria logits: --tokens: must be given"],
    [["logits", tinyModel, "--tokens", "1"], "cria logits: --out: must be given"],
    [["logits", tinyModel, "--tokens", "1,,2", "--out", "x"], 'cria logits: --tokens: must be an integer, not ""'],
    [
      ["logits", tinyModel, "--tokens", "1,1024", "--out", "x"],
      "cria logits: --tokens: must be ids from 0 to 1023, the vocabulary, not 1024",
    ],
    [["perplexity", tinyModel], "cria perplexity: --file: must be given"],
    [
      ["perplexity", tinyModel, "--file", tinyModel, "--context", "1"],
      "cria perplexity: --context: must be an integer from 2 to 16777216, not 1",
    ],
    [["inspect"], "cria inspect: MODEL: must be given"],
    [["pack"], "cria pack: MODEL: must be given"],
    [["pack", tinyModel], "cria pack: OUT: must be given"],
    [["pack", tinyModel, "one", "two"], 'cria pack: OUT: must be one file, not also "two"'],
    [["pack", tinyModel, "one", "--threads", "0"], "cria pack: --threads: must be an integer from 1 to 256, not 0"],
    [
      ["quantize", tinyModel, "one", "--type", "q4"],
      "cria quantize: --type: must be one of f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl, q2_K, q3_K, q4_K, " +
        'q5_K, q6_K, q3_K_S, q3_K_M, q3_K_L, q4_K_S, q4_K_M, q5_K_S, q5_K_M, not "q4"',
    ],
    [
      ["convert", tinyModel, "one", "--threads", "0"],
      "cria convert: --threads: must be an integer from 1 to 256, not 0",
    ],
    [["quantize", tinyModel, "one"], "cria quantize: --type: must be given"],
    [["bench", "model.gguf"], 'cria bench: "model.gguf": must be an option, for the command has no operand'],
    [
      ["bench", "--shape", "8b"],
      'cria bench: --shape: must be one of stories15m, tinyllama, 7b, 13b, 33b, 34b, 65b, 70b, not "8b"',
    ],
    [
      ["bench", "--format", "q7_k"],
      'cria bench: --format: must be one of f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_K, q3_K, q4_K, q5_K, q6_K, iq4_nl, q4_z, not "q7_k"',
    ],
    [["bench", "--context", "0"], "cria bench: --context: must be an integer from 1 to 1048576, not 0"],
    [["bench", "--sequences", "0"], "cria bench: --sequences: must be an integer from 1 to 512, not 0"],
    [
      ["bench", "--ops", "add,mul"],
      'cria bench: --ops: must be one of matmul_q4, matmul_q8, matmul_q4_1, matmul_q5_0, matmul_q5_1, matmul_iq4_nl, matmul_q2_k, matmul_q3_k, matmul_q4_k, matmul_q5_k, matmul_q6_k, matmul_q4_z, matmul_f, attention, rmsnorm, quantize, rope, swiglu, add, embed, not "mul"',
    ],
    [["bench", "--ops", "add", "--tokens", "1,513"], "cria bench: --tokens: must be an integer from 1 to 512, not 513"],
    [
      ["bench", "--ops", "add", "--isa", "avx2,neon"],
      'cria bench: --isa: must be one of scalar, avx2, avx512, not "neon"',
    ],
    [["bench", "--ops", "--device", "cuda"], "cria bench: --device: must not stand with --ops"],
    [["bench", "--ops", "--cache", "f32"], "cria bench: --cache: must not stand with --ops"],
    [["bench", "--ops", "--shape", "7b"], "cria bench: --shape: must not stand with --ops"],
    [["bench", "--ops", "--format", "q8_0"], "cria bench: --format: must not stand with --ops"],
    [["bench", "--ops", "--model", "x"], "cria bench: --model: must not stand with --ops"],
    [["bench", "--ops", "--prompt", "1"], "cria bench: --prompt: must not stand with --ops"],
    [["bench", "--ops", "--gen", "1"], "cria bench: --gen: must not stand with --ops"],
    [["bench", "--ops", "--context", "1"], "cria bench: --context: must not stand with --ops"],
    [["bench", "--ops", "--sequences", "1"], "cria bench: --sequences: must not stand with --ops"],
    [["bench", "--ops", "--peer", "x"], "cria bench: --peer: must not stand with --ops"],
    [["bench", "--ops", "--peer-dir", "x"], "cria bench: --peer-dir: must not stand with --ops"],
    [["bench", "--ops", "--write-gguf", "x"], "cria bench: --write-gguf: must not stand with --ops"],
    [["bench", "--shapes", "1"], "cria bench: --shapes: must only stand with --ops"],
    [["bench", "--tokens", "1"], "cria bench: --tokens: must only stand with --ops"],
    [["bench", "--peer-dir", "x"], "cria bench: --peer-dir: must only stand with --peer"],
    [["bench", "--model", "x", "--format", "f16"], "cria bench: --format: must not stand with --model"],
    [["bench", "--isa", "neon"], 'cria bench: --isa: must be scalar, avx2 or avx512, not "neon"'],
    [["bench", "--threads", "0x2"], 'cria bench: --threads: must be an integer, not "0x2"'],
    [["bench", "--prompt", "1e2"], 'cria bench: --prompt: must be an integer, not "1e2"'],
    [["bench", "--prompt", ""], 'cria bench: --prompt: must be an integer, not ""'],
    [["bench", "--gen", "-1"], "cria bench: --gen: must be an integer from 1 to 1048576, not -1"],
    [["bench", "--gen", "0"], "cria bench: --gen: must be an integer from 1 to 1048576, not 0"],
  ])("%j", async ([argv, problem]) => {
    const { code, stdout, stderr } = await cria(argv);
    const [first, ...rest] = stderr.trimEnd().split("\n");
    expect(first).toBe(problem);
    expect(rest.at(-1)).toMatch(/^Try: cria( \w+)? --help$/);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });

  it("types are taken in capitals too, as llama.cpp writes them", async () => {
    await using folder = await temporaryFolder();
    const [out, path] = [
      join(folder.path, "out.gguf"),
      await folder.write("model.gguf", llamaFile({ dim: 256, type: "f16" })),
    ];
    const typesOf = async (...argv: string[]) => Object.keys((await criaJson<{ tensors: object }>(...argv)).tensors);
    expect(await typesOf("quantize", path, out, "--type", "Q4_K_M")).toEqual(expect.arrayContaining(["q4_K", "q6_K"]));
    expect(await typesOf("convert", path, out, "--type", "BF16")).toContain("bf16");
    expect(await typesOf("inspect", path, "--quantize", "Q4_K")).toContain("q4_K");
    const cached = async (cache: string) =>
      (await criaJson<{ memory: { total: number } }>("inspect", path, "--cache", cache)).memory.total;
    expect(await cached("Q8_0:F16")).toBe(await cached("q8_0:f16"));
    expect(await cached("F32")).toBe(await cached("f32"));
  });

  it("a value that begins with a dash is written after an equals sign", async () => {
    expect((await cria(["tokenize", tinyModel, "--text", "-a"])).code).toBe(2);
    expect((await cria(["tokenize", tinyModel, "--text=-a"])).code).toBe(0);
  });
});

describe("what fails is exit code 1 and one line with the error's code", () => {
  it.for<[string[], string]>([
    [["generate", "--device", "cuda"], "ERR_CRIA_UNSUPPORTED"],
    [["generate", "/absent.gguf"], "ERR_CRIA_FILE"],
    [["generate", "--prompt", "a", "--suffix", "b"], "ERR_CRIA_UNSUPPORTED"],
    [["inspect", "/absent.gguf"], "ERR_CRIA_FILE"],
    [["tokenize", "/absent.gguf", "--text", "a"], "ERR_CRIA_FILE"],
    [
      ["perplexity", tinyModel, "--file", "/absent.txt"],
      "/absent.txt: cannot be read: no such file or directory (ERR_CRIA_FILE)",
    ],
    [["perplexity", tinyModel, "--file", "/dev/null"], "ERR_CRIA_ARGUMENT"],
    [["logits", tinyModel, "--tokens", "1", "--out", "/absent/logits"], "ERR_CRIA_FILE"],
    [
      ["logits", tinyModel, "--tokens", "1", "--out", "/dev/full"],
      "/dev/full: cannot be written: no space left on device",
    ],
    [["bench", "--model", "/absent.gguf"], "ERR_CRIA_FILE"],
    [["pack", "/absent.gguf", "/absent.cria"], "ERR_CRIA_FILE"],
    [["pack", tinyModel, tinyModel], "ERR_CRIA_FILE"],
    [["convert", tinyModel, tinyModel], "must not be a file of the model itself"],
    [["logits", tinyModel, "--tokens", Array(193).fill("1").join(), "--out", "/absent/logits"], "ERR_CRIA_CONTEXT"],
    [["generate", "--prompt", "a ".repeat(200)], "ERR_CRIA_CONTEXT"],
    [["generate", "--prompt", "a ".repeat(200), "--max-tokens", "1000"], "ERR_CRIA_CONTEXT"],
  ])("%j: %s", async ([argv, error]) => {
    const { code, stdout, stderr } = await cria(argv);
    expect(stderr).toMatch(/^cria: .*\n$/);
    expect(stderr).toContain(error);
    expect(stdout).toBe("");
    expect(code).toBe(1);
  });

  it("a damaged file: its name and what is wrong with it", async () => {
    await using folder = await temporaryFolder();
    const file = await folder.write("damaged.gguf", Buffer.from("GGML, once upon a time"));
    const { code, stderr } = await cria(["generate", file]);
    expect(stderr).toBe(`cria: ${file}: must begin with "GGUF", not "GGML" (ERR_CRIA_FILE)\n`);
    expect(code).toBe(1);
  });
});
