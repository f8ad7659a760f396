import { writeFileSync } from "node:fs";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CriaError, CriaFileError } from "../../lib/errors.js";
import { readPickle } from "../../lib/weights/pickle.js";
import { readTorch } from "../../lib/weights/torch.js";
import { readZip } from "../../lib/weights/zip.js";
import { expectSameBits } from "../support/compare.js";
import { packageFile } from "../support/data.js";
import { type GgufFile, llamaFile, temporaryFolder } from "../support/gguf-writer.js";
import { toHalf } from "../support/half.js";
import { logitsOf } from "../support/logits.js";
import { mutate, mutation } from "../support/mutants.js";
import { encodePickle, encodeTorch, pickle, type TorchSpec, torchEntries } from "../support/torch-writer.js";
import { encodeZip, wideExtra, type ZipOptions, type ZipSpec } from "../support/zip-writer.js";

/** Written by torch 1.13 itself: test/weights/torch-1.13/make.py. */
const real = (part: number) => packageFile("test", "weights", "torch-1.13", `consolidated.0${part}.pth`);

/** The shapes of make.py's tensors, in its order, and then the norms. */
const order = ["token_embd", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "output"];
const norms = ["attn_norm", "ffn_norm", "output_norm"];

/** The model that make.py cuts into parts. */
function model(): GgufFile {
  const weight = (i: number, k: number) => (((37 * i + 11 * k) % 61) - 30) / 64;
  const file = llamaFile({
    layers: 1,
    dim: 16,
    heads: 2,
    kvHeads: 2,
    ffn: 32,
    vocab: 24,
    contextLength: 64,
    type: "f16",
  });
  for (const tensor of file.tensors) {
    const name = /(\w+)\.weight$/.exec(tensor.name)![1]!;
    const [cols, rows = 1] = tensor.shape.map(Number) as [number, number?];
    const norm = norms.indexOf(name);
    const [k, begin] = norm === -1 ? [order.indexOf(name), 0] : [order.length, norm * cols];
    const values = Float32Array.from({ length: rows * cols }, (_, i) => weight(begin + i, k));
    if (norm !== -1) tensor.data = new Uint8Array(values.buffer);
    else if (k > 0) tensor.data = new Uint8Array(Uint16Array.from(values, toHalf).buffer);
    else Object.assign(tensor, { type: "bf16", data: upperHalves(values) });
  }
  return file;
}

const upperHalves = (values: Float32Array) =>
  new Uint8Array(Uint16Array.from(new Uint32Array(values.buffer), (word) => word >>> 16).buffer);

const f32 = (name: string, ...shape: number[]): TorchSpec => ({
  name,
  type: "f32",
  shape,
  data: new Uint8Array(4 * shape.reduce((product, n) => product * n, 1)).fill(7),
});

const small = [f32("a", 2, 3), { ...f32("b", 4), type: "f16", shape: [2, 4] }, f32("c", 1, 1, 1, 1)];

async function readBytes(bytes: Uint8Array) {
  await using folder = await temporaryFolder();
  return await readTorch(await folder.write("model.pth", bytes));
}

const refused = (bytes: Uint8Array, message: string | RegExp, code = "ERR_CRIA_FILE") =>
  expect(readBytes(bytes)).rejects.toMatchObject({
    name: "CriaFileError",
    code,
    message: typeof message === "string" ? expect.stringContaining(message) : expect.stringMatching(message),
  });

