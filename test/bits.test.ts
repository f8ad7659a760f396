/**
 * The promise that no setting changes a bit: logits of random models against the scalar kernels' on one thread, past 512
 * keys (attention's splits) and 128 tokens (the products' blocks).
 */
import { beforeAll, describe, test } from "vitest";

import type { CacheOption } from "../lib/cache-types.js";
import { Device, type DeviceOptions } from "../lib/device.js";
import { KvSequence } from "../lib/kv-sequence.js";
import { loadLlama } from "../lib/llama.js";
import { Xoshiro128 } from "../lib/random.js";
import { Runtime } from "../lib/runtime.js";
import type { LlamaConfig, WeightType } from "../lib/weights/source.js";
import { WeightStore } from "../lib/weights/store.js";
import { expectSameBits } from "./support/compare.js";
import { available, scalar } from "./support/isas.js";
import { randomLlama } from "./support/random-weights.js";

const config: LlamaConfig = {
  dim: 64,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  ffn: 96,
  vocab: 40,
  contextLength: 640,
  eps: 1e-5,
  rope: { theta: 1e4, scale: 1, dim: 16, pairing: "adjacent" },
};
const tokens = randomTokens(540, 1);

function randomTokens(count: number, seed: number): Int32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Int32Array.from({ length: count }, () => random.next() % config.vocab);
}

async function load(type: WeightType, cache: CacheOption, options: DeviceOptions = {}): Promise<Runtime> {
  const device = new Device(options);
  const store = new WeightStore(device, randomLlama(config, { seed: 5, type }));
  // The cache has room for the sequences that stand beside the one that is looked at.
  return new Runtime(device, config, await loadLlama(config, store), {
    cache,
    contextLength: 3 * config.contextLength,
  });
}

/** Some tokens of a sequence that a step reads. */
interface Part {
  readonly kv: KvSequence;
  readonly tokens: Int32Array;
}

/** One run over parts of several sequences: the logits after each of their tokens. */
async function step({ pool, program }: Runtime, parts: readonly Part[]): Promise<Float32Array> {
  for (const { kv, tokens } of parts) kv.reserve(tokens.length);
  const flat = (rows: readonly (readonly number[])[]) => Int32Array.from(rows.flat());
  const result = await program.run(pool.cache, {
    tokens: flat(parts.map(({ tokens }) => [...tokens])),
    positions: flat(parts.map(({ kv, tokens }) => Array.from(tokens, (_, i) => kv.length + i))),
    lengths: Int32Array.from(parts, ({ tokens }) => tokens.length),
    pasts: Int32Array.from(parts, ({ kv }) => kv.length),
    blockCounts: Int32Array.from(parts, ({ kv }) => kv.blockTable.length),
    blocks: flat(parts.map(({ kv }) => kv.blockTable)),
    outputs: flat([parts.flatMap(({ tokens }) => [...tokens]).map((_, i) => i)]),
  });
  for (const { kv, tokens } of parts) kv.commit(tokens.length);
  return result;
}

/** The logits after each token, read in chunks of those lengths in turn. */
async function read(runtime: Runtime, lengths: readonly number[]): Promise<Float32Array> {
  using kv = new KvSequence(runtime.pool);
  const logits = new Float32Array(tokens.length * config.vocab);
  for (let from = 0, i = 0; from < tokens.length; i++) {
    const chunk = tokens.subarray(from, from + lengths[i % lengths.length]!);
    logits.set(await step(runtime, [{ kv, tokens: chunk }]), from * config.vocab);
    from += chunk.length;
  }
  return logits;
}

describe.for<[WeightType, CacheOption]>([
  ["q4_0", "f16"],
  ["q8_0", "f16"],
  ["f16", "f16"],
  ["bf16", "f16"],
  ["f32", "f16"],
  ["q8_0", "q8_0"],
  ["f16", { keys: "q8_0", values: "f32" }],
])("%s with a cache of %j: the same logits", ([type, cache]) => {
  let want: Float32Array;
  beforeAll(async () => {
    want = await read(await load(type, cache, scalar), [tokens.length]);
  });

  const executions = available.flatMap((isa) => [1, 2, 3, 5, 8].map((threads) => ({ isa, threads })));
  test.each(executions)("with $isa and $threads threads", async (execution) => {
    expectSameBits(await read(await load(type, cache, execution), [tokens.length]), want);
  });

  test.each([[[1]], [[2]], [[16]], [[127, 1, 129]], [[512, 8]]])("in chunks of %j", async (lengths) => {
    expectSameBits(await read(await load(type, cache), lengths), want);
  });

  const mixed = available.flatMap((isa) =>
    [
      [3, 1],
      [17, 130],
    ].map((lengths) => ({ isa, lengths })),
  );
  test.each(mixed)("with $isa in chunks of $lengths", async ({ isa, lengths }) => {
    expectSameBits(await read(await load(type, cache, { isa }), lengths), want);
  });

  test.each(available)(
    "with %s in one batch with other sequences, of any lengths, before and after it",
    async (isa) => {
      const runtime = await load(type, cache, { isa });
      const [before, mine, after] = [1, 2, 3].map(() => new KvSequence(runtime.pool)) as [
        KvSequence,
        KvSequence,
        KvSequence,
      ];
      const [first, last] = [randomTokens(300, 2), randomTokens(300, 3)];
      const got = new Float32Array(want.length);
      const [lengths, others] = [
        [130, 1, 1, 200, 2, 5, 201],
        [1, 40, 1, 3, 129, 0, 17],
      ];
      for (let i = 0, from = 0; i < lengths.length; i++) {
        const [count, beside] = [lengths[i]!, others[i]!];
        const logits = await step(runtime, [
          { kv: before, tokens: first.subarray(before.length, before.length + beside) },
          { kv: mine, tokens: tokens.subarray(from, from + count) },
          { kv: after, tokens: last.subarray(after.length, after.length + (beside % 7)) },
        ]);
        got.set(logits.subarray(beside * config.vocab, (beside + count) * config.vocab), from * config.vocab);
        from += count;
      }
      expectSameBits(got, want);
    },
  );
});
