import { realpath, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";

import { temporaryFolder } from "../support/gguf-writer.js";
import { packedPackage } from "../support/installed.js";
import { BareSystem, missingForBareSystems } from "./bare-system.js";
import { firstExample, said } from "./first-example.js";
import { bun, deno, needRuntime, node, printed } from "./runtimes.js";

const missing = await missingForBareSystems();

describe("on a Debian with nothing but a runtime", () => {
  let system: BareSystem | undefined;
  let example: string;
  let tarball: string;

  beforeAll(async () => {
    if (missing !== undefined) return;
    system = await BareSystem.create();
    await using folder = await temporaryFolder();
    const file = join(folder.path, "first-example.mjs");
    await writeFile(file, await firstExample());
    example = await system.add(file, "package");
    tarball = await system.add(await packedPackage(folder.path), "package");
  }, 300_000);
  afterAll(() => system?.[Symbol.asyncDispose]());
  beforeEach(({ skip }) => {
    if (missing !== undefined) skip(missing);
  });

  test("there are no compiler and no other runtime", async () => {
    const programs = "cc gcc g++ clang make cmake ninja python3 node npm bun deno";
    expect(await system!.run(`for each in ${programs}; do command -v $each || true; done`, "/")).toBe("");
  });

  test("the package is installed and runs by Node", async () => {
    const paths = [dirname(await system!.add(node.executable, "opt/node"))];
    const npm = dirname(dirname(await realpath((await printed("which", ["npm"], "/")).trim())));
    const cli = join(await system!.add(npm, "opt/node"), "bin", "npm-cli.js");
    const install = `node ${cli} install --ignore-scripts --no-update-notifier ${tarball}`;
    expect(await system!.run(install, "by-node", paths)).toMatch(/added \d+ packages/);
    expect(await system!.run(`cp ${example} . && node ${basename(example)}`, "by-node", paths)).toBe(await said(64));
  });

  test("the package is installed and runs by Bun", async (context) => {
    needRuntime(context, bun);
    const paths = [dirname(await system!.add(bun.executable, "opt/bun"))];
    const install = `echo {} > package.json && bun add ${tarball}`;
    expect(await system!.run(install, "by-bun", paths)).toContain("installed cria@");
    expect(await system!.run(`cp ${example} . && bun ${basename(example)}`, "by-bun", paths)).toBe(await said(64));
  });

  // Deno itself installs from a registry alone; npm, which it runs, installs from a file too.
  test("the package is installed and runs by Deno", async (context) => {
    needRuntime(context, deno);
    const paths = [dirname(await system!.add(deno.executable, "opt/deno"))];
    const install = `deno run --allow-all npm:npm@11 install --ignore-scripts --no-update-notifier ${tarball}`;
    expect(await system!.run(install, "by-deno", paths)).toMatch(/added \d+ packages/);
    const run = `cp ${example} . && deno ${deno.options.join(" ")} ${basename(example)}`;
    expect(await system!.run(run, "by-deno", paths)).toBe(await said(64));
  });
});
