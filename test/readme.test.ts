import { existsSync, readdirSync, readFileSync } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import { evaluateChoices, parseChoiceItems } from "../lib/evaluate.js";
import * as cria from "../lib/index.js";
import * as kernels from "../lib/kernels.js";
import { packageRoot } from "../lib/package.js";
import { temporaryFolder } from "./support/gguf-writer.js";
import { tinyAdapter } from "./support/lora.js";

const textOf = (...path: string[]) => readFileSync(join(packageRoot, ...path), "utf8");
const blocks = (language: string, text: string) =>
  Array.from(text.matchAll(RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms")), ([, code]) => code!);
const examples = blocks("js", textOf("README.md"));

/** Those of docs/ that are for Node.js; the tests of other runtimes have the others. */
const folder = join(packageRoot, "docs");
const docs = existsSync(folder) ? readdirSync(folder, { recursive: true, encoding: "utf8" }) : [];
const inDocs = docs
  .filter((name) => name.endsWith(".md") && !name.startsWith("api"))
  .flatMap((name) => blocks("js", textOf("docs", name)).map((code) => ({ name, code })))
  .filter(({ code }) => !/\bDeno\.|"bun:/.test(code));

const modules: Readonly<Record<string, object>> = { cria, "cria/kernels": kernels, "node:fs/promises": fs };

/** The `@example`s of the docstrings in lib/, each with the line that its docstring is of. */
const documented = readdirSync(join(packageRoot, "lib"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".ts"))
  .flatMap((name) =>
    textOf("lib", name)
      .split(/^ *\/\*\*/m)
      .slice(1),
  )
  .flatMap((text) => {
    const [docstring, after] = text.split("*/", 2) as [string, string];
    const lines = docstring.replace(/^ *\* ?/gm, "");
    const of = after.trim().split("\n", 1)[0]!;
    return Array.from(lines.matchAll(/^@example\n```js\n(.*?)^```$/gms), ([, code]) => ({ of, code: code! }));
  });

/** The numbers that the comments behind an example's `console.log` say it prints: "0.8485…, 1.1313…". */
const promisedBy = (code: string): number[] =>
  Array.from(code.matchAll(/^console\.log\(.*\); \/\/ (-?\d[-\d., …]*)$/gm), ([, list]) => list!)
    .flatMap((list) => list.split(", "))
    .map(Number.parseFloat);

/** Runs an example, with `model` there unless it loads its own; returns all that it prints. */
async function run(code: string): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  const given = await temporaryFolder();
  onTestFinished(() => given[Symbol.asyncDispose]());
  const adapter = code.includes('"adapter.gguf"') ? await tinyAdapter(given) : "";
  const body = code
    .replaceAll('"adapter.gguf"', JSON.stringify(adapter))
    .replaceAll('"tiny-q4_0.gguf"', JSON.stringify(join(given.path, "tiny-q4_0.gguf")))
    .replaceAll('"sequence.cria"', JSON.stringify(join(folder.path, "sequence.cria")))
    .replace(/^import (\{.*\}) from "(.*)";$/gm, 'const $1 = modules["$2"];');
  let printed = "";
  const print = (text: string) => {
    printed += text;
  };
  const names: Record<string, unknown> = {
    modules,
    process: { stdout: { write: print } },
    console: {
      log: (...values: unknown[]) => print(`${values.join(" ")}\n`),
      warn: () => undefined,
    },
  };
  if (!code.includes("loadModel")) {
    const model = await cria.loadModel(cria.tinyModel, { contextLength: 512, onWarning: () => undefined });
    onTestFinished(() => model.dispose());
    names.model = model;
  }
  const AsyncFunction = Object.getPrototypeOf(run).constructor;
  await new AsyncFunction(...Object.keys(names), body)(...Object.values(names));
  expect(readdirSync(folder.path)).toEqual([]); // it cleans up after itself
  return printed;
}

describe("the README's examples of use", () => {
  test.each([
    ...[
      "model.generate(",
      "model.chat(",
      "model.sample(",
      "model.beamSearch(",
      "model.conversation(",
      "model.sequence(",
      "model.score(",
    ],
    ...["model.logprobs(", "estimateMemory(", "model.saveSequence(", "model.loadSequence(", ".removeRange(", ".fork("],
    ...[
      "AbortSignal",
      "onProgress",
      "preempt",
      "priority",
      "logitBias",
      "typicalP",
      "presencePenalty",
      "repeatPenalty",
    ],
    ...[
      "minTokens",
      "echo",
      "logprobs",
      "stop",
      'speculate: "prompt"',
      "draft",
      "window",
      "cacheSize",
      "keys:",
      "hits",
    ],
  ])("show %s", (feature) => {
    expect(examples.some((code) => code.includes(feature))).toBe(true);
  });

  test.for(examples)("run: %s", async (code) => {
    const printed = await run(code);
    if (/write|log\(/.test(code)) expect(printed.length).toBeGreaterThan(10);
    if (code.includes("told > 2000")) expect(printed.length).toBeGreaterThan(2000);
    if (code.includes("hits")) expect(printed).toMatch(/found [1-9]\d* blocks/);
    if (code.includes("preempt")) expect(printed).toMatch(/[1-9]\d* gave way/);
  });

  test("of an item to test a model with is one", async () => {
    using model = await cria.loadModel(cria.tinyModel);
    const items = parseChoiceItems("README.md", blocks("json", textOf("README.md")).join(""));
    expect((await evaluateChoices(model, items)).accuracy.perCharacter).toBe(1);
  });
});

describe.skipIf(inDocs.length === 0)("the examples of docs/", () => {
  test.for(inDocs)("run: $name, $code", async ({ code }) => {
    const printed = await run(code);
    if (/write|log\(/.test(code)) expect(printed.length).toBeGreaterThan(3);
  });
});

describe("the examples of the docstrings", () => {
  test.each(Object.keys(kernels).filter((name) => /^[a-z]/.test(name)))("show the kernel %s", (name) => {
    expect(documented.some(({ code }) => code.includes('"cria/kernels"') && code.includes(`${name}({`))).toBe(true);
  });

  const methods = [
    "generate",
    "chat",
    "sample",
    "beamSearch",
    "logprobs",
    "score",
    "conversation",
    "sequence",
    "saveSequence",
  ];
  test.each(methods)("show %s", (method) => {
    const found = documented.find(({ of }) => RegExp(`^(async )?${method}\\(`).test(of));
    expect(found?.code).toContain(`model.${method}(`);
  });

  test.for(documented)("run: $of", async ({ code }) => {
    const printed = await run(code);
    if (/write|log\(/.test(code)) expect(printed.length).toBeGreaterThan(3);
    const promised = promisedBy(code);
    if (promised.length === 0) return;
    const numbers = printed
      .trim()
      .split(/[\s,]+/)
      .map(Number);
    expect(numbers).toHaveLength(promised.length);
    for (const [i, number] of numbers.entries()) expect(number).toBeCloseTo(promised[i]!, 3);
  });
});
