import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";

import { type ChatMessage, type Generation, loadModel, type Model, tinyModel } from "../lib/index.js";
import { type NativeBatch, native } from "../lib/native.js";
import { builtIn } from "../lib/text/chat/built-in.js";
import * as jinjaThread from "../lib/text/chat/jinja-thread.js";
import { segmentTokens } from "../lib/text/chat/segments.js";
import { array, f32, i32, llamaFile, string, temporaryFolder } from "./support/gguf-writer.js";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel, { contextLength: 512, onWarning: () => undefined });
});
afterAll(() => model.dispose());

async function collect(pieces: AsyncIterable<string>): Promise<string> {
  let text = "";
  for await (const piece of pieces) text += piece;
  return text;
}

const user = (content: string): ChatMessage => ({ role: "user", content });
const assistant = (content: string): ChatMessage => ({ role: "assistant", content });

const options = { template: "vicuna", temperature: 0.9, seed: 5, maxTokens: 24 };
const jinja =
  "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token }}Q: {{ m.content }}\nA:{% else %} {{ m.content | trim }}\n" +
  "{{ eos_token }}{% endif %}{% endfor %}";

/** What comes after the tokens of a prompt. */
const after = (name: string, messages: readonly ChatMessage[], how: object) =>
  collect(
    model.generate(segmentTokens(builtIn(name)!.prepare(messages, model.tokenizer).segments, model.tokenizer), how),
  );

describe("a chat", () => {
  test("goes on after its prompt, without the template's space", async () => {
    const { template, ...rest } = options;
    const messages = [user("Tell me of a dog.")];
    const reply = await collect(model.chat(messages, options));
    const whole = await after("vicuna", messages, rest);
    expect(reply).toBe(whole.replace(/^ /, ""));
    const koala = await collect(model.chat(messages, { ...options, template: "koala" }));
    expect(koala).toBe(await after("koala", messages, rest));
  });

  test("takes the system's words as an option", async () => {
    const told = [{ role: "system", content: "Be brief." } as const, user("Hi")];
    const { template, ...rest } = options;
    const reply = await collect(model.chat([user("Hi")], { ...options, system: "Be brief." }));
    expect(reply).toBe((await after("vicuna", told, rest)).replace(/^ /, ""));
  });

  test("ends at the template's strings as at the caller's", async () => {
    const messages = [user("Tell me a story.")];
    const whole = await collect(model.chat(messages, { ...options, temperature: 0, template: "baize" }));
    const letter = [...whole].at(-4)!;
    const generation = model.chat(messages, { ...options, temperature: 0, template: "baize", stop: letter });
    expect(await collect(generation)).toBe(whole.slice(0, whole.indexOf(letter)));
    expect(generation.result).toMatchObject({ finishReason: "stop", stop: letter });
    // The token that is the likeliest is biased to be the one of the template's string.
    const [hash] = model.tokenizer.encode("###", { continuation: true });
    const bias = { logitBias: { [hash!]: 1000 } };
    const stopped = model.chat(messages, { ...options, ...bias, temperature: 0, template: "vicuna-v0" });
    expect(await collect(stopped)).toBe("");
    expect(stopped.result).toMatchObject({ finishReason: "stop", stop: "###" });
  });

  test("reads again what it has said by what the cache holds of it", async () => {
    using own = await loadModel(tinyModel, { contextLength: 512, onWarning: () => undefined });
    const run = native.programRun;
    let read = 0;
    const spy = vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
      read += (batch as NativeBatch).tokens.length;
      return run(program, cache, batch, width, cancel);
    });
    onTestFinished(() => spy.mockRestore());
    const messages = [user("Tell me of a dog and a cat and the park.")];
    const first = own.chat(messages, { ...options, temperature: 0, maxTokens: 64 });
    const text = await collect(first);
    messages.push(assistant(text), user("Then?"));
    read = 0;
    const second = own.chat(messages, { ...options, maxTokens: 1 });
    await collect(second);
    const { promptTokens } = second.result!;
    expect(promptTokens).toBeGreaterThan(first.result!.promptTokens + 40);
    // The question's own tokens, and what does not fill a block of 16 of those before it.
    expect(read).toBeLessThan(promptTokens - first.result!.promptTokens);
  });

  test("is rendered by a Jinja template, at its iteration", async () => {
    const messages = [user("Hi"), assistant("Hello"), user("Who?")];
    const { template, ...rest } = options;
    const reply = await collect(model.chat(messages, { ...options, template: jinja }));
    const { bos, eos, tokenizer } = {
      ...model,
      bos: model.tokenizer.bos!,
      eos: model.tokenizer.eos!,
      tokenizer: model.tokenizer,
    };
    const prompt = Int32Array.of(
      ...[bos, ...tokenizer.encode("Q: Hi\nA: Hello\n"), eos],
      ...[bos, ...tokenizer.encode("Q: Who?\nA:")],
    );
    expect(reply).toBe((await collect(model.generate(prompt, rest))).replace(/^ /, ""));
  });

  test("waits for its template no longer than its signal", async () => {
    const signal = AbortSignal.abort();
    await expect(collect(model.chat([user("Hi")], { ...options, template: jinja, signal }))).rejects.toMatchObject({
      code: "ERR_CRIA_ABORTED",
    });
  });

  test("keeps no process alive by its templates", async () => {
    await collect(model.chat([user("Hi")], { ...options, template: jinja, maxTokens: 1 }));
    expect(process.getActiveResourcesInfo()).not.toContain("MessagePort");
    expect(process.getActiveResourcesInfo()).not.toContain("Worker");
  });
});

