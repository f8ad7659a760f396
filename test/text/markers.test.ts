import { expect, test } from "vitest";

import { Markers } from "../../lib/text/markers.js";

test("markers are found from the left, the longest of those that begin at one place, and the text between", () => {
  const markers = new Markers([
    ["<a", 1],
    ["<a>", 2],
    ["b", 3],
    ["b", 4],
  ]);
  expect(markers.split("<a><a b.b")).toEqual([
    ...[{ token: 2 }, { token: 1 }, { text: " " }, { token: 4 }, { text: "." }, { token: 4 }],
  ]);
  expect(markers.split("<<a>x")).toEqual([{ text: "<" }, { token: 2 }, { text: "x" }]);
  expect(markers.split("")).toEqual([]);
});

test("neither white space alone nor an empty or a very long name is a marker", () => {
  const markers = new Markers([
    ["", 1],
    [" \n", 2],
    ["a".repeat(65), 3],
    ["b".repeat(64), 4],
  ]);
  const text = ` \n${"a".repeat(65)}`;
  expect(markers.split(text + "b".repeat(64))).toEqual([{ text }, { token: 4 }]);
});

test("a text that nearly is each of many markers takes no long time", () => {
  const pieces = Array.from({ length: 100_000 }, (_, i): [string, number] => ["a".repeat(i % 64) + i, i]);
  const markers = new Markers(pieces);
  const text = "a".repeat(2 ** 17);
  const started = performance.now();
  expect(markers.split(text)).toEqual([{ text }]);
  expect(performance.now() - started).toBeLessThan(5000); // one that compares each piece with each place takes minutes
});
