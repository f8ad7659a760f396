/** The seeds, and what were findings once, are none. */
import { afterAll, expect, test } from "vitest";

import { corpusOf, crashesOf, inputsIn } from "../../fuzz/folders.js";
import { Place, runOnce } from "../../fuzz/readers/engine.js";
import { readerTargets } from "../../fuzz/readers/targets.js";

const place = new Place();
afterAll(() => place[Symbol.dispose]());

test.each(Object.entries(readerTargets))(
  "%s takes or refuses its seeds, and what were findings once",
  async (name, target) => {
    let accepted = 0;
    for (const { bytes } of [corpusOf(name), crashesOf(name)].flatMap(inputsIn)) {
      if (await runOnce(target, bytes, place)) accepted++;
    }
    expect(accepted).toBeGreaterThan(0);
  },
);
