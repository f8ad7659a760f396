/** Embedding: rows of a q4_0 table, from places all over it. */
import { embed as embedRows } from "../../lib/kernels.js";
import { native } from "../../lib/native.js";
import type { LlamaConfig } from "../../lib/weights/source.js";
import { shapes } from "../shapes.js";
import { scattered } from "../tokens.js";
import { moved, type Op, type Operands, type Problem, programOf, randomMatrix, uncachedBatch } from "./op.js";
import { randomWeights } from "./random.js";

export const embed: Op = {
  name: "embed",
  problems: (model, tokens) => tokens.map((count) => problem(model, shapes[model]!, count)),
};

/** Rows and tokens of the cut. */
const cut = { rows: 40, tokens: 19 };

/** Bytes of a token: of each superblock of 64 columns 9 cache lines read, for it holds 16 rows, and floats written. */
const embedBytes = (dim: number): number => Math.ceil(dim / 64) * 9 * 64 + 4 * dim;

function problem(model: string, { dim, vocab }: LlamaConfig, tokens: number): Problem {
  return {
    shape: `${model}.dim`,
    tokens,
    format: "q4_0",
    work: moved(embedBytes(dim) * tokens, "9 cache lines of each 64 columns read, 4 bytes an element written"),
    operands: async (device): Promise<Operands> => {
      const table = await randomMatrix(device, "q4_0", vocab, dim);
      const batch = uncachedBatch(tokens);
      batch.tokens = batch.tokens.map((row) => scattered(row, { vocab }));
      return {
        repeated: (runner, _, times) =>
          programOf(
            runner,
            (program) => {
              const out = program.value("tokens", dim);
              for (let i = 0; i < times; i++) program.embed(table, out);
            },
            batch,
          ),
        [Symbol.dispose]: () => native.free(table),
      };
    },
    result: async (execution) => {
      using table = await randomWeights("q4_0", cut.rows, dim);
      const count = Math.min(tokens, cut.tokens);
      const out = new Float32Array(count * dim);
      embedRows({ table, tokens: Int32Array.from({ length: count }, (_, i) => (i * 7) % cut.rows), out, ...execution });
      return out;
    },
  };
}
