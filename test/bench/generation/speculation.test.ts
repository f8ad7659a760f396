import { expect, it } from "vitest";

import { measureSpeculation, speculationContext } from "../../../bench/generation/speculation.js";
import { loadModel, tinyModel } from "../../../lib/index.js";

it("measures a text that copies, nearly all of whose guesses are right", async () => {
  using model = await loadModel(tinyModel, { contextLength: speculationContext, onWarning: () => undefined });
  const results = await measureSpeculation({ runtime: model.runtime, name: "tiny", format: "q8_0" });
  const { pool } = model.runtime;
  expect(pool.freeBlocks).toBe(pool.blocks);
  expect(results.map(({ name, unit }) => [name, unit])).toEqual([
    ["speculation/plain", "tok/s"],
    ["speculation/prompt", "tok/s"],
    ["speculation/gain", "x"],
    ["speculation/accepted", "x"],
  ]);
  for (const { value, samples, at } of results) {
    expect(value).toBeGreaterThan(0);
    expect(samples).toBe(3);
    expect(at).toMatchObject({ model: "tiny", format: "q8_0" });
  }
  // Guesses go wrong where a passage ends, and may go wrong where a token of it is in the prompt twice.
  expect(results[3]!.value).toBeGreaterThan(0.5);
  expect(results[3]!.value).toBeLessThanOrEqual(1);
});
