import { createInterface } from "node:readline";

import { CriaError, integer, show } from "../errors.js";
import { planOf } from "../generate-options.js";
import { loadIndexed, type ModelOptions } from "../model.js";
import { Sampler } from "../sampling/sampler.js";
import { templateNames } from "../text/chat/built-in.js";
import { chooseTemplate } from "../text/chat/choose.js";
import { tokenizerOf } from "../text/tokenizer.js";
import { readModel } from "../weights/model-file.js";
import { given, UsageError } from "./arguments.js";
import { ChatSession, forgottenNote } from "./chat-session.js";
import { templateOf } from "./chat-template.js";
import { ChatTerminal } from "./chat-terminal.js";
import { command } from "./command.js";
import { reportOf } from "./generate.js";
import { type Io, writeText } from "./io.js";
import { loadWith, runningOptions } from "./running.js";
import { samplingOf, samplingOptions } from "./sampling.js";

/** Of --max-tokens: no context is longer. */
const mostTokens = 2 ** 24;

export const chat = command({
  name: "chat",
  operand: "MODEL",
  about:
    "Talks with a model: each line is a message, and its answer comes as it is made. At a terminal, /help tells what else\n" +
    "there is: to save, to load, to take back; Ctrl-C stops an answer. Elsewhere each line of the standard input is a\n" +
    "message, and nothing but the answers goes to the standard output. With --json the lines are JSON strings, and the\n" +
    "answers one object a line.",
  options: {
    template: {
      value: "T",
      help: `how the model reads a chat: ${templateNames.join(", ")}, or a Jinja template or its file; its own by default`,
    },
    system: { value: "T", help: "what the system says first" },
    "max-tokens": { value: "N", help: "at most this many tokens an answer; until it ends by default" },
    ...samplingOptions,
    ...runningOptions,
  },
  async run(args, io) {
    const maxTokens = args.integer("max-tokens");
    if (maxTokens !== undefined) integer("maxTokens", maxTokens, 1, mostTokens);
    const options = given({ ...samplingOf(args), maxTokens });
    // They refuse a wrong option before the weights are read.
    new Sampler(options);
    planOf(options);
    const wanted = args.text("template");
    const template = wanted === undefined ? undefined : await templateOf(wanted);
    const json = args.flag("json");
    using model = await loadWith(args, io, (running) => load(args.requiredModel(), template, running));
    const session = new ChatSession(model, { ...options, ...given({ template }) }, args.text("system"));
    if (!json && io.stdin.isTTY && io.stdout.isTTY) await new ChatTerminal(session, io).run();
    else await answerLines(session, io, json ? answerInJson(model.loadMs) : answerInText);
  },
});

async function load(path: string, template: string | undefined, options: ModelOptions) {
  const started = performance.now();
  const index = await readModel(path, options);
  const tokenizer = tokenizerOf(options.tokenizer ?? path, index.vocabulary);
  chooseTemplate(index, template); // before the weights are read
  return loadIndexed(index, tokenizer, options, started);
}

/** Answers a line. */
type LineAnswer = (session: ChatSession, line: string, io: Io) => Promise<void>;

async function answerLines(session: ChatSession, io: Io, answer: LineAnswer): Promise<void> {
  const lines = createInterface({ input: io.stdin, crlfDelay: Number.POSITIVE_INFINITY, signal: io.signal });
  try {
    for await (const line of lines) {
      if (line.trim() !== "") await answerLine(session, line, io, answer);
    }
  } finally {
    lines.close(); // what has failed would else wait for the input's end
  }
  if (io.signal.aborted) throw io.signal.reason;
}

async function answerLine(session: ChatSession, line: string, io: Io, answer: LineAnswer): Promise<void> {
  const { forgotten } = session;
  try {
    await answer(session, line, io);
  } catch (error) {
    throw session.turns > 0 && !session.windowed ? withAdvice(error) : error;
  }
  if (session.forgotten > forgotten) io.stderr.write(`cria: warning: ${forgottenNote(session)}\n`);
}

/** Where a chat was longer than the context, with what helps. */
function withAdvice(error: unknown): unknown {
  if (!(error instanceof CriaError) || error.code !== "ERR_CRIA_CONTEXT") return error;
  return new CriaError(error.code, `${error.message}; with --window older questions are forgotten`, { cause: error });
}

const answerInText: LineAnswer = async (session, line, { stdout, stderr, signal }) => {
  const { finishReason } = await session.ask(line, (piece) => writeText(stdout, piece), signal);
  stdout.write("\n");
  if (finishReason === "context") {
    stderr.write("cria: warning: the context is full, and the answer cut; with --window it goes on\n");
  }
};

const answerInJson =
  (loadMs: number): LineAnswer =>
  async (session, line, { stdout, signal }) => {
    const result = await session.ask(messageIn(line), () => undefined, signal);
    stdout.write(`${JSON.stringify(reportOf(result, loadMs))}\n`);
  };

function messageIn(line: string): string {
  let message: unknown;
  try {
    message = JSON.parse(line);
  } catch {
    // It is what it is: no JSON.
  }
  if (typeof message === "string") return message;
  throw new UsageError(`--json: the lines of the standard input must be JSON strings, not ${show(line)}`);
}
