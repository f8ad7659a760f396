/** docs/hardening.md: every test that it names is there, and none of this folder is left out. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { packageFile } from "../support/data.js";

const page = readFileSync(packageFile("docs/hardening.md"), "utf8").replaceAll(/\n +/g, " ");

/** `FILE`: "TITLE", "TITLE" */
const citations = [...page.matchAll(/`(test\/[^`]+\.test\.ts)`: ("[^"]+"(?:, "[^"]+")*)/g)].flatMap(
  ([, file, titles]) => [...titles!.matchAll(/"([^"]+)"/g)].map(([, title]) => [file!, title!] as const),
);

/** The titles of a file's tests and groups: strings that begin an argument list, before a function. */
function titlesOf(file: string): string[] {
  const source = readFileSync(packageFile(file), "utf8");
  const calls = /\(\s*"((?:[^"\\]|\\.)*)",\s*(?:\{[^}]*\},\s*)?(?:async\b|\(|\w+ =>)/g;
  return [...source.matchAll(calls)].map(([, title]) => title!.replaceAll('\\"', '"'));
}

describe("the table of what is kept", () => {
  test("names tests", () => {
    expect(citations.length).toBeGreaterThan(40);
  });

  test.each(citations)("%s has the test %s", (file, title) => {
    expect(existsSync(packageFile(file))).toBe(true);
    expect(titlesOf(file)).toContain(title);
  });

  test("cites every file whose tests are of this kind", () => {
    const here = readdirSync(packageFile("test/hardening")).filter((name) => name.endsWith(".test.ts"));
    const cited = new Set(citations.map(([file]) => file));
    const others = here.filter((name) => name !== "table.test.ts");
    expect(others.filter((name) => !cited.has(`test/hardening/${name}`))).toEqual([]);
  });

  test("has a test in each row", () => {
    const rows = page.split("\n").filter((line) => /^\| (?!guarantee|---)/.test(line));
    expect(rows.length).toBeGreaterThan(20);
    for (const row of rows) expect(row).toMatch(/\| `test\/\S+\.test\.ts`: "[^|]+\|$/);
  });
});
