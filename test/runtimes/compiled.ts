import { join } from "node:path";
import { onTestFinished } from "vitest";

import { packageFile } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { printed } from "./runtimes.js";

/** Where the library is that programs are linked with. */
const libraries = packageFile("build", "Release");
export const library: string = join(libraries, "libcria.so");

const warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"];
const linking = ["-I", packageFile("csrc"), "-L", libraries, "-lcria", `-Wl,-rpath,${libraries}`];

/** What a program of the C ABI prints, compiled with every warning an error. */
export async function compiled(compiler: "gcc" | "g++", standard: string, source: string): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  const program = join(folder.path, "program");
  await printed(compiler, [`-std=${standard}`, ...warnings, source, ...linking, "-o", program], folder.path);
  return printed(program, [], folder.path);
}
