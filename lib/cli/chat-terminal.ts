import { createInterface, type Interface } from "node:readline";

import { CriaError } from "../errors.js";
import type { FinishReason } from "../generate.js";
import { isCommand, runCommand } from "./chat-commands.js";
import { type ChatSession, forgottenNote } from "./chat-session.js";
import { Interruption, type Io, interrupted, visible } from "./io.js";

/** In milliseconds. Lines that follow each other faster were pasted: nobody types them. */
const pasteMs = 30;

const prompts = { first: "> ", more: "… " } as const;

/** A chat of a person at a terminal, until that person ends it. */
export class ChatTerminal {
  readonly #session: ChatSession;
  readonly #io: Io;
  readonly #editor: Interface;
  #closed = false;
  /** What stops the answer in the making. */
  #answer: AbortController | undefined;

  constructor(session: ChatSession, io: Io) {
    this.#session = session;
    this.#io = io;
    const output = io.stdout as NodeJS.WritableStream & typeof io.stdout;
    this.#editor = createInterface({ input: io.stdin, output, terminal: true, historySize: 1000, signal: io.signal });
    this.#editor.once("close", () => {
      this.#closed = true;
    });
    this.#editor.pause();
  }

  /** @throws Interruption where Ctrl-C ended it */
  async run(): Promise<void> {
    const { stdin } = this.#io;
    // While it answers, the terminal itself turns Ctrl-C into a signal; at the prompt, the editor sees it first.
    this.#io.catchInterrupts(() => this.#answer?.abort());
    this.#tell("Ctrl-C stops an answer, Ctrl-D ends, /help tells more.");
    try {
      for (;;) {
        stdin.setRawMode?.(true);
        const text = await this.#read();
        stdin.setRawMode?.(false);
        if (text === undefined) break;
        if (text.trim() === "") continue;
        if (!isCommand(text)) await this.#ask(text.startsWith("//") ? text.slice(1) : text);
        else if (await this.#command(text)) break;
      }
      if (this.#io.signal.aborted) throw this.#io.signal.reason;
    } finally {
      this.#editor.close();
    }
  }

  /** A message, of one line or several; undefined where the person ended it. */
  #read(): Promise<string | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    const editor = this.#editor;
    const lines: string[] = [];
    let flush: NodeJS.Timeout | undefined;
    const prompt = () => {
      editor.setPrompt(lines.length === 0 ? prompts.first : prompts.more);
      editor.prompt(true);
    };
    return new Promise((resolve, reject) => {
      const done = (settle: () => void) => {
        clearTimeout(flush);
        editor.off("line", heard).off("SIGINT", interrupt).off("close", close).pause();
        settle();
      };
      const heard = (line: string) => {
        clearTimeout(flush);
        const goesOn = line.endsWith("\\");
        lines.push(goesOn ? line.slice(0, -1) : line);
        if (goesOn) return prompt();
        flush = setTimeout(() => {
          // A paste that ends within a line leaves it to be finished.
          if (editor.line === "") done(() => resolve(lines.join("\n")));
          else prompt();
        }, pasteMs);
      };
      const interrupt = () => {
        clearTimeout(flush);
        const empty = lines.length === 0 && editor.line === "";
        this.#io.stdout.write("\n");
        if (empty) {
          this.#tell("ended by Ctrl-C");
          return done(() => reject(new Interruption("interrupted", interrupted)));
        }
        lines.length = 0;
        editor.write(null, { ctrl: true, name: "e" }); // to the end of the line,
        editor.write(null, { ctrl: true, name: "u" }); // and away with what is before it
        prompt();
      };
      const close = () => {
        this.#io.stdout.write("\n");
        done(() => resolve(undefined));
      };
      editor.on("line", heard).on("SIGINT", interrupt).on("close", close);
      prompt();
    });
  }

  async #ask(text: string): Promise<void> {
    const { stdout } = this.#io;
    const answer = new AbortController();
    const { forgotten } = this.#session;
    this.#answer = answer;
    let last = "";
    try {
      const signal = AbortSignal.any([answer.signal, this.#io.signal]);
      const output = (piece: string) => {
        last = piece;
        stdout.write(visible(piece));
      };
      const { finishReason } = await this.#session.ask(text, output, signal);
      if (!last.endsWith("\n")) stdout.write("\n");
      const note = notes[finishReason];
      if (note !== undefined) this.#tell(note);
    } catch (error) {
      if (last !== "" && !last.endsWith("\n")) stdout.write("\n");
      if (!answer.signal.aborted) this.#failed(error);
      else this.#tell(last === "" ? "stopped before the answer" : "stopped");
    } finally {
      this.#answer = undefined;
    }
    if (this.#session.forgotten > forgotten) this.#tell(forgottenNote(this.#session));
  }

  /** Returns whether the chat ends with it. */
  async #command(text: string): Promise<boolean> {
    try {
      const { told, ends = false } = await runCommand(this.#session, text);
      if (told !== "") this.#tell(told);
      return ends;
    } catch (error) {
      this.#failed(error);
      return false;
    }
  }

  /** What a person can mend, such as a chat that is longer than the context, ends nothing. */
  #failed(error: unknown): void {
    const { code, message } = error as NodeJS.ErrnoException;
    const fatal = !(error instanceof CriaError) && code !== "ERR_CRIA_ARGUMENT";
    if (fatal || this.#io.signal.aborted) throw error;
    // With a window all that was said was forgotten already.
    const roomier = code === "ERR_CRIA_CONTEXT" && this.#session.turns > 0 && !this.#session.windowed;
    this.#tell(roomier ? `${message}; /undo or /reset makes room` : message);
  }

  #tell(text: string): void {
    this.#io.stderr.write(`${visible(text.trimEnd())}\n`);
  }
}

/** What is worth a word after an answer. */
const notes: Partial<Record<FinishReason, string>> = {
  length: "as long as asked for",
  context: "the context is full; /undo or /reset makes room",
};
