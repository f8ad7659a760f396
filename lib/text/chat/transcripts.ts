/** Templates that write a chat down as one text, in which headings say who speaks. */
import type { Tokenizer } from "../tokenizer.js";
import { dialogOf, refuseInputs, type Turn } from "./messages.js";
import { type Segment, tokenOf } from "./segments.js";
import type { ImmediateTemplate } from "./template.js";

interface Transcript {
  readonly name: string;
  /** What the text begins with, where the messages have nothing of the system. */
  readonly system: string | ((turn: Turn) => string);
  /** Between that and the first question. */
  readonly opening: string;
  /** A question, up to where its answer begins. */
  readonly ask: (user: string, input: string | undefined) => string;
  /** Between an answer and the next question: the end of a text, or what joins the two. */
  readonly between: "eos" | string;
  readonly spaced?: boolean;
  readonly stops?: readonly string[];
  /** A piece of the vocabulary that is not EOS and ends an answer. */
  readonly end?: string;
  readonly takesInput?: boolean;
}

function transcript(of: Transcript): ImmediateTemplate {
  const { name, stops = [], spaced = false } = of;
  return {
    name,
    immediate: true,
    prepare(messages, tokenizer) {
      if (!of.takesInput) refuseInputs(messages, name);
      const { system, turns } = dialogOf(messages);
      const preamble = system ?? (typeof of.system === "string" ? of.system : of.system(turns[0]!));
      const end = of.end === undefined ? undefined : tokenizer.find(of.end);
      const segments = segmentsOf(preamble + of.opening, turns, of, tokenizer);
      return { segments, stopTokens: end === undefined ? [] : [end], stops, spaced };
    },
  };
}

function segmentsOf(preamble: string, turns: readonly Turn[], of: Transcript, { bos, eos }: Tokenizer): Segment[] {
  const segments = tokenOf(bos);
  let text = preamble;
  for (const { user, input, assistant } of turns) {
    text += of.ask(user, input);
    if (assistant === undefined) continue;
    // An answer ends with a space of the template's, or right before what follows it.
    text += (of.spaced ? " " : "") + assistant;
    if (of.between === "eos") {
      segments.push({ text }, ...tokenOf(eos));
      text = "";
    } else text += of.between;
  }
  return [...segments, { text }];
}

const instructed =
  "Below is an instruction that describes a task. Write a response that appropriately completes the request.";
const instructedWithInput =
  "Below is an instruction that describes a task, paired with an input that provides further context. " +
  "Write a response that appropriately completes the request.";

/**
 * Stanford Alpaca's (`train.py`, PROMPT_DICT). It was taught one answer a text: further questions follow as the first
 * did, after an empty line.
 */
export const alpaca = transcript({
  name: "alpaca",
  system: ({ input }) => (input === undefined ? instructed : instructedWithInput),
  opening: "\n\n",
  ask: (user, input) =>
    `### Instruction:\n${user}\n\n${input === undefined ? "" : `### Input:\n${input}\n\n`}### Response:`,
  between: "\n\n",
  stops: ["### Instruction:"],
  takesInput: true,
});

/** Databricks Dolly v2's (`instruct_pipeline.py`), also of one answer a text. "### End" is a token of its own there. */
export const dolly = transcript({
  name: "dolly",
  system: instructed,
  opening: "\n\n",
  ask: (user, input) =>
    `### Instruction:\n${user}\n\n${input === undefined ? "" : `Input:\n${input}\n\n`}### Response:\n`,
  between: "\n\n",
  stops: ["### End", "### Instruction:"],
  end: "### End",
  takesInput: true,
});

const assistantOf = (user: string) =>
  `A chat between a curious ${user} and an artificial intelligence assistant. ` +
  `The assistant gives helpful, detailed, and polite answers to the ${user}'s questions.`;

/** Vicuna v0's (FastChat, docs/vicuna_weights_version.md). */
export const vicunaV0 = transcript({
  name: "vicuna-v0",
  system: assistantOf("human"),
  opening: "\n",
  ask: (user) => `### Human: ${user}\n### Assistant:`,
  between: "\n",
  spaced: true,
  stops: ["###"],
});

/** That of Vicuna v1.1 and later (the same page). */
export const vicuna = transcript({
  name: "vicuna",
  system: assistantOf("user"),
  opening: " ",
  ask: (user) => `USER: ${user} ASSISTANT:`,
  between: "eos",
  spaced: true,
});

/** Koala's (EasyLM, docs/koala.md). FastChat puts a space after "GPT:", which is not how it was taught. */
export const koala = transcript({
  name: "koala",
  system: "BEGINNING OF CONVERSATION:",
  opening: " ",
  ask: (user) => `USER: ${user} GPT:`,
  between: "eos",
});

/** Baize's (`demo/app_modules/utils.py`, generate_prompt_with_history). */
export const baize = transcript({
  name: "baize",
  system:
    "The following is a conversation between a human and an AI assistant named Baize (named after a mythical creature in " +
    "Chinese folklore). Baize is an open-source AI assistant developed by UCSD and Sun Yat-Sen University. The human and " +
    "the AI assistant take turns chatting. Human statements start with [|Human|] and AI assistant statements start with " +
    "[|AI|]. The AI assistant always provides responses in as much detail as possible, and in Markdown format. The AI " +
    "assistant always declines to engage with topics, questions and instructions related to unethical, controversial, or " +
    "sensitive issues. Complete the transcript in exactly that format.",
  opening: "\n[|Human|]Hello!\n[|AI|]Hi!\n",
  ask: (user) => `[|Human|]${user}\n[|AI|]`,
  between: "\n",
  stops: ["[|Human|]", "[|AI|]"],
});

/** GPT4All's (its Python binding of 2023); other bindings of it have other white space. */
export const gpt4all = transcript({
  name: "gpt4all",
  system:
    "### Instruction:\nThe prompt below is a question to answer, a task to complete, or a conversation to respond to; " +
    "decide which and write an appropriate response.",
  opening: "\n",
  ask: (user) => `### Prompt:\n${user}\n### Response:\n`,
  between: "\n",
  stops: ["### Prompt:", "### Instruction:", "### Response:"],
});

/** ChatDoctor's (`chat.py`). */
export const chatDoctor = transcript({
  name: "chatdoctor",
  system: "If you are a doctor, please answer the medical questions based on the patient's description. ",
  opening: "\n\nChatDoctor: I am ChatDoctor, what medical questions do you have?\n\n",
  ask: (user) => `Patient: ${user}\n\nChatDoctor: `,
  between: "\n\n",
  stops: ["Patient: "],
});
