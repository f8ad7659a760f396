import { randomBytes } from "node:crypto";

import { unlessAborted } from "../../abort.js";
import { CriaError } from "../../errors.js";
import type { Tokenizer } from "../tokenizer.js";
import { NoReplyError, renderJinja } from "./jinja-thread.js";
import { llama2Tags, refuseTags } from "./llama-2.js";
import { type ChatMessage, refuseInputs } from "./messages.js";
import { type Segment, tokenOf } from "./segments.js";
import type { Prepared, RenderedTemplate } from "./template.js";

/**
 * A chat template as model files have it: a Jinja template over `messages`, as Hugging Face's `apply_chat_template`
 * renders it, in a thread that it can neither leave nor exhaust (jinja-thread.ts).
 *
 * The template sees placeholders in place of the contents, which nobody can guess, with the white space around them;
 * the contents come back into what it has written. So where it writes the name of a control token, or of a user-defined
 * one, that is the token, and where a content has it, it is text. The price is that a template which looks into
 * contents sees none of them. Where it leaves a content out, or changes it otherwise than at its ends, that is an
 * error.
 */
export class JinjaTemplate implements RenderedTemplate {
  readonly name = "jinja";
  readonly immediate = false;
  /** What follows from the template and the vocabulary alone. */
  #answers: WeakMap<Tokenizer, Promise<AnswerForm>> = new WeakMap();

  constructor(readonly source: string) {}

  async prepare(messages: readonly ChatMessage[], tokenizer: Tokenizer, signal?: AbortSignal): Promise<Prepared> {
    refuseInputs(messages, "jinja");
    // It writes Llama 2's tags as text, which contents could have too.
    if (llama2Tags.every((tag) => this.source.includes(tag))) refuseTags(messages);
    const rendered = await this.#render(messages, tokenizer, true, signal);
    const segments = segmentsOf(rendered.restored(messages), tokenizer);
    const form = await unlessAborted(this.#answerForm(tokenizer), signal);
    const first = segments[0];
    const begun = first !== undefined && "token" in first && first.token === tokenizer.bos;
    const bos = tokenizer.addBos && !begun ? tokenOf(tokenizer.bos) : [];
    return { segments: [...bos, ...segments], stops: [], ...form };
  }

  async #render(
    messages: readonly ChatMessage[],
    tokenizer: Tokenizer,
    generate: boolean,
    signal?: AbortSignal,
  ): Promise<Rendered> {
    const secret = randomBytes(16).toString("hex");
    const hidden = messages.map(({ role, content }, i) => ({ role, content: hide(content, placeholder(secret, i)) }));
    const name = (token: number | undefined) => (token === undefined ? "" : tokenizer.piece(token));
    const values = {
      messages: hidden,
      add_generation_prompt: generate,
      bos_token: name(tokenizer.bos),
      eos_token: name(tokenizer.eos),
      tools: null,
      documents: null,
    };
    return new Rendered(await renderJinja({ template: this.source, values }, signal), secret);
  }

  #answerForm(tokenizer: Tokenizer): Promise<AnswerForm> {
    const known = this.#answers.get(tokenizer);
    if (known !== undefined) return known;
    const probed = this.#probe(tokenizer);
    this.#answers.set(tokenizer, probed);
    // What failed is tried anew by the next chat.
    probed.catch(() => this.#answers.delete(tokenizer));
    return probed;
  }

  /**
   * Finds out how the template surrounds an answer, by having it write one; of one that fails, or refuses, nothing is
   * known.
   *
   * @throws NoReplyError where the thread did not get to the end: it might have told of a token that ends the answer
   */
  async #probe(tokenizer: Tokenizer): Promise<AnswerForm> {
    const messages = [
      { role: "user", content: "question" },
      { role: "assistant", content: "answer" },
    ] as const;
    try {
      const asked = await this.#render(messages.slice(0, 1), tokenizer, true);
      const answered = await this.#render(messages, tokenizer, false);
      return answerForm(asked.restored(messages.slice(0, 1)), answered.restored(messages), tokenizer);
    } catch (error) {
      if (!(error instanceof CriaError) || error instanceof NoReplyError) throw error;
      return { stopTokens: [], spaced: false };
    }
  }
}

type AnswerForm = Pick<Prepared, "stopTokens" | "spaced">;

/** A part of what was rendered: the template's own words, or a message's content. */
interface Span {
  readonly text: string;
  /** Of the message. */
  readonly index?: number;
  /** How much of the span before is the content's white space. */
  readonly before?: number;
}

/**
 * What it is that stands for a content. It has what filters escape, change or cut at: what is not whole was not left
 * alone.
 */
const placeholder = (secret: string, index: number): string => `Aa"<&'\n  ${secret}-${index}>'`;

/** A content is all white space where it is shown as it is: it can be no token. */
function hide(content: string, by: string): string {
  const core = content.trim();
  return core === "" ? content : content.replace(core, () => by);
}

class Rendered {
  readonly #text: string;
  readonly #secret: string;

  constructor(text: string, secret: string) {
    this.#text = text;
    this.#secret = secret;
  }

