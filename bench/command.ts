import { tmpdir } from "node:os";

import { type Arguments, given, UsageError } from "../lib/cli/arguments.js";
import { command } from "../lib/cli/command.js";
import { type Io, Progress } from "../lib/cli/io.js";
import { loadWith, runningOptions } from "../lib/cli/running.js";
import { isas } from "../lib/device.js";
import { CriaError, integer, outOfRange } from "../lib/errors.js";
import { Replacement } from "../lib/files.js";
import type { ModelOptions } from "../lib/model.js";
import { type WeightType, weightFormats } from "../lib/weights/source.js";
import { measureBeside } from "./beside.js";
import { compare, compareText } from "./compare.js";
import { cpu, reportOf } from "./machine.js";
import { mergeReports } from "./merge.js";
import { ops } from "./ops/index.js";
import { mostTokens as mostOpTokens } from "./ops/op.js";
import { measureOps, type OpsOptions, passed } from "./ops.js";
import { writePage } from "./page/page.js";
import { findPeer } from "./peers/peer.js";
import { machineText, modelsText, opText, opTitles, reportText } from "./report.js";
import { readReport } from "./report-file.js";
import type { Report } from "./schema.js";
import { measureServing } from "./serving.js";
import { shapes } from "./shapes.js";
import type { TokensOptions } from "./tokens.js";

const names = (table: object) => Object.keys(table);

/** What `--ops` stands for without names. */
const allOps = "all";

const options = {
  ops: { value: "matmul_q4,…", alone: allOps, help: "measure single ops and no model: these, or without names all" },
  shapes: { value: "7b,…", help: "with --ops: the models whose shapes they have; 7b by default" },
  tokens: { value: "1,…", help: "with --ops: the numbers of tokens; 1,128 by default" },
  shape: { value: names(shapes).join("|"), help: "the shape of random weights; tinyllama by default" },
  format: { value: names(weightFormats).join("|"), help: "their type; q4_0 by default" },
  model: { value: "FILE", help: "a model's file instead of random weights" },
  prompt: { value: "N", help: "tokens of the prompt; 128 by default" },
  gen: { value: "N", help: "tokens generated; 64 by default" },
  context: { value: "N", help: "tokens before those; as many as the prompt's by default" },
  serving: { help: "measure what many sequences at once come to: batches, known prefixes, waiting, the pool" },
  sequences: { value: "N", help: "sequences that are generated together; 1 by default" },
  peer: { value: "PEER", help: "measured in turn, on the same weights: node-llama-cpp, or llama-bench:PATH" },
  "peer-dir": { value: "DIR", help: "where node-llama-cpp is installed; the current folder, or one above, by default" },
  "write-gguf": { value: "FILE", help: "write the random weights as a GGUF file, and measure that" },
  compare: { value: "OLD.json", help: "say what got faster or slower since the report that --json wrote there" },
  report: { value: "FILE", help: "draw the report as an HTML page of its own" },
  from: { value: "OLD.json,…", help: "measure nothing: draw, join or compare the reports that --json wrote there" },
  ...runningOptions,
  threads: {
    ...runningOptions.threads,
    help: `${runningOptions.threads.help}; with --ops several, 1 and those by default`,
  },
  isa: { ...runningOptions.isa, help: `${runningOptions.isa.help}; with --ops several, all but scalar by default` },
  json: {
    value: "FILE|-",
    alone: "-",
    help: "write JSON to a file, or instead of the report to the standard output: alone, with npm run --silent bench -- --json -",
  },
} as const;

type Option = keyof typeof options;

