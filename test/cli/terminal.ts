import { type ChildProcess, spawn } from "node:child_process";
import { onTestFinished } from "vitest";

/** Copies its stdin to a terminal of the program's own, and what the program writes there to its stdout. */
const behindTerminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

/** A program at a terminal of its own, and what a person sees of it there. */
export class Terminal {
  readonly #child: ChildProcess;
  #seen = "";
  #read = 0;
  #wake: () => void = () => undefined;
  readonly #ended: Promise<number | null>;

  constructor(program: string, args: readonly string[]) {
    const env = { ...process.env, TERM: "xterm", NODE_NO_WARNINGS: "1" };
    this.#child = spawn("python3", ["-c", behindTerminal, program, ...args], { env });
    this.#child.stdout!.setEncoding("utf8").on("data", (text: string) => {
      this.#seen += text;
      this.#wake();
    });
    this.#ended = new Promise((resolve) => this.#child.on("close", resolve));
    onTestFinished(() => void this.#child.kill("SIGKILL"));
  }

  /** Types keys: "\r" is Enter, "\x03" Ctrl-C, "\x04" Ctrl-D. */
  type(keys: string): void {
    this.#child.stdin!.write(keys);
  }

  /** Waits for something that has not been seen before; returns all up to its end. Escape sequences are left out. */
  async see(wanted: string | RegExp, ms: number = 20_000): Promise<string> {
    const deadline = performance.now() + ms;
    for (;;) {
      const text = plain(this.#seen).slice(this.#read);
      const found = typeof wanted === "string" ? { index: text.indexOf(wanted), 0: wanted } : wanted.exec(text);
      if (found !== null && found.index !== undefined && found.index >= 0) {
        const end = found.index + found[0].length;
        this.#read += end;
        return text.slice(0, end);
      }
      if (performance.now() > deadline) throw new Error(`${wanted} was not seen, but ${JSON.stringify(text)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 200);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Its exit code. */
  ended(): Promise<number | null> {
    return this.#ended;
  }
}

/** Without ECMA-48's control sequences, and with one kind of line's end. */
const plain = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what they begin with
  text.replace(/\x1b\[[0-?]*[ -/]*[@-~]/g, "").replace(/\r+\n/g, "\n");
