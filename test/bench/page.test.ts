import { describe, expect, it } from "vitest";

import { overlap, placeLabels } from "../../bench/page/labels.js";
import { writePage } from "../../bench/page/page.js";
import { linearScale, logScale } from "../../bench/page/scale.js";
import type { Report } from "../../bench/schema.js";
import { sampleReport } from "../support/bench-report.js";

const report = sampleReport({ models: ["7b"], tokens: [1, 16, 512], ops: ["matmul_q4", "attention", "rmsnorm"] });

/** The page's text, tags left out. */
const textOf = (page: string) => page.replace(/<[^>]*>/g, "\n");

/** What a sum that went wrong leaves in a page. */
const noNumber = /NaN|Infinity|undefined/;

const count = (page: string, pattern: RegExp) => [...page.matchAll(pattern)].length;

describe("writePage", () => {
  it("says what was measured, where and how", () => {
    const text = textOf(writePage(report));
    const { machine } = report;
    for (const said of [
      machine.processor,
      machine.system,
      machine.node,
      "d3ce0f1c0ffe+",
      "2026-03-14 09:26 UTC",
      "16.6\u202fGB",
    ]) {
      expect(text).toContain(said);
    }
    expect(text.replace(/\s+/g, " ")).toContain(report.command);
    expect(text).not.toContain(report.commit);
  });

  it("speaks of several runs where reports were joined", () => {
    expect(textOf(writePage(report))).toContain("at best in the same run:");
    const joined = textOf(writePage({ ...report, command: "first\nsecond" }));
    expect(joined).toContain("at best in these runs:");
    expect(joined).not.toContain("the same run");
  });

  it("holds every result in the table", () => {
    const page = writePage(report);
    const table = page.slice(page.indexOf('aria-label="All results"'));
    expect(count(table, /<th scope="row"/g)).toBe(report.results.length);
    for (const { value, micros, share } of report.results) {
      const fixed = (number: number, digits: number) =>
        number.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
      expect(table).toContain(`>${fixed(value, 2)}<`);
      if (micros !== undefined) expect(table).toContain(`>${fixed(micros, 1)}<`);
      if (share !== null) expect(table).toContain(`>${fixed(share * 100, 1)}<`);
    }
  });

  it("a kernel of other bits than the scalar one fails, and NaN, which JSON makes null, too", () => {
    const results = report.results.filter(({ error }) => error === 0).slice(0, 3);
    const [right, off, nan] = results.map((result, i) => ({ ...result, error: [0, 1.5e-7, null as never][i]! }));
    const page = writePage({ ...report, results: [right!, off!, nan!] });
    expect(textOf(page)).toContain("3 ops compared, 2 of them other bits");
    expect(count(page, /class="pass"/g)).toBe(1);
    expect(page).toMatch(/1\.5e-7\u00a0<strong class="fail">fail/);
    expect(page).toMatch(/NaN\u00a0<strong class="fail">fail/);
  });

  it("escapes what a report brings along, and shows no control characters", () => {
    const evil = `"><script>alert(1)</script><img src=x onerror='a'>&amp;\u202e\u0000\u001b[2J`;
    const [result] = report.results;
    const page = writePage({
      ...report,
      commit: evil,
      date: evil,
      command: evil,
      machine: { ...report.machine, processor: evil, system: evil, node: evil },
      results: [
        {
          ...result!,
          name: evil,
          by: evil,
          isa: evil,
          unit: evil as never,
          model: evil,
          at: { [evil]: evil, context: 1 },
        },
        { ...result!, name: "decode", by: evil, isa: evil, unit: "tok/s", at: { context: 1 } },
        { ...result!, name: "decode", by: evil, isa: evil, unit: "tok/s", at: { context: 2 } },
        ...["1", "2"].map((tokens) => ({
          ...report.results.at(-1)!,
          name: `${evil.replaceAll("/", "")}/${evil.replaceAll("/", "")}/${tokens}`,
          isa: evil,
          operations: 1,
        })),
      ],
      ratios: [{ name: evil, peer: evil, isa: evil, threads: 2, value: 1, at: { [evil]: evil } }],
    });
    expect(page.match(/<script|<img/i)).toBe(null);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    expect(page.match(/[\u0000-\u0008\u001b\u202e]/)).toBe(null);
    expect(page).toContain(
      "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=&#39;a&#39;&gt;&amp;amp;",
    );
    // No attribute is broken out of: between a tag's brackets, quotes come in pairs.
    for (const [tag] of page.matchAll(/<[a-z][^>]*>/g)) expect(tag.split('"').length % 2, tag).toBe(1);
  });

  it("asks nothing of any network, and runs nothing", () => {
    const page = writePage(report);
    const [, policy] = /http-equiv="Content-Security-Policy" content="([^"]*)"/.exec(page)!;
    expect(policy!.replaceAll("&#39;", "'")).toBe("default-src 'none'; style-src 'unsafe-inline'; img-src data:");
    expect(page.match(/<script|@import|url\(|\ssrc=|https?:/)).toBe(null);
    expect([...page.matchAll(/\shref="([^"]*)"/g)].filter(([, to]) => !/^(#|data:)/.test(to!))).toEqual([]);
  });

  it("leaves out the sections that have no figures, and the links to them", () => {
    const page = writePage({ ...report, results: [], ratios: [] });
    expect([...page.matchAll(/<a href="([^"]*)"/g)].map(([, to]) => to)).toEqual(["#all-results"]);
    expect(count(page, /<section/g)).toBe(1);
    expect(textOf(page)).toContain("Nothing was measured.");
    expect(page.match(/<svg|<table/)).toBe(null);
  });

  it("draws ops that do not count bytes and operations in the bars alone", () => {
    const results = report.results.map(({ bytes: _, operations: __, ...others }) => others);
    const page = writePage({ ...report, results });
    expect(page).not.toContain("Rooflines");
    expect(page).toMatch(/<figure class="share">/);
  });

  it("does not draw what is not finite", () => {
    const results = report.results.map((result) => ({ ...result, share: null as never, value: null as never }));
    expect(writePage({ ...report, results, ratios: [] }).match(noNumber)).toBe(null);
  });

  it("draws a single point as well", () => {
    for (const result of report.results) {
      expect(writePage({ ...report, results: [result], ratios: [] }).match(noNumber)).toBe(null);
    }
  });

  it("draws each instruction set's own peak of fma, and the report's where no kernel was held against one", () => {
    const results = report.results.map((result) =>
      result.isa === "avx2" && result.unit === "GFLOP/s"
        ? { ...result, limit: Math.min(result.limit!, 118.2) }
        : result,
    );
    const roofs = (page: string) =>
      [...page.matchAll(/Roofline of the (\w+) kernels:[^"]*fma ([\d.]+)/g)].map(([, isa, fma]) => [isa, fma]);
    const each = (avx2: string) => [
      ["avx2", avx2],
      ["avx2", avx2],
      ["avx512", "236"],
      ["avx512", "236"],
    ];
    expect(roofs(writePage({ ...report, results }))).toEqual(each("118"));
    // At one token it is memory that they were held against.
    const few = results.filter(({ name }) => name.endsWith("/1"));
    expect(roofs(writePage({ ...report, results: few }))).toEqual(each("236"));
  });

  it("names all figures of a picture of bars for those who cannot see it", () => {
    const page = writePage(report);
    const shares = report.results.filter(({ name, isa }) => name.startsWith("matmul_q4/7b.down/") && isa === "avx512");
    const [one, sixteen, many] = shares.map(({ share }) => `${Math.round(share! * 100)} %`);
    expect(page).toContain(`avx512 ${one} at 1 token, ${sixteen} at 16 tokens, ${many} at 512 tokens`);
  });

  it("draws lines over the context and over sequences, a peer's dashed", () => {
    const lines = writePage(report).match(/<figure class="lines">.*?<\/figure>/gs)!;
    const [context] = lines.filter((figure) => figure.includes("tokens of context"));
    expect(context).toMatch(/aria-label="[^"]*avx512: 8\.47 tokens\/s at 128 tokens of context/);
    // Two sizes, of three lines each.
    expect(count(context!, /class="line k\d"/g)).toBe(4);
    expect(count(context!, /class="line k\d peer"/g)).toBe(2);
    expect(lines.filter((figure) => figure.includes(">sequences<"))).toHaveLength(1);
  });

  it("adds the times of a layer's products for what they alone allow, and draws none where one is missing", () => {
    const products = ["qkv", "out", "gate_up", "down"];
    const micros = products.map(
      (product) =>
        report.results.find(({ name, isa }) => name === `matmul_q4/7b.${product}/16` && isa === "avx2")!.micros!,
    );
    const rate = 16 / (32 * (micros.reduce((sum, time) => sum + time) / 1e6));
    expect(writePage(report)).toContain(`${rate.toFixed(1)} tokens/s at 16 tokens in the batch`);
    const without: Report = { ...report, results: report.results.filter(({ name }) => !name.includes(".down/")) };
    expect(writePage(without)).not.toContain("products alone");
  });
});

describe("scales", () => {
  it("equal ratios are equal distances", () => {
    const scale = logScale([0.1, 1000], [0, 400]);
    expect([0.1, 1, 10, 1000].map((value) => Math.round(scale(value)))).toEqual([0, 100, 200, 400]);
    expect(scale.ticks).toEqual([0.1, 1, 10, 100, 1000]);
  });

  it("fewer than three powers of ten have their doubles and fives beside them", () => {
    expect(logScale([3, 60], [0, 1]).ticks).toEqual([5, 10, 20, 50]);
  });

  it.for([
    [0.7, [0, 0.2, 0.4, 0.6, 0.8]],
    [10, [0, 2, 4, 6, 8, 10]],
    [11, [0, 5, 10, 15]],
    [53, [0, 20, 40, 60]],
  ] as const)("from 0 to %d and a little over", ([high, ticks]) => {
    expect(linearScale(high, [0, 1]).ticks).toEqual(ticks);
  });
});

describe("labels", () => {
  const bounds = { x: 0, y: 0, width: 300, height: 100 };
  const places = (count: number, ground: Partial<Parameters<typeof placeLabels>[1]> = {}) =>
    placeLabels(
      Array.from({ length: count }, (_, i) => ({ text: `label ${i}`, at: [{ x: 150, y: 50 }] })),
      { bounds, texts: [], marks: [], fontSize: 12, ...ground },
    );

  it("stand beside their point, and not over each other", () => {
    const boxes = places(6).map(({ x, y }) => ({ x: x - 25, y: y - 10, width: 50, height: 12 }));
    expect(boxes).toHaveLength(6);
    boxes.forEach((box, i) => {
      for (const other of boxes.slice(i + 1)) expect(overlap(box, other), JSON.stringify([box, other])).toBe(false);
    });
  });

  it("keep off other texts, and are left out rather than put over one", () => {
    expect(places(1, { texts: [bounds] })).toEqual([]);
  });

  it("choose the side where no mark is", () => {
    // All of the right half.
    const marks = Array.from({ length: 800 }, (_, i) => ({ x: 154 + 4 * (i % 40), y: 5 * Math.floor(i / 40) }));
    expect(places(1, { marks })[0]!.x).toBeLessThan(150);
  });
});