describe("a chat refuses", () => {
  const refused =
    (messages: unknown, more: object = {}) =>
    () =>
      model.chat(messages as never, { ...options, ...more });

  test.each<[string, unknown, object, string]>([
    ["no list", "Hi", {}, 'messages: must be an array, not "Hi"'],
    ["no messages", [], {}, "messages: must not be empty"],
    ["a text in a message's place", [user("a"), "b"], {}, 'messages[1]: must be an object, not "b"'],
    [
      "a role that there is none of",
      [{ role: "tool", content: "" }],
      {},
      'messages[0].role: must be "system", "user" or "assistant", not "tool"',
    ],
    ["a content that is no text", [{ role: "user", content: 5 }], {}, "messages[0].content: must be a string, not 5"],
    ["what it does not know", [{ ...user("a"), name: "Tom" }], {}, "messages[0].name: is not an option of a message"],
    [
      "an answer's input",
      [user("a"), { ...assistant("b"), input: "c" }],
      {},
      "messages[1].input: must be a user's, not one of the assistant",
    ],
    [
      "the system twice",
      [{ role: "system", content: "a" }, user("b")],
      { system: "c" },
      "system: must not be given with a message of the system",
    ],
    [
      "a template that there is none of",
      [user("a")],
      { template: "llama-9" },
      /^template: must be llama-2, .*, or a Jinja template, not "llama-9"$/ as never,
    ],
    ["an option that it does not know", [user("a")], { tools: [] }, "options.tools: is not an option of chat"],
  ])("%s", (_, messages, more, problem) => {
    expect(refused(messages, more)).toThrow(problem);
    expect(refused(messages, more)).toThrow(expect.objectContaining({ code: "ERR_CRIA_ARGUMENT" }));
  });

  test("what is longer than the context, at once or at the iteration", async () => {
    const long = [user("word ".repeat(600))];
    const tooLong = expect.objectContaining({ code: "ERR_CRIA_CONTEXT" });
    expect(refused(long)).toThrow(tooLong);
    await expect(collect(model.chat(long, { ...options, template: jinja }))).rejects.toEqual(tooLong);
  });

  test("a model without a template, and names those there are", () => {
    expect(() => model.chat([user("Hi")])).toThrow(
      expect.objectContaining({
        code: "ERR_CRIA_TEMPLATE",
        message:
          "template: must be given, for the model has none of its own and no name that tells: llama-2, code-llama-70b, " +
          "alpaca, vicuna-v0, vicuna, koala, baize, gpt4all, chatdoctor, dolly, or a Jinja template",
      }),
    );
  });
});

/** A model of a name, with a template or without, that says nothing of sense. */
async function loaded(keys: Record<string, string>, use: (of: Model) => Promise<void>): Promise<void> {
  await using folder = await temporaryFolder();
  const file = llamaFile();
  for (const [key, value] of Object.entries(keys)) file.metadata[key] = string(value);
  using of = await loadModel(await folder.write("model.gguf", file));
  await use(of);
}

const promptLength = async (generation: Generation): Promise<number> => {
  await collect(generation);
  return generation.result!.promptTokens;
};

describe("a model's template", () => {
  test("is that of its file before that of its name", async () => {
    const template = "{{ messages[0].content }}";
    await loaded({ "tokenizer.chat_template": template, "general.name": "Vicuna 7B v1.5" }, async (of) => {
      expect([of.chatTemplate, of.name]).toEqual([template, "Vicuna 7B v1.5"]);
      expect(await promptLength(of.chat([user("abc")], { maxTokens: 1 }))).toBe(1 + 1 + 3);
    });
  });

  test("is that of its name where its file has none", async () => {
    await loaded({ "general.name": "Llama 2 7B Chat" }, async (of) => {
      expect(() => of.chat([user("[INST]")])).toThrow("tags");
    });
  });

  test("is the one asked for before any other", async () => {
    await loaded({ "tokenizer.chat_template": "{{ raise_exception('no') }}" }, async (of) => {
      await expect(collect(of.chat([user("a")]))).rejects.toMatchObject({ code: "ERR_CRIA_TEMPLATE" });
      expect(await promptLength(of.chat([user("a")], { template: "koala", maxTokens: 1 }))).toBeGreaterThan(10);
    });
  });

  test("is found out once, for all of the model's chats", async () => {
    const render = vi.spyOn(jinjaThread, "renderJinja");
    onTestFinished(() => render.mockRestore());
    const template = "{{ messages[0].content }}";
    await loaded({ "tokenizer.chat_template": template }, async (of) => {
      for (const renderings of [3, 4, 5]) {
        await collect(of.chat([user("abc")], { maxTokens: 1 }));
        expect(render).toHaveBeenCalledTimes(renderings);
      }
      await collect(of.chat([user("abc")], { maxTokens: 1, template: `${template}!` }));
      expect(render).toHaveBeenCalledTimes(8);
    });
  });

  test("must be a text", async () => {
    await using folder = await temporaryFolder();
    const file = llamaFile();
    file.metadata["tokenizer.chat_template"] = i32(1);
    await expect(loadModel(await folder.write("model.gguf", file))).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      message: expect.stringContaining("tokenizer.chat_template: must be a string"),
    });
  });
});