describe("files that torch 1.13 wrote", () => {
  test("are read, views of one storage and an OrderedDict with an attribute among them", async () => {
    const parts = [await readTorch(real(0)), await readTorch(real(1))] as const;
    for (const tensors of parts) {
      expect(tensors.size).toBe(13);
      expect(tensors.get("layers.0.feed_forward.w2.weight")).toMatchObject({
        type: "f16",
        shape: [16, 16],
        bytes: 512,
      });
      expect(tensors.get("tok_embeddings.weight")).toMatchObject({ type: "bf16", shape: [24, 8] });
      const [first, second] = norms.map((_, i) =>
        tensors.get(`${["layers.0.attention_norm", "layers.0.ffn_norm"][i]}.weight`),
      );
      expect(second!.offset - first!.offset).toBe(64);
    }
    const bytes = await readFile(real(1));
    const { offset } = parts[1].get("layers.0.ffn_norm.weight")!;
    const values = new Float32Array(new Uint8Array(bytes.subarray(offset, offset + 64)).buffer);
    expect([...values.subarray(0, 2)]).toEqual([(((37 * 16 + 99) % 61) - 30) / 64, (((37 * 17 + 99) % 61) - 30) / 64]);
  });

  test("have the pickle that this test's own writer writes", async () => {
    const tensors = [...(await readTorch(real(0))).values()];
    // The norms share a storage, which is the tenth.
    const specs = tensors.map(({ name, type, shape, bytes }, i): TorchSpec => {
      const shared = i >= order.length && i < order.length + norms.length;
      const data = new Uint8Array(shared ? 3 * 64 : bytes);
      const key = String(shared ? 9 : i - (i > 9 ? 2 : 0));
      return { name, type, shape, data, key, begin: shared ? (i - order.length) * 16 : 0 };
    });
    const file = await open(real(0));
    const { size } = await file.stat();
    const entry = readZip(file.fd, real(0), size).get("consolidated.00/data.pkl")!;
    const actual = (await readFile(real(0))).subarray(entry.offset, entry.offset + entry.bytes);
    await file.close();
    expect(actual.equals(encodePickle(specs))).toBe(true);
  });

  test("make a model of two parts, with the logits of its GGUF", async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "model");
    await mkdir(path);
    for (const part of [0, 1]) writeFileSync(join(path, `consolidated.0${part}.pth`), await readFile(real(part)));
    const params = { dim: 16, n_layers: 1, n_heads: 2, vocab_size: 24, multiple_of: 32, ffn_dim_multiplier: 0.7 };
    writeFileSync(join(path, "params.json"), JSON.stringify(params));
    const gguf = await folder.write("model.gguf", model());
    const tokens = Int32Array.of(1, 23, 7, 11);
    const logits = await logitsOf(path, tokens, { tokenizer: gguf });
    expectSameBits(logits, await logitsOf(gguf, tokens));
    expect(new Set(logits).size).toBeGreaterThan(50);
  });
});

describe("a file of tensors", () => {
  test("gives each its place", async () => {
    const bytes = encodeTorch(small);
    const tensors = await readBytes(bytes);
    expect([...tensors.keys()]).toEqual(["a", "b", "c"]);
    for (const { offset, bytes: length } of tensors.values()) {
      expect(offset % 64).toBe(0);
      expect(bytes.subarray(offset, offset + length).every((byte) => byte === 7)).toBe(true);
    }
    expect(tensors.get("b")).toMatchObject({ type: "f16", shape: [2, 4], bytes: 16 });
  });

  test("may say its byte order", async () => {
    const withOrder = (order: string) =>
      encodeZip([...torchEntries(small), { name: "archive/byteorder", data: Buffer.from(order) }]);
    expect((await readBytes(withOrder("little"))).size).toBe(3);
    await refused(
      withOrder("big"),
      "archive/byteorder: must be a file of little-endian numbers",
      "ERR_CRIA_UNSUPPORTED",
    );
    await refused(withOrder("middle"), 'archive/byteorder: must be "little" or "big", not "middle"');
    await refused(withOrder("little-endian"), 'must be "little" or "big", not 13 bytes');
  });

  test("beyond 4 GiB has its places as 64 bits", async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, "large.pth");
    // The same entries, the last ones behind a hole; the directory's record of the first says 4 GiB more.
    const hole = 2 ** 32;
    const entries = torchEntries([f32("a", 2, 3)]);
    const whole = encodeZip(entries);
    const directory = whole.indexOf(Buffer.from("PK\x01\x02", "latin1"));
    const file = await open(path, "w");
    await file.write(whole.subarray(0, directory), 0, directory, 0);
    const moved = entries.map((entry) => ({ ...entry, header: 0xffffffff }));
    const offsets = entries.map(({ name }) => whole.indexOf(name) - 30);
    const records = encodeZip(
      moved.map((entry, i) => ({ ...entry, extra: wideExtra(i === 0 ? 0 : hole + offsets[i]!) })),
      { directoryOffset: 0xffffffff, offset64: BigInt(hole + directory), record64: 0n },
    );
    const begin = records.indexOf(Buffer.from("PK\x01\x02", "latin1"));
    const tail = Buffer.from(records.subarray(begin));
    const locator = tail.indexOf(Buffer.from("PK\x06\x07", "latin1"));
    tail.writeBigUInt64LE(BigInt(hole + directory + tail.indexOf(Buffer.from("PK\x06\x06", "latin1"))), locator + 8);
    await file.write(whole.subarray(offsets[1]!, directory), 0, directory - offsets[1]!, hole + offsets[1]!);
    await file.write(tail, 0, tail.length, hole + directory);
    await file.close();
    const { offset, bytes } = (await readTorch(path)).get("a")!;
    expect(offset).toBeGreaterThan(hole);
    expect(bytes).toBe(24);
  });
});

