import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";

import {
  type GenerateOptions,
  type GenerationResult,
  loadModel,
  type Model,
  type ModelOptions,
  Sampler,
  type SpeculateOptions,
  tinyModel,
} from "../../lib/index.js";
import type { Speaker } from "../../lib/prompt.js";
import { Xoshiro128 } from "../../lib/random.js";
import type { Runtime } from "../../lib/runtime.js";
import { chiSquare } from "../support/chi-square.js";

async function load(options: ModelOptions = {}): Promise<Model> {
  const loaded = await loadModel(tinyModel, { onWarning: () => undefined, ...options });
  onTestFinished(() => loaded.dispose());
  return loaded;
}

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel, { contextLength: 512, onWarning: () => undefined });
});
afterAll(() => model.dispose());

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

async function say(speaker: Model, prompt: string | Int32Array, options: GenerateOptions): Promise<GenerationResult> {
  const generation = speaker.generate(prompt, options);
  for await (const _ of generation);
  return generation.result!;
}

/** A runtime, but for some of what it has. */
const changed = (runtime: Runtime, properties: object): Runtime => {
  const values = { ...runtime, disposed: false, ...properties };
  return Object.create(Object.getPrototypeOf(runtime), Object.getOwnPropertyDescriptors(values));
};

/** A model whose logits are another's with noise added: one that is right now and then. */
function noisy({ runtime, tokenizer }: Speaker, deviation: number): Speaker {
  const sequence = () => {
    const inner = runtime.sequence();
    const forward = inner.forward.bind(inner);
    inner.forward = async (...args) => {
      const logits = await forward(...args);
      const random = Xoshiro128.fromSeed(inner.length);
      return logits.map((logit) => logit + deviation * (random.next() / 2 ** 31 - 1));
    };
    return inner;
  };
  return { runtime: changed(runtime, { sequence }), tokenizer };
}

/** What does not depend on time, nor on the guesses. */
const said = ({ timings: _, speculation: __, ...result }: GenerationResult) => result;

const ways: [name: string, speculate: (speaker: Model) => "prompt" | SpeculateOptions, draws?: true][] = [
  ["prompt lookup", () => "prompt"],
  ["prompt lookup, 15 always", () => ({ adaptive: false })],
  ["prompt lookup, 1 always", () => ({ adaptive: false, tokens: 1 })],
  ["a draft that is always right", (speaker) => ({ draft: speaker, adaptive: false, tokens: 5 }), true],
  ["a draft that is right now and then", (speaker) => ({ draft: noisy(speaker, 5), adaptive: false, tokens: 5 }), true],
  ["a draft that is hardly ever right", (speaker) => ({ draft: noisy(speaker, 100), adaptive: false }), true],
  ["a draft, adaptively", (speaker) => ({ draft: noisy(speaker, 5) }), true],
];

const copying = `${"Tom had a red ball. Sue had a blue kite. ".repeat(4)}Tom had a`;

const wishes: [name: string, prompt: string, options: GenerateOptions][] = [
  ["a story", "Once upon a time", { maxTokens: 120 }],
  ["a text that copies", copying, { maxTokens: 60 }],
  ["no prompt", "", { maxTokens: 50 }],
  ["all that the context holds", copying, { ignoreEos: true }],
  ["one token", copying, { maxTokens: 1 }],
  ["two tokens", copying, { maxTokens: 2 }],
  ["penalties", copying, { maxTokens: 80, repeatPenalty: 1.3, frequencyPenalty: 0.5, presencePenalty: 0.2 }],
  ["a bias and a ban", copying, { maxTokens: 60, logitBias: { 262: 5, 263: Number.NEGATIVE_INFINITY } }],
  ["log-probabilities", copying, { maxTokens: 60, logprobs: 3, echo: true }],
  ["a stop string", copying, { maxTokens: 100, stop: ["kite", "Sue went"] }],
  ["a stop token", copying, { maxTokens: 100, stopTokens: [300, 310, 320, 330] }],
  ["at least so many", "Once upon a time", { maxTokens: 400, minTokens: 250 }],
];

describe("what is said with speculation, greedily", () => {
  describe.for(ways)("by %s", ([, speculate]) => {
    test.for(wishes)("is what is said without: %s", async ([, prompt, options]) => {
      const plain = await say(model, prompt, { temperature: 0, ...options });
      const guessed = await say(model, prompt, { temperature: 0, ...options, speculate: speculate(model) });
      expect(said(guessed)).toEqual(said({ ...plain, seed: guessed.seed }));
      expect(plain.speculation).toBeUndefined();
      const { proposed, accepted, steps } = guessed.speculation!;
      expect(accepted).toBeLessThanOrEqual(proposed);
      expect(accepted).toBeLessThanOrEqual(guessed.tokens.length + 15);
      expect(steps).toBeLessThanOrEqual(guessed.tokens.length);
      expect(allFree(model)).toBe(true);
    });
  });
});

