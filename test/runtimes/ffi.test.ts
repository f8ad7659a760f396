import { describe, expect, test } from "vitest";

import { needFiles, packageFile } from "../support/data.js";
import { compiled, library } from "./compiled.js";
import { matmul, parse, program } from "./examples.js";
import { bun, deno, needProgram, needRuntime, printed } from "./runtimes.js";

const example = (...path: string[]) => packageFile("examples", ...path);

describe("the C ABI gives the addon's bits", () => {
  test.for(["c99", "c11"])("in %s: a kernel", async (standard, context) => {
    needFiles(context, library);
    await needProgram(context, "gcc");
    expect(parse(await compiled("gcc", standard, example("c", "matmul.c")))).toEqual(matmul());
  });

  test.for(["c99", "c11"])("in %s: a program", async (standard, context) => {
    needFiles(context, library);
    await needProgram(context, "gcc");
    expect(parse(await compiled("gcc", standard, example("c", "program.c")))).toEqual(program());
  });

  test("in C++17", async (context) => {
    needFiles(context, library);
    await needProgram(context, "g++");
    expect(parse(await compiled("g++", "c++17", example("cpp", "matmul.cc")))).toEqual(matmul());
  });

  test("in Python", async (context) => {
    needFiles(context, library);
    await needProgram(context, "python3");
    expect(parse(await printed("python3", [example("python", "matmul.py"), library], "/"))).toEqual(matmul());
  });

  test("in Bun", async (context) => {
    needFiles(context, library);
    needRuntime(context, bun);
    expect(parse(await printed(bun.executable, [example("bun", "matmul.ts"), library], "/"))).toEqual(matmul());
  });

  test("in Deno, by whose types it is right too", async (context) => {
    needFiles(context, library);
    needRuntime(context, deno);
    const options = ["run", "--quiet", "--check", "--no-config", "--allow-ffi"];
    const output = await printed(deno.executable, [...options, example("deno", "matmul.ts"), library], "/");
    expect(parse(output)).toEqual(matmul());
  });
});