describe("a tensor is refused", () => {
  test.for<[string, TorchSpec, string, string?]>([
    [
      "past its storage",
      { ...f32("a", 2, 3), begin: 1 },
      "a: its [2, 3] elements from 1 on must lie within the 6 of its storage",
    ],
    ["of no elements", { ...f32("a", 2, 3), shape: [0, 3] }, "a: its dimensions must be positive, not [0, 3]"],
    [
      "of a product that overflows",
      { ...f32("a", 2, 3), shape: [2 ** 31, 2 ** 31, 2 ** 31], strides: [1, 1, 1] },
      "elements from 0 on must lie within",
    ],
    [
      "of columns first",
      { ...f32("a", 2, 3), strides: [1, 2] },
      "a: must stand row after row, not [2, 3] with strides [1, 2]",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "with gaps between its rows",
      { ...f32("a", 2, 3), shape: [2, 2], strides: [3, 1] },
      "must stand row after row",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "of fewer strides",
      { ...f32("a", 2, 3), strides: [1] },
      "must make a tensor of an offset, a shape and as many strides",
    ],
    ["of a negative size", { ...f32("a", 2, 3), shape: [-2, 3] }, "must make a tensor of an offset, a shape"],
    [
      "of a storage of another size",
      { ...f32("a", 2, 3), length: 7 },
      "its storage data/0 must have 28 bytes, for 7 f32, not 24",
    ],
    [
      "of integers",
      { ...f32("a", 2, 3), type: "torch IntStorage", length: 6 },
      'not the global "torch.IntStorage"',
      "ERR_CRIA_UNSUPPORTED",
    ],
  ])("%s", async ([, spec, message, code]) => {
    await refused(encodeTorch([spec]), message, code);
  });

  test("of a storage that the archive lacks, or in no dictionary", async () => {
    const without = torchEntries(small).filter(({ name }) => name !== "archive/data/1");
    await refused(encodeZip(without), 'archive/data.pkl: must name a storage that the archive has, not "data/1"');
    await refused(encodeZip(torchEntries(small).slice(1)), "with one data.pkl, not 0");
    const two = [...torchEntries(small), ...torchEntries(small, "other")];
    await refused(encodeZip(two), "with one data.pkl, not 2");
  });
});

