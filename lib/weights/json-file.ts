import { stat } from "node:fs/promises";

import { CriaFileError, show } from "../errors.js";
import { readWhole } from "./open.js";

/**
 * The longest JSON file that is read, unless its reader knows of longer ones. Those of a model have some hundred KB.
 */
const usualMostBytes = 8 * 2 ** 20;

/**
 * Reads a JSON file that holds an object, such as the `config.json` of a model.
 *
 * @param subject what of a model the file is, for errors
 * @throws CriaFileError where it cannot be read, is longer than `mostBytes`, no UTF-8, no JSON, or no object
 */
export async function readJsonFile(
  path: string,
  subject?: string,
  mostBytes: number = usualMostBytes,
): Promise<JsonKeys> {
  const text = await readTextFile(path, mostBytes, subject);
  const value = parseJson(path, subject, text);
  if (!isObject(value)) throw new CriaFileError(path, subject, `must hold a JSON object, not ${show(value)}`);
  return new JsonKeys(path, value);
}

/**
 * Reads a text file.
 *
 * @throws CriaFileError where it cannot be read, is longer than `mostBytes`, or no UTF-8
 */
export async function readTextFile(path: string, mostBytes: number, subject?: string): Promise<string> {
  const bytes = await readWhole(path, mostBytes, subject);
  return decodeUtf8(bytes, () => new CriaFileError(path, subject, "must be UTF-8 throughout"));
}

/** As {@link readJsonFile}; undefined where there is no such file. */
export async function readOptionalJsonFile(path: string): Promise<JsonKeys | undefined> {
  return (await exists(path)) ? await readJsonFile(path) : undefined;
}

/** Whether there is anything of that name. */
export async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}

/** @param fail makes the error of bytes that are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array, fail: () => CriaFileError): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw fail();
  }
}

function parseJson(path: string, subject: string | undefined, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { message } = cause as SyntaxError;
    throw new CriaFileError(path, subject, `must be JSON: ${message}`, "ERR_CRIA_FILE", { cause });
  }
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * The keys of a JSON object, read by type. A getter takes the value of a key that may be absent, or null, as its last
 * argument; without one, the key must be there. Each throws a CriaFileError that names the key, what it was and what
 * was expected.
 */
export class JsonKeys {
  /** @param within the key of the object itself, with a point after it, where it is another's value */
  constructor(
    readonly file: string,
    readonly values: Readonly<Record<string, unknown>>,
    private readonly within: string = "",
  ) {}

  /** A value as it is; undefined where it is absent or null. What an object inherits is no key of it. */
  value(key: string): unknown {
    return Object.hasOwn(this.values, key) ? (this.values[key] ?? undefined) : undefined;
  }

  has(key: string): boolean {
    return this.value(key) !== undefined;
  }

  /** The keys and their values, as they are. */
  entries(): [key: string, value: unknown][] {
    return Object.entries(this.values);
  }

  /** An integer in [min, max]. */
  integer<Absent = never>(key: string, min: number, max: number, ...absent: Absent[]): number | Absent {
    const accepts = (value: unknown): value is number => Number.isInteger(value) && within(value as number, min, max);
    return this.read(key, `an integer from ${min} to ${max}`, absent, accepts);
  }

  /** A number that `accepts` says yes to; `expected` puts that in words. */
  float<Absent = never>(
    key: string,
    expected: string,
    accepts: (x: number) => boolean,
    ...absent: Absent[]
  ): number | Absent {
    return this.read(key, expected, absent, (value) => typeof value === "number" && accepts(value));
  }

  boolean<Absent = never>(key: string, ...absent: Absent[]): boolean | Absent {
    return this.read(key, "true or false", absent, (value) => typeof value === "boolean");
  }

  string<Absent = never>(key: string, ...absent: Absent[]): string | Absent {
    return this.read(key, "a string", absent, (value) => typeof value === "string");
  }

  array<Absent = never>(key: string, ...absent: Absent[]): readonly unknown[] | Absent {
    return this.read(key, "an array", absent, Array.isArray);
  }

  object<Absent = never>(key: string, ...absent: Absent[]): JsonKeys | Absent {
    const value = this.read(key, "an object", absent, isObject);
    return isObject(value) && this.value(key) === value
      ? new JsonKeys(this.file, value, `${this.within}${key}.`)
      : (value as Absent);
  }

  error(key: string, problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError {
    return new CriaFileError(this.file, `${this.within}${key}`, problem, code);
  }

  private read<T, Absent>(
    key: string,
    expected: string,
    absent: readonly Absent[],
    accepts: ((value: unknown) => value is T) | ((value: unknown) => boolean),
  ): T | Absent {
    const value = this.value(key);
    if (value === undefined) {
      if (absent.length > 0) return absent[0] as Absent;
      throw this.error(key, `must be ${expected}, but is missing`);
    }
    if (!accepts(value)) throw this.error(key, `must be ${expected}, not ${show(value)}`);
    return value as T;
  }
}

const within = (x: number, min: number, max: number) => x >= min && x <= max;
