import { execFile } from "node:child_process";
import { cp, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";

import packageJson from "../../package.json" with { type: "json" };
import { packageFile } from "./data.js";
import { temporaryFolder } from "./gguf-writer.js";

const run = promisify(execFile);

/** A project that has cria installed from its tarball. */
export interface Project extends AsyncDisposable {
  readonly folder: string;
  readonly tarball: string;
  /** Runs a file of the project, or what it has installed, with the prebuilt addon; what it printed. */
  node(...argv: readonly string[]): Promise<string>;
}

/** Packs cria, with this build's binaries for prebuilt ones, and installs it in a new project, offline. */
export async function installedProject(): Promise<Project> {
  const folder = await temporaryFolder();
  const project = join(folder.path, "project");
  await mkdir(project);
  const tarball = await packedPackage(folder.path);
  await writeFile(join(project, "package.json"), JSON.stringify({ private: true, dependencies: sources(tarball) }));
  await run("npm", ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund"], { cwd: project });
  return {
    folder: project,
    tarball,
    node: async (...argv) => {
      const env = { ...process.env, PREBUILDS_ONLY: "1" };
      return (await run(process.execPath, argv, { cwd: project, env })).stdout;
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

/** cria from its tarball, and what it depends on from here. */
const sources = (tarball: string): Record<string, string> => ({
  cria: `file:${tarball}`,
  ...Object.fromEntries(
    Object.keys(packageJson.dependencies).map((name) => [name, `file:${packageFile("node_modules", name)}`]),
  ),
});

/** What a release is packed from: a copy, for `npm pack` here would take whatever prebuilds/ happens to hold. */
async function stagedPackage(folder: string): Promise<string> {
  const stage = join(folder, "stage");
  const files = ["package.json", "README.md", "LICENSE", ...packageJson.files.filter((name) => name !== "prebuilds")];
  for (const name of files.filter((each) => !each.startsWith("!")))
    await cp(packageFile(name), join(stage, name), { recursive: true });
  await copyBinaries(join(stage, "prebuilds", "linux-x64"));
  return stage;
}

/** This build's addon and core library, under the names that prebuilt ones have. */
export async function copyBinaries(to: string): Promise<void> {
  const built = packageFile("build", "Release");
  const libc = (await readdir(built)).includes("libcria.musl.so") ? "musl" : "glibc";
  const core = libc === "musl" ? "libcria.musl.so" : "libcria.so";
  await cp(join(built, "cria.node"), join(to, `cria.${libc}.node`));
  await cp(join(built, core), join(to, core));
}

/** Packs cria, with this build's binaries for prebuilt ones, in a folder; the tarball's path. */
export async function packedPackage(folder: string): Promise<string> {
  const { stdout } = await run("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], {
    cwd: await stagedPackage(folder),
  });
  return join(folder, stdout.trim());
}