describe("a pickle is refused", () => {
  const { start, stop, mark, tuple, reduce, emptyDict, setItems, text, global, integer, put, get } = pickle;
  const repeat = (count: number, ...opcodes: Buffer[]) => Array.from({ length: count }, () => opcodes).flat();
  const file = (...opcodes: Buffer[]) =>
    encodeZip([{ name: "archive/data.pkl", data: Buffer.concat(opcodes) }, ...torchEntries(small).slice(1)]);

  test.for([
    ["os", "system"],
    ["posix", "system"],
    ["builtins", "eval"],
    ["__builtin__", "getattr"],
    ["torch.serialization", "load"],
    ["torch._utils", "_rebuild_tensor_v3"],
    ["torch", "LongStorage"],
    ["constructor", "constructor"],
    ["__proto__", "toString"],
  ])("that names %s.%s", async ([module, name]) => {
    const call = file(start, global(`${module} ${name}`), mark, text("true"), tuple, reduce, stop);
    await refused(
      call,
      `must name nothing but tensors of floats, not the global "${module}.${name}"`,
      "ERR_CRIA_UNSUPPORTED",
    );
  });

  test.for<[string, Buffer[], string, string?]>([
    ["of another protocol", [Buffer.of(0x80, 4)], "must be of protocol 2, not 4", "ERR_CRIA_UNSUPPORTED"],
    ["of none", [stop], "must begin as a pickle of protocol 2"],
    ["with INST", [start, Buffer.from("ios\nsystem\n")], "not 0x69", "ERR_CRIA_UNSUPPORTED"],
    ["with OBJ", [start, Buffer.from("o")], "not 0x6f", "ERR_CRIA_UNSUPPORTED"],
    ["with NEWOBJ", [start, Buffer.of(0x81)], "not 0x81", "ERR_CRIA_UNSUPPORTED"],
    ["with STACK_GLOBAL", [start, Buffer.of(0x93)], "not 0x93", "ERR_CRIA_UNSUPPORTED"],
    ["with an extension", [start, Buffer.of(0x82, 1)], "not 0x82", "ERR_CRIA_UNSUPPORTED"],
    ["of a list", [start, Buffer.from("]")], "not 0x5d", "ERR_CRIA_UNSUPPORTED"],
    ["that calls a string", [start, text("a"), mark, tuple, reduce, stop], "must call a function with a tuple"],
    [
      "that calls a storage's class",
      [start, global("torch HalfStorage"), mark, tuple, reduce, stop],
      "must call a function",
    ],
    [
      "that calls with no tuple",
      [start, global("collections OrderedDict"), emptyDict, reduce, stop],
      "must call a function",
    ],
    [
      "of an OrderedDict of items",
      [start, global("collections OrderedDict"), mark, emptyDict, tuple, reduce, stop],
      "must make an OrderedDict without arguments",
    ],
    [
      "of a tensor of no storage",
      [start, global("torch._utils _rebuild_tensor_v2"), mark, tuple, reduce, stop],
      "must make a tensor of a storage",
    ],
    [
      "with a persistent id of another kind",
      [start, text("module"), Buffer.from("Q"), stop],
      "must have persistent ids that are of storages",
    ],
    ["of no dictionary", [start, integer(5), stop], "must hold a dictionary of tensors"],
    [
      "of a dictionary of numbers",
      [start, emptyDict, mark, text("a"), integer(5), setItems, stop],
      "a: must be a tensor",
      "ERR_CRIA_UNSUPPORTED",
    ],
    [
      "of a key that is none",
      [start, emptyDict, mark, integer(5), integer(5), setItems, stop],
      "must have strings as keys",
    ],
    [
      "of a key twice",
      [start, emptyDict, mark, ...repeat(2, text("a"), integer(5)), setItems, stop],
      'must have the key "a" once',
    ],
    ["of a key without a value", [start, emptyDict, mark, text("a"), setItems, stop], "must give each key a value"],
    ["that puts items into a number", [start, integer(1), mark, setItems, stop], "must put items into a dictionary"],
    [
      "that builds a number",
      [start, integer(1), emptyDict, Buffer.from("b"), stop],
      "must put items into a dictionary",
    ],
    [
      "that builds of a number",
      [start, emptyDict, integer(1), Buffer.from("b"), stop],
      "must have a dictionary of attributes",
    ],
    ["that takes from an empty stack", [start, tuple, stop], "goes back to a mark, but has none"],
    ["that takes below a mark", [start, integer(1), mark, Buffer.of(0x85), stop], "takes more values than there are"],
    ["that leaves two values", [start, integer(1), integer(1), stop], "must end with one value"],
    ["that leaves none", [start, stop], "must end with one value"],
    ["that goes on after its end", [start, emptyDict, stop, stop], "must end where its 5 bytes do"],
    ["that has no end", [start, emptyDict], "must go on within its 3 bytes"],
    ["of a string past its end", [start, Buffer.from("X\xff\xff\xff\xff", "latin1")], "must go on within its"],
    ["of a string that is no UTF-8", [start, Buffer.from("X\x01\0\0\0\xff", "latin1")], "must have strings in UTF-8"],
    ["of a global without an end", [start, Buffer.from("ctorch")], "must have names of at most 256 bytes"],
    ["that uses what it did not keep", [start, get(7), stop], "must keep the value 7 before it is used"],
    ["that keeps too much", [start, integer(1), put(2 ** 18), stop], "must keep at most 262144 values"],
    [
      "of an integer that is too long",
      [start, Buffer.of(0x8a, 9, ...Buffer.alloc(9))],
      "must have integers of at most 8 bytes, not 9",
    ],
    [
      "of an integer that is too large",
      [start, Buffer.of(0x8a, 8, ...Buffer.alloc(8, 0x7f))],
      "must have integers below 2^53",
    ],
    ["that nests too deep", [start, ...repeat(33, mark), stop], "must nest at most 32 deep"],
    [
      "of too many values",
      [start, ...repeat(65_537, Buffer.from("N")), stop],
      "must have at most 65536 values at a time",
    ],
    [
      "of too many opcodes",
      [start, integer(1), Buffer.alloc(2 ** 21, put(0)), stop],
      "must have at most 1048576 opcodes",
    ],
    ["that is too long", [start, text("x".repeat(2 ** 23)), stop], "must be of at most 8388608 bytes"],
  ])("%s", async ([, opcodes, message, code]) => {
    await refused(file(...opcodes), message, code);
  });

  test("wherever it is cut", () => {
    const whole = encodePickle(small);
    const globals = new Map<string, unknown>([
      ["torch._utils._rebuild_tensor_v2", () => 0],
      ["collections.OrderedDict", () => new Map()],
      ["torch.FloatStorage", 0],
      ["torch.HalfStorage", 0],
    ]);
    const read = (bytes: Buffer) =>
      readPickle(bytes, { globals, persistent: () => 0 }, (problem) => new CriaFileError("file", undefined, problem));
    expect(read(whole)).toEqual(new Map(small.map(({ name }) => [name, 0])));
    for (let length = 0; length < whole.length; length++) {
      expect(() => read(whole.subarray(0, length))).toThrow(CriaFileError);
    }
  });
});

