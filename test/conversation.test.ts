import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import type { Conversation, SayOptions } from "../lib/conversation.js";
import { type Generation, loadModel, type Model, tinyModel } from "../lib/index.js";
import { type NativeBatch, native } from "../lib/native.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel, { contextLength: 512, onWarning: () => undefined });
});
afterAll(() => model.dispose());

const allFree = () => model.runtime.pool.freeBlocks === model.runtime.pool.blocks;

function converse(): Conversation {
  const conversation = model.conversation();
  onTestFinished(() => conversation.dispose());
  return conversation;
}

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

/** What a generation gives until `most` pieces have come, and it is left or aborted. */
async function begin(generation: Generation, most: number, abort?: AbortController): Promise<string> {
  let text = "";
  let pieces = 0;
  try {
    for await (const piece of generation) {
      text += piece;
      if (++pieces < most) continue;
      if (abort === undefined) break;
      abort.abort();
    }
  } catch (error) {
    expect(error).toMatchObject({ code: "ERR_CRIA_ABORTED" });
  }
  return text;
}

const options = { temperature: 0.9, seed: 3, maxTokens: 15, ignoreEos: true, repeatPenalty: 1.2 } satisfies SayOptions;

/** The reply of a model that reads all that the conversation holds, and the text, anew. */
async function replyAnew(held: Int32Array, text: string, wish: SayOptions = options): Promise<string> {
  const said = model.tokenizer.encode(text, { continuation: held.length > 0 });
  return collect(model.generate(Int32Array.of(...(held.length > 0 ? held : [model.tokenizer.bos!]), ...said), wish));
}

describe("a conversation", () => {
  test("gives the replies that come of reading all of it anew", async () => {
    const conversation = converse();
    let whole = "";
    for (const text of ["Once upon a time", " Then Lily", "\nTom said", ""]) {
      const anew = await replyAnew(conversation.tokens, text);
      const reply = await collect(conversation.say(text, options));
      expect(reply).toBe(anew);
      whole += text + reply;
      expect(model.tokenizer.decode(conversation.tokens)).toBe(whole);
    }
    expect(conversation.turns).toBe(4);
    conversation.dispose();
    expect(allFree()).toBe(true);
  });

  test("reads each token once", async () => {
    const run = native.programRun;
    let read = 0;
    const spy = vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
      read += (batch as NativeBatch).tokens.length;
      return run(program, cache, batch, width, cancel);
    });
    onTestFinished(() => spy.mockRestore());
    const conversation = converse();
    for (const text of ["A dog and a cat", " They", " But then"]) await collect(conversation.say(text, options));
    expect(conversation.length).toBe(conversation.tokens.length);
    expect(read).toBe(conversation.length - 1); // the last is read with the next text
  });

  test("holds what was said and given, and no more, however the replies end", async () => {
    // Of this model's letters, so that they come often, and begin and end within tokens.
    const stops = fc.array(fc.constantFrom("e", "a ", " th", "il", ".", "y w", "ed to", "\n"), { maxLength: 3 });
    const turn = fc.record({
      text: fc.constantFrom("Once upon a time", " Tom", "x", "", "! é🦙", "\n\nSue said: "),
      stop: stops,
      ending: fc.constantFrom("whole", "left", "aborted"),
      most: fc.integer({ min: 1, max: 8 }),
      maxTokens: fc.integer({ min: 1, max: 12 }),
      seed: fc.nat(100),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 1, maxLength: 4 }), async (turns) => {
        using conversation = model.conversation();
        let whole = "";
        for (const { text, stop, ending, most, maxTokens, seed } of turns) {
          const wish = { temperature: 1, stop, maxTokens, seed };
          const anew = await replyAnew(conversation.tokens, text, wish);
          const abort = new AbortController();
          const generation = conversation.say(text, { ...wish, signal: abort.signal });
          const given =
            ending === "whole"
              ? await collect(generation)
              : await begin(generation, most, ending === "aborted" ? abort : undefined);
          // Before the first text nothing stands, and after nothing a space is dropped.
          if (whole !== "" || text !== "") expect(anew.startsWith(given)).toBe(true);
          if (generation.result?.finishReason !== "aborted" && whole + text !== "") expect(given).toBe(anew);
          whole += text + given;
          expect(model.tokenizer.decode(conversation.tokens)).toBe(whole);
        }
        expect(conversation.turns).toBe(turns.length);
      }),
      { numRuns: 60 },
    );
    expect(allFree()).toBe(true);
  });

  test("is as before where its text was aborted before it was read", async () => {
    const conversation = converse();
    await collect(conversation.say("Once upon a time", options));
    const held = conversation.tokens;
    const controller = new AbortController();
    const long = "and then there was a cat ".repeat(30);
    const onProgress = () => controller.abort(); // after the first chunk
    const generation = conversation.say(long, { ...options, onProgress, signal: controller.signal });
    await expect(collect(generation)).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED" });
    expect(conversation.tokens).toEqual(held);
    expect(conversation.turns).toBe(1);
    const anew = await replyAnew(held, " Then");
    expect(await collect(conversation.say(" Then", options))).toBe(anew);
  });

  test("takes back its last turns", async () => {
    const conversation = converse();
    const states: Int32Array[] = [];
    const replies: string[] = [];
    const texts = ["Tom", " and Sue", " went", " home"];
    for (const text of texts) {
      states.push(conversation.tokens);
      replies.push(await collect(conversation.say(text, options)));
    }
    conversation.rewind(0);
    expect(conversation.turns).toBe(4);
    conversation.rewind();
    expect(conversation.tokens).toEqual(states[3]);
    expect(await collect(conversation.say(texts[3]!, options))).toBe(replies[3]);
    conversation.rewind(3);
    expect(conversation.tokens).toEqual(states[1]);
    expect(await collect(conversation.say(texts[1]!, options))).toBe(replies[1]);
    conversation.rewind(2);
    expect([conversation.length, conversation.turns]).toEqual([0, 0]);
    expect(await collect(conversation.say(texts[0]!, options))).toBe(replies[0]);
    expect(() => conversation.rewind(2)).toThrow(/^turns: must be an integer from 0 to 1, not 2$/);
  });

  test("may guess tokens, and holds only what came", async () => {
    const [plain, guessing] = [converse(), converse()];
    for (const text of ["Lily and Tom and Lily and Tom and", " Lily", " and", " Tom"]) {
      const wish = { ...options, temperature: 0, repeatPenalty: 1 };
      const reply = await collect(plain.say(text, wish));
      expect(await collect(guessing.say(text, { ...wish, speculate: { adaptive: false } }))).toBe(reply);
      expect(guessing.tokens).toEqual(plain.tokens);
      const most = 1 + guessing.turns;
      const left = await begin(guessing.say("!", { ...wish, speculate: { adaptive: false } }), most);
      expect(left).toBe(await begin(plain.say("!", wish), most));
      expect(guessing.tokens).toEqual(plain.tokens);
    }
  });

  test("forks, and the forks speak at once", async () => {
    const conversation = converse();
    await collect(conversation.say("Once upon a time", options));
    const anew = await Promise.all([" Tom", " Sue"].map((text) => replyAnew(conversation.tokens, text)));
    const fork = conversation.fork();
    const replies = await Promise.all([collect(conversation.say(" Tom", options)), collect(fork.say(" Sue", options))]);
    expect(replies).toEqual(anew);
    expect([conversation.turns, fork.turns]).toEqual([2, 2]);
    conversation.dispose();
    fork.rewind();
    expect(await collect(fork.say(" Tom", options))).toBe(anew[0]);
    fork.dispose();
    expect(allFree()).toBe(true);
  });

  test("goes on past the context with a window, and knows where its turns were", async () => {
    const conversation = converse();
    const window = { size: 64, sinks: 4 };
    for (let turn = 0; turn < 12; turn++) {
      const reply = conversation.say(` turn ${turn}`, { ...options, window });
      expect((await collect(reply)).length).toBeGreaterThan(0);
      expect(reply.result!.finishReason).toBe("length");
      expect(conversation.length).toBeLessThanOrEqual(65);
    }
    const lengths: number[] = [];
    while (conversation.turns > 0) {
      conversation.rewind();
      lengths.push(conversation.length);
    }
    expect(lengths).toEqual([...lengths].sort((a, b) => b - a));
    expect(lengths.slice(-9)).toEqual([...new Array<number>(8).fill(4), 0]);
  });
});

