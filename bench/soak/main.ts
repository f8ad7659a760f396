import { Arguments, UsageError } from "../../lib/cli/arguments.js";
import { columns } from "../../lib/cli/command.js";
import { Progress } from "../../lib/cli/io.js";
import { integer } from "../../lib/errors.js";
import { Replacement } from "../../lib/files.js";
import { soak } from "./soak.js";
import { phaseText } from "./text.js";

const options = {
  loads: { value: "N", help: "times that a model is loaded and disposed of; 10000 by default" },
  steps: { value: "N", help: "steps that models take; 1000000 by default" },
  seed: { value: "N", help: "of what happens by chance, but for the moments of aborts; 1 by default" },
  json: { value: "FILE", help: "write the amounts to a file too, with machine, date, commit and command" },
  help: { help: "print this help" },
} as const;

const usage =
  "Usage: npm run soak -- [OPTIONS]\n\n" +
  "Loads and disposes of a model, and runs models with all that callers do and leave undone. Ends with 1 where memory,\n" +
  "handles, descriptors, threads, listeners or blocks of the cache become more and more.\n\nOptions:\n" +
  columns(
    Object.entries(options).map(([name, spec]) => [`--${name}${"value" in spec ? ` ${spec.value}` : ""}`, spec.help]),
  );

/** Whether all amounts were flat. */
async function run(args: Arguments<keyof typeof options>): Promise<boolean> {
  const loads = integer("--loads", args.integer("loads") ?? 10_000, 1);
  const steps = integer("--steps", args.integer("steps") ?? 1_000_000, 1);
  const seed = integer("--seed", args.integer("seed") ?? 1, 0, 2 ** 32 - 1);
  const path = args.text("json");
  await using file = path === undefined ? undefined : await Replacement.open(path);
  using progress = new Progress(process.stderr, "soaking");
  const report = await soak(args.argv, { loads, steps, seed, onProgress: (done, all) => progress.update(done, all) });
  await file?.write(`${JSON.stringify(report)}\n`);
  await file?.finish();
  process.stdout.write(report.phases.map(phaseText).join("\n"));
  return report.phases.every(({ amounts }) => amounts.every(({ flat }) => flat));
}

/** The exit code: 1 where something leaks, 2 where the command line was wrong. */
async function main(argv: readonly string[]): Promise<number> {
  try {
    const args = new Arguments(argv, options, []);
    if (!args.flag("help")) return (await run(args)) ? 0 : 1;
    process.stdout.write(usage);
    return 0;
  } catch (error) {
    if (!(error instanceof UsageError) && (error as NodeJS.ErrnoException).code !== "ERR_CRIA_ARGUMENT") throw error;
    process.stderr.write(`soak: ${(error as Error).message}\nTry: npm run soak -- --help\n`);
    return 2;
  }
}

main(process.argv.slice(2)).then((code) => {
  process.exitCode = code;
});
