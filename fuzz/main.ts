/**
 * Fuzzes cria: `npm run fuzz -- [TARGET...] [options]`. Without targets, all of them, one after another.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { packageRoot } from "../lib/package.js";
import { buildNative, compilerVersion, fuzzNative } from "./native.js";
import { nativeTargets } from "./native-targets.js";
import { readerTargets } from "./readers/targets.js";
import { fuzzReader } from "./readers.js";
import { line, note, type Result } from "./result.js";

export interface FuzzOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Where inputs that were found are kept, and findings. */
  readonly work: string;
  /** Told how it goes. */
  onLine(line: string): void;
}

const natives: readonly string[] = nativeTargets;
const targets = [...Object.keys(readerTargets), ...natives];

const help = `npm run fuzz -- [TARGET...] [options]

  targets: ${targets.join(" ")}

  --seconds N   how long each runs (60)
  --jobs N      how many run at a time (1)
  --seed N      of the mutations (1)
  --json FILE   notes what came of each target there, in the place of its last note
  --seeds       writes the seeds that are made, and runs nothing
  --help

Inputs that are found stay in build/fuzz/corpus, findings in build/fuzz/findings.
Ends with 1 where there is a finding, and with 2 where the command is wrong.
`;

/** What the command line says; where it is wrong, a sentence. */
function readArguments(argv: string[]) {
  try {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        seconds: { type: "string", default: "60" },
        jobs: { type: "string", default: "1" },
        seed: { type: "string", default: "1" },
        json: { type: "string" },
        seeds: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    for (const name of positionals) if (!targets.includes(name)) return `${name}: is no target`;
    for (const name of ["seconds", "jobs", "seed"] as const) {
      const number = Number(values[name]);
      if (!Number.isSafeInteger(number) || number < 1)
        return `--${name}: must be an integer above 0, not ${values[name]}`;
    }
    return { values, positionals };
  } catch (error) {
    return (error as Error).message; // an option that there is not, or one without its value
  }
}

async function main(argv: string[]): Promise<number> {
  const read = readArguments(argv);
  if (typeof read === "string") {
    console.error(`${read}\n\n${help}`);
    return 2;
  }
  const { values, positionals } = read;
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (values.seeds) {
    // An ES module, as the tests' helpers are that it uses.
    await (await import("./seeds.mjs")).writeSeeds();
    return 0;
  }
  const [seconds, jobs, seed] = [Number(values.seconds), Number(values.jobs), Number(values.seed)];
  const wanted = positionals.length > 0 ? positionals : targets;
  const results = await runAll(wanted, { seconds, seed, jobs }, (result) => {
    console.log(line(result));
    const isNative = natives.includes(result.target);
    if (values.json !== undefined) note(values.json, result, argv, isNative ? compilerVersion() : undefined);
  });
  const clean = results.filter(({ findings }) => findings.length === 0).length;
  console.log(`${clean} of ${results.length} targets without a finding`);
  return clean === results.length ? 0 : 1;
}

async function runAll(
  wanted: readonly string[],
  { seconds, seed, jobs }: { seconds: number; seed: number; jobs: number },
  onResult: (result: Result) => void,
): Promise<Result[]> {
  const work = join(packageRoot, "build/fuzz");
  mkdirSync(work, { recursive: true });
  const onLine = (text: string) => {
    if (process.stderr.isTTY) console.error(text);
  };
  const options: FuzzOptions = { seconds, seed, work, onLine };
  const compiled = wanted.filter((name) => natives.includes(name));
  let built: Promise<void> | undefined;
  const fuzz = async (name: string): Promise<Result> => {
    if (!compiled.includes(name)) return fuzzReader(name, options);
    built ??= buildNative(compiled);
    await built;
    return fuzzNative(name, options);
  };
  // Of several jobs one compiles while the others run what needs nothing compiled.
  const queue = [...compiled.slice(0, 1), ...wanted.filter((name) => !compiled.includes(name)), ...compiled.slice(1)];
  const results: Result[] = [];
  const worker = async () => {
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      const result = await fuzz(name);
      results.push(result);
      onResult(result);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return results;
}

void main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
