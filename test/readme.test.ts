import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import * as cria from "../lib/index.js";
import * as kernels from "../lib/kernels.js";
import { packageRoot } from "../lib/package.js";
import { temporaryFolder } from "./support/gguf-writer.js";

const section = readFileSync(join(packageRoot, "README.md"), "utf8")
  .split(/^## /m)
  .find((each) => each.startsWith("Use\n"))!;
const examples = Array.from(section.matchAll(/^```js\n(.*?)^```$/gms), ([, code]) => code!);
const modules: Readonly<Record<string, object>> = { cria, "cria/kernels": kernels };

/** Runs an example, with `model` there unless it loads its own; returns all that it prints. */
async function run(code: string): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  const body = code
    .replaceAll('"sequence.cria"', JSON.stringify(join(folder.path, "sequence.cria")))
    .replace(/^import (\{.*\}) from "(.*)";$/gm, 'const $1 = modules["$2"];');
  let printed = "";
  const print = (text: string) => {
    printed += text;
  };
  const names: Record<string, unknown> = {
    modules,
    process: { stdout: { write: print } },
    console: { log: (...values: unknown[]) => print(`${values.join(" ")}\n`) },
  };
  if (!code.includes("loadModel")) {
    const model = await cria.loadModel(cria.tinyModel, { contextLength: 512, onWarning: () => undefined });
    onTestFinished(() => model.dispose());
    names.model = model;
  }
  const AsyncFunction = Object.getPrototypeOf(run).constructor;
  await new AsyncFunction(...Object.keys(names), body)(...Object.values(names));
  return printed;
}

describe("the README's examples of use", () => {
  test("are all there", () => {
    expect(examples.length).toBeGreaterThanOrEqual(6);
  });

  test.for(examples)("run: %s", async (code) => {
    const printed = await run(code);
    if (/write|log\(/.test(code)) expect(printed.length).toBeGreaterThan(10);
    if (code.includes("told > 2000")) expect(printed.length).toBeGreaterThan(2000);
  });
});
