import { readFileSync, statSync, truncateSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import {
  CriaError,
  estimateMemory,
  type GenerateOptions,
  loadModel,
  type Model,
  type ModelOptions,
  tinyModel,
} from "../lib/index.js";
import { loadIndexed } from "../lib/model.js";
import { native } from "../lib/native.js";
import { measurePerplexity } from "../lib/perplexity.js";
import { tokenizerOf } from "../lib/text/tokenizer.js";
import { readLlama } from "../lib/weights/llama-gguf.js";
import { dataFile, needFiles } from "./support/data.js";
import { llamaFile, temporaryFolder } from "./support/gguf-writer.js";

/** The tiny model until the test is finished. */
async function load(options: ModelOptions = {}): Promise<Model> {
  const loaded = await loadModel(tinyModel, { onWarning: () => undefined, ...options });
  onTestFinished(() => loaded.dispose());
  return loaded;
}

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

const error = (name: string, code: string, message: RegExp) =>
  expect.objectContaining({ name, code, message: expect.stringMatching(message) });
const argumentError = (name: "TypeError" | "RangeError", message: RegExp) => error(name, "ERR_CRIA_ARGUMENT", message);
const criaError = (code: string, message: RegExp) => error("CriaError", code, message);

/** What `call` throws; it must throw. */
function thrown(call: () => unknown): unknown {
  try {
    call();
  } catch (caught) {
    return caught;
  }
  return expect.fail("nothing was thrown");
}

/** Until the step that takes what waits by now has begun. */
const runBegins = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

const allFree = ({ runtime: { pool } }: Model) => pool.freeBlocks === pool.blocks;

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel);
});
afterAll(() => model.dispose());

describe("generation", () => {
  test("tells a story piece by piece, and then what it did", async () => {
    const generation = model.generate("Once upon a time", { temperature: 0, maxTokens: 40 });
    expect(generation.result).toBeUndefined();
    const pieces: string[] = [];
    for await (const piece of generation) pieces.push(piece);

    expect(pieces.length).toBeGreaterThan(10);
    expect(pieces.join("")).toMatch(/^, there was a little girl named Lily\. She loved to play /);
    expect(generation.result).toMatchObject({
      text: pieces.join(""),
      promptTokens: 5,
      finishReason: "length",
      seed: expect.any(Number),
    });
    expect(generation.result!.tokens).toHaveLength(40);
    const { prefillMs, decodeMs, prefillTokensPerSecond, decodeTokensPerSecond } = generation.result!.timings;
    expect(prefillTokensPerSecond).toBeCloseTo(5000 / prefillMs);
    expect(decodeTokensPerSecond).toBeCloseTo(39_000 / decodeMs);
    expect(allFree(model)).toBe(true);
  });

  test("its timings are without the time that the caller takes between the pieces", async () => {
    const started = performance.now();
    let taken = 0;
    const generation = model.generate("Once upon a time", { temperature: 0, maxTokens: 10 });
    for await (const _ of generation) {
      const paused = performance.now();
      await sleep(20);
      taken += performance.now() - paused;
    }
    const { prefillMs, decodeMs } = generation.result!.timings;
    expect(decodeMs).toBeGreaterThan(0);
    expect(prefillMs + decodeMs).toBeLessThan(performance.now() - started - taken);
  });

  test("a prompt of 200,000 words is longer than the context, and no more than that", () => {
    expect(thrown(() => model.generate("word ".repeat(200_000)))).toEqual(
      criaError("ERR_CRIA_CONTEXT", /^prompt: must be at most 192 tokens, the context, not \d{6,}$/),
    );
  });

  test("an empty prompt begins with BOS, as a text or as tokens", async () => {
    const options = { temperature: 0, maxTokens: 20 };
    const generation = model.generate("", options);
    const text = await collect(generation);
    expect(generation.result!.promptTokens).toBe(1);
    expect(text).toMatch(/^\S/);
    expect(await collect(model.generate(new Int32Array(0), options))).toBe(text);
    // After a prompt of the caller's the text is a continuation: it keeps the space that it begins with.
    const continued = model.generate(Int32Array.of(model.tokenizer.bos!), options);
    expect((await collect(continued)).trimStart()).toBe(text);
    expect(continued.result!.tokens).toEqual(generation.result!.tokens);
  });

  test("takes tokens as they are", async () => {
    const options = { temperature: 0, maxTokens: 20 };
    const tokens = Int32Array.of(model.tokenizer.bos!, ...model.tokenizer.encode("Tom had a red ball"));
    const generation = model.generate(tokens, options);
    const text = await collect(model.generate("Tom had a red ball", options));
    tokens.fill(0); // a copy was made
    expect(await collect(generation)).toBe(text);
  });

  test("the same seed gives the same text, another one another", async () => {
    const say = (seed: number) => collect(model.generate("The cat", { temperature: 1, seed, maxTokens: 40 }));
    expect(await say(7)).toBe(await say(7));
    expect(await say(7)).not.toBe(await say(8));
  });

  test("a random seed can be used again", async () => {
    const first = model.generate("The cat", { temperature: 1, maxTokens: 40 });
    const text = await collect(first);
    expect(await collect(model.generate("The cat", { temperature: 1, maxTokens: 40, seed: first.result!.seed }))).toBe(
      text,
    );
  });

  test("two at once say what each says alone", async () => {
    const prompts = ["Once upon a time", "Tom and Sue"];
    const options = { temperature: 0.9, seed: 3, maxTokens: 50 };
    const alone: string[] = [];
    for (const prompt of prompts) alone.push(await collect(model.generate(prompt, options)));
    expect(await Promise.all(prompts.map((prompt) => collect(model.generate(prompt, options))))).toEqual(alone);
  });

  test("can be iterated over once", async () => {
    const generation = model.generate("Hi", { maxTokens: 1 });
    await collect(generation);
    await expect(collect(generation)).rejects.toEqual(criaError("ERR_CRIA_STATE", /^generation: .*already$/));
  });

  test("leaving the iteration gives the cache's blocks back", async () => {
    for await (const piece of model.generate("Once upon a time", { temperature: 0 })) {
      expect(piece).not.toBe("");
      expect(allFree(model)).toBe(false);
      break;
    }
    expect(allFree(model)).toBe(true);
  });
});

