import { llamaValues } from "../llama.js";
import { cacheBytes } from "../model.js";
import { chunkTokens } from "../scheduler.js";
import { readModel } from "../weights/model-file.js";
import { type LlamaConfig, type ModelIndex, type TensorInfo, type WeightType, weightBytes } from "../weights/source.js";
import { columns, command } from "./command.js";

export const inspect = command({
  name: "inspect",
  operand: "MODEL",
  about: "Tells what a model's file holds, and what memory it will need. Weights are not read.",
  options: {},
  async run(args, io) {
    const description = describe(await readModel(args.requiredModel()));
    io.stdout.write(args.flag("json") ? `${JSON.stringify(description)}\n` : forPeople(description));
  },
});

type Description = ReturnType<typeof describe>;

/** What `--json` prints. Sizes are bytes. */
function describe({ path, format, name, config, vocabulary, tensors }: ModelIndex) {
  const all = [...tensors.values()].map((info) => ({ ...info, bytes: weightBytes(info.type, info.rows, info.cols) }));
  const { bos, eos, unknown, addBos } = vocabulary;
  return {
    path,
    format,
    name,
    config,
    vocabulary: { size: config.vocab, bos, eos, unknown, addBos },
    parameters: all.reduce((sum, { rows, cols }) => sum + rows * cols, 0),
    tensors: byType(all),
    memory: {
      weights: all.reduce((sum, { bytes }) => sum + bytes, 0),
      cache: {
        q8_0: cacheBytes(config, "q8_0", config.contextLength),
        f16: cacheBytes(config, "f16", config.contextLength),
        f32: cacheBytes(config, "f32", config.contextLength),
      },
      activations: activationBytes(config),
    },
  };
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

/** The forward pass's float32 values for a full chunk of tokens, and for the output of one. */
function activationBytes(config: LlamaConfig): number {
  const { tokens, outputs } = llamaValues(config);
  const sum = (widths: object) => Object.values(widths).reduce((total, width) => total + width, 0);
  const chunk = Math.min(chunkTokens, config.contextLength);
  return Float32Array.BYTES_PER_ELEMENT * (chunk * sum(tokens) + sum(outputs));
}

function forPeople({ path, format, name, config, vocabulary, parameters, tensors, memory }: Description): string {
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
        ["RMSNorm", `eps ${Number(eps.toPrecision(7))}`],
        ["RoPE", `theta ${rope.theta}, scale ${rope.scale}, ${rope.dim} dimensions`],
        ["parameters", `${parameters}`],
      ],
    ],
    ["tensors", Object.entries(tensors).map(([type, { count, bytes }]) => [type, `${count}, ${size(bytes)}`])],
    [
      "memory",
      [
        ["weights", size(memory.weights)],
        [
          `cache of ${contextLength} tokens`,
          Object.entries(memory.cache)
            .map(([type, bytes]) => `${size(bytes)} as ${type}`)
            .join(", "),
        ],
        ["activations", size(memory.activations)],
      ],
    ],
  ];
  return sections.map(([title, rows]) => `${title}\n${columns(rows)}`).join("");
}

/** In the unit that leaves at least one digit before the point. */
function size(bytes: number): string {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 2)} ${units[power]}`;
}
