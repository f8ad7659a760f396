import { execFileSync, spawnSync } from "node:child_process";
import { copyFile, mkdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test, vi } from "vitest";

import { abiVersion, BindingError } from "../lib/binding.js";
import { type Host, loadError, runtime } from "../lib/load-error.js";
import { packageFile } from "./support/data.js";
import { temporaryFolder } from "./support/gguf-writer.js";
import { copyBinaries } from "./support/installed.js";

async function emptyFolder(): Promise<string> {
  const folder = await temporaryFolder();
  onTestFinished(() => folder[Symbol.asyncDispose]());
  return folder.path;
}

/** A folder of prebuilt binaries of this system, and those that are in it. */
async function prebuilt(): Promise<{ folder: string; addon: string; core: string; plugin: string }> {
  const folder = await emptyFolder();
  const at = join(folder, "prebuilds", "linux-x64");
  await copyBinaries(at);
  return {
    folder,
    addon: join(at, "cria.glibc.node"),
    core: join(at, "libcria.so"),
    plugin: join(at, "libcria_cuda.so"),
  };
}

/** How a process that loads cria from `folder` ends. */
function loading(folder: string, { flags = [] as string[], ...env }: { flags?: string[]; LIBC?: string } = {}) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      ...flags,
      "-e",
      `try { require(${JSON.stringify(packageFile("dist", "lib", "kernels.js"))}); console.log("loaded"); }
       catch (error) { const { name, code, message, causes } = error; console.log(JSON.stringify({ name, code, message, causes })); }`,
    ],
    { encoding: "utf8", env: { ...process.env, PREBUILDS_ONLY: "1", CRIA_PREBUILD: folder, ...env } },
  );
  if (status !== 0) throw new Error(`exit status ${status}: ${stderr}`);
  return stdout.trim();
}

/** The one error that loading from `folder` throws. */
function failure(...args: Parameters<typeof loading>) {
  const printed = loading(...args);
  const { causes, ...error } = JSON.parse(printed);
  expect(error).toEqual({ name: "CriaError", code: "ERR_CRIA_LOAD", message: expect.any(String) });
  for (const { cause, cure } of causes) expect(error.message).toContain(`\n- ${cause}.\n  ${cure}.`);
  return { ...error, causes } as { message: string; causes: { cause: string; cure: string }[] };
}

