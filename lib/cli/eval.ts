import { integer } from "../errors.js";
import {
  type ChoiceReport,
  type EvaluateOptions,
  evaluateChoices,
  evaluateTexts,
  parseChoiceItems,
  parseTextItems,
} from "../evaluate.js";
import { loadModel, type Model } from "../model.js";
import { given, UsageError } from "./arguments.js";
import { columns, command } from "./command.js";
import { Progress, readText } from "./io.js";
import { perplexityRows } from "./perplexity.js";
import { loadWith, runningOptions } from "./running.js";

/** Reads a test's items, and says how a model does on them. */
type Task = (file: string, text: string) => (model: Model, options: EvaluateOptions) => Promise<Outcome>;

interface Outcome {
  /** What `--json` prints. */
  readonly report: object;
  /** What people are told. */
  readonly rows: [string, string][];
}

const tasks: Readonly<Record<string, Task>> = {
  choice: (file, text) => {
    const items = parseChoiceItems(file, text);
    return async (model, options) => {
      const report = await evaluateChoices(model, items, options);
      return { report, rows: choiceRows(report) };
    };
  },
  perplexity: (file, text) => {
    const items = parseTextItems(file, text);
    return async (model, options) => {
      const report = await evaluateTexts(model, items, options);
      return { report, rows: [["items", String(report.items)], ...perplexityRows(report)] };
    };
  },
};

function choiceRows({ items, accuracy }: ChoiceReport): [string, string][] {
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  return [
    ["items", String(items)],
    ["right by likelihood", percent(accuracy.sum)],
    ["right by likelihood per character", percent(accuracy.perCharacter)],
    ['right by likelihood over that after "Answer:"', percent(accuracy.normalised)],
  ];
}

export const evaluate = command({
  name: "eval",
  operand: "FILE MODEL",
  about:
    "Tests a model with the items of a JSON Lines file. Of --task choice an item is\n" +
    '{"context": "…", "choices": ["…", …], "answer": INDEX}: the likeliest choice should be the answer. A choice follows\n' +
    'its context as it is, so a word begins with a space. Of --task perplexity an item is {"text": "…"}.',
  options: {
    task: { value: Object.keys(tasks).join("|"), help: "what the items are" },
    context: { value: "N", help: "tokens that the model sees at most; those it was trained with by default" },
    ...runningOptions,
  },
  async run(args, io) {
    const file = args.requiredOperand("FILE");
    const path = args.requiredModel();
    const name = args.requiredText("task");
    if (!Object.hasOwn(tasks, name)) {
      throw new UsageError(`--task: must be ${Object.keys(tasks).join(" or ")}, not ${JSON.stringify(name)}`);
    }
    const context = args.integer("context");
    if (context !== undefined) integer("context", context, 2, 2 ** 24);
    const test = tasks[name]!(file, await readText(file));

    using model = await loadWith(args, io, (options) =>
      loadModel(path, { ...options, ...given({ contextLength: context }) }),
    );
    using progress = new Progress(io.stderr, "testing");
    const { report, rows } = await test(model, {
      signal: io.signal,
      onProgress: (done, total) => progress.update(done, total),
    });
    io.stdout.write(args.flag("json") ? `${JSON.stringify({ task: name, ...report })}\n` : columns(rows));
  },
});