describe("an archive is refused", () => {
  const entries = torchEntries(small);
  const spoilt = (change: Partial<ZipSpec>, index = 1) =>
    encodeZip(entries.map((entry, i) => (i === index ? { ...entry, ...change } : entry)));
  const ended = (options: ZipOptions) => encodeZip(entries, options);

  test.for([
    "/etc/passwd",
    "../data/0",
    "archive/../../0",
    "archive//0",
    "archive/./0",
    "archive/data/",
    "C:\\data",
    "c:data",
    "data\\0",
    "a\0b",
    "",
  ])("with an entry %j", async (name) => {
    await refused(spoilt({ name }), /entry 2 of 5: its name must be a path within the archive, not "/);
  });

  test.for<[string, Buffer, string, string?]>([
    ["an entry twice", spoilt({ name: "archive/data.pkl" }), "archive/data.pkl: stands twice in the archive"],
    [
      "a compressed entry",
      spoilt({ method: 8 }),
      "archive/data/0: must be stored as it is, not compressed by method 8",
      "ERR_CRIA_UNSUPPORTED",
    ],
    ["an encrypted entry", spoilt({ flags: 1 }), "must not be encrypted", "ERR_CRIA_UNSUPPORTED"],
    ["a flag that is not known", spoilt({ flags: 0x20 }), "must not have the flags 32", "ERR_CRIA_UNSUPPORTED"],
    ["two sizes of an entry", spoilt({ size: 1000 }), "must take the 1000 bytes that it has, not 24"],
    [
      "an entry past the directory",
      spoilt({ size: 100_000, storedSize: 100_000 }),
      "its data must end before the archive's directory",
    ],
    ["an entry over its neighbour", spoilt({ size: 200, storedSize: 200 }), "must not overlap archive/data/0"],
    ["a header elsewhere", spoilt({ header: 3 }), "must have its header at byte 3"],
    ["a header past the end", spoilt({ header: 2 ** 31 }), "its header must lie before the archive's directory"],
    ["another's header", spoilt({ header: 0 }), "must have the same name in its header"],
    ["another name in its header", spoilt({ localName: "archive/data/9" }), "must have the same name in its header"],
    ["other flags in its header", spoilt({ localFlags: 0 }), "must have the same method and flags in its header"],
    [
      "another size in its header",
      spoilt({ localSize: 23 }),
      "must have the same size in its header, 24, not 23 and 23",
    ],
    ["a header of another kind", spoilt({ localSignature: 0x02014b50 }), "must have its header at byte"],
    ["64-bit sizes that are missing", spoilt({ size: 0xffffffff }), "must have its 64-bit sizes"],
    [
      "64-bit sizes past the end",
      spoilt({ size: 0xffffffff, storedSize: 0xffffffff, extra: wideExtra(2n ** 60n, 2n ** 60n) }),
      "its size or offset must be within the file's",
    ],
    [
      "extra fields past their end",
      spoilt({ extra: Buffer.of(1, 0, 8, 0, 1) }),
      "its extra fields must end within its record",
    ],
    ["fewer entries", ended({ entries: 4 }), "its directory must have"],
    ["more entries", ended({ entries: 6 }), "entry 6 of 6: must have a record in the archive's directory"],
    [
      "two numbers of entries",
      ended({ entries64: 4n }),
      "its number of entries must be 4, as its zip64 record says, not 5",
    ],
    [
      "a million entries",
      ended({ entries: 0xffff, entries64: 1_000_000n }),
      "its number of entries must be within the file's",
    ],
    ["a directory elsewhere", ended({ directoryOffset: 3 }), "its directory must end at byte"],
    [
      "a directory that is too long",
      ended({ directoryBytes: 10 ** 9, zip64: false }),
      "its directory must be of at most 16777216 bytes",
    ],
    [
      "a zip64 record past the end",
      ended({ record64: 2n ** 40n }),
      "its zip64 record's offset must be within the file's",
    ],
    ["a zip64 record elsewhere", ended({ record64: 3n }), "must have its zip64 record at byte 3, as it says"],
    ["several parts", ended({ disk: 1 }), "must be an archive of one part", "ERR_CRIA_UNSUPPORTED"],
    [
      "bytes behind it",
      Buffer.concat([encodeZip(entries), Buffer.of(0)]),
      "must end with the end record of a zip archive",
    ],
    ["its end cut off", encodeZip(entries).subarray(0, -1), "must end with the end record of a zip archive"],
    ["its beginning alone", encodeZip(entries).subarray(0, 20), "must end with the end record of a zip archive"],
  ])("with %s", async ([, bytes, message, code]) => {
    await refused(bytes, message, code);
  });

  test("but not for a comment, or for want of zip64 records", async () => {
    expect((await readBytes(encodeZip(entries, { comment: "made by hand" }))).size).toBe(3);
    expect((await readBytes(encodeZip(entries, { zip64: false }))).size).toBe(3);
  });
});

test("mutants of a file of tensors, 1000 of them, are read soundly or refused", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "model.pth");
  const sound = encodeTorch(small);
  // Half of the changes in the pickle, half in the directory: what lies between is weights.
  const directory = sound.indexOf(Buffer.from("PK\x01\x02", "latin1"));
  const turned = (bytes: Buffer) => Buffer.concat([bytes.subarray(directory), bytes.subarray(0, directory)]);
  const turnedBack = (bytes: Buffer) => {
    const at = bytes.length - directory;
    return Buffer.concat([bytes.subarray(at), bytes.subarray(0, at)]);
  };
  const outcomes = { read: 0, refused: 0 };
  const property = fc.asyncProperty(
    fc.boolean(),
    fc.array(mutation, { minLength: 1, maxLength: 3 }),
    async (end, changes) => {
      let bytes = end ? turned(sound) : sound;
      for (const change of changes) if (bytes.length > directory + 8) bytes = mutate(bytes, 400, change);
      writeFileSync(path, end && bytes.length > directory ? turnedBack(bytes) : bytes);
      try {
        for (const { offset, bytes: length } of (await readTorch(path)).values()) {
          expect(offset > 0 && length > 0 && offset + length < bytes.length).toBe(true);
        }
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof CriaError)) throw error;
        expect(error.message.startsWith(path)).toBe(true);
        outcomes.refused++;
      }
    },
  );
  await fc.assert(property, { numRuns: 1000, seed: 20_230_227 });
  expect(outcomes.read).toBeGreaterThan(10);
  expect(outcomes.refused).toBeGreaterThan(500);
});
