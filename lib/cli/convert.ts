import { convertModel } from "../convert.js";
import { targetTypes } from "../weights/mixtures.js";
import { given } from "./arguments.js";
import { command } from "./command.js";
import { replaces, writeGguf } from "./quantize.js";
import { runningOptions } from "./running.js";

const { tokenizer, threads } = runningOptions;

export const convert = command({
  name: "convert",
  operand: "MODEL OUT",
  about:
    "Writes any model that cria reads to one GGUF file, which llama.cpp reads too, with its weights as they are.\n" +
    replaces,
  options: {
    type: { value: "TYPE", help: `what its matrices become, if not what they are: ${targetTypes.join(" ")}` },
    tokenizer,
    threads,
  },
  run: (args, io) =>
    writeGguf(
      args,
      io,
      (path, out, options) =>
        convertModel(path, out, { ...options, ...given({ type: args.textInCase("type", targetTypes) }) }),
      "converting",
    ),
});