  /**
   * The text with the contents in the places of what stood for them.
   *
   * @throws CriaError ERR_CRIA_TEMPLATE where one is left out or not whole, or the contents come too often
   */
  restored(messages: readonly ChatMessage[]): Span[] {
    const seen = new Set<number>();
    const [before, after] = placeholder(this.#secret, 0).split(`${this.#secret}-0`) as [string, string];
    const pattern = new RegExp(`${escaped(before)}${this.#secret}-(\\d+)${escaped(after)}`);
    // Of a text that is split by a pattern, every second part is what its group has matched.
    const parts = this.#text.split(pattern);
    const spans = parts.map((part, i): Span => {
      if (i % 2 === 0) return { text: part };
      const index = Number(part);
      seen.add(index);
      const content = messages[index]?.content ?? "";
      // White space that the template has left around a content is the content's: it takes no part in a token.
      const before = sharedEnd(parts[i - 1]!, content.slice(0, content.length - content.trimStart().length));
      const after = sharedStart(parts[i + 1]!, content.slice(content.trimEnd().length));
      parts[i + 1] = parts[i + 1]!.slice(after.length);
      return { text: before + content.trim() + after, index, before: before.length };
    });
    spans.forEach(({ before = 0 }, i) => {
      if (before > 0) spans[i - 1] = { text: spans[i - 1]!.text.slice(0, -before) };
    });
    this.#check(messages, seen, spans);
    checkLength(messages, spans);
    return spans.filter(({ text }) => text !== "");
  }

  #check(messages: readonly ChatMessage[], seen: ReadonlySet<number>, spans: readonly Span[]): void {
    const own = spans.filter(({ index }) => index === undefined).map(({ text }) => text.toLowerCase());
    // A few of its digits tell it from anything else that a template writes.
    if (own.some((text) => text.includes(this.#secret.slice(0, 8)))) {
      throw new CriaError("ERR_CRIA_TEMPLATE", "template: must write the messages as they are, but changes one");
    }
    const missing = messages.findIndex(({ content }, i) => content.trim() !== "" && !seen.has(i));
    if (missing >= 0) {
      throw new CriaError("ERR_CRIA_TEMPLATE", `messages[${missing}]: the template leaves it out, or changes it`);
    }
  }
}

/**
 * How many times as long as all contents they may be where the template has written them. One that has a reason to
 * repeat them, as a question after its document, does so once or twice; one without end would make of a short chat more
 * than there is memory for, as its own text is bounded, but not what comes into it.
 */
const mostRepeats = 4;

function checkLength(messages: readonly ChatMessage[], spans: readonly Span[]): void {
  const said = messages.reduce((sum, { content }) => sum + content.length, 0);
  const written = spans.reduce((sum, { text, index }) => sum + (index === undefined ? 0 : text.length), 0);
  if (written <= mostRepeats * said) return;
  throw new CriaError(
    "ERR_CRIA_TEMPLATE",
    `template: must write the messages at most ${mostRepeats} times, not ${Math.ceil(written / said)}`,
  );
}

/** What a text begins with of `of`'s beginning. */
function sharedStart(text: string, of: string): string {
  let length = 0;
  while (length < of.length && text[length] === of[length]) length += 1;
  return of.slice(0, length);
}

/** What it ends with of its end. */
function sharedEnd(text: string, of: string): string {
  let length = 0;
  while (length < of.length && text.at(-1 - length) === of.at(-1 - length)) length += 1;
  return of.slice(of.length - length);
}

const escaped = (text: string): string => text.replace(/[$()*+.?[\\\]^{|}]/g, "\\$&");

/** The template's own markers become tokens; what is between them is one text, whoever wrote it. */
function segmentsOf(spans: readonly Span[], tokenizer: Tokenizer): Segment[] {
  const segments: Segment[] = [];
  let text = "";
  const flush = () => {
    if (text !== "") segments.push({ text });
    text = "";
  };
  for (const segment of markedSpans(spans, tokenizer)) {
    if ("text" in segment) text += segment.text;
    else {
      flush();
      segments.push(segment);
    }
  }
  flush();
  return segments;
}

const markedSpans = (spans: readonly Span[], { markers }: Tokenizer): Segment[] =>
  spans.flatMap(({ text, index }): Segment[] => (index === undefined ? markers.split(text) : [{ text }]));

/** @param asked a question, and what invites its answer; `answered` is the question with its answer */
function answerForm(asked: readonly Span[], answered: readonly Span[], tokenizer: Tokenizer): AnswerForm {
  const at = answered.findIndex(({ index }) => index === 1);
  const textOf = (spans: readonly Span[]) => spans.map(({ text }) => text).join("");
  const spaced = textOf(answered.slice(0, at)) === `${textOf(asked)} `;
  const end = markedSpans(answered.slice(at + 1), tokenizer).find(
    (segment) => "token" in segment || segment.text.trim() !== "",
  );
  const token = end !== undefined && "token" in end ? end.token : undefined;
  const ends = token !== undefined && token !== tokenizer.bos && !tokenizer.ends.includes(token);
  return { stopTokens: ends ? [token] : [], spaced };
}
