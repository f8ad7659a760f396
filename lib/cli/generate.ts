import type { Device } from "../device.js";
import { CriaError, CriaFileError, integer } from "../errors.js";
import type { FinishReason, GenerationResult } from "../generate.js";
import { planOf } from "../generate-options.js";
import { loadIndexed, type Model, type ModelOptions } from "../model.js";
import { promptTokens } from "../prompt.js";
import { Sampler } from "../sampling/sampler.js";
import { tokenizerOf } from "../text/tokenizer.js";
import { tinyModel } from "../tiny.js";
import { readModel } from "../weights/model-file.js";
import { type Arguments, given, UsageError } from "./arguments.js";
import { command } from "./command.js";
import { type Io, type Output, writeText } from "./io.js";
import { loadWith, runningOptions } from "./running.js";
import { samplingOf, samplingOptions } from "./sampling.js";

/** Without --max-tokens: a few paragraphs. */
const defaultMaxTokens = 256;

/** Of --max-tokens: no context is longer. */
const mostTokens = 2 ** 24;

export const generate = command({
  name: "generate",
  operand: "[MODEL]",
  about:
    "Continues a prompt. The text, without the prompt, goes to the standard output as it comes, and nothing else does;\n" +
    "only at a terminal the prompt is shown before it and a line's end after it. Without MODEL the tiny model speaks\n" +
    "that comes with cria.",
  options: {
    prompt: { value: "T", help: "the text to continue; none by default" },
    suffix: { value: "T", help: "a text after the gap that the model is to fill, as Code Llama can" },
    "max-tokens": {
      value: "N",
      help: `at most this many tokens, beyond the trained context if need be; ${defaultMaxTokens} within it by default`,
    },
    ...samplingOptions,
    logprobs: { value: "K", help: "with --json: each token's log-probability, and the K best in its place, 0 to 20" },
    echo: { help: "with --json: the same of the prompt's tokens" },
    speculate: { value: "prompt", help: "guess from what was said before: the same text, sooner where it repeats" },
    draft: { value: "FILE", help: "a smaller model with the same vocabulary, which guesses" },
    ...runningOptions,
  },
  async run(args, io) {
    const prompt = args.text("prompt") ?? "";
    const suffix = args.text("suffix");
    const maxTokens = args.integer("max-tokens");
    if (maxTokens !== undefined) integer("maxTokens", maxTokens, 1, mostTokens);
    const options = given({
      ...samplingOf(args),
      maxTokens: maxTokens ?? defaultMaxTokens,
      logprobs: args.integer("logprobs"),
      echo: args.flag("echo"),
    });
    // They refuse a wrong option before the weights are read.
    new Sampler(options);
    planOf(options);
    const json = args.flag("json");
    const told = options.logprobs === undefined ? options.echo && "echo" : "logprobs";
    if (told && !json) throw new UsageError(`--${told}: must be given with --json, which tells of it`);
    const speculate = speculateOf(args);

    const path = args.model ?? tinyModel;
    const wanted = { prompt, maxTokens: options.window === undefined ? maxTokens : undefined };
    using model = await loadWith(args, io, (running) => load(path, wanted, running));
    const draftPath = args.text("draft");
    using draft =
      draftPath === undefined ? undefined : await loadWith(args, io, (running) => loadDraft(draftPath, model, running));
    const guessing = draft ? { speculate: { draft } } : given({ speculate });
    const how = { ...options, ...guessing, signal: io.signal };
    const generation = suffix === undefined ? model.generate(prompt, how) : model.infill(prompt, suffix, how);
    await stream(prompt, generation, json ? silence : io.stdout);
    const result = generation.result!;
    if (json) io.stdout.write(`${JSON.stringify(reportOf(result, model.loadMs))}\n`);
    else tell(result, model, args, io);
  },
});

interface Wanted {
  readonly prompt: string;
  /** Undefined where the trained context is enough for as many as there will be. */
  readonly maxTokens: number | undefined;
}

/**
 * Loads a model with a context for the prompt and the tokens asked for: the trained one, or a longer one if need be.
 */