describe("the addon of a prebuilt package", () => {
  test("loads", async () => {
    expect(loading((await prebuilt()).folder)).toBe("loaded");
  });

  test("that was left out is told of, with what bundles need", async () => {
    const folder = await emptyFolder();
    const { message, causes } = failure(folder);
    expect(message).toMatch(/^cria's native addon could not be loaded on linux-x64, glibc \d+\.\d+, Node\.js \d+/);
    expect(causes.map(({ cause }) => cause)).toEqual([
      `${join(folder, "prebuilds")}, where prebuilt addons stand, is missing: an installer or a copy has left it out`,
      "or cria's code was bundled, and has left its package",
    ]);
    expect(causes[0]!.cure).toContain("Install cria anew");
    expect(causes[1]!.cure).toContain('Import "cria/linux-x64"');
  });

  test("in whose place there is no folder is told of", async () => {
    const folder = await emptyFolder();
    await writeFile(join(folder, "prebuilds"), "");
    expect(failure(folder).causes[0]!.cause).toContain("where prebuilt addons stand, is missing");
  });

  test("that is for other systems is told of", async () => {
    const folder = await emptyFolder();
    for (const system of ["darwin-arm64", "win32-x64"])
      await mkdir(join(folder, "prebuilds", system), { recursive: true });
    expect(failure(folder).causes).toEqual([
      {
        cause: "there is no prebuilt addon for linux-x64, only for darwin-arm64, win32-x64",
        cure: expect.stringContaining("Run Node.js on one of these"),
      },
    ]);
  });

  test("that is for another C library is told of", async () => {
    const { folder } = await prebuilt();
    expect(failure(folder, { LIBC: "musl" }).causes).toEqual([
      {
        cause: "the C library here is musl, and the prebuilt addon is for glibc",
        cure: expect.stringContaining("Run Node.js on a system with glibc"),
      },
    ]);
  });

  test("without its core library is told of", async () => {
    const { folder, addon, core } = await prebuilt();
    await rm(core);
    const [{ cause, cure }, ...more] = failure(folder).causes as [{ cause: string; cure: string }];
    expect(more).toEqual([]);
    expect(cause).toContain("libcria.so, which must stand beside it, is missing");
    expect(cause).toContain(`${addon} was not loaded: `);
    expect(cure).toContain("Install cria anew");
  });

  test.each(["addon", "core"] as const)("whose %s was copied in part is told of, and ends no process", async (name) => {
    const { folder, ...files } = await prebuilt();
    const file = files[name];
    const bytes = (await readFile(file)).length;
    for (const left of [bytes - 1, bytes >> 1, 4096, 64]) {
      await truncate(file, left);
      expect(failure(folder).causes).toEqual([
        {
          cause: `${file} was copied in part: it has ${left} of ${bytes} bytes`,
          cure: expect.stringContaining("Install cria anew"),
        },
      ]);
    }
  });

  test("whose CUDA plugin was copied in part is told of", async () => {
    const { folder, core, plugin } = await prebuilt();
    await copyFile(core, plugin); // any library: it is not loaded before a GPU is looked for
    expect(loading(folder)).toBe("loaded");
    await truncate(plugin, 4096);
    expect(failure(folder).causes[0]!.cause).toMatch(`${plugin} was copied in part: it has 4096 of `);
  });

  test.each([
    ["nothing", ""],
    ["a pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 337688\n"],
  ])("that holds %s is told of", async (_, text) => {
    const { folder, addon } = await prebuilt();
    await writeFile(addon, text);
    expect(failure(folder).causes[0]!.cause).toBe(
      `${addon} is no library: its ${text.length} bytes were damaged, or stand for a file that was not fetched`,
    );
  });

  test.each([
    [183, "was made for arm64, not for x64"],
    [22, "was made for the processor with ELF's number 22, not for x64"],
  ])("for the processor %i is told of", async (machine, told) => {
    const { folder, addon } = await prebuilt();
    const file = await readFile(addon);
    file.writeUInt16LE(machine, 18);
    await writeFile(addon, file);
    expect(failure(folder).causes[0]!.cause).toBe(`${addon} ${told}`);
  });

  test("that needs a younger glibc is told of, with that which is here", async () => {
    const { folder, addon } = await prebuilt();
    const file = await readFile(addon, "latin1");
    const needed = /GLIBC_2(\.[\d.]+)\0/.exec(file)!;
    await writeFile(addon, file.replace(needed[0], `GLIBC_9${needed[1]}\0`), "latin1");
    const { causes } = failure(folder);
    expect(causes[0]!.cause).toMatch(`glibc 9${needed[1]} is needed, and `);
    expect(causes[0]!.cause).toMatch(/ and \d+\.\d+ is here\./);
    expect(causes[0]!.cure).toContain("Run Node.js on a newer system");
  });

  test("beside a core of another version of the C ABI is told of", async () => {
    const { folder, core } = await prebuilt();
    const header = await readFile(packageFile("csrc", "cria.h"), "utf8");
    const functions = Array.from(header.matchAll(/^CRIA_API [^(;]*?(\w+)\(/gm), ([, name]) => name!);
    expect(functions).toContain("cria_abi_version");
    const stub = functions.map((name) => `int ${name}(void) { return 77; }`).join("\n");
    const options = ["-x", "c", "-", "-shared", "-fPIC", "-Wl,-soname,libcria.so", "-o", core];
    execFileSync("g++", options, { input: stub, cwd: dirname(core) });
    const [{ cause, cure }] = failure(folder).causes as [{ cause: string; cure: string }];
    expect(cause).toContain("not all of one version of cria");
    expect(cause).toContain(`of version 77 of the C ABI, and it was built for ${abiVersion}`);
    expect(cure).toContain("Install cria anew");
  });

  test("in a process that may load none is told of", async () => {
    const { causes } = failure((await prebuilt()).folder, { flags: ["--no-addons"] });
    expect(causes[0]!.cause).toContain("Node.js was started so that it loads no addon");
    expect(causes[0]!.cure).toContain("without --no-addons");
  });
});

test("the runtime goes by its own name", () => {
  const versions = { ...process.versions, node: "26.3.0" };
  expect(runtime(versions)).toBe("Node.js 26.3.0");
  expect(runtime({ ...versions, bun: "1.4.5" })).toBe("Bun 1.4.5");
  expect(runtime({ ...versions, electron: "41.0.0" })).toBe("Electron 41.0.0");
});

describe("the version of the C ABI", () => {
  test("that lib/ calls is the header's", async () => {
    const header = await readFile(packageFile("csrc", "cria.h"), "utf8");
    expect(Number(/^#define CRIA_ABI_VERSION (\d+)/m.exec(header)![1])).toBe(abiVersion);
  });

  test.each([[{}], [{ abiVersion: () => abiVersion + 1 }]])("of another addon is an error: %#", async (addon) => {
    vi.resetModules();
    const { loadBinding, provideBinding } = await import("../lib/binding.js");
    provideBinding(() => addon as never);
    expect(() => loadBinding()).toThrow(/^it was built for version (undefined|2) of the C ABI, not 1$/);
  });
});

describe("what a dynamic linker says", () => {
  const host: Host = {
    ...{ platform: "linux", arch: "x64", machine: "x86_64", folder: "/nowhere" },
    ...{ libc: "musl", libcVersion: "1.2.5" },
  };
  const file = "/app/node_modules/cria/prebuilds/linux-x64/cria.musl.node";

  test.each([
    [
      `${file}: failed to map segment from shared object`,
      /noexec.* or .*no more memory/,
      /without noexec\. .*ulimit -v/,
    ],
    [`${file}: failed to map segment from shared object: Operation not permitted`, /\(noexec\)\. /, /without noexec$/],
    [`${file}: failed to map segment from shared object: Cannot allocate memory`, /no memory for it/, /ulimit -v/],
    [`${file}: cannot open shared object file: Permission denied`, /may not read/, /right to read/],
    ["Error loading shared library libcria.musl.so: No such file or directory", /must stand beside it/, /anew/],
    ["Error loading shared library ld-linux-x86-64.so.2: No such file or directory", /made for glibc/, /LIBC=musl/],
    ["libc.musl-x86_64.so.1: cannot open shared object file: No such file", /made for musl/, /Unset LIBC/],
    [
      "libgomp.so.1: cannot open shared object file: No such file or directory",
      /^libgomp\.so\.1, which it needs/,
      /it/,
    ],
    ["/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found", /^GLIBCXX_3\.4\.30 is needed/, /newer system/],
    ["Error relocating cria.musl.node: cria_open: symbol not found", /one version of cria/, /anew/],
    [`Requires ffi access to "${file}", run again with the --allow-ffi flag`, /permission "ffi"/, /--allow-ffi/],
    ["the moon is full", /was not loaded: the moon is full/, /anew/],
  ])("%s", (said, cause, cure) => {
    const error = loadError(new BindingError(file, new Error(said)), host);
    expect(error.causes).toEqual([{ cause: expect.stringMatching(cause), cure: expect.stringMatching(cure) }]);
    expect(error.message).toContain("on linux-x64, musl 1.2.5, Node.js");
    expect(error.message).toContain(said);
  });

  test.each([
    ["/app/resources/app.asar/node_modules/cria/prebuilds/linux-x64/cria.glibc.node", "asarUnpack"],
    ["/app/.yarn/cache/cria-npm-1.0.0.zip/node_modules/cria/prebuilds/linux-x64/cria.glibc.node", "yarn unplug cria"],
  ])("of %s is that it is packed", (packed, cure) => {
    const [cause] = loadError(
      new BindingError(packed, new Error(`${packed}: cannot open shared object file`)),
      host,
    ).causes;
    expect(cause).toEqual({ cause: `${packed} is packed in an archive`, cure: expect.stringContaining(cure) });
  });

  test.each([
    [{ platform: "darwin", libc: undefined, libcVersion: undefined }, "on darwin-x64, Node.js"],
    [{ libcVersion: undefined }, "on linux-x64, musl, Node.js"],
  ])("is told with what is known of the system: %j", (known, told) => {
    const { message } = loadError(new BindingError(file, new Error("no")), { ...host, ...known });
    expect(message).toContain(told);
  });

  test("is needless where node-gyp-build was not installed, whatever else is there", async () => {
    const { folder } = await prebuilt();
    const absent = Object.assign(new Error("Cannot find module 'node-gyp-build'"), { code: "MODULE_NOT_FOUND" });
    expect(loadError(new BindingError(undefined, absent), { ...host, folder }).causes).toEqual([
      { cause: expect.stringMatching(/^node-gyp-build.* is missing/), cure: expect.stringContaining("dependencies") },
    ]);
  });

  test("is needless in a clone that has not been built", async () => {
    const folder = await emptyFolder();
    await writeFile(join(folder, "CMakeLists.txt"), "");
    const { causes } = loadError(new BindingError(undefined, new Error("No native build was found")), {
      ...host,
      folder,
    });
    expect(causes).toEqual([
      { cause: `${folder} is a clone in which nothing has been built`, cure: 'Build it with "npm ci"' },
    ]);
  });
});
