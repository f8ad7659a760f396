import { describe, expect, test } from "vitest";

import * as kernels from "../../lib/kernels.js";
import { needFiles, packageFile } from "../support/data.js";
import { compiled, library } from "./compiled.js";
import product from "./fixtures/product.cjs";
import { bun, deno, needProgram, needRuntime, printed } from "./runtimes.js";

const example = (...path: string[]) => packageFile("examples", ...path);

/** The lines of numbers that an example prints, and the sentence after them. Numbers are printed so that no bit is lost. */
function parse(output: string): { numbers: number[]; refusal: string } {
  const lines = output.trimEnd().split("\n");
  const refusal = lines.pop()!;
  return { numbers: lines.flatMap((line) => line.split(" ").map(Number).map(Math.fround)), refusal };
}

const refusal = "refused with 1: cols: must be a multiple of 32 in q4_0, not 65";
const expectedProduct = () => ({ numbers: product(kernels), refusal });

/** logits = head rmsnorm(embed(token)) of the tokens 2 and 7, with the weights of examples/c/program.c. */
function logitsByKernels(): number[] {
  const [vocabulary, dim] = [8, 32];
  const matrix = (data: Float32Array) => kernels.packWeights({ type: "f32", rows: vocabulary, cols: dim, data });
  const table = matrix(Float32Array.from({ length: vocabulary * dim }, (_, i) => (((7 * i) % 13) - 6) / 8));
  const head = matrix(Float32Array.from({ length: vocabulary * dim }, (_, i) => (((5 * i) % 11) - 5) / 8));
  const weight = Float32Array.from({ length: dim }, (_, i) => ((i % 3) + 1) / 2);
  const tokens = Int32Array.of(2, 7);
  const x = new Float32Array(tokens.length * dim);
  kernels.embed({ table, tokens, out: x });
  kernels.rmsNorm({ x, weight, eps: 1e-5, out: x });
  const out = new Float32Array(tokens.length * vocabulary);
  kernels.matmul({ weight: head, x, out });
  return Array.from(out);
}

describe("the C ABI gives the addon's bits", () => {
  test.for(["c99", "c11"])("in %s: a kernel", async (standard, context) => {
    needFiles(context, library);
    await needProgram(context, "gcc");
    expect(parse(await compiled("gcc", standard, example("c", "matmul.c")))).toEqual(expectedProduct());
  });

  test.for(["c99", "c11"])("in %s: a program", async (standard, context) => {
    needFiles(context, library);
    await needProgram(context, "gcc");
    expect(parse(await compiled("gcc", standard, example("c", "program.c")))).toEqual({
      numbers: logitsByKernels(),
      refusal: "refused with 1: program: must not be finished",
    });
  });

  test("in C++17", async (context) => {
    needFiles(context, library);
    await needProgram(context, "g++");
    expect(parse(await compiled("g++", "c++17", example("cpp", "matmul.cc")))).toEqual(expectedProduct());
  });

  test("in Python", async (context) => {
    needFiles(context, library);
    await needProgram(context, "python3");
    const output = await printed("python3", [example("python", "matmul.py"), library], packageFile());
    expect(parse(output)).toEqual(expectedProduct());
  });

  test("in Bun", async (context) => {
    needFiles(context, library);
    needRuntime(context, bun);
    const output = await printed(bun.executable, [example("bun", "matmul.ts"), library], packageFile());
    expect(parse(output)).toEqual(expectedProduct());
  });

  test("in Deno, whose types it has too", async (context) => {
    needFiles(context, library);
    needRuntime(context, deno);
    const options = ["run", "--quiet", "--check", "--no-config", "--allow-ffi"];
    const output = await printed(deno.executable, [...options, example("deno", "matmul.ts"), library], packageFile());
    expect(parse(output)).toEqual(expectedProduct());
  });
});
