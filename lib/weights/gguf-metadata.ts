import { CriaFileError, show } from "../errors.js";
import type { GgufValue } from "./gguf-header.js";

const integerTypes: readonly string[] = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64"];
const floatTypes: readonly string[] = ["f32", "f64"];

/** A value as an error message shows it. */
function describe(value: GgufValue): string {
  return value.type === "array" ? `an array of ${value.element}` : `${show(value.value)} (${value.type})`;
}

/**
 * A GGUF file's keys, read by type. A getter takes the value of a key that may be absent as its last argument; without
 * one, the key must be there. Each throws a CriaFileError that names the key, what it was and what was expected.
 */
export class GgufMetadata {
  constructor(
    readonly file: string,
    readonly entries: ReadonlyMap<string, GgufValue>,
  ) {}

  /** An integer of any of GGUF's widths, in [min, max]. */
  integer<Absent = never>(key: string, min: number, max: number, ...absent: Absent[]): number | Absent {
    return this.read(key, `an integer from ${min} to ${max}`, absent, ({ type, value }) => {
      const number = integerTypes.includes(type) ? Number(value) : Number.NaN;
      return number >= min && number <= max ? number : undefined;
    });
  }

  /** An f32 or f64 that `accepts` says yes to; `expected` puts that in words. */
  float<Absent = never>(
    key: string,
    expected: string,
    accepts: (x: number) => boolean,
    ...absent: Absent[]
  ): number | Absent {
    return this.read(key, expected, absent, ({ type, value }) =>
      floatTypes.includes(type) && accepts(Number(value)) ? Number(value) : undefined,
    );
  }

  boolean<Absent = never>(key: string, ...absent: Absent[]): boolean | Absent {
    return this.read(key, "a bool", absent, (it) => (it.type === "bool" ? it.value : undefined));
  }

  string<Absent = never>(key: string, ...absent: Absent[]): string | Absent {
    return this.read(key, "a string", absent, (it) => (it.type === "string" ? it.value : undefined));
  }

  strings(key: string): readonly string[] {
    return this.read(key, "an array of strings", [], (it) =>
      it.type === "array" && it.element === "string" ? it.value : undefined,
    );
  }

  /** An array of f32. */
  floats(key: string): Float32Array {
    return this.read(key, "an array of f32", [], (it) =>
      it.type === "array" && it.value instanceof Float32Array ? it.value : undefined,
    );
  }

  /** An array of i32 or u32. */
  integers(key: string): Int32Array | Uint32Array {
    return this.read(key, "an array of i32", [], (it) =>
      it.type === "array" && (it.value instanceof Int32Array || it.value instanceof Uint32Array) ? it.value : undefined,
    );
  }

  error(key: string, problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError {
    return new CriaFileError(this.file, key, problem, code);
  }

  private read<T, Absent>(
    key: string,
    expected: string,
    absent: readonly Absent[],
    convert: (value: GgufValue) => T | undefined,
  ): T | Absent {
    const value = this.entries.get(key);
    if (value === undefined) {
      if (absent.length > 0) return absent[0] as Absent;
      throw this.error(key, `must be ${expected}, but is missing`);
    }
    const converted = convert(value);
    if (converted === undefined) throw this.error(key, `must be ${expected}, not ${describe(value)}`);
    return converted;
  }
}
