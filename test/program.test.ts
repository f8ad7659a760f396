import { getEventListeners } from "node:events";
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";

import { Device } from "../lib/device.js";
import { add, attention, embed, type KvLayer, matmul, packWeights, rmsNorm, rope, swiGlu } from "../lib/kernels.js";
import { KvPool } from "../lib/kv-pool.js";
import { type NativeBatch, native, type TensorHandle } from "../lib/native.js";
import { type CacheShape, Program } from "../lib/program.js";
import { Xoshiro128 } from "../lib/random.js";
import { expectArgumentError, expectSameBits } from "./support/compare.js";
import { available } from "./support/isas.js";

const device = new Device({ threads: 2 });
const shape: CacheShape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 };
const [heads, vocab, dim, qkvWidth] = [2, 11, 16, 32];
const ropeOptions = { heads, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };

/** Random values from -1 to 1, the same for the same seed. */
function values(count: number, seed: number): Float32Array {
  const random = Xoshiro128.fromSeed(seed);
  return Float32Array.from({ length: count }, () => random.next() / 2 ** 31 - 1);
}

const matrixData = {
  table: { rows: vocab, cols: dim, data: values(vocab * dim, 1) },
  qkv: { rows: qkvWidth, cols: dim, data: values(qkvWidth * dim, 2) },
  gateUp: { rows: 10, cols: dim, data: values(10 * dim, 3) },
  down: { rows: dim, cols: 5, data: values(dim * 5, 4) },
};
const normData = values(dim, 5);

function matrix({ rows, cols, data }: { rows: number; cols: number; data: Float32Array }): TensorHandle {
  const tensor = native.matrixCreate(device.handle, "f32", rows, cols);
  native.tensorPack(tensor, 0, rows, new Uint8Array(data.buffer));
  return tensor;
}

function vector(data: Float32Array): TensorHandle {
  const tensor = native.vectorCreate(device.handle, "f32", data.length);
  native.tensorPack(tensor, 0, 1, new Uint8Array(data.buffer));
  return tensor;
}

const table = matrix(matrixData.table);
const qkvWeight = matrix(matrixData.qkv);
const gateUpWeight = matrix(matrixData.gateUp);
const downWeight = matrix(matrixData.down);
const norm = vector(normData);

/** One layer of a LLaMA, but for the projection of attention's output: every op once. */
function record(on: Device = device): Program {
  const program = new Program(on, shape);
  const x = program.value("tokens", dim);
  const y = program.value("tokens", dim);
  const qkv = program.value("tokens", qkvWidth);
  const selected = program.value("outputs", dim);
  const gateUp = program.value("outputs", 10);
  const hidden = program.value("outputs", 5);
  const result = program.value("outputs", dim);
  program.embed(table, x);
  program.rmsNorm(x, norm, 1e-5, y);
  program.matmul(y, qkvWeight, qkv);
  program.rope(qkv, 0, ropeOptions);
  program.attention(qkv, 0, heads, y);
  program.add(x, y, x);
  program.select(x, selected);
  program.matmul(selected, gateUpWeight, gateUp);
  program.swiGlu(gateUp, hidden);
  program.matmul(hidden, downWeight, result);
  program.finish(result);
  return program;
}

/** Two sequences of 3 and 2 tokens, of which the first follows 14 that the cache holds. */
const batch: NativeBatch = {
  tokens: Int32Array.of(1, 2, 3, 10, 0),
  positions: Int32Array.of(14, 15, 16, 0, 1),
  lengths: Int32Array.of(3, 2),
  pasts: Int32Array.of(14, 0),
  blockCounts: Int32Array.of(2, 1),
  blocks: Int32Array.of(3, 0, 2),
  outputs: Int32Array.of(4, 2),
};