/** A model with Code Llama's markers, as pieces of its own. */
async function codeLlama(use: (of: Model, markers: Record<string, number>) => Promise<void>): Promise<void> {
  const names = ["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"];
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const pieces = ["<unk>", "<s>", "</s>", ...bytes, "▁", "a", "b", ...names];
  const types = pieces.map((_, id) => (id === 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : id < 262 ? 1 : 3));
  await using folder = await temporaryFolder();
  const file = llamaFile({ vocab: pieces.length });
  file.metadata["tokenizer.ggml.tokens"] = array("string", pieces);
  file.metadata["tokenizer.ggml.token_type"] = array("i32", types);
  file.metadata["tokenizer.ggml.scores"] = array(
    "f32",
    pieces.map(() => 0),
  );
  file.metadata["llama.attention.layer_norm_rms_epsilon"] = f32(1e-5);
  using of = await loadModel(await folder.write("code.gguf", file));
  await use(of, Object.fromEntries(names.map((name) => [name.slice(2, -1), pieces.indexOf(name)])));
}

describe("infilling", () => {
  const prompts = async (of: Model, prefix: string, suffix: string, how: object = {}): Promise<number[]> => {
    const run = native.programRun;
    const read: number[] = [];
    const spy = vi.spyOn(native, "programRun").mockImplementation((program, cache, batch, width, cancel) => {
      read.push(...(batch as NativeBatch).tokens);
      return run(program, cache, batch, width, cancel);
    });
    await collect(of.infill(prefix, suffix, { maxTokens: 1, ...how })).finally(() => spy.mockRestore());
    return read;
  };

  test("reads prefix and suffix between their tokens, in either order, the suffix without a space", async () => {
    await codeLlama(async (of, { PRE, SUF, MID }) => {
      const [space, a, b] = [259, 260, 261];
      expect(await prompts(of, "a", "b")).toEqual([1, PRE, space, a, SUF, b, MID]);
      expect(await prompts(of, "a", "b", { first: "suffix" })).toEqual([1, PRE, SUF, b, MID, space, a]);
      expect(await prompts(of, "", " <MID>")).toEqual([
        1,
        PRE,
        SUF,
        space,
        ...[..."<MID>"].map((c) => 3 + c.charCodeAt(0)),
        MID,
      ]);
    });
  });

  test("ends at its token", async () => {
    await codeLlama(async (of, { EOT }) => {
      const generation = of.infill("a", "b", { temperature: 0, logitBias: { [EOT!]: 1000 } });
      expect(await collect(generation)).toBe("");
      expect(generation.result).toMatchObject({ finishReason: "stop", stop: EOT });
    });
  });

  test("ends neither at its token, nor a chat at its template's, where ends are ignored", async () => {
    await codeLlama(async (of, { EOT }) => {
      const template = "{% for m in messages %}{{ m.content }}▁<EOT>{% endfor %}";
      const bias = { temperature: 0, logitBias: { [EOT!]: 1000 }, maxTokens: 3 };
      const chat = (how: object) => of.chat([user("a")], { ...bias, template, ...how });
      const ended = chat({});
      await collect(ended);
      expect(ended.result).toMatchObject({ tokens: [], stop: EOT });
      for (const endless of [chat({ ignoreEos: true }), of.infill("a", "b", { ...bias, ignoreEos: true })]) {
        await collect(endless);
        expect(endless.result).toMatchObject({ finishReason: "length", tokens: { length: 3 } });
        expect(endless.result!.tokens).not.toContain(EOT);
      }
    });
  });

  test("is refused where the vocabulary knows none, and for wrong arguments", async () => {
    expect(() => model.infill("a", "b")).toThrow(
      expect.objectContaining({
        code: "ERR_CRIA_UNSUPPORTED",
        message: "model: must have the token <PRE> to fill a gap, as Code Llama has",
      }),
    );
    expect(() => model.infill(1 as never, "b")).toThrow("prefix: must be a string, not 1");
    expect(() => model.infill("a", 1 as never)).toThrow("suffix: must be a string, not 1");
    expect(() => model.infill("a", "b", { first: "middle" as never })).toThrow(
      'first: must be "prefix" or "suffix", not "middle"',
    );
  });
});
