import { join } from "node:path";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";

import {
  type CriaError,
  type GenerateOptions,
  type GenerationResult,
  loadModel,
  type Model,
  type ModelOptions,
  tinyModel,
} from "../lib/index.js";
import { KvSequence } from "../lib/kv-sequence.js";
import { type NativeBatch, native } from "../lib/native.js";
import { Xoshiro128 } from "../lib/random.js";
import { chunkTokens } from "../lib/scheduler.js";
import { expectSameBits } from "./support/compare.js";
import { temporaryFolder } from "./support/gguf-writer.js";

afterEach(() => vi.restoreAllMocks());

async function load(options: ModelOptions = {}): Promise<Model> {
  const model = await loadModel(tinyModel, { onWarning: () => undefined, ...options });
  onTestFinished(() => model.dispose());
  return model;
}

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

async function finished(model: Model, prompt: string, options: GenerateOptions): Promise<GenerationResult> {
  const generation = model.generate(prompt, options);
  await collect(generation);
  return generation.result!;
}

/** Tokens that no two seeds have alike. */
function randomTokens(count: number, seed: number): Int32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Int32Array.from({ length: count }, () => 3 + (random.next() % 400));
}

/** The tokens of each sequence in each run from now on. */
function watchRuns(): number[][] {
  const run = native.programRun;
  const runs: number[][] = [];
  vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
    runs.push([...(batch as NativeBatch).lengths]);
    return run(program, cache, batch, width, cancel);
  });
  return runs;
}