/** What `record` says, kernel by kernel, on a cache of zeros. */
function byKernels(): Float32Array {
  const tokens = batch.tokens.length;
  const floats = (rows: number, width: number) => new Float32Array(rows * width);
  const packed = ({ rows, cols, data }: typeof matrixData.table) => packWeights({ type: "f32", rows, cols, data });
  const [x, y, qkv] = [floats(tokens, dim), floats(tokens, dim), floats(tokens, qkvWidth)];
  const cache: KvLayer = {
    keys: "f32",
    values: "f32",
    blocks: 4,
    kvHeads: 1,
    headDim: 8,
    k: floats(64, 8),
    v: floats(64, 8),
  };
  const sequences = [
    { length: 3, past: 14, blocks: [3, 0] },
    { length: 2, past: 0, blocks: [2] },
  ];
  embed({ table: packed(matrixData.table), tokens: batch.tokens, out: x });
  rmsNorm({ x, weight: normData, eps: 1e-5, out: y });
  matmul({ weight: packed(matrixData.qkv), x: y, out: qkv });
  rope({ qkv, positions: batch.positions, sequences, cache, heads });
  attention({ q: qkv, qStride: qkvWidth, sequences, cache, heads, out: y });
  add({ x, y, out: x });
  const selected = Float32Array.from(
    Array.from(batch.outputs, (row) => [...x.subarray(row * dim, (row + 1) * dim)]).flat(),
  );
  const [gateUp, hidden, result] = [floats(2, 10), floats(2, 5), floats(2, dim)];
  matmul({ weight: packed(matrixData.gateUp), x: selected, out: gateUp });
  swiGlu({ gateUp, dim: 5, out: hidden });
  matmul({ weight: packed(matrixData.down), x: hidden, out: result });
  return result;
}

const newPool = () => new KvPool(device, shape, 64);

test("a gathering takes columns in any order, twice or not at all, and zeros", async () => {
  const columns = Int32Array.of(3, -1, 3, 0, 15, -1, 1);
  const gathered = new Program(device, shape);
  const [x, all] = [gathered.value("tokens", dim), gathered.value("outputs", dim)];
  const out = gathered.value("outputs", columns.length);
  gathered.embed(matrixOf(dim), x);
  gathered.select(x, all);
  gathered.gather(all, columns, out);
  gathered.finish(out);
  const whole = new Program(device, shape);
  const [y, result] = [whole.value("tokens", dim), whole.value("outputs", dim)];
  whole.embed(matrixOf(dim), y);
  whole.select(y, result);
  whole.finish(result);
  const rows = await whole.run(newPool().cache, batch);
  const want = [0, dim].flatMap((row) => Array.from(columns, (c) => (c === -1 ? 0 : rows[row + c]!)));
  expectSameBits(await gathered.run(newPool().cache, batch), Float32Array.from(want));
});