describe("the end of a text", () => {
  const greedy = { temperature: 0, ignoreEos: true } satisfies GenerateOptions;

  /** A model that would always end the text at once, and else say 301, and else 300: its logits are made so. */
  async function ender(): Promise<Model> {
    const model = await load();
    const logits = new Float32Array(model.config.vocab);
    logits.set([4, 4.5], 300);
    logits[model.tokenizer.eos!] = 5;
    const sequence = { length: 1, forward: async () => logits.slice(), dispose: () => undefined };
    const mocked = vi.spyOn(model.runtime, "sequence").mockReturnValue(sequence as never);
    onTestFinished(() => mocked.mockRestore());
    return model;
  }

  test("at the model's own end, which ignoreEos never lets come", async () => {
    const ending = await ender();
    const ended = ending.generate("Hi", { temperature: 0, maxTokens: 3 });
    expect(await collect(ended)).toBe("");
    expect(ended.result).toMatchObject({ tokens: [], finishReason: "eos" });
    const going = ending.generate("Hi", { ...greedy, maxTokens: 3 });
    await collect(going);
    expect(going.result).toMatchObject({ tokens: [301, 301, 301], finishReason: "length" });
    for (const { result } of [ended, going]) expect(result).not.toHaveProperty("stop");
  });

  test("at a stop token, which is not part of it", async () => {
    const ending = await ender();
    const generation = ending.generate("Hi", { ...greedy, stopTokens: [7, 301] });
    expect(await collect(generation)).toBe("");
    expect(generation.result).toMatchObject({ tokens: [], finishReason: "stop", stop: 301 });
    // The text's own end is its end, though it is asked for too.
    const own = ending.generate("Hi", { temperature: 0, stopTokens: [ending.tokenizer.eos!] });
    await collect(own);
    expect(own.result!.finishReason).toBe("eos");
  });

  test("not before there are minTokens", async () => {
    const ending = await ender();
    const say = async (options: GenerateOptions) => {
      const generation = ending.generate("Hi", { temperature: 0, minTokens: 3, ...options });
      await collect(generation);
      const { tokens, finishReason } = generation.result!;
      return { tokens, finishReason };
    };
    expect(await say({})).toEqual({ tokens: [301, 301, 301], finishReason: "eos" });
    expect(await say({ stopTokens: [301] })).toEqual({ tokens: [300, 300, 300], finishReason: "eos" });
    expect(await say({ stopTokens: [301], ignoreEos: true })).toEqual({
      tokens: [300, 300, 300],
      finishReason: "stop",
    });
    expect(await say({ maxTokens: 3 })).toEqual({ tokens: [301, 301, 301], finishReason: "length" });
    expect(await say({ stop: ending.tokenizer.decode([301]) })).toEqual({ tokens: [301], finishReason: "stop" });
  });

  test.for([
    ["Lily"], // within tokens
    [". She loved"], // across tokens
    ["e"],
    [["nowhere", " little girl", "Lily"]],
  ] as (string | string[])[][])("before a stop string: %j", async ([stop]) => {
    const text = await collect(model.generate("Once upon a time", { ...greedy, maxTokens: 40 }));
    const stops = [stop!].flat();
    const first = Math.min(...stops.map((one) => text.indexOf(one)).filter((at) => at >= 0));
    const generation = model.generate("Once upon a time", { ...greedy, maxTokens: 40, stop: stop! });
    expect(await collect(generation)).toBe(text.slice(0, first));
    const came = stops.find((one) => text.indexOf(one) === first);
    expect(generation.result).toMatchObject({ finishReason: "stop", stop: came, text: text.slice(0, first) });
  });

  test("before a stop string that is complete only with the text's end", async () => {
    const first = 3 + 0xf0; // the piece of a byte that begins a character of four: alone it becomes U+FFFD
    const generation = model.generate("Hi", { ...greedy, logitBias: { [first]: 100 }, maxTokens: 1, stop: "\ufffd" });
    expect(await collect(generation)).toBe("");
    expect(generation.result).toMatchObject({ tokens: [first], finishReason: "stop", stop: "\ufffd" });
  });

  test("what was held back for a stop string that never came is said", async () => {
    const text = await collect(model.generate("Once upon a time", { ...greedy, maxTokens: 10 }));
    const stop = `${text.slice(-5)}, and more`;
    expect(await collect(model.generate("Once upon a time", { ...greedy, maxTokens: 10, stop }))).toBe(text);
  });

  // 20 is no multiple of the cache's 16.
  test.for([16, 20])("at a context of %d tokens", async (contextLength) => {
    const short = await load({ contextLength });
    const generation = short.generate("Once upon a time", greedy);
    await collect(generation);
    // The last token chosen is not read any more: it is one more than the context holds.
    expect(generation.result).toMatchObject({ finishReason: "context", promptTokens: 5 });
    expect(generation.result!.tokens).toHaveLength(contextLength - 5 + 1);
    const fullPrompt = short.generate(new Int32Array(contextLength).fill(300), greedy);
    await collect(fullPrompt);
    expect(fullPrompt.result).toMatchObject({ finishReason: "context", promptTokens: contextLength });
    expect(thrown(() => short.generate(new Int32Array(contextLength + 1).fill(300)))).toEqual(
      criaError(
        "ERR_CRIA_CONTEXT",
        RegExp(`^prompt: must be at most ${contextLength} tokens, the context, not ${contextLength + 1}$`),
      ),
    );
  });

  test("two texts that outgrow the cache together: one is refused, with a typed error, and nothing leaks", async () => {
    const short = await load({ contextLength: 64 });
    const results = await Promise.allSettled(
      ["Once", "Tom"].map((prompt) => collect(short.generate(prompt, { ...greedy, maxTokens: 60 }))),
    );
    expect(results.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const { reason } = results.find((result) => result.status === "rejected")!;
    expect(reason).toEqual(criaError("ERR_CRIA_CACHE_FULL", /^the KV pool is full/));
    expect(allFree(short)).toBe(true);
  });
});

describe("wrong arguments of generate", () => {
  test.for<[object, "TypeError" | "RangeError", RegExp]>([
    [{ maxTokens: 0 }, "RangeError", /^maxTokens: must be an integer of at least 1, not 0$/],
    [{ minTokens: -1 }, "RangeError", /^minTokens: must be an integer of at least 0, not -1$/],
    [{ minTokens: 4, maxTokens: 3 }, "RangeError", /^minTokens: must be an integer from 0 to 3, not 4$/],
    [{ stopTokens: 2 }, "TypeError", /^stopTokens: must be an array of numbers, not 2$/],
    [{ stopTokens: [5, 1024] }, "RangeError", /^stopTokens\[1\]: must be an integer from 0 to 1023, not 1024$/],
    [{ stopTokens: ["5"] }, "TypeError", /^stopTokens\[0\]: must be a number, not "5"$/],
    [{ logprobs: 21 }, "RangeError", /^logprobs: must be an integer from 0 to 20, not 21$/],
    [{ logprobs: true }, "TypeError", /^logprobs: must be a number, not true$/],
    [{ echo: 1 }, "TypeError", /^echo: must be a boolean, not 1$/],
    [{ logitBias: { 1024: 1 } }, "RangeError", /^logitBias: must be for tokens from 0 to 1023, not 1024$/],
    [{ logitBias: { a: 1 } }, "RangeError", /^logitBias: must be of tokens' ids, not "a"$/],
    [{ logitBias: { "": 1 } }, "RangeError", /^logitBias: must be of tokens' ids, not ""$/],
    [{ logitBias: { "0x10": 1 } }, "RangeError", /^logitBias: must be of tokens' ids, not "0x10"$/],
    [{ logitBias: { " 7 ": 1 } }, "RangeError", /^logitBias: must be of tokens' ids, not " 7 "$/],
    [{ logitBias: new Set([5]) }, "TypeError", /^logitBias: must be an object, not Set$/],
    [{ logitBias: new Date() }, "TypeError", /^logitBias: must be an object, not Date$/],
    [{ speculate: [] }, "TypeError", /^speculate: must be an object, not Array$/],
    [{ speculate: { daft: 1 } }, "TypeError", /^speculate\.daft: is not an option of generate$/],
    [{ window: [] }, "TypeError", /^window: must be an object, not Array$/],
    [{ window: { sinks: null } }, "TypeError", /^window\.sinks: must be a number, not null$/],
    [{ temprature: 1 }, "TypeError", /^options\.temprature: is not an option of generate$/],
    [{ priority: Number.POSITIVE_INFINITY }, "RangeError", /^priority: must be a finite number, not Infinity$/],
    [{ maxTokens: "3" }, "TypeError", /^maxTokens: must be a number, not "3"$/],
    [{ temperature: -1 }, "RangeError", /^temperature: must be a number of at least 0, not -1$/],
    [{ temperature: Number.NaN }, "RangeError", /^temperature: .*NaN$/],
    [{ seed: 2 ** 32 }, "RangeError", /^seed: /],
    [{ ignoreEos: 1 }, "TypeError", /^ignoreEos: must be a boolean, not 1$/],
    [{ stop: 1 }, "TypeError", /^stop: must be a string or an array of strings, not 1$/],
    [{ stop: ["a", 1] }, "TypeError", /^stop\[1\]: must be a string, not 1$/],
    [{ stop: "" }, "RangeError", /^stop: must be at least one character long, not ""$/],
    [{ stop: ["a", ""] }, "RangeError", /^stop\[1\]: must be at least one character long, not ""$/],
    [{ stop: null }, "TypeError", /^stop: /],
    [{ signal: {} }, "TypeError", /^signal: must be an AbortSignal, not Object$/],
  ])("%j", ([options, name, message]) => {
    expect(thrown(() => model.generate("Hi", options))).toEqual(argumentError(name, message));
  });

  test("no options, and no prompt", () => {
    const message = /^options: must be an object, not null$/;
    expect(thrown(() => model.generate("Hi", null as never))).toEqual(argumentError("TypeError", message));
    for (const prompt of [undefined, 5, [1, 2], new Float32Array(2)]) {
      const expected = argumentError("TypeError", /^prompt: must be a string or an Int32Array, not /);
      expect(thrown(() => model.generate(prompt as never))).toEqual(expected);
    }
  });

  test.for([-1, 1024])("a token that is none: %d", async (token) => {
    expect(() => model.generate(Int32Array.of(1, token), { maxTokens: 2 })).toThrow(
      argumentError("RangeError", RegExp(`^prompt\\[1\\]: must be a token from 0 to 1023, not ${token}$`)),
    );
    expect(allFree(model)).toBe(true);
  });
});

describe("a text that is cut short", () => {
  const wish = { temperature: 0, ignoreEos: true, maxTokens: 30, logprobs: 0 };

  test.for(["left", "aborted", "failed"] as const)("tells what there was of it when it is %s", async (way) => {
    const whole = model.generate("Once upon a time", wish);
    await collect(whole);
    const controller = new AbortController();
    const generation = model.generate("Once upon a time", { ...wish, signal: controller.signal });
    let text = "";
    const speak = async () => {
      for await (const piece of generation) {
        text += piece;
        if (text.length < 20) continue;
        if (way === "left") break;
        if (way === "failed") throw new Error("mine");
        controller.abort();
      }
    };
    expect(generation.result).toBeUndefined();
    await speak().catch(() => undefined);
    const { tokens, logprobs, ...result } = generation.result!;
    expect(result).toMatchObject({ text, finishReason: "aborted", promptTokens: whole.result!.promptTokens });
    expect(tokens).toEqual(whole.result!.tokens.slice(0, tokens.length));
    expect(logprobs).toEqual(whole.result!.logprobs!.slice(0, tokens.length));
    expect(tokens.length).toBeLessThan(30);
  });

  test("tells nothing where its prompt was not read", async () => {
    const generation = model.generate("Once upon a time", { signal: AbortSignal.abort() });
    await expect(collect(generation)).rejects.toEqual(criaError("ERR_CRIA_ABORTED", /cancelled/));
    expect(generation.result).toBeUndefined();
  });
});

describe("cancelling", () => {
  /** A model that has not yet lost its context, and a prompt that takes the scalar kernels a while. */
  const slow = { isa: "scalar", threads: 1, contextLength: 4096 } as const satisfies ModelOptions;
  const longPrompt = Int32Array.from({ length: 3000 }, (_, i) => 300 + (i % 700));
  const aborted = criaError("ERR_CRIA_ABORTED", /cancelled/);

  async function expectUsable(it: Model): Promise<void> {
    expect(allFree(it)).toBe(true);
    expect(await collect(it.generate("Once upon a time", { temperature: 0, maxTokens: 8 }))).toMatch(/^, there was a/);
  }

  test("before the first token", async () => {
    const signal = AbortSignal.abort("no reason");
    await expect(collect(model.generate("Hi", { signal }))).rejects.toEqual(aborted);
    await expectUsable(model);
  });

  test("while the prompt is read", async () => {
    const it = await load(slow);
    const controller = new AbortController();
    const text = collect(it.generate(longPrompt, { signal: controller.signal, maxTokens: 1 }));
    text.catch(() => undefined);
    await sleep(5);
    expect(it.runtime.pool.freeBlocks).toBeLessThan(it.runtime.pool.blocks); // it reads
    controller.abort();
    await expect(text).rejects.toEqual(aborted);
    await expectUsable(it);
  });

  test("between two tokens", async () => {
    const controller = new AbortController();
    const generation = model.generate("Once upon a time", { temperature: 0, signal: controller.signal });
    const pieces: string[] = [];
    const iterate = async () => {
      for await (const piece of generation) {
        pieces.push(piece);
        if (pieces.length === 5) controller.abort();
      }
    };
    await expect(iterate()).rejects.toEqual(aborted);
    expect(pieces).toHaveLength(5);
    expect(generation.result).toMatchObject({ text: pieces.join(""), finishReason: "aborted" });
    await expectUsable(model);
  });

  test("one text does not stop another that waits", async () => {
    const it = await load(slow);
    const controller = new AbortController();
    const stopped = collect(it.generate(longPrompt, { signal: controller.signal, maxTokens: 1 }));
    const other = collect(it.generate("Once upon a time", { temperature: 0, maxTokens: 8 }));
    controller.abort();
    await expect(stopped).rejects.toEqual(aborted);
    expect(await other).toMatch(/^, there was a/);
    await expectUsable(it);
  });

  test("the loading", async () => {
    await expect(loadModel(tinyModel, { signal: AbortSignal.abort() })).rejects.toEqual(aborted);
    const controller = new AbortController();
    let tensors = 0;
    const onProgress = () => {
      tensors += 1;
      controller.abort();
    };
    await expect(loadModel(tinyModel, { signal: controller.signal, onProgress })).rejects.toEqual(aborted);
    expect(tensors).toBe(1);
  });
});

describe("sequences", () => {
  test("go back to the pool when the run that writes to them is done", async () => {
    const it = await load({ isa: "scalar", threads: 1, contextLength: 512 });
    const sequence = it.sequence();
    const reading = sequence.forward(new Int32Array(200).fill(300), "last");
    await runBegins();
    sequence.dispose();
    expect(allFree(it)).toBe(false);
    await reading;
    expect(allFree(it)).toBe(true);
    const again = sequence.forward(Int32Array.of(1), "last");
    await expect(again).rejects.toEqual(criaError("ERR_CRIA_DISPOSED", /^sequence: was disposed$/));
  });

  test("read one run of tokens at a time, and at least one token", async () => {
    const sequence = model.sequence();
    const first = sequence.forward(Int32Array.of(1), "last");
    const second = sequence.forward(Int32Array.of(1), "last");
    await expect(second).rejects.toEqual(criaError("ERR_CRIA_STATE", /^sequence: /));
    await first;
    const none = sequence.forward(new Int32Array(0), "last");
    await expect(none).rejects.toEqual(argumentError("RangeError", /^tokens\.length: must be .* at least 1, not 0$/));
    const noTokens = sequence.forward([1] as never, "last");
    await expect(noTokens).rejects.toEqual(argumentError("TypeError", /^tokens: must be an Int32Array, not Array$/));
    expect(sequence.length).toBe(1);
    sequence.dispose();
  });
});

describe("the context", () => {
  test("is not read past, nor up to it by a text that exceeds it", async () => {
    const it = await load({ contextLength: 20 }); // whole blocks of the pool would hold 32
    const run = vi.spyOn(native, "programRun");
    onTestFinished(() => run.mockRestore());
    using sequence = it.sequence();
    const read = (tokens: number) => sequence.forward(new Int32Array(tokens).fill(300), "last");
    const tooMany = (left: number, tokens: number) =>
      criaError(
        "ERR_CRIA_CONTEXT",
        RegExp(`^tokens: must be at most ${left}, what is left of the context's 20, not ${tokens}$`),
      );
    await expect(read(21)).rejects.toEqual(tooMany(20, 21));
    expect(run).not.toHaveBeenCalled();
    await read(19);
    await expect(read(2)).rejects.toEqual(tooMany(1, 2));
    await read(1);
    expect(sequence.length).toBe(20);
    await expect(read(1)).rejects.toEqual(tooMany(0, 1));
  });

  test("bounds a perplexity's", async () => {
    const it = await load({ contextLength: 20 });
    const text = "Once upon a time there was a girl. ".repeat(10);
    const encode = vi.spyOn(it.tokenizer, "encode");
    await expect(measurePerplexity(it, text, { context: 21 })).rejects.toEqual(
      criaError("ERR_CRIA_CONTEXT", /^context: must be at most 20, .* not 21$/),
    );
    expect(encode).not.toHaveBeenCalled();
    expect(await measurePerplexity(it, text)).toEqual(await measurePerplexity(it, text, { context: 20 }));
  });
});

describe("loading", () => {
  test("a file that got shorter meanwhile: its name, and the tensor's", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.gguf", llamaFile());
    const index = await readLlama(path);
    const { offset } = index.tensors.get("blk.1.ffn_down.weight")!;
    truncateSync(path, offset + 1);
    const loading = loadIndexed(index, tokenizerOf(path, index.vocabulary));
    await expect(loading).rejects.toMatchObject({
      name: "CriaFileError",
      code: "ERR_CRIA_FILE",
      file: path,
      subject: "blk.1.ffn_down.weight",
      message: expect.stringMatching(RegExp(`^${path}: blk\\.1\\.ffn_down\\.weight: (?!${path})`)),
      cause: { name: "CriaError" },
    });
  });

  test("tells how far it is, never less than before, until all is there", async () => {
    const calls: [number, number][] = [];
    await load({ onProgress: (loaded, total) => calls.push([loaded, total]) });
    const total = calls[0]![1];
    expect(calls.every(([, all]) => all === total)).toBe(true);
    expect(calls.map(([loaded]) => loaded)).toEqual(calls.map(([loaded]) => loaded).toSorted((a, b) => a - b));
    expect(calls[0]![0]).toBeGreaterThan(0);
    expect(calls.at(-1)![0]).toBe(total);
    expect(total).toBeLessThan(statSync(tinyModel).size);
    expect(total).toBeGreaterThan(0.9 * statSync(tinyModel).size);
  });

  test("warns of a context beyond the model's own, and of no other", async () => {
    const warnings: string[] = [];
    const onWarning = (message: string) => warnings.push(message);
    await load({ onWarning, contextLength: 192 });
    expect(warnings).toEqual([]);
    await load({ onWarning, contextLength: 193 });
    expect(warnings).toEqual([expect.stringMatching(/cria-tiny-q8_0\.gguf was trained with a context of 192 .* 193 /)]);
  });

  test.for<[object, "TypeError" | "RangeError", RegExp]>([
    [{ cache: "q4" }, "RangeError", /^cache: must be one of f32, f16, q8_0, not "q4"$/],
    [{ cache: 8 }, "TypeError", /^cache: must be one of f32, f16, q8_0, or \{keys, values\}, not 8$/],
    [{ cache: { keys: "f16" } }, "TypeError", /^cache\.values: must be one of f32, f16, q8_0, not undefined$/],
    [
      { cache: { keys: "f64", values: "f16" } },
      "RangeError",
      /^cache\.keys: must be one of f32, f16, q8_0, not "f64"$/,
    ],
    [{ contextLength: 0 }, "RangeError", /^contextLength: must be an integer from 1 to 16777216, not 0$/],
    [{ contextLength: 1.5 }, "RangeError", /^contextLength: /],
    [{ contextLength: "9" }, "TypeError", /^contextLength: must be a number, not "9"$/],
    [{ device: "gpu" }, "RangeError", /^device: must be auto, cpu, cuda or cuda-emulated, not "gpu"$/],
    [{ isa: "sse2" }, "RangeError", /^isa: must be scalar, avx2 or avx512, not "sse2"$/],
    [{ threads: 0 }, "RangeError", /^threads: must be an integer from 1 to 256, not 0$/],
    [{ threads: 257 }, "RangeError", /^threads: /],
    [{ onProgress: 1 }, "TypeError", /^onProgress: must be a function, not 1$/],
    [{ onWarning: "x" }, "TypeError", /^onWarning: must be a function, not "x"$/],
    [{ signal: 1 }, "TypeError", /^signal: must be an AbortSignal, not 1$/],
  ])("refuses %j", async ([options, name, message]) => {
    await expect(loadModel(tinyModel, options)).rejects.toEqual(argumentError(name, message));
  });

  test("takes a file: URL", async () => {
    using of = await loadModel(pathToFileURL(tinyModel));
    expect(of.path).toBe(tinyModel);
    expect((await estimateMemory(pathToFileURL(tinyModel))).weights).toBeGreaterThan(0);
  });

  test("refuses what is no path, no object and no model", async () => {
    await expect(loadModel(5 as never)).rejects.toEqual(
      argumentError("TypeError", /^path: must be a string or a file: URL, not 5$/),
    );
    await expect(loadModel("")).rejects.toEqual(argumentError("TypeError", /^path: must not be empty$/));
    for (const url of ["http://localhost/model.gguf", "file://elsewhere/model.gguf"]) {
      const problem = RegExp(`^path: must be a file: URL of this machine, not "${url}"$`);
      await expect(loadModel(new URL(url))).rejects.toEqual(argumentError("RangeError", problem));
    }
    const noOptions = loadModel(tinyModel, null as never);
    await expect(noOptions).rejects.toEqual(argumentError("TypeError", /^options: must be an object, not null$/));
    const absent = `${tinyModel}.absent`;
    await expect(loadModel(absent)).rejects.toEqual(
      expect.objectContaining({ name: "CriaFileError", code: "ERR_CRIA_FILE", file: absent }),
    );
    await expect(loadModel(tinyModel, { device: "cuda" })).rejects.toEqual(criaError("ERR_CRIA_UNSUPPORTED", /./));
  });

  test("refuses a cache that the memory cannot hold, before any of the weights is read", async () => {
    const info = native.deviceInfo(model.device.handle);
    const spy = vi.spyOn(native, "deviceInfo").mockReturnValue({ ...info, availableBytes: 100e6 });
    const create = vi.spyOn(native, "matrixCreate");
    const free = vi.spyOn(native, "free");
    onTestFinished(() => void vi.restoreAllMocks());
    // 192 tokens fit; 2^18 of 768 bytes each (2 x 4 layers x 2 heads x 24 x 2 bytes) are 0.19 GiB.
    await expect(loadModel(tinyModel, { contextLength: 2 ** 18, onWarning: () => undefined })).rejects.toEqual(
      criaError(
        "ERR_CRIA_MEMORY",
        /must fit the 95\.37 MiB of memory available, but it takes [\d.]+ MiB more: .* cache 192\.00 MiB, .*; a contextLength of \d+ would fit$/,
      ),
    );
    expect(create).not.toHaveBeenCalled();
    expect(free).toHaveBeenCalledOnce(); // the device
    await load();
    expect(spy.mock.calls.length).toBeGreaterThan(1);
  });

  test("its weights take little more memory than the file", async (context) => {
    const files = ["tiny-q8_0", "tiny-q4_0", "tiny-f32"].map((name) => dataFile("fixtures", `${name}.gguf`));
    needFiles(context, ...files);
    for (const file of files) {
      const loaded = await loadModel(file);
      expect(loaded.weightBytes).toBeGreaterThan(0.9 * statSync(file).size);
      expect(loaded.weightBytes).toBeLessThan(1.15 * statSync(file).size);
      loaded.dispose();
    }
  });
});

describe("disposal", () => {
  test("what would run afterwards throws, and disposing twice does not", async () => {
    const it = await loadModel(tinyModel);
    const waiting = it.generate("Hi", { maxTokens: 2 });
    it.dispose();
    it.dispose();
    const disposed = criaError("ERR_CRIA_DISPOSED", /was disposed$/);
    expect(thrown(() => it.generate("Hi"))).toEqual(disposed);
    expect(thrown(() => it.sequence())).toEqual(disposed);
    expect(thrown(() => native.deviceInfo(it.device.handle))).toEqual(disposed);
    await expect(collect(waiting)).rejects.toEqual(disposed);
  });

  test("a run in progress is finished first", async () => {
    const it = await loadModel(tinyModel, { isa: "scalar", threads: 1 });
    const tokens = new Int32Array(150).fill(300);
    const reading = it.sequence().forward(tokens, "last");
    await sleep(0);
    it.dispose();
    expect((await reading).every(Number.isFinite)).toBe(true);
  });

  test("`using` disposes", async () => {
    let kept: Model;
    {
      using it = await loadModel(tinyModel);
      kept = it;
    }
    expect(thrown(() => kept.generate("Hi"))).toBeInstanceOf(CriaError);
  });
});

test("a model of another vocabulary, without EOS, goes on until it may not", async () => {
  await using folder = await temporaryFolder();
  const { metadata, ...file } = llamaFile({ contextLength: 32 });
  delete metadata["tokenizer.ggml.eos_token_id"];
  const it = await loadModel(await folder.write("model.gguf", { ...file, metadata }));
  const generation = it.generate("w1", { temperature: 0 });
  await collect(generation);
  expect(generation.result!.finishReason).toBe("context");
  it.dispose();
});

test("the package's model is the project's own, as it was made", (context) => {
  const original = dataFile("cria-tiny", "cria-tiny-q8_0.gguf");
  needFiles(context, original);
  expect(readFileSync(tinyModel).equals(readFileSync(original))).toBe(true);
});