describe("sequences that read at the same time", () => {
  test("share the runs, and each gets what it gets alone", async () => {
    const model = await load({ contextLength: 512 });
    const texts = Array.from({ length: 8 }, (_, i) => randomTokens(5 + 7 * i, i));
    const alone: Float32Array[] = [];
    for (const tokens of texts) {
      using sequence = (await load({ contextLength: 512 })).sequence();
      alone.push(await sequence.forward(tokens, "all"));
    }
    const runs = watchRuns();
    const sequences = texts.map(() => model.sequence());
    const together = await Promise.all(texts.map((tokens, i) => sequences[i]!.forward(tokens, "all")));
    expect(runs.length).toBeLessThanOrEqual(2);
    for (const [i, logits] of together.entries()) expectSameBits(logits, alone[i]!);
  });

  test("wait for no more than a chunk of another's prompt, and it for no more than them", async () => {
    const model = await load({ contextLength: 4 * chunkTokens + 128 });
    const speaking = model.sequence();
    await speaking.forward(Int32Array.of(1, 300), "last");
    const runs = watchRuns();
    const prompt = model.sequence().forward(randomTokens(3 * chunkTokens, 1), "last");
    let read = false;
    void prompt.then(() => {
      read = true;
    });
    let steps = 0;
    for (; !read; steps++) await speaking.forward(Int32Array.of(300), "last");
    expect(steps).toBeGreaterThanOrEqual(3);
    for (const lengths of runs) {
      expect(lengths.reduce((sum, length) => sum + length)).toBeLessThanOrEqual(chunkTokens);
      expect(lengths).toContain(1);
    }
  });

  test("go by priority, then in the order of their coming", async () => {
    const model = await load({ contextLength: 4 * chunkTokens });
    const order: string[] = [];
    const read = async (name: string, seed: number, priority?: number) => {
      using sequence = model.sequence();
      await sequence.forward(randomTokens(chunkTokens, seed), "last", { priority });
      order.push(name);
    };
    await Promise.all([read("low", 1, -1), read("first", 2), read("second", 3), read("high", 4, 1)]);
    expect(order).toEqual(["high", "first", "second", "low"]);
  });

  test("are not disturbed by one that is aborted in the run that they share", async () => {
    const model = await load({ contextLength: 1024, isa: "scalar", threads: 1 });
    const [mine, other] = [randomTokens(60, 1), randomTokens(120, 2)];
    const alone = await (await load({ contextLength: 1024, isa: "scalar" })).sequence().forward(mine, "last");
    const controller = new AbortController();
    const [staying, leaving] = [model.sequence(), model.sequence()];
    const left = leaving.forward(other, "last", { signal: controller.signal }).catch((error) => {
      leaving.dispose();
      return error.code;
    });
    const stayed = staying.forward(mine, "last");
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    controller.abort();
    expect(await left).toBe("ERR_CRIA_ABORTED");
    expectSameBits(await stayed, alone);
    expect(staying.length).toBe(60);
    staying.dispose();
    expect(allFree(model)).toBe(true);
  });

  test.each(["disposed", "truncated"] as const)(
    "keep their own logits when one before them is aborted and %s",
    async (way) => {
      const model = await load({ contextLength: 1024, isa: "scalar", threads: 1 });
      const [first, other] = [randomTokens(80, 1), randomTokens(80, 2)];
      const alone = await (await load({ contextLength: 1024, isa: "scalar" })).sequence().forward(other, "last");
      const controller = new AbortController();
      const [leaving, staying] = [model.sequence(), model.sequence()];
      await leaving.forward(randomTokens(10, 3), "none"); // so that what it loses shows
      const left = leaving.forward(first, "last", { signal: controller.signal }).catch(() => {
        if (way === "disposed") leaving.dispose();
        else leaving.truncate(0);
      });
      const stayed = staying.forward(other, "last");
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      controller.abort();
      await left;
      expectSameBits(await stayed, alone);
    },
  );

  test("are heard at once while they wait for another's run", async () => {
    const model = await load({ contextLength: 1024, isa: "scalar", threads: 1 });
    const running = model.sequence().forward(randomTokens(200, 1), "last");
    let ended = false;
    void running.then(() => {
      ended = true;
    });
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    const controller = new AbortController();
    const waiting = model.sequence().forward(randomTokens(5, 2), "last", { signal: controller.signal });
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(ended).toBe(false);
    await running;
  });

  test("refuse a signal that is none, and harm no other", async () => {
    const model = await load();
    const other = model.sequence().forward(Int32Array.of(1, 2, 3), "last");
    const wrong = model.sequence().forward(Int32Array.of(1, 2), "last", { signal: new AbortController() as never });
    await expect(wrong).rejects.toThrow("signal: must be an AbortSignal, not AbortController");
    expect((await other).every(Number.isFinite)).toBe(true);
  });

  test.each<[string, unknown, RegExp]>([
    ["a priority of another type", { priority: 1n }, /^priority: must be a number, not 1n$/],
    ["a priority that is none", { priority: Number.NaN }, /^priority: must be a finite number, not NaN$/],
    ["a priority without end", { priority: Number.POSITIVE_INFINITY }, /^priority: must be a finite number/],
    ["a callback that is none", { onProgress: 5 }, /^onProgress: must be a function, not 5$/],
    ["no options", null, /^options: must be an object, not null$/],
    ["an option that there is not", { prioritiy: 1 }, /^options.prioritiy: is not an option of forward$/],
  ])("are told of %s at the call, and harm no other", async (_, options, message) => {
    const model = await load();
    const other = model.sequence().forward(Int32Array.of(1, 2, 3), "last");
    const wrong = model.sequence().forward(Int32Array.of(1, 2), "last", options as never);
    await expect(wrong).rejects.toMatchObject({ code: "ERR_CRIA_ARGUMENT", message: expect.stringMatching(message) });
    expect((await other).every(Number.isFinite)).toBe(true);
  });

  test("read each option once, when they are called", async () => {
    const model = await load({ contextLength: 1024 });
    const reads: string[] = [];
    const options = {
      get priority() {
        if (reads.push("priority") > 1) throw new Error("read again");
        return 1;
      },
    };
    const other = model.sequence().forward(randomTokens(300, 1), "last");
    const reading = model.sequence().forward(randomTokens(600, 2), "last", options);
    expect(reads).toEqual(["priority"]);
    expect((await Promise.all([other, reading])).flatMap((logits) => [...logits]).every(Number.isFinite)).toBe(true);
    expect(reads).toEqual(["priority"]);
  });

  test("are checked for their tokens by nothing that the caller has a hand in", async () => {
    const model = await load();
    class Sly extends Int32Array {
      override findIndex() {
        return -1;
      }
      override slice() {
        return this as never;
      }
    }
    const other = model.sequence().forward(Int32Array.of(1, 2, 3), "last");
    const wrong = model.sequence().forward(Sly.of(1, 1e6), "last");
    await expect(wrong).rejects.toThrow(`tokens[1]: must be a token from 0 to ${model.config.vocab - 1}, not 1000000`);
    expect((await other).every(Number.isFinite)).toBe(true);
    const moved = Int32Array.of(1, 2);
    structuredClone(moved, { transfer: [moved.buffer] });
    await expect(model.sequence().forward(moved, "last")).rejects.toMatchObject({ code: "ERR_CRIA_ARGUMENT" });
  });

  test("that abort all stop the run", async () => {
    const model = await load({ contextLength: 1024, isa: "scalar", threads: 1 });
    const controller = new AbortController();
    const trigger = vi.spyOn(native, "cancelTrigger");
    const read = (seed: number) =>
      model.sequence().forward(randomTokens(100, seed), "last", { signal: controller.signal });
    const both = Promise.allSettled([read(1), read(2)]);
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    controller.abort();
    expect((await both).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
    expect(trigger).toHaveBeenCalledTimes(1);
  });

  test("share a listener where they share a signal", async () => {
    const model = await load({ contextLength: 1024, cacheSize: { tokens: 2048 } });
    const { signal } = new AbortController();
    const add = vi.spyOn(signal, "addEventListener");
    const remove = vi.spyOn(signal, "removeEventListener");
    const read = (seed: number) => model.sequence().forward(randomTokens(20, seed), "last", { signal });
    await Promise.all(Array.from({ length: 20 }, (_, seed) => read(seed)));
    expect(add).toHaveBeenCalledTimes(1);
    expect(remove).toHaveBeenCalledTimes(1);
    await read(21);
    expect(add).toHaveBeenCalledTimes(2);
  });

  test("fail alone where one's step cannot be planned", async () => {
    const model = await load({ contextLength: 256 });
    const find = vi.spyOn(KvSequence.prototype, "find").mockImplementationOnce(() => {
      throw new Error("mine");
    });
    const failing = model.sequence().forward(randomTokens(20, 1), "last");
    const other = model.sequence().forward(randomTokens(20, 2), "last");
    await expect(failing).rejects.toThrow("mine");
    expect((await other).every(Number.isFinite)).toBe(true);
    expect(find).toHaveBeenCalledTimes(2);
  });

  test("a callback that throws fails its own reading alone", async () => {
    const model = await load({ contextLength: 256 });
    const onProgress = () => {
      throw new Error("mine");
    };
    const failing = model.sequence().forward(randomTokens(20, 1), "last", { onProgress });
    const other = model.sequence().forward(randomTokens(20, 2), "last");
    await expect(failing).rejects.toThrow("mine");
    expect((await other).every(Number.isFinite)).toBe(true);
  });
});

describe("the prefix cache", () => {
  test("spares what was read before, and changes no bit", async () => {
    const model = await load({ contextLength: 512 });
    const tokens = randomTokens(100, 5);
    const first = model.sequence();
    const expected = await first.forward(tokens, "last");
    first.dispose();
    const runs = watchRuns();
    const second = model.sequence();
    expectSameBits(await second.forward(tokens, "last"), expected);
    expect(runs).toEqual([[100 - 96]]);
    second.dispose();
    expect(model.runtime.pool.statistics).toMatchObject({ hits: 6, evictions: 0 });
    expect(allFree(model)).toBe(true);
  });

  test("skips no logits that are wanted", async () => {
    const model = await load({ contextLength: 512 });
    const tokens = randomTokens(100, 6);
    const read = async () => {
      using sequence = model.sequence();
      return await sequence.forward(tokens, "all");
    };
    expectSameBits(await read(), await read());
  });
});

describe("sequences", () => {
  test("that fork go on alike, each on its own", async () => {
    const model = await load({ contextLength: 512 });
    const sequence = model.sequence();
    await sequence.forward(randomTokens(37, 7), "last");
    const fork = sequence.fork();
    expect(fork.tokens).toEqual(sequence.tokens);
    const [a, b] = [randomTokens(20, 8), randomTokens(20, 9)];
    const [afterA, afterB] = await Promise.all([sequence.forward(a, "last"), fork.forward(b, "last")]);
    const alone = async (next: Int32Array) => {
      using again = (await load({ contextLength: 512 })).sequence();
      await again.forward(randomTokens(37, 7), "last");
      return await again.forward(next, "last");
    };
    expectSameBits(afterA, await alone(a));
    expectSameBits(afterB, await alone(b));
    sequence.dispose();
    fork.dispose();
    expect(allFree(model)).toBe(true);
  });

  test("give their tokens out as copies, by which nothing is found", async () => {
    const model = await load({ contextLength: 512 });
    const [told, shown, rest] = [randomTokens(10, 1), randomTokens(10, 2), randomTokens(20, 3)];
    const liar = model.sequence();
    await liar.forward(told, "none");
    liar.tokens.set(shown);
    await liar.forward(rest, "none");
    liar.dispose();
    const text = Int32Array.of(...shown, ...rest);
    const alone = await (await load({ contextLength: 512 })).sequence().forward(text, "last");
    expectSameBits(await model.sequence().forward(text, "last"), alone);
  });

  test("that are truncated go on as if they had read no more", async () => {
    const model = await load({ contextLength: 512 });
    using sequence = model.sequence();
    const tokens = randomTokens(60, 10);
    await sequence.forward(tokens, "last");
    sequence.truncate(23);
    expect(sequence.tokens).toEqual(tokens.subarray(0, 23));
    const next = randomTokens(30, 11);
    using other = (await load({ contextLength: 512 })).sequence();
    await other.forward(tokens.subarray(0, 23), "none");
    expectSameBits(await sequence.forward(next, "all"), await other.forward(next, "all"));
  });

  test("forget a range, and go on at the positions that are left", async () => {
    const model = await load({ contextLength: 256, cache: "f32" });
    const tokens = randomTokens(90, 12);
    using sequence = model.sequence();
    await sequence.forward(tokens, "last");
    await sequence.removeRange(4, 37);
    expect(sequence.tokens).toEqual(Int32Array.from([...tokens.subarray(0, 4), ...tokens.subarray(37)]));
    expect(sequence.length).toBe(57);
    const logits = await sequence.forward(randomTokens(40, 13), "all");
    expect(logits.every(Number.isFinite)).toBe(true);
    // What was half forgotten is not found by the tokens that are left.
    using fresh = model.sequence();
    const runs = watchRuns();
    await fresh.forward(sequence.tokens, "last");
    expect(runs).toEqual([[97]]);
  });

  test("refuse what they cannot do while they read", async () => {
    const model = await load();
    const sequence = model.sequence();
    const reading = sequence.forward(Int32Array.of(1, 2, 3), "last");
    expect(() => sequence.fork()).toThrow(expect.objectContaining({ code: "ERR_CRIA_STATE" }));
    expect(() => sequence.truncate(0)).toThrow(expect.objectContaining({ code: "ERR_CRIA_STATE" }));
    await expect(sequence.removeRange(0, 1)).rejects.toMatchObject({ code: "ERR_CRIA_STATE" });
    await reading;
    expect(() => sequence.truncate(4)).toThrow("length: must be an integer from 0 to 3, not 4");
    await expect(sequence.removeRange(2, 1)).rejects.toThrow("end: must be an integer from 2 to 3, not 1");
    sequence.dispose();
    expect(() => sequence.fork()).toThrow(expect.objectContaining({ code: "ERR_CRIA_DISPOSED" }));
  });
});

describe("a pool that is too small for all", () => {
  const options: GenerateOptions = { maxTokens: 60, temperature: 0.9, ignoreEos: true };
  const prompts = ["Once upon a time", "The cat", "Tom and Sue went", "A big red ball", "One day, a bird"];

  test("fails the youngest, and leaves the others alone", async () => {
    const model = await load({ contextLength: 160 });
    const alone: string[] = [];
    for (const [seed, prompt] of prompts.entries())
      alone.push(await collect(model.generate(prompt, { ...options, seed })));
    const together = await Promise.allSettled(
      prompts.map((prompt, seed) => collect(model.generate(prompt, { ...options, seed }))),
    );
    const failed = together.filter((result) => result.status === "rejected");
    expect(failed.length).toBeGreaterThan(0);
    for (const { reason } of failed) expect(reason.code).toBe("ERR_CRIA_CACHE_FULL");
    expect(together[0]).toEqual({ status: "fulfilled", value: alone[0] });
    for (const [i, result] of together.entries())
      if (result.status === "fulfilled") expect(result.value).toBe(alone[i]);
    expect(allFree(model)).toBe(true);
  });

  test("has the youngest give way where it may, to be read again to the same text", async () => {
    const model = await load({ contextLength: 160, preempt: true });
    const alone: string[] = [];
    for (const [seed, prompt] of prompts.entries())
      alone.push(await collect(model.generate(prompt, { ...options, seed })));
    const together = prompts.map((prompt, seed) => collect(model.generate(prompt, { ...options, seed })));
    expect(await Promise.all(together)).toEqual(alone);
    expect(model.runtime.scheduler.preemptions).toBeGreaterThan(0);
    expect(allFree(model)).toBe(true);
  });

  test.each([false, true])("fails the one that can never fit alone (preempt: %s)", async (preempt) => {
    const model = await load({ contextLength: 600, cacheSize: { tokens: 256 }, preempt });
    const read = async (count: number, seed: number) => {
      using sequence = model.sequence();
      return (await sequence.forward(randomTokens(count, seed), "last")).length;
    };
    const all = await Promise.allSettled([read(500, 1), read(20, 2), read(21, 3), read(22, 4)]);
    expect(all.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled", "fulfilled"]);
    expect(allFree(model)).toBe(true);
  });

  test("takes nothing from a sequence that is being saved", async () => {
    const folder = await temporaryFolder();
    onTestFinished(() => folder[Symbol.asyncDispose]());
    const path = join(folder.path, "sequence");
    const model = await load({ contextLength: 128, preempt: true });
    const older = model.sequence();
    await older.forward(randomTokens(2, 1), "last");
    const younger = model.sequence();
    const tokens = randomTokens(100, 2);
    await younger.forward(tokens, "last");
    const saving = model.saveSequence(younger, path);
    await Promise.allSettled([saving, older.forward(randomTokens(110, 3), "last")]);
    older.dispose();
    const next = Int32Array.of(5, 6, 7);
    using again = await (await load({ contextLength: 128 })).loadSequence(path);
    using fresh = (await load({ contextLength: 128 })).sequence();
    await fresh.forward(tokens, "none");
    expectSameBits(await again.forward(next, "all"), await fresh.forward(next, "all"));
  });

  test("is shared by a wish that is a boolean", async () => {
    await expect(load({ preempt: "yes" as never })).rejects.toThrow('preempt: must be a boolean, not "yes"');
  });

  test("is a typed error where nothing that waits could ever go on", async () => {
    const model = await load({ contextLength: 64 });
    const holding = model.sequence();
    await holding.forward(randomTokens(50, 1), "last");
    const other = model.sequence();
    await expect(other.forward(randomTokens(20, 2), "last")).rejects.toMatchObject({ code: "ERR_CRIA_CACHE_FULL" });
    holding.dispose();
    expect((await other.forward(randomTokens(20, 2), "last")).length).toBe(model.config.vocab);
  });

  describe("has a newcomer wait", () => {
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    /** A text whose reader takes a while over each piece. */
    const slowly = async (pieces: AsyncIterable<string>, ms: number) => {
      let text = "";
      for await (const piece of pieces) {
        text += piece;
        await pause(ms);
      }
      return text;
    };

    test("for a text whose reader is slow, and told at once when that has gone", async () => {
      const model = await load({ cacheSize: { tokens: 64 } });
      const wish = { maxTokens: 55, ignoreEos: true, seed: 1 };
      let ended = false;
      const slow = slowly(model.generate("Once", wish), 3).then(() => {
        ended = true;
      });
      while (model.runtime.pool.freeBlocks > 1) await pause(1);
      const prompt = "One day, Tom and Sue went to the park. They saw a big red ball.";
      const text = await collect(model.generate(prompt, { maxTokens: 5, seed: 1 }));
      expect(ended).toBe(true);
      await slow;
      expect(text).toBe(await collect(model.generate(prompt, { maxTokens: 5, seed: 1 })));
    });

    test("for one that is left, or that leaves its sequence idle: then there is nothing more to wait for", async () => {
      const model = await load({ cacheSize: { tokens: 64 } });
      const conversation = model.conversation();
      const reply = conversation.say("Once upon a time", { ignoreEos: true, maxTokens: 50 })[Symbol.asyncIterator]();
      while (model.runtime.pool.freeBlocks > 1) await reply.next();
      const waiting = model.sequence().forward(randomTokens(30, 1), "none");
      const early = await Promise.race([waiting, pause(20).then(() => "waits")]);
      expect(early).toBe("waits");
      await reply.return!();
      await expect(waiting).rejects.toMatchObject({ code: "ERR_CRIA_CACHE_FULL" });
      conversation.dispose();
      expect(allFree(model)).toBe(true);
    });

    test("that hears its signal, and its model's end", async () => {
      const model = await load({ cacheSize: { tokens: 64 } });
      const text = model.generate("Once upon a time", { ignoreEos: true })[Symbol.asyncIterator]();
      while (model.runtime.pool.freeBlocks > 1) await text.next();
      const controller = new AbortController();
      const read = (signal?: AbortSignal) => model.sequence().forward(randomTokens(30, 1), "none", { signal });
      const [hearing, deaf] = [read(controller.signal), read()];
      await pause(5);
      controller.abort();
      await expect(hearing).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
      model.dispose();
      await expect(deaf).rejects.toMatchObject({ code: "ERR_CRIA_DISPOSED" });
    });

    test("no longer than a second where it has room, for who would grow may wait for it", async () => {
      const model = await load({ cacheSize: { tokens: 64 } });
      const text = model.generate("Once upon a time", { ignoreEos: true })[Symbol.asyncIterator]();
      await text.next();
      await model.sequence().forward(randomTokens(40, 1), "none");
      await text.return!();
    });

    test("not behind one that would wait for ever", async () => {
      const model = await load({ contextLength: 192, cacheSize: { tokens: 128 } });
      const text = model.generate("Once upon a time", { ignoreEos: true })[Symbol.asyncIterator]();
      await text.next(); // and no more is asked for
      const controller = new AbortController();
      const { signal } = controller;
      const large = model.sequence().forward(randomTokens(120, 1), "none", { signal });
      await Promise.all([2, 3].map((seed) => model.sequence().forward(randomTokens(20, seed), "none")));
      controller.abort();
      await expect(large).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
      await text.return!();
    });

    test("unless it says that it will not", async () => {
      const model = await load({ cacheSize: { tokens: 64 } });
      const text = model.generate("Once upon a time", { ignoreEos: true })[Symbol.asyncIterator]();
      while (model.runtime.pool.freeBlocks > 1) await text.next();
      await expect(model.sequence().forward(randomTokens(30, 1), "none", { wait: false })).rejects.toMatchObject({
        code: "ERR_CRIA_CACHE_FULL",
      });
      await text.return!();
    });

    test("where others may give way: not an older one that is read slowly, for a second", async () => {
      const model = await load({ cacheSize: { tokens: 64 }, preempt: true });
      const wish = { maxTokens: 40, ignoreEos: true, seed: 1 };
      const prompt = "One day, Tom and Sue went to the park. They saw a big red ball.";
      const slow = slowly(model.generate("Once upon a time", wish), 3);
      while (model.runtime.pool.freeBlocks > 2) await pause(1);
      await collect(model.generate(prompt, { ...wish, maxTokens: 25 }));
      await slow;
      expect(model.runtime.scheduler.preemptions).toBeLessThanOrEqual(2); // of the younger, as the older one grew

      const stalled = model.generate("Once upon a time", wish)[Symbol.asyncIterator]();
      while (model.runtime.pool.freeBlocks > 2) await stalled.next();
      const before = model.runtime.scheduler.preemptions;
      const started = performance.now();
      await collect(model.generate(prompt, { ...wish, maxTokens: 25 }));
      expect(performance.now() - started).toBeGreaterThan(900);
      expect(model.runtime.scheduler.preemptions).toBe(before + 1);
      await stalled.return!();
      expect(allFree(model)).toBe(true);
    });

    test("in a queue: those that run are not read again for it, and none reads more than its own", async () => {
      const model = await load({ cacheSize: { tokens: 512 }, preempt: true });
      const runs = watchRuns();
      const prompt = "Once upon a time, there was";
      const wish = { maxTokens: 20, ignoreEos: true };
      await Promise.all(Array.from({ length: 100 }, (_, seed) => collect(model.generate(prompt, { ...wish, seed }))));
      const { scheduler, pool } = model.runtime;
      expect(scheduler.preemptions).toBe(0);
      const { promptTokens } = await finished(model, prompt, { maxTokens: 1 });
      const read = runs.flat().reduce((sum, count) => sum + count, 0);
      expect(read).toBe(100 * (promptTokens + 19) + promptTokens);
      expect(pool.freeBlocks).toBe(pool.blocks);
    });

    test("that is counted once, however long it waits, in what the prefix cache was asked for", async () => {
      const model = await load({ cacheSize: { tokens: 160 } });
      const text = collect(model.generate("Once", { maxTokens: 140, ignoreEos: true }));
      while (model.runtime.pool.freeBlocks > 3) await pause(0);
      const before = model.runtime.pool.statistics.misses;
      await model.sequence().forward(randomTokens(100, 1), "none");
      expect(model.runtime.pool.statistics.misses).toBe(before + 1);
      await text;
    });
  });

  test("has others give way to a range's removal, and to what is loaded", async () => {
    const folder = await temporaryFolder();
    onTestFinished(() => folder[Symbol.asyncDispose]());
    const path = join(folder.path, "sequence");
    const model = await load({ cacheSize: { tokens: 96 }, preempt: true });
    const [older, alike, idle] = [model.sequence(), model.sequence(), model.sequence()];
    const tokens = randomTokens(40, 1);
    await older.forward(tokens, "none");
    await alike.forward(tokens, "none"); // shares two blocks with it
    await idle.forward(randomTokens(30, 2), "none");
    expect(model.runtime.pool.freeBlocks).toBe(0);
    await older.removeRange(4, 12);
    expect(older.tokens).toEqual(Int32Array.from([...tokens.subarray(0, 4), ...tokens.subarray(12)]));
    expect(model.runtime.scheduler.preemptions).toBe(1);
    await model.saveSequence(older, path);
    await idle.forward(randomTokens(2, 3), "none");
    const loaded = await model.loadSequence(path);
    expect(loaded.tokens).toEqual(older.tokens);
    for (const each of [older, alike, idle, loaded]) each.dispose();
    expect(allFree(model)).toBe(true);
  });

  test("has windows wait, and get what they need", async () => {
    const prompt = "Once upon a time, there was a little girl named Lily.";
    const wish = (seed: number) => ({ window: { size: 48 + seed }, ignoreEos: true, seed, maxTokens: 120 });
    const roomy = await load({ cacheSize: { tokens: 2048 } });
    for (const blocks of [8, 11, 14]) {
      const model = await load({ cacheSize: { tokens: 16 * blocks }, preempt: true });
      const texts = Array.from({ length: 6 }, (_, seed) => collect(model.generate(prompt, wish(seed))));
      const alone = Array.from({ length: 6 }, (_, seed) => collect(roomy.generate(prompt, wish(seed))));
      expect(await Promise.all(texts)).toEqual(await Promise.all(alone));
      expect(allFree(model)).toBe(true);
    }
    const controller = new AbortController();
    const full = await load({ cacheSize: { tokens: 64 } });
    const sequence = full.sequence();
    await sequence.forward(randomTokens(20, 1), "none");
    const text = full.generate("Once upon a time", { ignoreEos: true })[Symbol.asyncIterator]();
    await text.next();
    const fork = sequence.fork();
    while (full.runtime.pool.freeBlocks > 0) await text.next();
    const removing = fork.removeRange(4, 8, { signal: controller.signal });
    controller.abort();
    await expect(removing).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(fork.tokens).toEqual(randomTokens(20, 1));
    await text.return!();
  });

  test.each([false, true])("fifty texts, some of them aborted, come out as alone (preempt: %s)", async (preempt) => {
    const model = await load({ contextLength: 256, preempt });
    const random = Xoshiro128.fromSeed(42);
    const wishes = Array.from({ length: 50 }, (_, seed) => ({
      prompt: prompts[seed % prompts.length]!.slice(0, 3 + (random.next() % 20)),
      maxTokens: 1 + (random.next() % 50),
      abortAfter: seed % 5 === 0 ? 1 + (random.next() % 20) : Number.POSITIVE_INFINITY,
      seed,
    }));
    const alone: string[] = [];
    for (const { prompt, maxTokens, seed } of wishes) {
      alone.push(await collect(model.generate(prompt, { maxTokens, seed, temperature: 1 })));
    }
    const together = wishes.map(async ({ prompt, maxTokens, abortAfter, seed }) => {
      const controller = new AbortController();
      let text = "";
      let pieces = 0;
      try {
        const generation = model.generate(prompt, { maxTokens, seed, temperature: 1, signal: controller.signal });
        for await (const piece of generation) {
          text += piece;
          if (++pieces >= abortAfter) controller.abort();
        }
      } catch (error) {
        expect(preempt ? ["ERR_CRIA_ABORTED"] : ["ERR_CRIA_ABORTED", "ERR_CRIA_CACHE_FULL"]).toContain(
          (error as CriaError).code,
        );
        return undefined;
      }
      return text;
    });
    const texts = await Promise.all(together);
    expect(texts.filter((text) => text === undefined).length).toBeGreaterThan(3);
    for (const [i, text] of texts.entries()) if (text !== undefined) expect(text).toBe(alone[i]);
    expect(allFree(model)).toBe(true);
    expect(model.runtime.scheduler.waiting).toBe(0);
  });
});
