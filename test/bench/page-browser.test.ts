/** The page as a reader has it: opened in a Chromium, in each width and colour, and on paper. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { writePage } from "../../bench/page/page.js";
import type { Result } from "../../bench/schema.js";
import { sampleReport } from "../support/bench-report.js";
import { Chromium, findChromium, type Screen } from "../support/chromium.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { type Colour, contrastsIn, drawnIn, outsideIn, overlapsIn, textSizesIn } from "../support/page-looks.js";

const chromium = findChromium();
const report = sampleReport({
  models: ["7b", "70b"],
  tokens: [1, 4, 16, 128, 512],
  ops: ["matmul_q4", "matmul_q8", "matmul_f", "attention", "rmsnorm"],
});

const screens = [320, 768, 1280].flatMap((width) =>
  (["light", "dark"] as const).map((scheme): Screen => ({ width, height: 900, scheme })),
);

/** Set to a folder, this has the test leave there what it saw, for people to look at. */
const pictures = process.env.CRIA_PICTURES;

describe.skipIf(chromium === undefined)("the page, in Chromium (skipped where none is on the PATH)", () => {
  let browser: Chromium;
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let url: string;

  beforeAll(async () => {
    folder = await temporaryFolder();
    url = pathToFileURL(await folder.write("page.html", Buffer.from(writePage(report)))).href;
    browser = await Chromium.start(chromium!);
    await browser.open(url);
    if (pictures !== undefined) await mkdir(pictures, { recursive: true });
  }, 60_000);

  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]();
    await folder?.[Symbol.asyncDispose]();
  });

  it("asks for itself and for nothing else", async () => {
    await browser.open(url);
    expect(browser.requests).toEqual([url]);
    expect(await browser.evaluate("document.scripts.length")).toBe(0);
  });

  it.for(screens)("fits, reads and shows at $width px, $scheme", async (screen) => {
    await browser.show(screen);
    await keep(`${screen.width}-${screen.scheme}.png`, () => browser.screenshot());
    expect(await browser.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")).toBe(screen.scheme === "dark");
    expect(await browser.evaluate("document.documentElement.scrollWidth")).toBe(screen.width);
    expect(await browser.evaluate(outsideIn(screen.width))).toEqual([]);
    expect(await browser.evaluate(overlapsIn)).toEqual([]);
    const sizes = await browser.evaluate<number[]>(textSizesIn);
    expect(Math.min(...sizes)).toBeGreaterThan(9.5);
    const contrasts = await browser.evaluate<{ what: string; kind: "text" | "shape"; ratio: number }[]>(contrastsIn);
    expect(contrasts.length).toBeGreaterThan(100);
    // WCAG 2.2, 1.4.3 and 1.4.11.
    expect(contrasts.filter(({ kind, ratio }) => !(ratio >= (kind === "text" ? 4.5 : 3)))).toEqual([]);
  });

  it.for([320, 1280])("draws the report's figures at %d px", async (width) => {
    await browser.show({ width, height: 900, scheme: "light" });
    const { rooflines, shares, lines } = await browser.evaluate<ReturnType<typeof drawnIn>>(`(${drawnIn})()`);

    for (const isa of ["avx2", "avx512"]) {
      const points = report.results.filter((result) => result.isa === isa && result.operations);
      const expected = points.map((result) => [result.operations! / result.bytes!, gopsOf(result)] as const);
      const { marks } = rooflines.find(({ caption }) => caption === isa)!;
      expectNear(
        marks.map(({ x, y }) => [x, y]),
        expected,
      );
    }

    const bars = report.results.filter(({ share, name }) => share !== null && name.includes("/"));
    expect(shares).toHaveLength(bars.length);
    for (const { name, isa, share } of bars) {
      const [op, shape, tokens] = name.split("/");
      const alike = shares.filter((bar) => bar.op === op && bar.tokens === tokens && bar.isa === isa);
      const text = String(Math.round(share! * 100));
      const found = alike.filter((bar) => bar.shape.split(", ")[0] === shape && bar.text === text);
      expect(found.length, `${name} ${isa}`).toBeGreaterThan(0);
      // Higher ones are cut, and a tenth of a pixel is a three-hundredth of the limit.
      expect(found.some(({ height }) => Math.abs(height - Math.min(share!, 1.12)) < 0.006)).toBe(true);
    }

    const context = lines.find(({ over }) => over === "tokens of context")!;
    const decode = report.results.filter(({ name, at }) => name === "decode" && at?.sequences === 1);
    expectNear(
      context.marks.map(({ x, y }) => [x, y]),
      decode.map(({ at, value }) => [Number(at!.context), value] as const),
    );
  });

  it("has ink where it should have: a bar's colour in a bar's middle, a mark's in a mark's", async () => {
    for (const scheme of ["light", "dark"] as const) {
      await browser.show({ width: 1280, height: 900, scheme });
      const picture = (await browser.screenshot(".share svg")).toString("base64");
      const [paper, ...bars] = await browser.evaluate<Colour[]>(pixelsOf(picture, ".share svg", ".bar"));
      expect(bars.length).toBeGreaterThan(5);
      const ink = await browser.evaluate<string>("getComputedStyle(document.querySelector('.bar')).fill");
      for (const bar of bars) expect(`rgb(${bar.join(", ")})`).toBe(ink);
      expect(`rgb(${paper!.join(", ")})`).toBe(
        await browser.evaluate<string>("getComputedStyle(document.body).backgroundColor"),
      );
      const roofline = (await browser.screenshot(".roofline .large svg")).toString("base64");
      const [ground, ...marks] = await browser.evaluate<Colour[]>(pixelsOf(roofline, ".roofline .large svg", ".mark"));
      expect(marks.length).toBeGreaterThan(50);
      // Marks are translucent, and have rims; a label over one would leave the paper's colour.
      const hidden = marks.filter((mark) => mark.every((part, i) => Math.abs(part - ground![i]!) < 25));
      expect(hidden).toEqual([]);
    }
  });

  it("is black on white on paper, and fits it", async () => {
    // A4 at 96 pixels an inch, less the margins.
    const width = 688;
    await browser.show({ width, height: 1000, scheme: "dark", media: "print" });
    expect(await browser.evaluate("getComputedStyle(document.body).backgroundColor")).toBe("rgb(255, 255, 255)");
    expect(await browser.evaluate("document.documentElement.scrollWidth")).toBe(width);
    expect(await browser.evaluate(outsideIn(width))).toEqual([]);
    expect(await browser.evaluate(overlapsIn)).toEqual([]);
    const pdf = await browser.pdf();
    expect(pdf.subarray(0, 5).toString()).toBe("%PDF-");
    await keep("print.pdf", async () => pdf);
  });

  async function keep(name: string, bytes: () => Promise<Buffer>): Promise<void> {
    if (pictures !== undefined) await writeFile(join(pictures, name), await bytes());
  }

  /** Colours in a picture of an element: of its corner, and of the middle of each of those in it. */
  const pixelsOf = (picture: string, element: string, parts: string) => `(async () => {
    const image = new Image();
    image.src = "data:image/png;base64,${picture}";
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.width, image.height];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    const frame = document.querySelector(${JSON.stringify(element)});
    const { left, top } = frame.getBoundingClientRect();
    const middles = [...frame.querySelectorAll(${JSON.stringify(parts)})].map((part) => {
      const box = part.getBoundingClientRect();
      return [box.left - left + box.width / 2, box.top - top + box.height / 2];
    });
    return [[1, 1], ...middles].map(([x, y]) => [...context.getImageData(Math.floor(x), Math.floor(y), 1, 1).data].slice(0, 3));
  })()`;
});

/** 10⁹ operations a second. */
const gopsOf = ({ value, unit, operations, bytes }: Result) =>
  unit === "GB/s" ? (value * operations!) / bytes! : value;

/** The same points within a percent, in whatever order: a tenth of a pixel is as much as a third of that. */
function expectNear(drawn: readonly (readonly number[])[], expected: readonly (readonly number[])[]): void {
  expect(drawn).toHaveLength(expected.length);
  const left = [...drawn];
  for (const point of expected) {
    const off = left.map((other) => Math.max(...point.map((value, i) => Math.abs(other[i]! / value - 1))));
    const nearest = off.indexOf(Math.min(...off));
    expect(off[nearest], `${point}, the nearest being ${left[nearest]}`).toBeLessThan(0.01);
    left.splice(nearest, 1);
  }
}
