import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { PromptLookup } from "../../lib/speculation/prompt-lookup.js";

const propose = async (text: number[], most = 4) => (await new PromptLookup().propose(text, most)).tokens;

/** The definition, by a scan of the whole text. */
function scanned(text: readonly number[], most: number): number[] {
  for (let length = Math.min(3, text.length - 1); length > 0; length--) {
    for (let after = text.length - 1; after >= length; after--) {
      if (text.slice(after - length, after).some((token, i) => token !== text[text.length - length + i])) continue;
      const extended = [...text];
      for (let i = 0; i < most; i++) extended.push(extended[after + i]!);
      return extended.slice(text.length);
    }
  }
  return [];
}

describe("prompt lookup", () => {
  test("proposes what followed the last three tokens", async () => {
    expect(await propose([1, 2, 3, 4, 5, 6, 7, 9, 3, 8, 2, 3, 4])).toEqual([5, 6, 7, 9]);
    expect(await propose([1, 2, 3, 4, 5, 6, 7, 9, 3, 8, 2, 3, 4], 2)).toEqual([5, 6]);
  });

  test("or else the last two, or one, where they came last", async () => {
    expect(await propose([3, 4, 5, 9, 3, 4, 6, 7, 8, 4, 1, 3, 4], 3)).toEqual([6, 7, 8]);
    expect(await propose([4, 5, 4, 6, 7, 4], 2)).toEqual([6, 7]);
  });

  test("proposes nothing where the last token is new", async () => {
    expect(await propose([1, 2, 3, 4])).toEqual([]);
    expect(await propose([1])).toEqual([]);
  });

  test("goes on with its own proposal where the text repeats itself", async () => {
    expect(await propose([7, 7, 7], 5)).toEqual([7, 7, 7, 7, 7]);
    expect(await propose([9, 1, 2, 1, 2], 5)).toEqual([1, 2, 1, 2, 1]);
  });

  test("gives as the text grows what a scan of all of it gives", async () => {
    const texts = fc.array(fc.nat(5), { minLength: 1, maxLength: 60 });
    const steps = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 10 });
    await fc.assert(
      fc.asyncProperty(texts, steps, async (text, lengths) => {
        const lookup = new PromptLookup();
        let length = 0;
        for (const more of lengths) {
          length = Math.min(text.length, length + more);
          const said = text.slice(0, length);
          expect((await lookup.propose(said, 6)).tokens).toEqual(scanned(said, 6));
        }
      }),
    );
  });
});
