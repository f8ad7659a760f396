/** What can go wrong. Every error that cria throws on purpose has one of these as its `code`. */
export type ErrorCode =
  | "ERR_CRIA_ARGUMENT" // an argument is of the wrong type (a TypeError) or outside its range (a RangeError)
  | "ERR_CRIA_FILE" // a file cannot be opened or read, or is not what its format says
  | "ERR_CRIA_UNSUPPORTED" // a sound file or a sensible wish that this version or this machine cannot serve
  | "ERR_CRIA_MEMORY" // the machine has not the memory that was asked for
  | "ERR_CRIA_CONTEXT" // a prompt, or a prompt and what should follow it, exceeds the context
  | "ERR_CRIA_CACHE_FULL" // the KV pool has no block left
  | "ERR_CRIA_STATE" // the object cannot do that now: it is at other work, was used up, or is not ready yet
  | "ERR_CRIA_DISPOSED" // the object was disposed
  | "ERR_CRIA_ABORTED" // a signal stopped the work
  | "ERR_CRIA_TEMPLATE" // a chat template cannot be run, or refuses the messages
  | "ERR_CRIA_NUMBERS" // a model computes no numbers: weights are NaN, beyond their type's range, or too large
  | "ERR_CRIA_DEVICE" // the GPU failed, and cannot be used any more in this process
  | "ERR_CRIA_LOAD" // the native addon cannot be loaded
  | "ERR_CRIA_INTERNAL"; // a fault of cria itself

/** An error with a `code`. Wrong arguments are TypeErrors and RangeErrors instead, with the code ERR_CRIA_ARGUMENT. */
export class CriaError extends Error {
  override readonly name: string = "CriaError";

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A file that is not what its format, or a model, needs it to be. */
export class CriaFileError extends CriaError {
  override readonly name: string = "CriaFileError";

  /**
   * @param file the file's path
   * @param subject the key or tensor at fault, if it is one
   * @param problem what it was and what was expected, as "must be X, not Y" or another predicate
   */
  constructor(
    readonly file: string,
    readonly subject: string | undefined,
    problem: string,
    code: "ERR_CRIA_FILE" | "ERR_CRIA_UNSUPPORTED" = "ERR_CRIA_FILE",
    options?: ErrorOptions,
  ) {
    const where = subject === undefined ? file : `${file}: ${subject}`;
    super(code, escaped(`${where}: ${problem}`), options);
  }
}

/** Files are quoted, and messages go to terminals and to logs: control characters are written as JSON writes them. */
const escaped = (message: string): string =>
  message.replace(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The error of logits of which none is above -Infinity, as when all are NaN. */
export const noNumbers = (): CriaError =>
  new CriaError(
    "ERR_CRIA_NUMBERS",
    "logits: must hold a number above -Infinity, not only NaN: the weights are damaged",
  );

/** The error of work that a signal stopped. `work`: "the loading" */
export const aborted = (work: string, signal: AbortSignal): CriaError =>
  new CriaError("ERR_CRIA_ABORTED", `${work} was cancelled`, { cause: signal.reason });

/** An argument as an error message shows it: strings quoted, long ones cut, objects by their class. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "object" && value !== null) return className(value);
  if (typeof value === "function") return "a function";
  return String(value);
}

/** An object's class, whatever the object does to hide it: an error is told of, not another one thrown. */
function className(value: object): string {
  try {
    const name: unknown = value.constructor?.name;
    if (typeof name === "string" && name !== "") return name;
  } catch {
    // a getter that throws, or a proxy that was revoked
  }
  return "an object";
}

const withCode = <E extends Error>(error: E): E & { code: ErrorCode } =>
  Object.assign(error, { code: "ERR_CRIA_ARGUMENT" as const });

/** An argument that is wrong in another way than what it must be; `message` begins with its name. */
export const wrongArgument = (message: string): TypeError => withCode(new TypeError(message));

/** "NAME: must be EXPECTED, not ACTUAL", for a value of the wrong type. */
export const wrongType = (name: string, expected: string, actual: unknown): TypeError =>
  withCode(new TypeError(`${name}: must be ${expected}, not ${show(actual)}`));

/** "NAME: must be EXPECTED, not ACTUAL", for a value of the right type outside its range. */
export const outOfRange = (name: string, expected: string, actual: unknown): RangeError =>
  withCode(new RangeError(`${name}: must be ${expected}, not ${show(actual)}`));

/** Returns `value` if it is a safe integer in [min, max]; throws otherwise. */
export function integer(name: string, value: unknown, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== "number") throw wrongType(name, "a number", value);
  if (!Number.isSafeInteger(value) || value < min || value > max) {
    // The largest that numbers count to is worth a word only to who went past it.
    const open = max === Number.MAX_SAFE_INTEGER && !(value > max);
    throw outOfRange(name, open ? `an integer of at least ${min}` : `an integer from ${min} to ${max}`, value);
  }
  return value;
}

/** Returns `value` if it is a number in [min, max]; throws otherwise, for NaN too. */
export function finite(name: string, value: unknown, min: number, max: number = Number.MAX_VALUE): number {
  if (typeof value !== "number") throw wrongType(name, "a number", value);
  if (!(value >= min && value <= max)) {
    throw outOfRange(name, rangeOf(min, max), value);
  }
  return value;
}

function rangeOf(min: number, max: number): string {
  if (max !== Number.MAX_VALUE) return `a number from ${min} to ${max}`;
  return min === -Number.MAX_VALUE ? "a finite number" : `a number of at least ${min}`;
}
