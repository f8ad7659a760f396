import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { renderJinja } from "../../../lib/text/chat/jinja-thread.js";

const messages = [{ role: "user", content: "hi" }];
const render = (template: string, values: Record<string, unknown> = { messages }, signal?: AbortSignal) =>
  renderJinja({ template, values }, signal);

/** A text that doubles `times` times, from 16 units on, as `ns.x`. */
const doubled = (times: number) =>
  `{% set ns = namespace(x='aaaa bbbb\\ncccc\\n') %}{% for i in range(${times}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`;
const doubledList = (times: number) =>
  `{% set ns = namespace(x=[1, 2, 3, 4]) %}{% for i in range(${times}) %}{% set ns.x = ns.x + ns.x %}{% endfor %}`;
const nested = (times: number) =>
  `{% set ns = namespace(x=['a', 'b']) %}{% for i in range(${times}) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}`;

/** Many insertions, side by side in one block. */
const inserted = (name: string, times: number) => `{{ ${name} }}`.repeat(times);

/** Keeps a copy of `ns.x` for each of many numbers. */
const hoard =
  "{% set all = namespace(x=[]) %}{% for i in range(60000) %}{% set all.x = all.x + [(ns.x ~ i).upper()] %}{% endfor %}";

const tooLong = /^template: makes a text longer than 262144$/;
const tooMany = /^template: makes a list longer than 65536$/;

describe("a hostile template", () => {
  test.for<[name: string, template: string, problem: RegExp]>([
    ["doubles a text", `${doubled(40)}{{ ns.x | length }}`, tooLong],
    ["doubles a text for a method", `${doubled(24)}{{ ns.x.upper() }}`, tooLong],
    [
      "writes without end",
      "{% for i in range(60000) %}{{ 'a' | indent(40000, true) }}{% endfor %}",
      /^template: Invalid string length$/,
    ],
    ["doubles a list", doubledList(60), tooMany],
    ["asks for a long list", "{{ range(1000000000) }}", tooMany],
    ["asks for a list without end", "{{ range(0, 1, 0) }}", /^template: range: must have numbers/],
    ["indents by half a gigabyte", "{{ 'a' | indent(500000000, true) | upper }}", tooLong],
    ["indents JSON by as much", "{{ messages | tojson(indent=400000000) }}", tooLong],
    ["multiplies by replacing", `${doubled(13)}{{ ns.x.replace('a', ns.x).replace('a', ns.x) | upper }}`, tooLong],
    [
      "multiplies by joining",
      `${doubledList(13)}${doubled(13).replaceAll("ns", "m")}{{ ns.x | join(m.x) | upper }}`,
      tooLong,
    ],
    ["writes a list of lists", `${nested(40)}{{ ns.x }}`, tooLong],
    ["writes a list of lists as a text", `${nested(40)}{{ ns.x | string | upper }}`, tooLong],
    ["joins a list of lists", `${nested(40)}{{ ns.x | join }}`, tooLong],
    [
      "writes a long block for a filter",
      `${doubled(14)}{% filter upper %}${inserted("ns.x", 400)}{% endfilter %}`,
      tooLong,
    ],
    [
      "writes a long block to replace in",
      `${doubled(14)}{% filter replace('a', 'b') %}${inserted("ns.x", 60)}{% endfilter %}`,
      tooLong,
    ],
    [
      "sets a name to a long block",
      `${doubled(14)}{% set ns.y %}${inserted("ns.x", 400)}{% endset %}{{ ns | tojson }}`,
      tooLong,
    ],
    ["splits a text into letters", `${doubled(14)}{{ ns.x | list | length }}`, /^template: /],
    ["splits a text into words", `${doubled(14)}{{ ns.x.split('a') }}`, tooMany],
    ["calls itself", "{% macro f(g) %}{{ g(g) }}{% endmacro %}{{ f(f) }}", /call stack/],
    ["nests brackets", `{{ ${"(".repeat(60_000)}1${")".repeat(60_000)} }}`, /call stack/],
    ["nests blocks", `${"{% if true %}".repeat(5000)}${"{% endif %}".repeat(5000)}`, /call stack|^template: /],
    ["takes a constructor", "{{ messages.constructor.constructor('return process')() }}", /not a function/],
    ["takes a prototype", "{{ messages.__proto__.polluted() }}", /not a function/],
    ["takes a function's constructor", "{{ range.constructor('return process')() }}", /not a function/],
    ["takes the process", "{{ process.exit(1) }}", /not a function|undefined/],
    ["requires a module", "{{ require('fs') }}", /not a function/],
    ["has many long texts", `${doubled(13)}${hoard}`, /^template: takes more memory than 64 MiB$/],
    [
      "never ends",
      "{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}",
      /^template: takes longer than 2 s$/,
    ],
    ["is no template", "{% if %}", /^template: /],
    ["is long", " ".repeat(2 ** 17 + 1), /^template: must be at most 131072 UTF-16 units long, not 131073$/],
  ])("that %s", async ([, template, problem]) => {
    await expect(render(template)).rejects.toMatchObject({
      code: "ERR_CRIA_TEMPLATE",
      message: expect.stringMatching(problem),
    });
    expect(await render("{{ messages[0].content }}")).toBe("hi");
  });
});