/** Which options make sense only beside another, and which only without it. The others stand with all. */
const conditions: readonly { options: readonly Option[]; must: "only stand with" | "not stand with"; other: Option }[] =
  [
    { options: ["shapes", "tokens"], must: "only stand with", other: "ops" },
    {
      options: ["shape", "format", "model", "prompt", "gen", "context", "sequences"],
      must: "not stand with",
      other: "ops",
    },
    {
      options: ["peer", "peer-dir", "write-gguf", "device", "cache", "cache-size"],
      must: "not stand with",
      other: "ops",
    },
    {
      options: ["ops", "prompt", "gen", "context", "sequences", "peer", "write-gguf", "cache-size"],
      must: "not stand with",
      other: "serving",
    },
    { options: ["shape", "format"], must: "not stand with", other: "model" },
    { options: ["lora", "lora-merge"], must: "only stand with", other: "model" },
    { options: ["lora", "lora-merge"], must: "not stand with", other: "peer" },
    { options: ["peer-dir"], must: "only stand with", other: "peer" },
    {
      options: [
        "ops",
        "serving",
        "shape",
        "format",
        "model",
        "prompt",
        "gen",
        "context",
        "sequences",
        "peer",
        "write-gguf",
      ],
      must: "not stand with",
      other: "from",
    },
    { options: ["threads", "isa", "device", "cache", "cache-size"], must: "not stand with", other: "from" },
  ];

/** @throws UsageError for an option that would be without effect */
function checkConditions(args: BenchArguments): void {
  const given = (option: Option) => args.text(option) !== undefined;
  for (const { options, must, other } of conditions) {
    const stray = given(other) === (must === "only stand with") ? undefined : options.find(given);
    if (stray !== undefined) throw new UsageError(`--${stray}: must ${must} --${other}`);
  }
}

export const bench = command({
  name: "bench",
  about:
    "Measures tokens per second, of a prompt and of a text that follows one, and the share of what the machine can do at\n" +
    "best that they come to. Without --model, random weights are made in memory; with --peer, which needs a file, in one\n" +
    `under ${tmpdir()} that is removed in the end, unless --write-gguf names one that stays. With --ops, measures single ops.`,
  options,
  async run(args, io) {
    checkConditions(args);
    const work = await workOf(args, io);
    const oldPath = args.text("compare");
    const old = oldPath === undefined ? undefined : await readReport(oldPath);
    const path = args.text("json");
    // Before the measuring, for a file that cannot be written should not cost a minute.
    await using file = path === undefined || path === "-" ? undefined : await Replacement.open(path);
    const pagePath = args.text("report");
    await using page = pagePath === undefined ? undefined : await Replacement.open(pagePath);
    const report = await work(path === "-" ? () => undefined : (text) => io.stdout.write(text));
    const json = `${JSON.stringify(report, null, 2)}\n`;
    await file?.write(json);
    await file?.finish();
    await page?.write(writePage(report));
    await page?.finish();
    if (path === "-") io.stdout.write(json);
    if (old !== undefined) {
      // JSON stands alone.
      const changes = compareText(oldPath!, old, compare(old.results, report.results));
      (path === "-" ? io.stderr : io.stdout).write(changes);
    }
    requirePassed(report);
  },
});

/** @throws CriaError where an op gave other bits than the scalar kernel: a fault that no figure makes good */
function requirePassed({ results }: Report): void {
  const failed = results.filter((result) => result.error !== undefined && !passed(result));
  if (failed.length === 0) return;
  const list = failed.map(({ name, isa, threads }) => `${name} (${isa}, ${threads} threads)`).join(", ");
  throw new CriaError("ERR_CRIA_INTERNAL", `ops: must give the scalar kernel's bits, but these did not: ${list}`);
}

type BenchArguments = Arguments<Option>;

/** A kind of measurement, its options checked: it shows what people read, and returns what machines do. */
type Work = (show: (text: string) => void) => Promise<Report>;

async function workOf(args: BenchArguments, io: Io): Promise<Work> {
  const from = args.text("from");
  if (from !== undefined) return await readEach(from, args);
  if (args.flag("serving")) return measureServed(args, io);
  return args.text("ops") === undefined ? measureModel(args, io) : measureEachOp(args, io);
}

