import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";

import { Interruption } from "../../lib/cli/io.js";
import { loadModel, tinyModel } from "../../lib/index.js";
import type { ChatMessage } from "../../lib/text/chat/messages.js";
import { needProgram } from "../runtimes/runtimes.js";
import { needFiles, packageFile } from "../support/data.js";
import { encodeGguf, llamaFile } from "../support/gguf-writer.js";
import { cria } from "./run.js";
import { Terminal } from "./terminal.js";

const options = ["--template", "vicuna", "--temperature", "0", "--max-tokens", "12"];
const argv = ["chat", tinyModel, ...options];

/** What a chat of these questions says, by the library. */
async function answers(questions: readonly string[], system?: string): Promise<string[]> {
  using model = await loadModel(tinyModel);
  const messages: ChatMessage[] = system === undefined ? [] : [{ role: "system", content: system }];
  const texts: string[] = [];
  for (const content of questions) {
    messages.push({ role: "user", content });
    let text = "";
    for await (const piece of model.chat(messages, { template: "vicuna", temperature: 0, maxTokens: 12 }))
      text += piece;
    messages.push({ role: "assistant", content: text });
    texts.push(text);
  }
  return texts;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "cria-chat-"));
  onTestFinished(() => rm(path, { recursive: true }));
  return path;
}

describe("cria chat, elsewhere than at a terminal", () => {
  test("answers each line, and prints nothing else", async () => {
    const questions = ["Tell me of a dog.", "And /then\\"];
    const wanted = await answers(questions);
    const { code, stdout, stderr } = await cria(argv, { input: `${questions[0]}\n\n  \r\n${questions[1]}` });
    expect(stderr).toBe("");
    expect(stdout).toBe(`${wanted.join("\n")}\n`);
    expect(code).toBe(0);
  });

  test("sends a terminal no control characters, and a pipe what there is", async () => {
    const bell = [...argv.slice(0, -1), "2", "--logit-bias", "10=1000"]; // <0x07>, after three tokens of no byte
    expect((await cria(bell, { input: "Hi\n" })).stdout).toBe("\x07\x07\n");
    expect((await cria(bell, { input: "Hi\n", isTTY: true })).stdout).toBe("\ufffd\ufffd\n");
  });

  test("takes JSON strings with --json, and answers in it", async () => {
    const questions = ["Tell me\nof a dog.", "And then?"];
    const wanted = await answers(questions, "Be brief.");
    const input = questions.map((one) => `${JSON.stringify(one)}\n`).join("");
    const { code, stdout } = await cria([...argv, "--system", "Be brief.", "--json"], { input });
    const told = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(told.map(({ text }) => text)).toEqual(wanted);
    expect(told[0]).toMatchObject({ tokens: 12, finishReason: "length", timings: { loadMs: expect.any(Number) } });
    expect(code).toBe(0);
  });

  test.for<[string[], string, number, string | RegExp]>([
    [
      [...argv, "--json"],
      "Hi\n",
      2,
      'cria chat: --json: the lines of the standard input must be JSON strings, not "Hi"',
    ],
    [["chat"], "", 2, "cria chat: MODEL: must be given"],
    [["chat", tinyModel], "", 1, /^cria: template: must be given, .* \(ERR_CRIA_TEMPLATE\)$/m],
    [
      ["chat", tinyModel, "--template", "x"],
      "",
      2,
      /^cria chat: --template: must be llama-2, .* file of one, not "x"$/m,
    ],
    [["chat", tinyModel, "--template", tinyModel], "", 1, /cria-tiny-q8_0\.gguf: must be UTF-8 throughout/],
    [["chat", tinyModel, "--template", "{% if %}"], "Hi\n", 1, /^cria: template: .* \(ERR_CRIA_TEMPLATE\)$/m],
    [[...argv, "--temperature=-1"], "", 2, "cria chat: --temperature: must be a number of at least 0, not -1"],
    [[...argv, "--max-tokens", "0"], "", 2, "cria chat: --max-tokens: must be an integer from 1 to 16777216, not 0"],
    [argv, `${"word ".repeat(300)}\n`, 1, "ERR_CRIA_CONTEXT"],
    [["chat", "/absent.gguf"], "", 1, "ERR_CRIA_FILE"],
  ])("%j: says what is wrong", async ([args, input, exit, problem]) => {
    const { code, stdout, stderr } = await cria(args, { input });
    if (typeof problem === "string") expect(stderr).toContain(problem);
    else expect(stderr).toMatch(problem);
    expect(stdout).toBe("");
    expect(code).toBe(exit);
  });

  /** Six of them are more than the tiny model's context of 192 tokens. */
  const long = Array.from(
    { length: 6 },
    (_, i) => `${i}: Tell me a story of a dog, a cat and a bird who play in a park.`,
  );
  const input = long.map((question) => `${question}\n`).join("");

  test("fails where the context is full, and says what helps", async () => {
    const { code, stdout, stderr } = await cria(argv, { input });
    expect(stdout.split("\n").length).toBeGreaterThan(2);
    expect(stderr).toMatch(
      /^cria: prompt: must be at most 192 tokens, .*; with --window older questions are forgotten \(ERR_CRIA_CONTEXT\)$/m,
    );
    expect(code).toBe(1);
    const cut = await cria([...argv.slice(0, -2), "--ignore-eos"], { input: "Hi\n" });
    expect(cut).toMatchObject({
      code: 0,
      stderr: "cria: warning: the context is full, and the answer cut; with --window it goes on\n",
    });
  });

  test("goes on with --window, without the first questions", async () => {
    const asked = long.map((question) => `${JSON.stringify(question)}\n`).join("");
    const { code, stdout, stderr } = await cria([...argv, "--window", "--json"], { input: asked });
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: expect.stringMatching(/^cria: warning: the context was full: /),
    });
    const told = stdout
      .trimEnd()
      .split("\n")
      .map((line): string => JSON.parse(line).text);
    expect(told).toHaveLength(long.length);
    const [forgotten] = /\d+(?= questions? .* no longer read\n$)/.exec(stderr)!;
    const read = long.flatMap((question, i): ChatMessage[] => [
      { role: "user", content: question },
      { role: "assistant", content: told[i]! },
    ]);
    using model = await loadModel(tinyModel);
    const last = model.chat(read.slice(2 * Number(forgotten), -1), {
      template: "vicuna",
      temperature: 0,
      maxTokens: 12,
    });
    let text = "";
    for await (const piece of last) text += piece;
    expect(told.at(-1)).toBe(text);
    const overlong = await cria([...argv, "--window"], { input: `Hi\n${"word ".repeat(300)}\n` });
    expect(overlong).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^cria: prompt: must be .*, not \d+ \(ERR_CRIA_CONTEXT\)\n$/),
    });
  });

  test("answers past the context with --window", async () => {
    const endless = ["--window", "--ignore-eos", "--max-tokens", "250", "--json"];
    const { stdout } = await cria([...argv.slice(0, -2), ...endless], { input: '"Hi"\n"And?"\n' });
    const told = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(told).toMatchObject(Array(2).fill({ tokens: 250, finishReason: "length" }));
  });

  test("takes a Jinja template from a file", async () => {
    const path = await folder();
    const jinja = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}";
    const [file, none] = [join(path, "own.jinja"), join(path, "none.jinja")];
    await writeFile(file, `${jinja}\n`);
    await writeFile(none, "USER:\n");
    const answered = async (template: string) =>
      await cria(["chat", tinyModel, ...options.slice(2), "--template", template], { input: "Hi\n" });
    const { code, stdout } = await answered(file);
    expect(code).toBe(0);
    expect(stdout).toBe((await answered(jinja)).stdout);
    expect(stdout).not.toBe((await answered("vicuna")).stdout);
    const refused = await answered(none);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/none\.jinja: must be a Jinja template, /),
    });
  });

  test("ends with the interruption's exit code", async () => {
    const controller = new AbortController();
    const { code } = await cria([...argv, "--ignore-eos"], {
      input: "Hi\nHi\n",
      signal: controller.signal,
      onOutput: () => controller.abort(new Interruption("interrupted", 130)),
    });
    expect(code).toBe(130);
  });
});

