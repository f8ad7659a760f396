import { integer } from "../errors.js";
import { loadModel } from "../model.js";
import { measurePerplexity, type Perplexity } from "../perplexity.js";
import { given } from "./arguments.js";
import { columns, command } from "./command.js";
import { Progress, readText } from "./io.js";
import { loadWith, runningOptions } from "./running.js";

export const perplexity = command({
  name: "perplexity",
  operand: "MODEL",
  about:
    "Measures how well a model predicts a text. Of documents with <|endoftext|> between them, each is begun with BOS,\n" +
    "and scored as far as the context goes. Any other text is scored whole, in windows of the context's size.",
  options: {
    file: { value: "F", help: "the text, in UTF-8" },
    context: { value: "N", help: "tokens that the model sees at most; those it was trained with by default" },
    ...runningOptions,
  },
  async run(args, io) {
    const path = args.requiredModel();
    const file = args.requiredText("file");
    const context = args.integer("context");
    if (context !== undefined) integer("context", context, 2, 2 ** 24); // before anything is loaded
    const text = await readText(file);

    using model = await loadWith(args, io, (options) =>
      loadModel(path, { ...options, ...given({ contextLength: context }) }),
    );
    using progress = new Progress(io.stderr, "scoring");
    const result = await measurePerplexity(model, text, {
      ...given({ context }),
      signal: io.signal,
      onProgress: (scored, total) => progress.update(scored, total),
    });
    if (args.flag("json")) io.stdout.write(`${JSON.stringify(result)}\n`);
    else io.stdout.write(columns(perplexityRows(result)));
  },
});

/** What people are told. */
export const perplexityRows = ({ tokens, bytes, nll, perplexity, bitsPerByte }: Perplexity): [string, string][] => [
  ["tokens", String(tokens)],
  ["bytes", String(bytes)],
  ["nll", `${nll.toFixed(2)} nats`],
  ["perplexity", perplexity.toFixed(4)],
  ["bits per byte", bitsPerByte.toFixed(4)],
];
