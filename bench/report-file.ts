/** Reports in files, as `--json` writes them. */
import { readText } from "../lib/cli/io.js";
import { CriaFileError } from "../lib/errors.js";
import type { Limits, Machine, Ratio, Report, Result } from "./schema.js";

/**
 * Reads a report that `--json` wrote.
 *
 * @throws CriaFileError ERR_CRIA_FILE where the file cannot be read or is none
 */
export async function readReport(path: string): Promise<Report> {
  const report = parsed(await readText(path));
  if (isReport(report)) return report;
  throw new CriaFileError(path, undefined, "must be a report that cria's bench wrote with --json, of version 1");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether all fields are of their types; numbers that a bench can only have measured above 0 are. */
function isReport(value: unknown): value is Report {
  const { version, date, command, commit, machine, limits, results, ratios } = objectOf<Report>(value);
  return (
    version === 1 &&
    isText(date) &&
    isText(command) &&
    optional(isText)(commit) &&
    isMachine(machine) &&
    areLimits(limits) &&
    areAll(isResult)(results) &&
    optional(areAll(isRatio))(ratios)
  );
}

function isMachine(value: unknown): value is Machine {
  const { processor, cores, memoryBytes, system, node, gpu } = objectOf<Machine>(value);
  return (
    [processor, system].every(isText) &&
    [cores, memoryBytes].every(isNumber) &&
    optional(isText)(node) &&
    optional(isGpu)(gpu)
  );
}

function isGpu(value: unknown): value is NonNullable<Machine["gpu"]> {
  const { capability, cuda, clocks } = objectOf<NonNullable<Machine["gpu"]>>(value);
  return [capability, cuda, clocks].every(isText);
}

function areLimits(value: unknown): value is Limits {
  const { readGBs, copyGBs, fmaGflops, maddubsGops, dpbusdGops, bf16dotGflops, ...tensor } = objectOf<Limits>(value);
  const peaks = [fmaGflops, maddubsGops, dpbusdGops, bf16dotGflops];
  return (
    [readGBs, copyGBs].every(isPositive) &&
    peaks.every(orNull(isPositive)) &&
    [tensor.tensorBf16Gflops, tensor.tensorInt8Gops].every(optional(isPositive))
  );
}

function isResult(value: unknown): value is Result {
  const { name, by, isa, threads, unit, value: median, spread, at, ...others } = objectOf<Result>(value);
  const { limit = null, share = null, samples, micros, bytes, operations, error, model } = others;
  return (
    [name, by, isa, unit].every(isText) &&
    Number.isSafeInteger(threads) &&
    isPositive(median) &&
    isNumber(spread) &&
    spread >= 0 &&
    [limit, share, error ?? null].every(orNull(isNumber)) &&
    [samples, micros, bytes, operations].every(optional(isNumber)) &&
    optional(isText)(model) &&
    optional(isPlace)(at)
  );
}

function isRatio(value: unknown): value is Ratio {
  const { name, peer, isa, threads, value: ratio, at } = objectOf<Ratio>(value);
  return [name, peer, isa].every(isText) && Number.isSafeInteger(threads) && isPositive(ratio) && optional(isPlace)(at);
}

/** Texts and numbers by name. */
function isPlace(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  return Object.values(value).every((part) => isText(part) || isNumber(part));
}

/** Its fields, of whatever types; none of what is no object. */
const objectOf = <T>(value: unknown) => (value ?? {}) as { [Name in keyof T]?: unknown };

const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number";
const isPositive = (value: unknown): value is number => isNumber(value) && value > 0;
const areAll = (is: (value: unknown) => boolean) => (value: unknown) => Array.isArray(value) && value.every(is);
const optional = (is: (value: unknown) => boolean) => (value: unknown) => value === undefined || is(value);
const orNull = (is: (value: unknown) => boolean) => (value: unknown) => value === null || is(value);
