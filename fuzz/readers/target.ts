/** A reader that is fuzzed. */
export interface Target {
  /** Names and words that stand in its inputs. */
  readonly dictionary: readonly string[];
  /** What an input stands for where the two differ: a mutation cannot make a checksum good. */
  complete?(input: Uint8Array): Uint8Array;
  /**
   * Reads the input, which also stands in a file. It may fail as cria's functions do.
   *
   * @throws whatever the reader throws, and Finding
   */
  run(input: Uint8Array, path: string): Promise<void>;
}

/** Something that must not be, found by a target itself. */
export class Finding extends Error {
  override readonly name = "Finding";
}

/** Whether an error is one that a caller may see: typed, with a code, and no fault of cria's own. */
export function isExpected(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return typeof code === "string" && code.startsWith("ERR_CRIA_") && code !== "ERR_CRIA_INTERNAL";
}