describe("a conversation refuses", () => {
  test("to speak twice at once, or to be forked or rewound meanwhile", async () => {
    const conversation = converse();
    const iterator = conversation.say("Tom", options)[Symbol.asyncIterator]();
    await iterator.next();
    const busy = expect.objectContaining({ code: "ERR_CRIA_STATE" });
    await expect(collect(conversation.say("Sue", options))).rejects.toEqual(busy);
    expect(() => conversation.fork()).toThrow(busy);
    expect(() => conversation.rewind()).toThrow(busy);
    await iterator.return!();
    expect(await collect(conversation.say("Sue", options))).not.toBe("");
  });

  test("what does not fit the context, and holds what it held", async () => {
    const conversation = converse();
    await collect(conversation.say("Tom", { ...options, maxTokens: 600 }));
    expect(conversation.length).toBe(513);
    await expect(collect(conversation.say("", options))).rejects.toMatchObject({
      code: "ERR_CRIA_CONTEXT",
      message: "text: must, with what is not read yet, be at most 0 tokens, what is left of the context, not 1",
    });
    expect([conversation.length, conversation.turns]).toEqual([513, 1]);
    conversation.rewind();
    const long = "word ".repeat(600);
    await expect(collect(conversation.say(long, options))).rejects.toMatchObject({ code: "ERR_CRIA_CONTEXT" });
    await expect(collect(conversation.say(long, { ...options, window: {} }))).rejects.toMatchObject({
      code: "ERR_CRIA_CONTEXT",
    });
    expect(await collect(conversation.say("Tom", options))).not.toBe("");
  });

  test("wrong arguments, and all after it was disposed", async () => {
    const conversation = model.conversation();
    expect(() => conversation.say(5 as never)).toThrow(/^text: must be a string or an Int32Array, not 5$/);
    expect(() => conversation.say("Hi", { echo: true } as never)).toThrow(/^echo: must be false in a conversation/);
    expect(() => conversation.say("Hi", { maxTokens: 0 })).toThrow(/^maxTokens: /);
    const disposed = expect.objectContaining({ code: "ERR_CRIA_DISPOSED" });
    const speak = async () => {
      for await (const _ of conversation.say("Hi", options)) conversation.dispose();
    };
    await expect(speak()).rejects.toEqual(disposed);
    for (const use of [() => conversation.say("Hi"), () => conversation.fork(), () => conversation.rewind()]) {
      expect(use).toThrow(disposed);
    }
    expect(allFree()).toBe(true);
  });
});
