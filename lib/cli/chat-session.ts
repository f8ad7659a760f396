import { show, wrongArgument } from "../errors.js";
import { Replacement, writeAll } from "../files.js";
import type { Generation, GenerationResult } from "../generate.js";
import type { GenerateOptions } from "../generate-options.js";
import type { Model } from "../model.js";
import { type ChatMessage, messagesOf } from "../text/chat/messages.js";
import { readText } from "./io.js";

/** A chat as it goes on: what was said, and how the model is asked. */
export class ChatSession {
  readonly #model: Model;
  readonly #options: GenerateOptions & { template?: string };
  #system: string | undefined;
  #messages: readonly ChatMessage[] = [];

  constructor(model: Model, options: GenerateOptions & { template?: string }, system: string | undefined) {
    this.#model = model;
    this.#options = options;
    this.#system = system;
  }

  /** What the system says; none where it is undefined. */
  get system(): string | undefined {
    return this.#system;
  }

  set system(text: string | undefined) {
    this.#system = text;
  }

  /** What was said, the system's message first. */
  get messages(): readonly ChatMessage[] {
    return this.#system === undefined ? this.#messages : [{ role: "system", content: this.#system }, ...this.#messages];
  }

  /** Questions that were answered. */
  get turns(): number {
    return this.#messages.length / 2;
  }

  /**
   * Asks something, and passes on the answer's pieces. An answer that was stopped is kept as far as it came; where none of
   * it came, or it failed, nothing was asked.
   */
  async ask(content: string, output: (piece: string) => void, signal: AbortSignal): Promise<GenerationResult> {
    const question: ChatMessage = { role: "user", content };
    const generation = this.#model.chat([...this.messages, question], { ...this.#options, signal });
    try {
      for await (const piece of generation) output(piece);
    } finally {
      this.#keep(question, generation);
    }
    return generation.result!;
  }

  #keep(question: ChatMessage, { result }: Generation): void {
    if (result === undefined || (result.finishReason === "aborted" && result.text === "")) return;
    this.#messages = [...this.#messages, question, { role: "assistant", content: result.text }];
  }

  /** Forgets the last question and its answer. Returns whether there was one. */
  undo(): boolean {
    const any = this.turns > 0;
    this.#messages = this.#messages.slice(0, -2);
    return any;
  }

  /** Forgets all that was said, but for what the system says. */
  reset(): void {
    this.#messages = [];
  }

  /** @throws CriaFileError where it cannot be written */
  async save(path: string): Promise<void> {
    await using replacement = await Replacement.open(path);
    await writeAll(replacement.file, Buffer.from(`${JSON.stringify(this.messages, null, 2)}\n`), 0);
    await replacement.finish();
  }

  /**
   * Takes over what {@link save} wrote.
   *
   * @throws CriaFileError where it cannot be read, TypeError or RangeError where it is no chat in which all is answered
   */
  async load(path: string): Promise<void> {
    const messages = messagesIn(await readText(path));
    const [first, ...rest] = messages;
    const system = first?.role === "system" ? first.content : undefined;
    const said = system === undefined ? messages : rest;
    if (said.length % 2 !== 0) throw wrongArgument("messages: must end with an answer");
    this.#messages = said;
    this.#system = system;
  }
}

function messagesIn(text: string): readonly ChatMessage[] {
  let messages: unknown;
  try {
    messages = JSON.parse(text);
  } catch {
    throw wrongArgument(`messages: must be JSON, not ${show(text)}`);
  }
  return Array.isArray(messages) && messages.length === 0 ? [] : messagesOf(messages as readonly ChatMessage[]);
}
