import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { expect, test } from "vitest";

import { packageFile } from "../support/data.js";
import manifest from "./package.json" with { type: "json" };

const page = readFileSync(packageFile("docs", "runtimes.md"), "utf8");

test.each(Object.entries(manifest.optionalDependencies))("docs/runtimes.md has the version of %s", (_, source) => {
  expect(page).toContain(source.slice(source.lastIndexOf("@") + 1));
});

test("docs/runtimes.md links to every example, and to nothing that is not there", () => {
  const links = Array.from(page.matchAll(/\]\(\.\.\/(.*?)\)/g), ([, path]) => path!);
  const examples = readdirSync(packageFile("examples"), { recursive: true, encoding: "utf8" })
    .filter((path) => /\.\w+$/.test(basename(path)))
    .map((path) => `examples/${path}`);
  expect(links.toSorted()).toEqual(examples.toSorted());
});

test("docs/runtimes.md names tests that there are", () => {
  const tests = Array.from(page.matchAll(/`(test\/[^`]*\.test\.ts)`/g), ([, path]) => path!);
  expect(tests.length).toBeGreaterThan(0);
  for (const file of tests) expect(existsSync(packageFile(file)), file).toBe(true);
});
