import { parseArgs } from "node:util";

/** An option without a value is a flag. */
export interface OptionSpec {
  /** What stands for the value in the help: "N". */
  readonly value?: string;
  /** The value where none is given; an option that has none of these needs one. */
  readonly alone?: string;
  /** Whether it may be given several times. */
  readonly multiple?: true;
  readonly help: string;
}

export type OptionTable = Readonly<Record<string, OptionSpec>>;

/** The command line was wrong. The message is for the person who wrote it. */
export class UsageError extends Error {}

/** What was written after a command's name. */
export class Arguments<Name extends string> {
  /** As it was written, for what records it. */
  readonly argv: readonly string[];
  readonly #values: Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;
  readonly #operands: ReadonlyMap<string, string>;

  /**
   * @param operands the names of those that it takes, at most
   * @throws UsageError for an option that is not in the table, or an operand too many
   */
  constructor(argv: readonly string[], table: Readonly<Record<Name, OptionSpec>>, operands: readonly string[]) {
    const { values, positionals } = parse(argv, table);
    const surplus = positionals[operands.length];
    if (surplus !== undefined) {
      const last = operands.at(-1);
      throw new UsageError(
        last === undefined
          ? `${JSON.stringify(surplus)}: must be an option, for the command has no operand`
          : `${last}: must be one file, not also ${JSON.stringify(surplus)}`,
      );
    }
    this.argv = argv;
    this.#values = values;
    this.#operands = new Map(positionals.map((operand, i) => [operands[i]!, operand]));
  }

  /** The model's file. */
  get model(): string | undefined {
    return this.#operands.get("MODEL");
  }

  requiredModel(): string {
    return this.requiredOperand("MODEL");
  }

  requiredOperand(name: "MODEL" | "OUT" | "FILE"): string {
    return required(name, this.#operands.get(name));
  }

  flag(name: Name): boolean {
    return this.#values[name] === true;
  }

  text(name: Name): string | undefined {
    return this.#values[name] as string | undefined;
  }

  requiredText(name: Name): string {
    return required(`--${name}`, this.text(name));
  }

  /** As {@link inCase} has it. */
  textInCase<T extends string>(name: Name, names: readonly T[]): T | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : inCase(text, names);
  }

  integer(name: Name): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseInteger(`--${name}`, text);
  }

  number(name: Name): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : parseNumber(`--${name}`, text);
  }

  /** Of an option that may be given several times. */
  texts(name: Name): string[] | undefined {
    return this.#values[name] as string[] | undefined;
  }

  /** Integers with commas between them. */
  integers(name: Name): number[] | undefined {
    return this.text(name)
      ?.split(",")
      .map((text) => parseInteger(`--${name}`, text.trim()));
  }

  requiredIntegers(name: Name): number[] {
    return required(`--${name}`, this.integers(name));
  }

  /** Of an option that may be given several times: numbers by id, each as "ID=NUMBER". */
  numbersById(name: Name): Map<number, number> | undefined {
    const pairs = this.texts(name)?.map((text): [number, number] => {
      const [id = "", ...number] = text.split("=");
      if (number.length === 0) throw wrong(`--${name}`, "an id and a number, such as 29889=-1.5", text);
      return [parseInteger(`--${name}`, id), parseNumber(`--${name}`, number.join("="))];
    });
    return pairs && new Map(pairs);
  }
}

function parse(argv: readonly string[], table: OptionTable) {
  const options = Object.fromEntries(
    Object.entries(table).map(([name, { value, multiple = false }]) => [
      name,
      { type: value ? ("string" as const) : ("boolean" as const), multiple },
    ]),
  );
  try {
    return parseArgs({ args: joined(argv, table), options, allowPositionals: true });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (!code?.startsWith("ERR_PARSE_ARGS_")) throw error;
    // Of an unknown option Node goes on to say how it could be an operand, which is not what was meant.
    throw new UsageError(message.replace(/\. To specify a positional argument.*$/s, ""));
  }
}

/**
 * Joins to an option, as "--seed=-1", a negative number that follows it, which Node would take for an option of its
 * own, and what the option alone stands for.
 */
function joined(argv: readonly string[], table: OptionTable): string[] {
  const args: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const arg = argv[i]!;
    const next = argv[i + 1];
    const spec = arg.startsWith("--") && Object.hasOwn(table, arg.slice(2)) ? table[arg.slice(2)]! : undefined;
    if (arg === "--") return [...args, ...argv.slice(i)];
    if (spec?.alone !== undefined && (next === undefined || next.startsWith("--"))) args.push(`${arg}=${spec.alone}`);
    else if (spec?.value !== undefined && next !== undefined && /^-[\d.]/.test(next)) args.push(`${arg}=${argv[++i]}`);
    else args.push(arg);
  }
  return args;
}

function parseInteger(name: string, text: string): number {
  if (!/^[+-]?\d+$/.test(text) || !Number.isSafeInteger(Number(text))) throw wrong(name, "an integer", text);
  return Number(text);
}

/** A number, or "-inf". */
function parseNumber(name: string, text: string): number {
  if (/^-inf(inity)?$/i.test(text)) return Number.NEGATIVE_INFINITY;
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw wrong(name, "a number", text);
  return Number(text);
}

function required<T>(name: string, value: T | undefined): T {
  if (value === undefined) throw new UsageError(`${name}: must be given`);
  return value;
}

/**
 * The one of some names that a text is but for the case of its letters: llama.cpp writes Q4_K_M where cria writes
 * q4_K_M. A text that is none stays as it is, for the library to refuse.
 */
export const inCase = <T extends string>(text: string, names: readonly T[]): T =>
  names.find((name) => name.toLowerCase() === text.toLowerCase()) ?? (text as T);

const wrong = (name: string, expected: string, text: string) =>
  new UsageError(`${name}: must be ${expected}, not ${JSON.stringify(text)}`);

/** An object without the properties that are undefined: options not given are then the library's defaults. */
export function given<T extends object>(options: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
