import { execFileSync } from "node:child_process";
import { mkdir, realpath } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { commitOf, lastCacheBytes, quoted } from "../../bench/machine.js";
import { temporaryFolder } from "../support/gguf-writer.js";

it("the commit is that of a clone, not of what stands in one", async () => {
  await using folder = await temporaryFolder();
  const clone = await realpath(folder.path);
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", clone, "-c", "user.name=a", "-c", "user.email=a@b", ...args], { stdio: "ignore" });
  expect(commitOf(clone)).toBeUndefined();
  git("init");
  git("commit", "--allow-empty", "--no-gpg-sign", "-m", "first");
  expect(commitOf(clone)).toMatch(/^[0-9a-f]{40}$/);
  const within = join(clone, "node_modules", "cria");
  await mkdir(within, { recursive: true });
  expect(commitOf(within)).toBeUndefined();
});

it.each([
  ["--model", "--model"],
  ["/a/b-1.gguf", "/a/b-1.gguf"],
  ["a model.gguf", "'a model.gguf'"],
  ["it's", "'it'\\''s'"],
  ["", "''"],
])("%j is written as %s", (argument, text) => {
  expect(quoted(argument)).toBe(text);
});

describe("the last caches", () => {
  it("are counted once for all processors that share one", async () => {
    await using folder = await temporaryFolder();
    for (const [i, sharing] of ["0-1", "0-1", "2"].entries()) {
      const cache = join(`cpu${i}`, "cache", "index3");
      await mkdir(join(folder.path, cache), { recursive: true });
      await folder.write(join(cache, "shared_cpu_list"), Buffer.from(`${sharing}\n`));
      await folder.write(join(cache, "size"), Buffer.from("32768K\n"));
    }
    await mkdir(join(folder.path, "cpu3"));
    await mkdir(join(folder.path, "cpufreq"));
    expect(lastCacheBytes(folder.path)).toBe(2 * 2 ** 25);
  });

  it("are none where the system does not say", () => {
    expect(lastCacheBytes("/absent")).toBe(0);
  });
});