const main = packageFile("dist", "lib", "cli", "main.js");

describe("cria chat at a terminal", () => {
  /** A chat that has begun. */
  async function begun(context: Parameters<typeof needFiles>[0], ...args: string[]): Promise<Terminal> {
    needFiles(context, main);
    await needProgram(context, "python3");
    const terminal = new Terminal(process.execPath, [main, ...(args.length > 0 ? args : argv)]);
    await terminal.see(/\/help tells more\.\n> /);
    return terminal;
  }
  test("answers, and ends with Ctrl-D", async (context) => {
    const [dog, then] = await answers(["Tell me of a dog.", "Then?"]);
    const terminal = await begun(context);
    terminal.type("Tell me of a dog.\r");
    await terminal.see(`\n${dog}\nas long as asked for\n> `);
    terminal.type("Then?\r");
    await terminal.see(`\n${then}\nas long as asked for\n> `);
    terminal.type("\x04");
    expect(await terminal.ended()).toBe(0);
  });

  test("has lines that were typed before at hand", async (context) => {
    const terminal = await begun(context);
    terminal.type("Tell me of a dog.\r");
    await terminal.see("> ");
    terminal.type("\x1b[A");
    await terminal.see("> Tell me of a dog.");
    terminal.type("\x03/exit\r"); // the line is left, and the program is not
    expect(await terminal.ended()).toBe(0);
  });

  test("joins lines that end with a backslash, and pasted ones", async (context) => {
    const file = join(await folder(), "chat.json");
    const terminal = await begun(context);
    terminal.type("One\\\r");
    await terminal.see("… ");
    terminal.type("Two\r");
    await terminal.see("as asked for\n> ");
    terminal.type("Three\rFour\r\rFive");
    await terminal.see("Five");
    terminal.type("!\r");
    await terminal.see("as asked for\n> ");
    terminal.type("//Six\r");
    await terminal.see("as asked for\n> ");
    terminal.type(`/save ${file}\r`);
    await terminal.see("saved 3 questions and their answers");
    const saved = JSON.parse(await readFile(file, "utf8")) as ChatMessage[];
    const asked = saved.filter(({ role }) => role === "user").map(({ content }) => content);
    expect(asked).toEqual(["One\nTwo", "Three\nFour\n\nFive!", "/Six"]);
    const [first] = await answers(["One\nTwo"]);
    expect(saved[1]).toEqual({ role: "assistant", content: first });
  });

  test("stops an answer with Ctrl-C, and ends with it where nothing is written", async (context) => {
    // It has nothing to say, and takes minutes to say all of it.
    const model = join(await folder(), "endless.gguf");
    await writeFile(model, encodeGguf(llamaFile({ contextLength: 2 ** 20 })));
    const terminal = await begun(
      context,
      "chat",
      model,
      "--template",
      "koala",
      "--ignore-eos",
      "--cache-size",
      "65536",
    );
    terminal.type("Tell me a story.\r");
    await terminal.see(/story\.\n[\s\S]{3}/);
    terminal.type("\x03");
    await terminal.see("\nstopped\n> ");
    terminal.type("And another.\r");
    await terminal.see(/another\.\n[\s\S]{3}/);
    terminal.type("\x03");
    await terminal.see("\nstopped\n> ");
    terminal.type("/undo\r");
    await terminal.see("left: 1 question and its answer\n> ");
    terminal.type("half a line\x03");
    await terminal.see(/half a line.*\n> /);
    terminal.type("/undo\r");
    await terminal.see("left: 0 questions and their answers\n> ");
    terminal.type("\x03");
    await terminal.see("ended by Ctrl-C");
    expect(await terminal.ended()).toBe(130);
  });

  test("goes on after what a person can mend", async (context) => {
    const terminal = await begun(context);
    terminal.type(`${"word ".repeat(150)}\r`);
    await terminal.see(/prompt: must be at most 192 tokens, the context, not \d+\n> /); // by itself: nothing makes room
    terminal.type("/load /absent.json\r");
    await terminal.see("/absent.json: cannot be read: no such file or directory\n> ");
    terminal.type("/sing\r");
    await terminal.see("/sing: is not a command; /help lists them\n> ");
    terminal.type("/save\r");
    await terminal.see("/save: a file must be named\n> ");
    terminal.type("/save /dev/full\r");
    await terminal.see("/dev/full: cannot be written: no space left on device\n> ");
    terminal.type("/undo\r");
    await terminal.see("there is nothing to forget\n> ");
    terminal.type("/help\r");
    await terminal.see(/\/save FILE +write the chat/);
    terminal.type("/exit\r");
    expect(await terminal.ended()).toBe(0);
  });

  test("saves, forgets, and loads again", async (context) => {
    const path = await folder();
    const [, then] = await answers(["Tell me of a dog.", "Then?"], "Be brief.");
    const terminal = await begun(context);
    terminal.type("/system\r");
    await terminal.see("the system says nothing of ours\n> ");
    terminal.type("/system Be brief.\r");
    await terminal.see("the system says: Be brief.\n> ");
    terminal.type("Tell me of a dog.\r");
    await terminal.see("as asked for\n> ");
    terminal.type(`/save ${join(path, "chat.json")}\r`);
    await terminal.see("saved 1 question and its answer\n> ");
    terminal.type("/reset\r");
    await terminal.see("forgotten\n> ");
    terminal.type(`/load ${join(path, "chat.json")}\r`);
    await terminal.see("loaded 1 question and its answer\n> ");
    terminal.type("Then?\r");
    await terminal.see(`\n${then}\nas long as asked for\n> `);
    for (const [text, problem] of [
      ["no", /messages: must be JSON, not "no"\n> /],
      ["{}", /messages: must be an array, not Object\n> /],
      ['[{"role":"user","content":1}]', /messages\[0\]\.content: must be a string, not 1\n> /],
      ['[{"role":"user","content":"1"}]', /messages: must end with an answer\n> /],
    ] as const) {
      await writeFile(join(path, "bad.json"), text);
      terminal.type(`/load ${join(path, "bad.json")}\r`);
      await terminal.see(problem);
    }
    terminal.type("/undo\r");
    await terminal.see("left: 1 question and its answer\n> ");
    await writeFile(join(path, "bell.json"), '[{"role":"system","content":"a\\u0007b"}]');
    terminal.type(`/load ${join(path, "bell.json")}\r`);
    await terminal.see("loaded 0 questions and their answers\n> ");
    terminal.type("/system\r");
    await terminal.see("the system says: a\ufffdb\n> ");
    const [dog] = await answers(["Tell me of a dog."]);
    terminal.type("/system -\r");
    await terminal.see("the system says nothing of ours\n> ");
    terminal.type("Tell me of a dog.\r");
    await terminal.see(`\n${dog}\nas long as asked for\n> `);
  });
});
