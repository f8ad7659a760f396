import { Readable } from "node:stream";

import { main } from "../../lib/cli/commands.js";
import type { Io } from "../../lib/cli/io.js";

export interface Run {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** What stands on stdin. */
  input?: string;
  signal?: AbortSignal;
  /** Whether both outputs are terminals. */
  isTTY?: boolean;
  /** Called with each text that is written to stdout. */
  onOutput?: (text: string) => void;
}

/** Runs the command line in this process. */
export async function cria(argv: readonly string[], options: RunOptions = {}): Promise<Run> {
  const { input = "", signal = new AbortController().signal, isTTY = false, onOutput } = options;
  const run: Run = { code: Number.NaN, stdout: "", stderr: "" };
  const io: Io = {
    stdin: Readable.from(input === "" ? [] : [Buffer.from(input)]),
    stdout: {
      isTTY,
      write: (text) => {
        run.stdout += text;
        onOutput?.(text);
      },
    },
    stderr: {
      isTTY,
      write: (text) => {
        run.stderr += text;
      },
    },
    signal,
    catchInterrupts: () => undefined,
  };
  run.code = await main(argv, io);
  return run;
}

/** What a command that must succeed prints with --json. */
export async function criaJson<T>(...argv: string[]): Promise<T> {
  const { code, stdout, stderr } = await cria([...argv, "--json"]);
  if (code !== 0) throw new Error(`cria ${argv.join(" ")}: exit code ${code}\n${stderr}`);
  return JSON.parse(stdout) as T;
}