describe("recording a program", () => {
  const program = new Program(device, shape);
  const x = program.value("tokens", dim);
  const other = program.value("tokens", dim);
  const narrow = program.value("tokens", 3);
  const qkv = program.value("tokens", qkvWidth);
  const output = program.value("outputs", dim);
  const unknown = { id: 99, width: dim };
  const tokensOnly = "must be a value with a row for each token, not 4";

  test.each<[string, () => void, Error]>([
    [
      "a value of no width",
      () => program.value("tokens", 0),
      new RangeError("width: must be from 1 to 2^31 - 1, not 0"),
    ],
    [
      "rows of neither kind",
      () => program.value("rows" as never, 1),
      new RangeError('rows: must be one of tokens, outputs, not "rows"'),
    ],
    ["a table of another width", () => program.embed(table, narrow), new RangeError("out: must be 16 wide, not 3")],
    ["a vector as a table", () => program.embed(norm, x), new RangeError("table: must be a matrix, not a vector")],
    ["a table for outputs", () => program.embed(table, output), new RangeError(`out: ${tokensOnly}`)],
    [
      "a matrix as a norm",
      () => program.rmsNorm(x, table, 1e-5, other),
      new RangeError("weight: must be a vector, not a matrix"),
    ],
    [
      "a norm of another width",
      () => program.rmsNorm(narrow, norm, 1e-5, other),
      new RangeError("x: must be 16 wide, not 3"),
    ],
    ["an epsilon of 0", () => program.rmsNorm(x, norm, 0, other), new RangeError("eps: must be above 0, not 0")],
    [
      "an epsilon of NaN",
      () => program.rmsNorm(x, norm, Number.NaN, other),
      new RangeError("eps: must be above 0, not nan"),
    ],
    ["a product into itself", () => program.matmul(x, matrixOf(16), x), new RangeError("out: must not be x")],
    [
      "a product past its place",
      () => program.matmul(x, qkvWeight, qkv, 1),
      new RangeError("column: must be at most out's 32 less weight's 32, not 1"),
    ],
    [
      "a product from a negative column",
      () => program.matmul(x, qkvWeight, qkv, -1),
      new RangeError("column: must be an integer of at least 0, not -1"),
    ],
    ["rope over another width", () => program.rope(x, 0, ropeOptions), new RangeError("qkv: must be 32 wide, not 16")],
    [
      "rope in a layer that is not there",
      () => program.rope(qkv, 1, ropeOptions),
      new RangeError("layer: must be below the cache's 1, not 1"),
    ],
    [
      "an odd rotary dimension",
      () => program.rope(qkv, 0, { ...ropeOptions, rotaryDim: 3 }),
      new RangeError("options.rotaryDim: must be even, from 2 to headDim 8, not 3"),
    ],
    [
      "a theta of 0",
      () => program.rope(qkv, 0, { ...ropeOptions, theta: 0 }),
      new RangeError("options.theta: must be above 0, not 0"),
    ],
    [
      "attention of no heads",
      () => program.attention(qkv, 0, 0, x),
      new RangeError("heads: must be a multiple of kvHeads 1, below 2^31, not 0"),
    ],
    [
      "attention of so many heads that their width overflows",
      () => program.attention(qkv, 0, 2 ** 52, x),
      new RangeError("heads: must be a multiple of kvHeads 1, below 2^31, not 4503599627370496"),
    ],
    [
      "rope of so many heads",
      () => program.rope(qkv, 0, { ...ropeOptions, heads: 2 ** 52 }),
      new RangeError("heads: must be a multiple of kvHeads 1, below 2^31, not 4503599627370496"),
    ],
    [
      "attention to a narrow value",
      () => program.attention(qkv, 0, heads, narrow),
      new RangeError("out: must be 16 wide, not 3"),
    ],
    ["swiglu of another width", () => program.swiGlu(x, narrow), new RangeError("gateUp: must be 6 wide, not 16")],
    ["a sum of different widths", () => program.add(x, narrow, x), new RangeError("y: must be 16 wide, not 3")],
    [
      "a sum of tokens and outputs",
      () => program.add(x, output, x),
      new RangeError("y: must have a row for each token, or for each output, as x has"),
    ],
    [
      "a selection from outputs",
      () => program.select(output, output),
      new RangeError("x: must be a value with a row for each token, not 4"),
    ],
    [
      "a selection into tokens",
      () => program.select(x, other),
      new RangeError("out: must be a value with a row for each output, not 1"),
    ],
    [
      "a gathering of a column that is not there",
      () => program.gather(x, Int32Array.of(0, 16, 1), narrow),
      new RangeError("columns: must be from -1 to 15, not 16"),
    ],
    [
      "a gathering of columns below none",
      () => program.gather(x, Int32Array.of(0, -2, 1), narrow),
      new RangeError("columns: must be from -1 to 15, not -2"),
    ],
    [
      "a gathering of more columns than its value has",
      () => program.gather(x, new Int32Array(4), narrow),
      new RangeError("out: must be 4 wide, not 3"),
    ],
    ["a gathering in place", () => program.gather(x, new Int32Array(16), x), new RangeError("out: must not be x")],
    [
      "a gathering of tokens into outputs",
      () => program.gather(x, new Int32Array(16), output),
      new RangeError("out: must have a row for each token, or for each output, as x has"),
    ],
    [
      "a value of no program",
      () => program.add(x, unknown, x),
      new RangeError("y: must be a value of this program, not 99"),
    ],
    [
      "a value that is NaN",
      () => program.add(x, { id: Number.NaN, width: dim }, x),
      new RangeError("y: must be a 32-bit integer, not NaN"),
    ],
    ["a device as a tensor", () => program.embed(device.handle as never, x), new TypeError("table: must be a tensor")],
    [
      "a result for tokens",
      () => program.finish(x),
      new RangeError("result: must be a value with a row for each output, not 0"),
    ],
  ])("refuses %s", (_, call, error) => expectArgumentError(call, error));

  test("ends with its result: what comes after is refused and changes nothing", async () => {
    const ended = record();
    const message = "program: must not be finished";
    expectArgumentError(() => ended.finish({ id: 6, width: dim }), new RangeError(message));
    expectArgumentError(
      () => ended.add({ id: 0, width: dim }, { id: 0, width: dim }, { id: 0, width: dim }),
      new RangeError(message),
    );
    const value = { id: 0, width: dim };
    const changes = [
      () => ended.value("tokens", 1),
      () => ended.embed(matrixOf(dim), value),
      () => ended.rope({ id: 2, width: qkvWidth }, 0, { ...ropeOptions, theta: 1 }),
    ];
    for (const change of changes) expectArgumentError(change, new RangeError(message));
    await expect(ended.run(newPool().cache, batch)).resolves.toHaveLength(2 * dim);
    ended.dispose();
    expect(() => ended.value("tokens", 1)).toThrow(expect.objectContaining({ code: "ERR_CRIA_DISPOSED" }));
  });
});

