import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { StopWatcher, type Watched } from "../../lib/text/stop.js";

/** What is shown of a text that comes in pieces, and the stop string that ended it. */
function watch(stops: readonly string[], pieces: readonly string[]): Watched {
  const watcher = new StopWatcher(stops);
  let text = "";
  for (const piece of pieces) {
    const watched = watcher.push(piece);
    text += watched.text;
    if (watched.stop !== undefined) return { text, stop: watched.stop };
  }
  return { text: text + watcher.end(), stop: undefined };
}

/** The same, of the whole text: the shortest of its beginnings that ends with a stop string, without the longest such. */
function whole(stops: readonly string[], text: string): Watched {
  for (let end = 1; end <= text.length; end++) {
    const said = text.slice(0, end);
    const longest = Math.max(0, ...stops.filter((stop) => said.endsWith(stop)).map((stop) => stop.length));
    if (longest > 0) return { text: said.slice(0, end - longest), stop: said.slice(end - longest) };
  }
  return { text, stop: undefined };
}

// Of two letters, so that stop strings come often, begin often and overlap with themselves and each other.
const letters = (minLength: number, maxLength: number) =>
  fc.string({ unit: fc.constantFrom("a", "b"), minLength, maxLength });

const stopStrings = fc.uniqueArray(letters(1, 5), { maxLength: 3 });

describe("StopWatcher", () => {
  test("however the text is cut, shows what stands before the first stop string", () => {
    fc.assert(
      fc.property(stopStrings, fc.array(letters(0, 4), { maxLength: 12 }), (stops, pieces) => {
        expect(watch(stops, pieces)).toEqual(whole(stops, pieces.join("")));
      }),
      { numRuns: 2000 },
    );
  });

  test("holds back no more than could be the beginning of a stop string", () => {
    fc.assert(
      fc.property(stopStrings, fc.array(letters(1, 4), { maxLength: 12 }), (stops, pieces) => {
        const watcher = new StopWatcher(stops);
        let shown = "";
        let said = "";
        for (const piece of pieces) {
          said += piece;
          const { text, stop } = watcher.push(piece);
          shown += text;
          if (stop !== undefined) return;
          const held = said.slice(shown.length);
          expect(shown + held).toBe(said);
          expect(held === "" || stops.some((one) => one.length > held.length && one.startsWith(held))).toBe(true);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("cuts between any two UTF-16 units, and knows nothing of patterns", () => {
    expect(watch(["🦙"], ["a\ud83e", "\udd99b"])).toEqual({ text: "a", stop: "🦙" });
    expect(watch([".*"], ["a", "b.", "*c"])).toEqual({ text: "ab", stop: ".*" });
  });

  test("no stop strings, or empty ones, stop nothing and hold nothing", () => {
    for (const stops of [[], [""]]) {
      const watcher = new StopWatcher(stops);
      expect(watcher.push("text")).toEqual({ text: "text", stop: undefined });
      expect(watcher.end()).toBe("");
    }
  });
});
