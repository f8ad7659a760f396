/** A signal that aborts before, while and after something is done, or again: one typed error, and no listener is left. */
import { getEventListeners } from "node:events";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { type CriaError, loadModel, type Model, tinyModel } from "../../lib/index.js";
import { measurePerplexity } from "../../lib/perplexity.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

async function drain(pieces: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of pieces);
}

const tokens = Int32Array.from({ length: 150 }, (_, i) => 3 + (i % 300));
const text = "Once upon a time there was a cat. ".repeat(5);
const long = { maxTokens: 100, ignoreEos: true };

/** All that takes a signal. None is done within a millisecond. */
const abortable: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
  loadModel: async (signal) => (await loadModel(tinyModel, { signal })).dispose(),
  generate: (signal) => drain(model.generate(text, { ...long, signal })),
  "generate, guessing": (signal) => drain(model.generate(text, { ...long, signal, speculate: "prompt" })),
  sample: (signal) => drain(model.sample(text, { ...long, maxTokens: 20, n: 3, signal })),
  say: async (signal) => {
    using conversation = model.conversation();
    await drain(conversation.say(text, { ...long, signal }));
  },
  beamSearch: (signal) => model.beamSearch(text, { maxTokens: 30, beams: 3, signal }),
  logprobs: (signal) => model.logprobs(text, { signal }),
  score: (signal) => model.score(text, [" Tom", " Lily"], { signal }),
  perplexity: (signal) => measurePerplexity(model, text, { signal }),
  forward: async (signal) => {
    using sequence = model.sequence();
    await sequence.forward(tokens, "last", { signal });
  },
  decode: async (signal) => {
    using sequence = model.sequence();
    await sequence.decode(1, 100, { signal });
  },
};

/** What it fails with, if it does; no listener may be left. */
async function outcome(work: (signal: AbortSignal) => Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  const error = await work(signal).then(
    () => undefined,
    (error: CriaError) => error,
  );
  expect(getEventListeners(signal, "abort")).toEqual([]);
  return error;
}

const refusal = (reason: unknown) =>
  expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_ABORTED", cause: reason });

// One that nobody handles fails the tests: vitest hears of it.
describe.each(Object.entries(abortable))("%s", (_, work) => {
  test("is refused a signal that has aborted", async () => {
    const signal = AbortSignal.abort(new Error("before"));
    expect(await outcome(work, signal)).toEqual(refusal(signal.reason));
  });

  test("stops at a signal, and at a second abort no other way", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const stopped = outcome(work, signal);
    controller.abort("during");
    controller.abort("again");
    expect(await stopped).toEqual(refusal("during"));
  });

  test("stops whenever the signal comes, or is done", async () => {
    const outcomes = [];
    for (const ms of [0, 1, 2, 4, 8]) {
      const controller = new AbortController();
      const stopped = outcome(work, controller.signal);
      await setTimeout(ms);
      controller.abort("later");
      outcomes.push(await stopped);
    }
    for (const error of outcomes) if (error !== undefined) expect(error).toEqual(refusal("later"));
  });

  test("hears no signal when it is done", async () => {
    const controller = new AbortController();
    expect(await outcome(work, controller.signal)).toBeUndefined();
    controller.abort("after");
    await setTimeout(1);
    expect(model.runtime.pool.freeBlocks).toBe(model.runtime.pool.blocks);
  });
});
