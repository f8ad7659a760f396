import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import { type GenerateOptions, loadModel, type Model, type ModelOptions, tinyModel } from "../lib/index.js";
import { Sequence } from "../lib/sequence.js";
import { Window } from "../lib/window.js";

const contextLength = 96;

async function load(options: ModelOptions = {}): Promise<Model> {
  const loaded = await loadModel(tinyModel, { contextLength, onWarning: () => undefined, ...options });
  onTestFinished(() => loaded.dispose());
  return loaded;
}

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel, { contextLength });
});
afterAll(() => model.dispose());

async function say(speaker: Model, prompt: string, options: GenerateOptions) {
  const generation = speaker.generate(prompt, { ignoreEos: true, seed: 4, ...options });
  for await (const _ of generation);
  return generation.result!;
}

/** The ranges that sequences are told to forget from now on, and their lengths before. */
function watchRemovals(): { begin: number; end: number; length: number }[] {
  const remove = Sequence.prototype.removeRange;
  const removals: { begin: number; end: number; length: number }[] = [];
  const spy = vi.spyOn(Sequence.prototype, "removeRange").mockImplementation(function (this: Sequence, begin, end) {
    removals.push({ begin, end, length: this.length });
    return remove.call(this, begin, end);
  });
  onTestFinished(() => spy.mockRestore());
  return removals;
}

describe("a text with a window", () => {
  test("goes on past the context, and begins as one without", async () => {
    const removals = watchRemovals();
    const ending = await say(model, "Once upon a time", {});
    expect(ending.finishReason).toBe("context");
    const going = await say(model, "Once upon a time", { window: {}, maxTokens: 400 });
    expect(going.finishReason).toBe("length");
    expect(going.tokens.slice(0, ending.tokens.length)).toEqual(ending.tokens);
    // Of 96 tokens the 4 first stay, and of 92 the 32 nearest to half in whole blocks go: 64 are left.
    expect(removals).toEqual(new Array(removals.length).fill({ begin: 4, end: 36, length: 96 }));
    expect(removals.length).toBe(Math.ceil((5 + 399 - 96) / 32));
    expect(model.runtime.pool.freeBlocks).toBe(model.runtime.pool.blocks);
  });

  test("is what its cache gives that forgets by hand", async () => {
    const window = { size: 48, sinks: 3 };
    const { tokens } = await say(model, "Tom had a ball", { window, maxTokens: 120, temperature: 0 });
    using sequence = model.sequence();
    const prompt = Int32Array.of(model.tokenizer.bos!, ...model.tokenizer.encode("Tom had a ball"));
    const best = (logits: Float32Array) => {
      logits[model.tokenizer.eos!] = Number.NEGATIVE_INFINITY;
      return logits.indexOf(Math.max(...logits));
    };
    const said = [best(await sequence.forward(prompt, "last"))];
    while (said.length < 120) {
      if (sequence.length === 48) await sequence.removeRange(3, 3 + 16);
      said.push(best(await sequence.forward(Int32Array.of(said.at(-1)!), "last")));
    }
    expect(tokens).toEqual(said);
  });

  test("holds no more of the cache than the window's size, and others go on beside it", async () => {
    const own = await load({ contextLength: 128 });
    const alone = await say(own, "Sue", { window: { size: 32 }, maxTokens: 150 });
    const both = [1, 2, 3, 4].map(() => say(own, "Sue", { window: { size: 32 }, maxTokens: 150 }));
    for (const { tokens } of await Promise.all(both)) expect(tokens).toEqual(alone.tokens);
  });

  test("can be as small as one token", async () => {
    for (const size of [1, 2, 5, 17]) {
      const { tokens, finishReason } = await say(model, "Sue", { window: { size }, maxTokens: 40 });
      expect({ count: tokens.length, finishReason }).toEqual({ count: 40, finishReason: "length" });
    }
  });

  test.for<[object, RegExp]>([
    [{ size: 97 }, /^window\.size: must be an integer from 1 to 96, not 97$/],
    [{ size: 8, sinks: 8 }, /^window\.sinks: must be an integer from 0 to 7, not 8$/],
    [{ sinks: -1 }, /^window\.sinks: must be an integer from 0 to 95, not -1$/],
  ])("refuses %j", ([window, message]) => {
    expect(() => model.generate("Hi", { window })).toThrow(message);
    expect(() => model.generate("Hi", { window: true as never })).toThrow(/^window: must be an object, not true$/);
  });

  test("guesses no tokens", () => {
    expect(() => model.generate("Hi", { window: {}, speculate: "prompt" })).toThrow(
      /^speculate: must be left out where there is a window, not "prompt"$/,
    );
  });
});

test("a window knows where what was read stands now", async () => {
  const window = new Window({ size: 40, sinks: 2 }, contextLength);
  using sequence = model.sequence();
  await sequence.forward(
    Int32Array.from({ length: 40 }, (_, i) => 10 + i),
    "none",
  );
  await window.makeRoom(sequence, 0);
  expect(sequence.length).toBe(40);
  await window.makeRoom(sequence, 1);
  await window.makeRoom(sequence, 20);
  // First 16 of the 38 after the sinks, half of them being 19; then half of the other 22.
  expect(window.removed).toBe(16 + 11);
  expect([...sequence.tokens]).toEqual([10, 11, ...Array.from({ length: 11 }, (_, i) => 39 + i)]);
  expect([0, 2, 3, 29, 30, 40].map((position) => window.now(position))).toEqual([0, 2, 2, 2, 3, 13]);
  await expect(window.makeRoom(sequence, 39)).rejects.toMatchObject({ code: "ERR_CRIA_CONTEXT" });
});