describe("what is said with prompt lookup and a temperature", () => {
  test.for(wishes)("is what the same seed says without: %s", async ([, prompt, options]) => {
    for (const seed of [1, 2, 3]) {
      const sampled = { ...options, temperature: 1, seed, maxTokens: options.maxTokens ?? 400 };
      const guessed = await say(model, prompt, { ...sampled, speculate: { adaptive: false, tokens: 6 } });
      expect(said(guessed)).toEqual(said(await say(model, prompt, sampled)));
    }
  });
});

describe("what is said with a draft and a temperature", () => {
  const sampling = { temperature: 1, topK: 4, topP: 1, minP: 0, repeatPenalty: 1.2, frequencyPenalty: 0.3 };
  const length = 4;

  /** The probability of each text of `length` tokens. */
  async function texts(prompt: Int32Array): Promise<Map<string, number>> {
    const probabilities = new Map<string, number>();
    const walk = async (sampler: Sampler, chosen: number[], probability: number): Promise<void> => {
      if (chosen.length === length) {
        probabilities.set(chosen.join(), probability);
        return;
      }
      using sequence = model.sequence();
      const logits = await sequence.forward(Int32Array.of(...prompt, ...chosen), "last");
      const { ids, probabilities: shares } = sampler.distribution(logits, [model.tokenizer.eos!]);
      for (const [i, id] of ids.slice().entries()) {
        const share = shares.slice()[i]!;
        const next = sampler.fork();
        next.accept(id);
        await walk(next, [...chosen, id], probability * share);
      }
    };
    const sampler = new Sampler({ ...sampling, seed: 0 });
    sampler.acceptPrompt(prompt);
    await walk(sampler, [], 1);
    return probabilities;
  }

  test.for([0, 2, 30])("has the distribution of plain decoding: noise of %s", async (noise) => {
    const prompt = Int32Array.of(model.tokenizer.bos!, ...model.tokenizer.encode("Tom and Sue"));
    const expected = await texts(prompt);
    expect([...expected.values()].reduce((a, b) => a + b)).toBeCloseTo(1, 9);
    const draft = noisy(model, noise);
    const counts = new Map<string, number>();
    let [proposed, accepted] = [0, 0];
    const draws = 2000;
    for (let first = 0; first < draws; first += 20) {
      const seeds = Array.from({ length: 20 }, (_, i) => first + i);
      const options = { ...sampling, maxTokens: length, ignoreEos: true, speculate: { draft, adaptive: false } };
      for (const { tokens, speculation } of await Promise.all(
        seeds.map((seed) => say(model, prompt, { ...options, seed })),
      )) {
        counts.set(tokens.join(), (counts.get(tokens.join()) ?? 0) + 1);
        proposed += speculation!.proposed;
        accepted += speculation!.accepted;
      }
    }
    for (const text of counts.keys()) expect(expected.get(text)).toBeGreaterThan(0);
    const { statistic, limit } = chiSquare(counts, expected);
    expect(statistic).toBeLessThan(limit);
    if (noise === 0) expect(accepted).toBe(proposed);
    else expect(accepted).toBeLessThan(proposed);
    expect(accepted).toBeGreaterThan(0);
  });

  test("is the same again with the same seed, where the time has no part in it", async () => {
    const options = { ...sampling, maxTokens: 60, seed: 5, speculate: { draft: noisy(model, 4), adaptive: false } };
    expect(said(await say(model, copying, options))).toEqual(said(await say(model, copying, options)));
  });
});

