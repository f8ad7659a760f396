import { Arguments, type OptionSpec, UsageError } from "./arguments.js";
import type { Io } from "./io.js";

/** A command: what was written after its name, to an exit code. What it throws, its caller reports. */
export type Command = (argv: readonly string[], io: Io) => Promise<number>;

export interface CommandSpec<Name extends string> {
  readonly name: string;
  /** Its operand as the usage line has it; absent where it takes none. */
  readonly operand?: "MODEL" | "[MODEL]" | "MODEL OUT" | "FILE MODEL";
  /** What it does, for its help. */
  readonly about: string;
  readonly options: Readonly<Record<Name, OptionSpec>>;
  run(args: Arguments<Name | "json">, io: Io): Promise<void>;
}

const common = {
  json: { help: "print JSON, for machines" },
  help: { help: "print this help" },
} as const;

/**
 * A command of a table of options: it knows `--json`, unless the table says what it is, and prints its own `--help`.
 */
export function command<Name extends string>(spec: CommandSpec<Name>): Command {
  const { json = common.json, ...options }: Readonly<Record<string, OptionSpec>> = spec.options;
  const table = { ...options, json, help: common.help } as Readonly<Record<Name | keyof typeof common, OptionSpec>>;
  return async (argv, io) => {
    if (asksForHelp(argv)) {
      io.stdout.write(helpOf(spec, table));
      return 0;
    }
    try {
      const args = new Arguments(argv, table, spec.operand?.match(/\w+/g) ?? []);
      await spec.run(args, io);
    } catch (error) {
      throw inOptionNames(error, table);
    }
    return 0;
  };
}

/** Help is given whatever else is wrong. After "--" all are operands. */
function asksForHelp(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).includes("--help");
}

/**
 * The library's options are the command line's in camel case, and its errors begin with the name of the argument at
 * fault, or a field of it: "topK: must be …" is of --top-k, "cache.keys: must be …" of --cache, and the command line's
 * fault.
 */
function inOptionNames(error: unknown, table: object): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code !== "ERR_CRIA_ARGUMENT") return error;
  const [argument = ""] = /^\w+(?=[.:])/.exec(message) ?? [];
  const option = argument.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  return Object.hasOwn(table, option) ? new UsageError(`--${option}${message.slice(argument.length)}`) : error;
}

function helpOf<Name extends string>(
  { name, operand, about }: CommandSpec<Name>,
  table: Readonly<Record<string, OptionSpec>>,
): string {
  const usage = ["cria", name, ...(operand ? [operand] : []), "[OPTIONS]"].join(" ");
  const options = Object.entries(table).map(([option, { value, help }]): [string, string] => [
    `--${option}${value ? ` ${value}` : ""}`,
    help,
  ]);
  return `Usage: ${usage}\n\n${about}\n\nOptions:\n${columns(options)}`;
}

/** Lines of a name and what is said of it, the second column aligned. */
export function columns(rows: readonly (readonly [string, string])[]): string {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `  ${name.padEnd(width)}  ${text}\n`).join("");
}
