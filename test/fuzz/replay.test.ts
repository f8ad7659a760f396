/** The seeds, and what were findings once, are none. */
import { afterAll, describe, expect, test } from "vitest";

import { corpusOf, crashesOf, inputsIn } from "../../fuzz/folders.js";
import { Place, runOnce } from "../../fuzz/readers/engine.js";
import { readerTargets } from "../../fuzz/readers/targets.js";

const place = new Place();
afterAll(() => place[Symbol.dispose]());

describe.each(Object.entries(readerTargets))("%s", (name, target) => {
  test("takes some of its seeds, and refuses others properly", async () => {
    const inputs = inputsIn(corpusOf(name));
    let accepted = 0;
    for (const { bytes } of inputs) if (await runOnce(target, bytes, place)) accepted++;
    expect(accepted).toBeGreaterThan(0);
  });

  test("has no finding in what was one", async () => {
    for (const { bytes } of inputsIn(crashesOf(name))) await runOnce(target, bytes, place);
  });
});