describe("speculation", () => {
  test("reads many tokens of a text that repeats itself in few runs", async () => {
    const options = { temperature: 0, maxTokens: 64, logitBias: { 300: 1000 } }; // says 300, and nothing else
    const { speculation, tokens } = await say(model, "Tom", { ...options, speculate: { adaptive: false } });
    expect(new Set(tokens)).toEqual(new Set([300]));
    // One after the prompt, one after that, for 300 is new; then 3 · (15 + 1), and 13 + 1.
    expect(speculation).toEqual({ proposed: 58, accepted: 58, steps: 4, off: 0 });
  });

  test("of a draft that is the model itself has all that it proposes accepted", async () => {
    const speculate = { draft: model, adaptive: false, tokens: 4 };
    const { speculation } = await say(model, "Once upon a time", { temperature: 0, maxTokens: 51, speculate });
    expect(speculation).toEqual({ proposed: 40, accepted: 40, steps: 10, off: 0 });
  });

  test("many at once say what each says alone", async () => {
    const wishes = Array.from({ length: 6 }, (_, seed) => ({ temperature: 0.8, seed, maxTokens: 60 }));
    const alone: GenerationResult[] = [];
    for (const options of wishes) alone.push(await say(model, copying, options));
    const together = await Promise.all(
      wishes.map((options) => say(model, copying, { ...options, speculate: { adaptive: false, tokens: 7 } })),
    );
    expect(together.map(said)).toEqual(alone.map(said));
  });

  test("is stopped by its signal, before tokens that it has chosen already", async () => {
    const controller = new AbortController();
    const options = { temperature: 0, logitBias: { 300: 1000 }, signal: controller.signal };
    const generation = model.generate("Tom", { ...options, speculate: { adaptive: false } });
    let pieces = 0;
    const whole = (async () => {
      for await (const _ of generation) if (++pieces === 5) controller.abort();
    })();
    await expect(whole).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(pieces).toBe(5);
    expect(allFree(model)).toBe(true);
  });

  test("gives its blocks back where the caller takes no more", async () => {
    for (const speculate of ["prompt", { draft: model, adaptive: false }] as const) {
      for await (const _ of model.generate(copying, { temperature: 0, speculate })) break;
      expect(allFree(model)).toBe(true);
    }
  });

  test("does without a draft where both have not room in one cache", async () => {
    const small = await load({ contextLength: 64 });
    const options = { temperature: 0, ignoreEos: true };
    const plain = await say(small, "Once upon a time", options);
    const guessed = await say(small, "Once upon a time", {
      ...options,
      speculate: { draft: small, adaptive: false, tokens: 4 },
    });
    expect(said(guessed)).toEqual(said({ ...plain, seed: guessed.seed }));
    expect(guessed.finishReason).toBe("context");
    expect(guessed.speculation!.accepted).toBeGreaterThan(5);
    expect(allFree(small)).toBe(true);
  });

  test("comes as far as plain decoding in a cache that others have filled", async () => {
    const small = await load({ contextLength: 96 });
    using other = small.sequence();
    await other.forward(new Int32Array(64).fill(300), "none"); // leaves two blocks
    const comesTo = async (speculate?: "prompt" | SpeculateOptions) => {
      const options = { temperature: 0, logitBias: { 300: 1000 }, ...(speculate && { speculate }) };
      let pieces = 0;
      const whole = (async () => {
        for await (const _ of small.generate("Tom", options)) pieces++;
      })();
      await expect(whole).rejects.toMatchObject({ code: "ERR_CRIA_CACHE_FULL" });
      return pieces;
    };
    const plain = await comesTo();
    expect(plain).toBeGreaterThan(20);
    expect(await comesTo({ adaptive: false })).toBe(plain);
    expect(await comesTo({ adaptive: false, draft: small })).toBe(plain);
  });

  test("does without a draft past the draft's context", async () => {
    const short = await load({ contextLength: 32 });
    const options = { temperature: 0, maxTokens: 100 };
    const plain = await say(model, "Once upon a time", options);
    const guessed = await say(model, "Once upon a time", { ...options, speculate: { draft: short, adaptive: false } });
    expect(said(guessed)).toEqual(said({ ...plain, seed: guessed.seed }));
    expect(guessed.speculation!.proposed).toBeGreaterThan(10);
    expect(guessed.speculation!.proposed).toBeLessThan(32);
    expect(allFree(short)).toBe(true);
  });

  test("that fails to start leaves nothing behind", async () => {
    const own = await load({ contextLength: 128 });
    const sequence = () => {
      throw new Error("no draft today");
    };
    const options = { speculate: { draft: { runtime: changed(own.runtime, { sequence }), tokenizer: own.tokenizer } } };
    await expect(say(own, "Once", options)).rejects.toThrow("no draft today");
    await expect(own.sample("Once", { ...options, n: 3 }).finish()).rejects.toThrow("no draft today");
    expect(allFree(own)).toBe(true);
    const conversation = own.conversation();
    const failed = async () => {
      for await (const _ of conversation.say("Once", options));
    };
    await expect(failed()).rejects.toThrow("no draft today");
    for await (const _ of conversation.say("Once", { maxTokens: 2 }));
    expect(conversation.turns).toBe(2);
  });

  test("refuses a draft that is no model, or is one no more", async () => {
    const refused = (draft: unknown) => () => model.generate("Hi", { speculate: { draft: draft as Model } });
    for (const runtime of [5, null, {}, { config: { vocab: 1024 } }]) {
      expect(refused({ runtime, tokenizer: model.tokenizer })).toThrow("speculate.draft: must be a model, not Object");
    }
    expect(refused(null)).toThrow("speculate.draft: must be a model, not null");
    const gone = await load({ contextLength: 64 });
    gone.dispose();
    expect(refused(gone)).toThrow(
      expect.objectContaining({ code: "ERR_CRIA_DISPOSED", message: "speculate.draft: was disposed" }),
    );
  });

  test("refuses options that are wrong", () => {
    const refused = (speculate: unknown) => () => model.generate("Hi", { speculate } as GenerateOptions);
    expect(refused("draft")).toThrow('speculate: must be an object or "prompt", not "draft"');
    expect(refused(null)).toThrow("speculate: must be an object");
    expect(refused({ tokens: 16 })).toThrow("speculate.tokens: must be an integer from 1 to 15, not 16");
    expect(refused({ tokens: "4" })).toThrow("speculate.tokens: must be a number");
    expect(refused({ adaptive: 1 })).toThrow("speculate.adaptive: must be a boolean, not 1");
    expect(refused({ draft: "small.gguf" })).toThrow('speculate.draft: must be a model, not "small.gguf"');
    const { runtime, tokenizer } = model;
    const other = { tokenizer, runtime: changed(runtime, { config: { ...runtime.config, vocab: 100 } }) };
    expect(refused({ draft: other })).toThrow(
      `speculate.draft: must be a model of ${runtime.config.vocab} tokens, as the one that it guesses for, not 100`,
    );
  });
});
