import { type Arguments, given } from "../lib/cli/arguments.js";
import { command } from "../lib/cli/command.js";
import { openOutput } from "../lib/cli/io.js";
import { loadWith, runningOptions } from "../lib/cli/running.js";
import { integer, outOfRange } from "../lib/errors.js";
import { type WeightType, weightFormats } from "../lib/weights/source.js";
import { reportOf } from "./machine.js";
import { reportText } from "./report.js";
import { shapes } from "./shapes.js";
import { measureTokens, type TokensOptions } from "./tokens.js";

const names = (table: object) => Object.keys(table);

const options = {
  shape: { value: names(shapes).join("|"), help: "the shape of random weights; tinyllama by default" },
  format: { value: names(weightFormats).join("|"), help: "their type; q4_0 by default" },
  model: { value: "FILE", help: "a model's file instead of random weights" },
  prompt: { value: "N", help: "tokens of the prompt; 128 by default" },
  gen: { value: "N", help: "tokens generated; 64 by default" },
  context: { value: "N", help: "tokens before those; as many as the prompt's by default" },
  sequences: { value: "N", help: "sequences that are generated together; 1 by default" },
  ...runningOptions,
  json: { value: "FILE|-", alone: "-", help: "write JSON to a file, or instead of the report to the standard output" },
} as const;

export const bench = command({
  name: "bench",
  about:
    "Measures tokens per second, of a prompt and of a text that follows one, and the share of what the machine can do at\n" +
    "best that they come to. Without --model, random weights are made in memory.",
  options,
  async run(args, io) {
    const wanted = tokensWanted(args);
    const path = args.text("json");
    // Before the measuring, for a file that cannot be written should not cost a minute.
    await using file = path === undefined || path === "-" ? undefined : await openOutput(path);
    const { limits, results } = await loadWith(args, io, (running) => measureTokens({ ...running, ...wanted }));
    const report = reportOf(args.argv, limits, results);
    const json = `${JSON.stringify(report, null, 2)}\n`;
    await file?.writeFile(json);
    io.stdout.write(path === "-" ? json : reportText(report));
  },
});

function tokensWanted(args: Arguments<keyof typeof options>): TokensOptions {
  const context = args.integer("context");
  if (context !== undefined) integer("context", context, 1, mostTokens);
  return {
    shape: oneOf("shape", args.text("shape") ?? "tinyllama", shapes),
    format: oneOf("format", args.text("format") ?? "q4_0", weightFormats) as WeightType,
    prompt: integer("prompt", args.integer("prompt") ?? 128, 1, mostTokens),
    gen: integer("gen", args.integer("gen") ?? 64, 1, mostTokens),
    sequences: integer("sequences", args.integer("sequences") ?? 1, 1, mostSequences),
    ...given({ context, model: args.text("model") }),
  };
}

/** Of a prompt, and of what follows it: more than any context. */
const mostTokens = 2 ** 20;

/** More than a machine has the cores for. */
const mostSequences = 512;

function oneOf(name: string, value: string, table: object): string {
  if (Object.hasOwn(table, value)) return value;
  throw outOfRange(name, `one of ${names(table).join(", ")}`, value);
}