const matrixOf = (n: number) => native.matrixCreate(device.handle, "f32", n, n);

describe("running a program", () => {
  test("is running its kernels one by one, on every instruction set and number of threads", async () => {
    const want = byKernels();
    for (const isa of available) {
      for (const threads of [1, 2, 3]) {
        const pool = newPool();
        expectSameBits(await record(new Device({ isa, threads })).run(pool.cache, batch), want);
        pool.dispose();
      }
    }
  });

  test("gives no outputs for none, and takes an empty batch", async () => {
    const program = record();
    const pool = newPool();
    const none = new Int32Array(0);
    const empty = { tokens: none, positions: none, lengths: none, pasts: none, blockCounts: none, blocks: none };
    expect(await program.run(pool.cache, { ...empty, outputs: none })).toEqual(new Float32Array(0));
    expect(await program.run(pool.cache, { ...batch, outputs: none })).toEqual(new Float32Array(0));
    const idle = {
      ...batch,
      lengths: Int32Array.of(3, 2, 0),
      pasts: Int32Array.of(14, 0, 0),
      blockCounts: Int32Array.of(2, 1, 0),
    };
    expectSameBits(await program.run(pool.cache, idle), byKernels());
  });

  test.each<[string, Partial<NativeBatch>, Error]>([
    [
      "tokens",
      { tokens: Int32Array.of(1, 2, 3, 11, 0) },
      new RangeError("batch.tokens[3]: must be from 0 to 11 - 1, not 11"),
    ],
    [
      "tokens",
      { tokens: Int32Array.of(1, 2, 3, 4, -1) },
      new RangeError("batch.tokens[4]: must be from 0 to 11 - 1, not -1"),
    ],
    ["tokens", { tokens: Int32Array.of(1, 2, 3, 4) }, new RangeError("batch.tokens: its length must be 5, not 4")],
    ["tokens", { tokens: new Int32Array(0) }, new RangeError("batch.tokens: must not be null")],
    [
      "tokens",
      { tokens: [1, 2, 3, 4, 5] as never },
      new TypeError("batch.tokens: must be an Int32Array, not another object"),
    ],
    [
      "tokens",
      { tokens: new Uint16Array(5) as never },
      new TypeError("batch.tokens: must be an Int32Array, not a Uint16Array"),
    ],
    [
      "positions",
      { positions: Int32Array.of(0, 0, 0, 0) },
      new RangeError("batch.positions: its length must be 5, not 4"),
    ],
    [
      "positions",
      { positions: Int32Array.of(0, -1, 0, 0, 0) },
      new RangeError("batch.positions[1]: must be from 0 to 2147483648 - 1, not -1"),
    ],
    [
      "positions",
      { positions: undefined as never },
      new TypeError("batch.positions: must be an Int32Array, not undefined"),
    ],
    ["lengths", { lengths: Int32Array.of(3, 1) }, new RangeError("batch.lengths: must be tokenCount in sum, not 4")],
    ["lengths", { lengths: Int32Array.of(3, 3) }, new RangeError("batch.lengths: must be tokenCount in sum, not 6")],
    ["lengths", { lengths: Int32Array.of(6, -1) }, new RangeError("batch.lengths: must be tokenCount in sum, not 6")],
    ["lengths", { lengths: Int32Array.of(-1, 6) }, new RangeError("batch.lengths: must be at least 0, not -1")],
    ["pasts", { pasts: Int32Array.of(-1, 0) }, new RangeError("batch.pasts: must be at least 0, not -1")],
    [
      "pasts",
      { pasts: Int32Array.of(30, 0) },
      new RangeError("batch.blockCounts: must be at least 3 for the tokens of sequence 0, not 2"),
    ],
    ["pasts", { pasts: Int32Array.of(0) }, new RangeError("batch.pasts: its length must be 2, not 1")],
    [
      "blockCounts",
      { blockCounts: Int32Array.of(2, 2) },
      new RangeError("batch.blockCounts: must be blockCount in sum, not 4"),
    ],
    [
      "blockCounts",
      { blockCounts: Int32Array.of(2, -1) },
      new RangeError("batch.blockCounts: must be at least 0, not -1"),
    ],
    [
      "blockCounts",
      { blockCounts: new Int32Array(3) },
      new RangeError("batch.blockCounts: its length must be 2, not 3"),
    ],
    ["blocks", { blocks: Int32Array.of(3, 4, 2) }, new RangeError("batch.blocks[1]: must be from 0 to 4 - 1, not 4")],
    ["blocks", { blocks: Int32Array.of(3, -1, 2) }, new RangeError("batch.blocks[1]: must be from 0 to 4 - 1, not -1")],
    [
      "blocks",
      { blocks: Int32Array.of(3, 2, 2) },
      new RangeError("batch.blocks: must name a block that is written to only once, not block 2 twice"),
    ],
    [
      "blocks, where one sequence reads what the other writes",
      { pasts: Int32Array.of(16, 0), positions: Int32Array.of(16, 17, 18, 0, 1), blocks: Int32Array.of(2, 0, 2) },
      new RangeError("batch.blocks: must name a block that is written to only once, not block 2 twice"),
    ],
    [
      "blocks",
      { blocks: Int32Array.of(3, 0, 2, 1) },
      new RangeError("batch.blockCounts: must be blockCount in sum, not 3"),
    ],
    ["outputs", { outputs: Int32Array.of(5) }, new RangeError("batch.outputs[0]: must be from 0 to 5 - 1, not 5")],
    ["outputs", { outputs: Int32Array.of(0, -1) }, new RangeError("batch.outputs[1]: must be from 0 to 5 - 1, not -1")],
    [
      "outputs",
      { outputs: new Float32Array(1) as never },
      new TypeError("batch.outputs: must be an Int32Array, not a Float32Array"),
    ],
  ])("refuses a batch of wrong %s, and runs the next", async (_, changes, expected) => {
    const program = record();
    const pool = newPool();
    const error = await program.run(pool.cache, { ...batch, ...changes }).catch((error) => error);
    expectArgumentError(() => {
      throw error;
    }, expected);
    expectSameBits(await program.run(pool.cache, batch), byKernels());
  });

  test("refuses a detached array, another cache's shape, and a program without a result", async () => {
    const program = record();
    const pool = newPool();
    const detached = batch.blocks.slice();
    structuredClone(detached, { transfer: [detached.buffer] });
    await expect(program.run(pool.cache, { ...batch, blocks: detached })).rejects.toThrow(
      "batch.blocks: must not be detached",
    );

    const other = new KvPool(device, { ...shape, values: "f16" }, 64);
    await expect(program.run(other.cache, batch)).rejects.toThrow(
      "cache: must have the shape that the program was recorded for",
    );
    await expect(program.run(device.handle as never, batch)).rejects.toThrow("cache: must be a cache");
    await expect(new Program(device, shape).run(pool.cache, batch)).rejects.toThrow(
      "program: was run before it was finished",
    );
    await expect(program.run(pool.cache, null as never)).rejects.toThrow("batch: must be an object, not null");
  });

  test("that is not finished is refused", async () => {
    const unfinished = new Program(device, shape);
    await expect(unfinished.run(newPool().cache, batch)).rejects.toThrow(
      expect.objectContaining({ code: "ERR_CRIA_STATE", message: "program: was run before it was finished" }),
    );
  });

  test("goes on when the device, and all that it has, is disposed by `using`", async () => {
    let running: Promise<Float32Array>;
    {
      using own = new Device({ threads: 1 });
      using program = record(own);
      using pool = new KvPool(own, shape, 64);
      running = program.run(pool.cache, batch);
      await setImmediate();
    }
    expectSameBits(await running, byKernels());
  });

  test("of two programs at once gives each its own", async () => {
    const programs = [record(), record(), record(new Device({ threads: 1 }))];
    const pools = programs.map(newPool);
    const runs = Array.from({ length: 20 }, (_, i) => programs[i % 3]!.run(pools[i % 3]!.cache, batch));
    const want = byKernels();
    for (const result of await Promise.all(runs)) expectSameBits(result, want);
  });

  test("ends well when it, its cache and its weights are freed meanwhile", async () => {
    const program = record();
    const pool = newPool();
    const running = program.run(pool.cache, batch);
    await setImmediate();
    program.dispose();
    program.dispose();
    pool.dispose();
    expectSameBits(await running, byKernels());
    await expect(program.run(pool.cache, batch)).rejects.toThrow(
      expect.objectContaining({ name: "CriaError", code: "ERR_CRIA_DISPOSED", message: "program: was disposed" }),
    );
    await expect(record().run(pool.cache, batch)).rejects.toThrow(
      expect.objectContaining({ code: "ERR_CRIA_DISPOSED", message: "cache: was disposed" }),
    );
  });
});