async function load(path: string, { prompt, maxTokens = 0 }: Wanted, options: ModelOptions): Promise<Model> {
  const started = performance.now();
  const index = await readModel(path, options);
  const tokenizer = tokenizerOf(options.tokenizer ?? path, index.vocabulary);
  const trained = index.config.contextLength;
  const { length } = promptTokens(tokenizer, prompt);
  if (length > trained) {
    throw new CriaError(
      "ERR_CRIA_CONTEXT",
      `--prompt: must be at most ${trained} tokens, the context that the model was trained with, not ${length}`,
    );
  }
  // The last token that is chosen is not read.
  const contextLength = Math.max(trained, length + maxTokens - 1);
  return loadIndexed(index, tokenizer, { ...options, contextLength }, started);
}

/** Within the context that it was trained with: past it, it guesses nothing. */
async function loadDraft(path: string, { config, runtime, tokenizer }: Model, options: ModelOptions): Promise<Model> {
  const index = await readModel(path, options);
  const { vocab, contextLength } = index.config;
  if (vocab !== config.vocab) {
    throw new CriaFileError(path, undefined, `must have ${config.vocab} tokens, as the model has, not ${vocab}`);
  }
  return loadIndexed(index, tokenizer, {
    ...options,
    adapters: [], // they are the model's
    mergeAdapters: false,
    contextLength: Math.min(contextLength, runtime.contextLength),
  });
}

/** Without a draft. */
function speculateOf(args: Arguments<"speculate" | "draft" | "window">): "prompt" | undefined {
  const speculate = args.text("speculate");
  const guessing = (["speculate", "draft"] as const).find((option) => args.text(option) !== undefined);
  if (guessing !== undefined && args.flag("window"))
    throw new UsageError(`--window: must not be given with --${guessing}`);
  if (speculate === undefined) return undefined;
  if (speculate !== "prompt") throw new UsageError(`--speculate: must be prompt, not ${JSON.stringify(speculate)}`);
  if (args.text("draft") !== undefined) throw new UsageError("--draft: must not be given with --speculate");
  return speculate;
}

const silence: Output = { write: () => undefined };

async function stream(prompt: string, pieces: AsyncIterable<string>, output: Output): Promise<void> {
  if (output.isTTY) writeText(output, prompt);
  try {
    for await (const piece of pieces) writeText(output, piece);
  } finally {
    if (output.isTTY) output.write("\n");
  }
}

/** What `--json` prints. */
export const reportOf = ({ text, tokens, timings, ...rest }: GenerationResult, loadMs: number) => ({
  text,
  tokens: tokens.length,
  tokenIds: tokens,
  ...rest,
  timings: { loadMs, ...timings },
});

const reasons: Readonly<Record<FinishReason, string>> = {
  eos: "the text ended",
  length: "as many as asked for",
  context: "the context is full",
  stop: "a stop string or token came",
  aborted: "stopped",
};

/** The last line, for people. */
function tell(result: GenerationResult, model: Model, args: Arguments<keyof typeof runningOptions>, io: Io): void {
  const { tokens, promptTokens, finishReason, speculation, seed, timings } = result;
  const rate = (tokensPerSecond: number) => `${tokensPerSecond.toFixed(1)} tokens/s`;
  const guesses = speculation ? `${speculation.accepted} of ${speculation.proposed} guesses right, ` : "";
  io.stderr.write(
    `cria: ${tokens.length} tokens (${reasons[finishReason]}) at ${rate(timings.decodeTokensPerSecond)}, ` +
      `${guesses}prompt of ${promptTokens} at ${rate(timings.prefillTokensPerSecond)}, loaded in ${(model.loadMs / 1e3).toFixed(2)} s; ` +
      `${ranOn(model.device, args)}, seed ${seed}\n`,
  );
}

/** What computed; of the CPU, where `--device auto` was asked for, why it is that. */
function ranOn({ info, withoutGpu }: Device, args: Arguments<keyof typeof runningOptions>): string {
  if (info.kind !== "cpu") return info.name;
  const { isa, threads } = info;
  const cpu = `cpu, ${isa}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
  return args.text("device") === "auto" ? `${cpu} (${whyCpu(args, withoutGpu)})` : cpu;
}

function whyCpu(args: Arguments<keyof typeof runningOptions>, withoutGpu: CriaError | undefined): string {
  const given = (["isa", "threads"] as const).find((option) => args.text(option) !== undefined);
  if (given !== undefined) return `--${given} is of the CPU`;
  return withoutGpu?.message ?? "the file is packed for it";
}
