import { showBytes } from "../bytes.js";
import { Device } from "../device.js";
import { integer } from "../errors.js";
import { checkRuntimeOptions, memoryOf } from "../memory.js";
import type { CacheType } from "../native.js";
import type { Rope } from "../rope-scaling.js";
import type { RuntimeOptions } from "../runtime.js";
import { findTemplate } from "../text/chat/choose.js";
import { readModel } from "../weights/model-file.js";
import { quantisedTypes } from "../weights/quantized.js";
import { type ModelIndex, type TensorInfo, type WeightType, weightBytes } from "../weights/source.js";
import { given } from "./arguments.js";
import { columns, command } from "./command.js";
import { writeText } from "./io.js";
import { cacheOptions, runningOptions } from "./running.js";

export const inspect = command({
  name: "inspect",
  operand: "MODEL",
  about: "Tells what a model's file holds, and what memory it will need. Weights are not read.",
  options: {
    context: { value: "N", help: "tokens that a sequence may have; those that the model was trained with by default" },
    tokenizer: runningOptions.tokenizer,
    quantize: runningOptions.quantize,
    cache: runningOptions.cache,
    "cache-size": runningOptions["cache-size"],
  },
  async run(args, io) {
    const path = args.requiredModel();
    const context = args.integer("context");
    if (context !== undefined) integer("context", context, 1, 2 ** 24);
    const options = { ...given({ contextLength: context }), ...cacheOptions(args) };
    checkRuntimeOptions(options);
    const index = await readModel(
      path,
      given({ tokenizer: args.text("tokenizer"), quantize: args.textInCase("quantize", quantisedTypes) }),
    );
    const description = await describe(index, options);
    writeText(io.stdout, args.flag("json") ? `${JSON.stringify(description)}\n` : forPeople(description));
  },
});

/**
 * Whether the model's files have a chat template, and which `cria chat` would take: "jinja", that one, or one built in.
 */
function chatOf(model: ModelIndex): { own: boolean; template: string | undefined } {
  return { own: model.chatTemplate !== undefined, template: findTemplate(model)?.name };
}

type Description = Awaited<ReturnType<typeof describe>>;

/** What `--json` prints. Sizes are bytes. */
async function describe(index: ModelIndex, options: RuntimeOptions) {
  const { path, format, name, config, vocabulary, tensors } = index;
  const all = [...tensors.values()].map((info) => ({ ...info, bytes: weightBytes(info.type, info.rows, info.cols) }));
  const { bos, eos, unknown, addBos } = vocabulary;
  return {
    path,
    format,
    name,
    config,
    vocabulary: { size: config.vocab, bos, eos, unknown, addBos },
    chat: chatOf(index),
    parameters: all.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
    tensors: byType(all),
    memory: await memory(index, options),
  };
}

/** An estimate for the options, but of the cache for each type that it can have. */
async function memory(index: ModelIndex, options: RuntimeOptions) {
  using device = new Device();
  const cacheOf = async (cache: CacheType) => (await memoryOf(index, { ...options, cache }, device.info)).cache;
  return {
    ...(await memoryOf(index, options, device.info)),
    cache: { q8_0: await cacheOf("q8_0"), f16: await cacheOf("f16"), f32: await cacheOf("f32") },
  };
}

function describeRope({ theta, scale, dim, scaling, divisors, magnitude }: Rope): string {
  const scaled = scaling && `${scaling.type} by ${scaling.factor} from ${scaling.originalContextLength} tokens`;
  const more = [
    scaled,
    divisors && "divisors of its own",
    magnitude && `magnitude ${Number(magnitude.toPrecision(7))}`,
  ];
  return [`theta ${theta}, scale ${scale}, ${dim} dimensions`, ...more.filter(Boolean)].join(", ");
}

function byType(
  tensors: readonly (TensorInfo & { bytes: number })[],
): Partial<Record<WeightType, { count: number; bytes: number }>> {
  const types: Partial<Record<WeightType, { count: number; bytes: number }>> = {};
  for (const { type, bytes } of tensors) {
    types[type] ??= { count: 0, bytes: 0 };
    types[type].count += 1;
    types[type].bytes += bytes;
  }
  return types;
}

/** As people are told of it. */
function describeChat({ own, template }: Description["chat"]): string {
  if (template === undefined) return "none, nor a name that tells of one";
  if (template === "jinja") return "its own";
  return own ? `its own, which is ${template}` : `${template}, by its name`;
}

function forPeople({ path, format, name, config, vocabulary, chat, parameters, tensors, memory }: Description): string {
  const { layers, dim, heads, kvHeads, headDim, ffn, contextLength, eps, rope } = config;
  const sections: [title: string, rows: [string, string][]][] = [
    [
      `${path}: ${format}${name === undefined ? "" : `, ${name}`}`,
      [
        ["layers", `${layers}`],
        ["dimensions", `${dim}`],
        ["heads", `${heads} of ${headDim} dimensions, ${kvHeads} of keys and values`],
        ["feed-forward", `${ffn}`],
        ["context", `${contextLength} tokens`],
        ["vocabulary", `${vocabulary.size} tokens, BOS ${vocabulary.bos ?? "none"}, EOS ${vocabulary.eos ?? "none"}`],
        ["chat template", describeChat(chat)],
        ["RMSNorm", `eps ${Number(eps.toPrecision(7))}`],
        ["RoPE", describeRope(rope)],
        ["parameters", `${parameters}`],
      ],
    ],
    ["tensors", Object.entries(tensors).map(([type, { count, bytes }]) => [type, `${count}, ${showBytes(bytes)}`])],
    [
      "memory",
      [
        ["weights", showBytes(memory.weights) + (memory.mapped > 0 ? ", mapped" : "")],
        [
          `cache of ${memory.cacheTokens} tokens`,
          Object.entries(memory.cache)
            .map(([type, bytes]) => `${showBytes(bytes)} as ${type}`)
            .join(", "),
        ],
        ["activations", showBytes(memory.activations)],
        ["vocabulary", `about ${showBytes(memory.vocabulary)}`],
        ["in all", showBytes(memory.total)],
        ["available", `${showBytes(memory.available)}, ${memory.fits ? "enough" : "too little"}`],
      ],
    ],
  ];
  return sections.map(([title, rows]) => `${title}\n${columns(rows)}`).join("");
}