describe("a signal", () => {
  /** Some seconds of products. */
  function recordLong(): Program {
    const program = new Program(device, shape);
    const wide = matrixOf(1024);
    const [x, y] = [program.value("outputs", 1024), program.value("outputs", 1024)];
    for (let i = 0; i < 2000; i++) program.matmul(i % 2 === 0 ? x : y, wide, i % 2 === 0 ? y : x);
    program.finish(x);
    return program;
  }
  const rows = 40;
  const none = new Int32Array(0);
  const longBatch: NativeBatch = {
    tokens: new Int32Array(rows),
    positions: new Int32Array(rows),
    lengths: Int32Array.of(rows),
    pasts: Int32Array.of(0),
    blockCounts: Int32Array.of(3),
    blocks: Int32Array.of(0, 1, 2),
    outputs: new Int32Array(rows),
  };
  const aborted = (reason: unknown) =>
    expect.objectContaining({
      name: "CriaError",
      code: "ERR_CRIA_ABORTED",
      ...(reason !== undefined && { cause: reason }),
    });

  test("that is aborted already keeps a run from starting", async () => {
    const pool = newPool();
    const reason = new Error("enough");
    await expect(record().run(pool.cache, batch, AbortSignal.abort(reason))).rejects.toThrow(aborted(reason));
  });

  test("stops a run between two ops, and one that waits for its turn", async () => {
    const pool = newPool();
    const long = recordLong();
    const [first, second] = [new AbortController(), new AbortController()];
    const running = long.run(pool.cache, longBatch, first.signal);
    const waiting = long.run(pool.cache, longBatch, second.signal);
    const short = record().run(newPool().cache, batch);
    await setImmediate();
    second.abort();
    first.abort();
    await expect(running).rejects.toThrow(aborted(undefined));
    await expect(waiting).rejects.toThrow(aborted(second.signal.reason));
    expectSameBits(await short, byKernels());
    expect(getEventListeners(first.signal, "abort")).toEqual([]);
  });

  test("that is aborted afterwards changes nothing, and is let go", async () => {
    const controller = new AbortController();
    const pool = newPool();
    const result = await record().run(pool.cache, batch, controller.signal);
    expect(getEventListeners(controller.signal, "abort")).toEqual([]);
    controller.abort();
    expectSameBits(result, byKernels());
  });

  test("leaves a run's errors as they are", async () => {
    const { signal } = new AbortController();
    await expect(record().run(newPool().cache, { ...batch, outputs: none, lengths: none }, signal)).rejects.toThrow(
      RangeError,
    );
    expect(getEventListeners(signal, "abort")).toEqual([]);
  });
});

