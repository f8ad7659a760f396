import { UsageError } from "./arguments.js";
import { type Command, columns } from "./command.js";
import { Interruption, type Io, writeText } from "./io.js";

/** Imported when they run: most need the native addon, and help should be had without it. */
const commands: Readonly<Record<string, { summary: string; load: () => Promise<Command> }>> = {
  generate: { summary: "continue a prompt", load: async () => (await import("./generate.js")).generate },
  chat: { summary: "talk with a model", load: async () => (await import("./chat.js")).chat },
  tokenize: { summary: "a text's tokens", load: async () => (await import("./tokenize.js")).tokenize },
  logits: { summary: "the logits after each of some tokens", load: async () => (await import("./logits.js")).logits },
  perplexity: {
    summary: "how well a model predicts a text",
    load: async () => (await import("./perplexity.js")).perplexity,
  },
  eval: {
    summary: "a model's choices, or its perplexity, on a test",
    load: async () => (await import("./eval.js")).evaluate,
  },
  inspect: { summary: "what a model's file holds", load: async () => (await import("./inspect.js")).inspect },
  pack: {
    summary: "write a model in the kernels' layout, to load at once",
    load: async () => (await import("./pack.js")).pack,
  },
  quantize: {
    summary: "write a model as GGUF with few bits a weight",
    load: async () => (await import("./quantize.js")).quantize,
  },
  convert: {
    summary: "write a model as GGUF with its weights as they are",
    load: async () => (await import("./convert.js")).convert,
  },
  doctor: {
    summary: "what cria finds on this machine, and what keeps it from running",
    load: async () => (await import("./doctor.js")).doctor,
  },
  bench: {
    summary: "tokens per second, or single ops, and their share of the machine's limits",
    load: async () => (await import("./bench.js")).bench,
  },
};

const exitCodes = { done: 0, failed: 1, usage: 2 } as const;

/**
 * Runs the command line.
 *
 * @param argv what follows the program's name
 * @returns the exit code: 0, 1 (failed), 2 (wrong usage), or that of the interruption
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const [name, ...rest] = argv;
  try {
    if (name === "--version") return print(io, `${version()}\n`);
    if (name === "--help") return print(io, help());
    if (name === undefined) throw new UsageError("a command must be given");
    if (!Object.hasOwn(commands, name)) throw new UsageError(`${name}: is not a command`);
    const run = await commands[name]!.load();
    return await run(rest, io);
  } catch (error) {
    return report(error, name, io);
  }
}

function print(io: Io, text: string): number {
  io.stdout.write(text);
  return exitCodes.done;
}

/** Tells of an error in a line, and of one that cria did not foresee with its stack. Returns the exit code. */
function report(error: unknown, name: string | undefined, io: Io): number {
  if (io.signal.aborted) return (io.signal.reason as Interruption).exitCode;
  if (error instanceof Interruption) return error.exitCode;
  const { message, code, stack } = error as NodeJS.ErrnoException;
  if (error instanceof UsageError) {
    const known = name !== undefined && Object.hasOwn(commands, name) ? ` ${name}` : "";
    writeText(io.stderr, `cria${known}: ${message}\nTry: cria${known} --help\n`);
    return exitCodes.usage;
  }
  // A code is that of a typed error or of a failed system call, whose messages say enough.
  writeText(io.stderr, `cria: ${code === undefined ? (stack ?? error) : withCode(message, code)}\n`);
  return exitCodes.failed;
}

/** A system call's message has its code already: "ENOENT: no such file or directory, open 'story.txt'". */
const withCode = (message: string, code: string) => (message.startsWith(code) ? message : `${message} (${code})`);

function help(): string {
  const summaries = Object.entries(commands).map(([name, { summary }]) => [name, summary] as const);
  return (
    `Usage: cria COMMAND [OPTIONS]\n\nCommands:\n${columns(summaries)}\n` +
    "cria COMMAND --help tells of a command's options, cria --version the version.\n" +
    "Exit codes: 0, 1 where the command failed, 2 where the command line was wrong.\n"
  );
}

/** By the package's own name, which its sources and its compiled files resolve alike. */
function version(): string {
  return require("cria/package.json").version;
}