/** Reads the reports at once. */
async function readEach(from: string, args: BenchArguments): Promise<Work> {
  const uses = ["report", "json", "compare"] as const;
  if (uses.every((option) => args.text(option) === undefined)) {
    throw new UsageError("--from: must be given with --report, --json or --compare, which say what to do with them");
  }
  const [first, ...others] = await Promise.all(from.split(",").map(readReport));
  const report = mergeReports([first!, ...others]);
  return async () => report;
}

function measureModel(args: BenchArguments, io: Io): Work {
  const wanted = tokensWanted(args);
  return async (show) => {
    const spec = args.text("peer");
    const peer = spec === undefined ? undefined : await findPeer(spec, args.text("peer-dir") ?? ".");
    const { limits, results, ratios } = await loadWith(args, io, (running) =>
      measureBeside(peer, args.text("write-gguf"), { ...onCpu(running), ...wanted }),
    );
    const report = { ...reportOf(args.argv, limits, results), ...(ratios && { ratios }) };
    show(reportText(report));
    return report;
  };
}

function measureServed(args: BenchArguments, io: Io): Work {
  const { shape, format, model } = tokensWanted(args);
  return async (show) => {
    const { limits, results } = await loadWith(args, io, (running) =>
      measureServing({ ...onCpu(running), shape, format, ...given({ model }) }),
    );
    const report = reportOf(args.argv, limits, results);
    show(reportText(report));
    return report;
  };
}

function measureEachOp(args: BenchArguments, io: Io): Work {
  const wanted = opsWanted(args);
  return async (show) => {
    io.catchInterrupts();
    using progress = new Progress(io.stderr, "measuring");
    const shown = (text: string) => {
      progress.clear();
      show(text);
    };
    shown(opTitles());
    const { limits, results } = await measureOps({
      ...wanted,
      signal: io.signal,
      onProgress: (done, total) => progress.update(done, total),
      onResult: (result) => shown(opText(result)),
    });
    const report = reportOf(args.argv, limits, results);
    shown(`\n${modelsText(results)}\n${machineText(report)}`);
    return report;
  };
}

/** What is measured here is a CPU; cria_gpu_check, which needs no Node.js, measures a GPU. */
function onCpu(options: ModelOptions): ModelOptions {
  const { device = "auto" } = options;
  if (device !== "cuda" && device !== "cuda-emulated")
    return device === "auto" ? { ...options, device: "cpu" } : options;
  throw new CriaError("ERR_CRIA_UNSUPPORTED", `device: must be cpu to be measured by bench, not ${device}`);
}

function opsWanted(args: BenchArguments): OpsOptions {
  const { isas: available, threads } = cpu();
  const fast = available.filter((isa) => isa !== "scalar");
  const chosen = listOf("isa", args.text("isa") ?? (fast.length > 0 ? fast : available).join(","), isaNames);
  const wanted = args.text("ops");
  return {
    ops: wanted === allOps ? names(ops) : listOf("ops", wanted!, ops),
    shapes: listOf("shapes", args.text("shapes") ?? "7b", shapes),
    tokens: integersOf(args, "tokens", [1, 128], mostOpTokens),
    isas: isas.filter((isa) => chosen.includes(isa)),
    threads: integersOf(args, "threads", [...new Set([1, threads])], 256).sort((a, b) => a - b),
  };
}

const isaNames = Object.fromEntries(isas.map((isa) => [isa, isa]));

function tokensWanted(args: BenchArguments): TokensOptions {
  const context = args.integer("context");
  if (context !== undefined) integer("context", context, 1, mostTokens);
  return {
    shape: oneOf("shape", args.text("shape") ?? "tinyllama", shapes),
    format: oneOf("format", args.textInCase("format", names(weightFormats)) ?? "q4_0", weightFormats) as WeightType,
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

/** Integers with commas between them, or those by default. */
function integersOf(args: BenchArguments, name: "tokens" | "threads", usual: number[], most: number): number[] {
  const values = args.text(name) === undefined ? usual : args.requiredIntegers(name);
  return values.map((value) => integer(name, value, 1, most));
}

/** What stands between commas, each a name of the table. */
const listOf = (name: string, list: string, table: object) => list.split(",").map((value) => oneOf(name, value, table));