test("a rendering that was done in time is heard, however long its caller was busy", async () => {
  await render(""); // the thread runs
  await new Promise((resolve) => setImmediate(resolve)); // the timers are the next that the event loop looks at
  const rendering = render("{{ messages[0].content }}");
  for (let i = 0; i < 100; i++) await undefined; // the question is sent, and no event was heard since
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2300);
  expect(await rendering).toBe("hi");
});

/** Pieces that grow what they are given; `x` is a text and `y` a list. */
const steps = [
  "{% set ns.x = ns.x + ns.x %}",
  "{% set ns.x = ns.x.upper() %}",
  "{% set ns.x = ns.x | lower | title %}",
  "{% set ns.x = ns.x | indent(9999, true, true) %}",
  "{% set ns.x = ns.x.replace('a', ns.x) %}",
  "{% set ns.x = ns.x.replace('', 'aß ') %}",
  "{% set ns.x = ns.y | join(ns.x) %}",
  "{% set ns.x = ns.y | tojson(indent=999) %}",
  "{% set ns.x = ns.y | string %}",
  "{% set ns.x = ns.x[::-1] %}",
  "{% set ns.y = ns.y + ns.y %}",
  "{% set ns.y = [ns.y, ns.x, {'k': ns.y, 'l': ns.x}] %}",
  "{% set ns.y = ns.x.split() + ns.y %}",
  "{% set ns.y = ns.x.split('a') %}",
  "{% set ns.y = range(ns.x | length) %}",
  "{% set ns.y = [ns.x ~ ns.y, ns.x] | sort | unique %}",
  "{% for z in ns.y %}{{ ns.x }}{% endfor %}",
  `{% filter upper %}${inserted("ns.x", 200)}{{ ns.y }}{% endfilter %}`,
  `{% filter replace('a', 'b') %}${inserted("ns.x", 200)}{% endfilter %}`,
  `{% set ns.x %}${inserted("ns.x", 200)}{% endset %}`,
];

test("templates that grow what they can end with an error, or soon, and never with the process", async () => {
  const template = fc
    .array(fc.tuple(fc.constantFrom(...steps), fc.constantFrom(1, 2, 20, 2000)), { minLength: 1, maxLength: 8 })
    .map((parts) => parts.map(([step, times]) => `{% for i in range(${times}) %}${step}{% endfor %}`).join(""));
  await fc.assert(
    fc.asyncProperty(template, async (grown) => {
      try {
        const text = await render(`{% set ns = namespace(x='a b', y=['a', 1]) %}${grown}`);
        expect(text.length).toBeLessThanOrEqual(2 ** 18);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_CRIA_TEMPLATE" });
      }
    }),
    { numRuns: Number(process.env.RUNS ?? 40) },
  );
});
