import { expect, onTestFinished, test } from "vitest";

import { Chooser } from "../../lib/chooser.js";
import { planOf } from "../../lib/generate-options.js";
import { loadModel, Sampler, tinyModel } from "../../lib/index.js";
import { Pace } from "../../lib/speculation/pace.js";
import type { Proposer } from "../../lib/speculation/proposer.js";
import { SpeculativeSource } from "../../lib/speculation/speculative-source.js";

const prompt = Int32Array.from({ length: 10 }, (_, i) => 300 + i);

/** A source of greedy tokens after the prompt, in a cache of three blocks, two of which `held` has. */
async function open(propose: Proposer["propose"]) {
  const model = await loadModel(tinyModel, { contextLength: 48 });
  onTestFinished(() => model.dispose());
  const [sequence, held] = [model.sequence(), model.sequence()];
  await sequence.forward(prompt, "none");
  await held.forward(new Int32Array(32).fill(300), "none");
  const source = new SpeculativeSource(
    sequence,
    prompt,
    new Chooser(new Sampler({ temperature: 0 }), planOf({}), []),
    { proposer: { propose, dispose: () => held.dispose() }, pace: new Pace(15, false) },
    { contextLength: 48, maxTokens: 100, signal: undefined },
  );
  return { source, sequence, held };
}

test("a cache with no room for the guesses has room for the text", async () => {
  const { source, sequence, held } = await open(async () => ({ tokens: new Array(15).fill(1) }));
  await source.next(310);
  expect(sequence.length).toBe(11);
  expect(source.speculation).toEqual({ proposed: 0, accepted: 0, steps: 0, off: 0 });
  expect(held.disposed).toBe(false);
});

test("a proposer gives way where its tokens leave no room for the text", async () => {
  const { source, sequence, held } = await open(async () => ({ tokens: [] }));
  let last = 310;
  for (let i = 0; i < 6; i++) ({ token: last } = await source.next(last));
  expect([sequence.length, held.disposed]).toEqual([16, false]);
  await source.next(last);
  expect([sequence.length, held.disposed]).toEqual([17, true]);
});

test("what was read of wrong guesses is forgotten", async () => {
  const { source, sequence, held } = await open(async () => ({ tokens: [1, 1, 1] }));
  held.dispose();
  await source.next(310);
  expect([...sequence.tokens]).toEqual([...prompt, 310]);
  expect(source.speculation).toEqual({ proposed: 3, accepted: 0, steps: 1, off: 0 });
});
