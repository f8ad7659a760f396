/** What the binaries call that is not theirs: by it they stand or fall where Node itself is not the runtime. */
import { createRequire } from "node:module";
import { describe, expect, type TestContext, test } from "vitest";

import { needFiles, packageFile } from "../support/data.js";
import { compiled, library } from "./compiled.js";
import { needProgram, printed } from "./runtimes.js";

interface Symbols {
  js_native_api_symbols: string[];
  node_api_symbols: string[];
}

const addon = packageFile("build", "Release", "cria.node");

/** The version of Node-API that package.json, and CMakeLists.txt, name. */
const { binary } = createRequire(import.meta.url)("../../package.json") as { binary: { napi_versions: [number] } };
const [version] = binary.napi_versions;

/** The functions of that version, by Node's own headers. */
const { symbols } = createRequire(import.meta.url)("node-api-headers") as { symbols: Record<string, Symbols> };
const { js_native_api_symbols, node_api_symbols } = symbols[`v${version}`]!;
const nodeApi = new Set([...js_native_api_symbols, ...node_api_symbols]);

/** The symbols that a library leaves to others, without their versions. */
async function imports(context: TestContext, file: string): Promise<string[]> {
  needFiles(context, file);
  await needProgram(context, "nm");
  const output = await printed("nm", ["--dynamic", "--undefined-only", "--just-symbols", file], packageFile());
  return output
    .trimEnd()
    .split("\n")
    .map((name) => name.split("@", 1)[0]!);
}

describe("the addon", () => {
  test("calls functions of Node-API 8 alone: any Node, Bun, Deno and Electron have them", async (context) => {
    const names = (await imports(context, addon)).filter((name) => /^(napi|node_api)_/.test(name));
    expect(names).toContain("napi_create_function");
    expect(names.filter((name) => !nodeApi.has(name))).toEqual([]);
  });

  test("calls neither libuv nor V8 nor Node's C++", async (context) => {
    const names = await imports(context, addon);
    expect(names.filter((name) => /^uv_|v8|^_ZN4node/.test(name))).toEqual([]);
  });

  test("hands no memory of its own to JavaScript, which Electron's V8 refuses", async (context) => {
    const names = await imports(context, addon);
    expect(names).toContain("napi_create_arraybuffer");
    expect(names.filter((name) => name.includes("external_buffer") || name.includes("external_arraybuffer"))).toEqual(
      [],
    );
  });
});

describe("the core", () => {
  test("calls the allocator neither for weights nor for caches: Electron's refuses them from 1 GiB on", async (context) => {
    needFiles(context, library);
    await needProgram(context, "gcc");
    expect(await imports(context, library)).not.toContain("posix_memalign");
    const source = packageFile("test", "runtimes", "fixtures", "arenas.c");
    expect(await compiled("gcc", "c99", source)).toBe(`${2 ** 30} ${2 ** 30}\n`);
  });
});
