import { tokenizerOf } from "../text/tokenizer.js";
import { readVocabulary } from "../weights/model-file.js";
import { command } from "./command.js";
import { runningOptions } from "./running.js";

export const tokenize = command({
  name: "tokenize",
  operand: "MODEL",
  about: "Prints the ids of a text's tokens, without BOS. The file needs a vocabulary, and no weights.",
  options: {
    tokenizer: runningOptions.tokenizer,
    text: { value: "T", help: "the text; one that begins with a dash as --text=-T" },
  },
  async run(args, io) {
    const model = args.requiredModel();
    const path = args.text("tokenizer") ?? model;
    const text = args.requiredText("text");
    const ids = [...tokenizerOf(path, await readVocabulary(path)).encode(text)];
    io.stdout.write(`${args.flag("json") ? JSON.stringify(ids) : ids.join(" ")}\n`);
  },
});