describe("decoding", () => {
  /** Logits of a layer that attends to all tokens before: what the next token is depends on every one. */
  function recordDecodable(): Program {
    const program = new Program(device, shape);
    const [x, y, qkv] = [program.value("tokens", dim), program.value("tokens", dim), program.value("tokens", qkvWidth)];
    const [selected, logits] = [program.value("outputs", dim), program.value("outputs", vocab)];
    program.embed(table, x);
    program.matmul(x, qkvWeight, qkv);
    program.rope(qkv, 0, ropeOptions);
    program.attention(qkv, 0, heads, y);
    program.add(x, y, x);
    program.select(x, selected);
    program.matmul(selected, table, logits);
    program.finish(logits);
    return program;
  }
  const program = recordDecodable();

  /** Two sequences, in blocks of their own, of which the first has 14 tokens of zeros before it. */
  const begin = (first: number, second: number): NativeBatch => ({
    tokens: Int32Array.of(first, second),
    positions: Int32Array.of(14, 0),
    lengths: Int32Array.of(1, 1),
    pasts: Int32Array.of(14, 0),
    blockCounts: Int32Array.of(2, 1),
    blocks: Int32Array.of(3, 0, 2),
    outputs: Int32Array.of(0, 1),
  });
  const greedy = { temperature: 0, topP: 1, seed: 0 };

  test("is one run after another with the likeliest tokens", async () => {
    const steps = 9;
    const tokens = await program.decode(newPool().cache, begin(3, 7), {
      steps,
      candidates: 1,
      sampling: [greedy, greedy],
    });

    const { cache } = newPool();
    const next = begin(3, 7);
    for (let step = 0; step < steps; step++) {
      const logits = await program.run(cache, next);
      for (const s of [0, 1]) {
        const row = logits.subarray(s * vocab, (s + 1) * vocab);
        next.tokens[s] = row.indexOf(Math.max(...row));
        next.positions[s]! += 1;
        next.pasts[s]! += 1;
        expect(tokens[s * steps + step]).toBe(next.tokens[s]);
      }
    }
    expect(new Set(tokens).size).toBeGreaterThan(1);
  });

  test("draws the same tokens for a seed, alone or beside others, and others for another", async () => {
    const options = (...seeds: number[]) => ({
      steps: 12,
      candidates: vocab,
      sampling: seeds.map((seed) => ({ temperature: 2, topP: 0.98, seed })),
    });
    const both = await program.decode(newPool().cache, begin(3, 7), options(11, 12));
    const { tokens, positions, lengths, pasts, blocks } = begin(3, 7);
    const alone: NativeBatch = {
      tokens: tokens.subarray(1),
      positions: positions.subarray(1),
      lengths: lengths.subarray(1),
      pasts: pasts.subarray(1),
      blockCounts: Int32Array.of(1),
      blocks: blocks.subarray(2),
      outputs: Int32Array.of(0),
    };
    expect(await program.decode(newPool().cache, alone, options(12))).toEqual(both.subarray(12));
    expect(await program.decode(newPool().cache, alone, options(13))).not.toEqual(both.subarray(12));
  });

  test.each<[string, Partial<NativeBatch>, object, string]>([
    ["no steps", {}, { steps: 0 }, "steps: must be from 1 to 2^31 - 1, not 0"],
    [
      "more steps than blocks",
      { pasts: Int32Array.of(15) },
      {},
      "batch.blockCounts: must be at least 2 for the steps of sequence 0",
    ],
    ["no candidates", {}, { candidates: 0 }, "candidates: must be from 1 to 11, not 0"],
    ["more candidates than tokens", {}, { candidates: 12 }, "candidates: must be from 1 to 11, not 12"],
    [
      "a temperature below 0",
      {},
      { sampling: [{ ...greedy, temperature: -1 }] },
      "sampling.temperature: must be at least 0",
    ],
    ["a top-p of 0", {}, { sampling: [{ ...greedy, topP: 0 }] }, "sampling.topP: must be above 0, at most 1"],
    ["a fraction as a seed", {}, { sampling: [{ ...greedy, seed: 0.5 }] }, "sampling.seed: must be an integer"],
    ["sampling for others", {}, { sampling: [] }, "sampling.length: must be 1, one for each sequence"],
    [
      "two tokens of a sequence",
      { tokens: Int32Array.of(1, 2), positions: Int32Array.of(0, 1), lengths: Int32Array.of(2) },
      {},
      "batch.tokenCount: must be one for each sequence",
    ],
    ["a last position", { positions: Int32Array.of(2 ** 31 - 1) }, {}, "batch.positions: must be below 2^31 - steps"],
  ])("of %s is refused", async (_, batch, options, message) => {
    const one: NativeBatch = {
      tokens: Int32Array.of(1),
      positions: Int32Array.of(0),
      lengths: Int32Array.of(1),
      pasts: Int32Array.of(0),
      blockCounts: Int32Array.of(1),
      blocks: Int32Array.of(0),
      outputs: Int32Array.of(),
    };
    const decode = async () =>
      program.decode(
        newPool().cache,
        { ...one, ...batch },
        { steps: 2, candidates: 1, sampling: [greedy], ...options },
      );
    await expect(decode()).rejects.toThrow(message);
  });

  test("stops where its signal says so", async () => {
    const options = { steps: 16, candidates: 1, sampling: [greedy, greedy] };
    const decode = program.decode(newPool().cache, begin(1, 2), options, AbortSignal.abort());
    await expect(decode).rejects.toMatchObject({ code: "ERR_CRIA_ABORTED", message: "the decode was cancelled" });
  });
});
