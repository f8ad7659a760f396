import { execFileSync } from "node:child_process";
import { truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import { gguf as libraryGguf } from "@huggingface/gguf";
import { describe, expect, test } from "vitest";

import { type Gguf, readGguf } from "../../lib/weights/gguf.js";
import type { GgufValue } from "../../lib/weights/gguf-header.js";
import { type WeightType, weightFormats } from "../../lib/weights/source.js";
import { dataFile, needFiles, packageFile } from "../support/data.js";
import {
  array,
  bool,
  encodeGguf,
  f32,
  type GgufFile,
  i32,
  llamaFile,
  raw,
  splitGguf,
  string,
  type TemporaryFolder,
  type TensorSpec,
  temporaryFolder,
  u8,
  u16,
  u32,
  u64,
  valueTypes,
} from "../support/gguf-writer.js";

/** Two small tensors and a key: the least that can be spoiled in every way. */
const small = (changes: Partial<GgufFile> = {}): GgufFile => ({
  metadata: { "a.key": u32(7) },
  tensors: [
    { name: "first", shape: [32, 4], type: "q8_0" },
    { name: "second", shape: [8], type: "f32" },
  ],
  ...changes,
});

const smallWith = (second: Partial<TensorSpec>): GgufFile =>
  small({ tensors: [small().tensors[0]!, { ...small().tensors[1]!, ...second }] });

async function read(content: GgufFile | Uint8Array): Promise<Gguf> {
  await using folder = await temporaryFolder();
  return await readGguf(await folder.write("model.gguf", content));
}

interface Refusal {
  /** The message after the file's path. */
  message: string;
  subject?: string | undefined;
  code?: "ERR_CRIA_UNSUPPORTED";
}

async function expectRefusal(content: GgufFile | Uint8Array, { message, subject, code }: Refusal): Promise<void> {
  await using folder = await temporaryFolder();
  const path = await folder.write("model.gguf", content);
  await expect(readGguf(path)).rejects.toMatchObject({
    name: "CriaFileError",
    code: code ?? "ERR_CRIA_FILE",
    file: path,
    subject,
    message: subject === undefined ? `${path}: ${message}` : `${path}: ${subject}: ${message}`,
  });
}

const tooMany = (what: string, room: number, size: number, value: number | bigint): string =>
  `its ${what} must be at most ${room}, which is all that fits into the file's ${size} bytes, not ${value}`;

/** A value as @huggingface/gguf gives it. */
const plain = ({ value }: GgufValue): unknown => (typeof value === "object" ? Array.from<unknown>(value) : value);

/** Checks that @huggingface/gguf reads the same keys and tensors. */
async function expectSameAsLibrary(path: string): Promise<void> {
  const ours = await readGguf(path);
  const { metadata, tensorInfos, tensorDataOffset } = await libraryGguf(path, { allowLocalFile: true });
  const { version, tensor_count, kv_count, ...entries } = metadata as Record<string, unknown>;
  expect(Object.fromEntries([...ours.metadata.entries].map(([key, value]) => [key, plain(value)]))).toEqual(entries);
  expect(ours.version).toBe(version);
  expect(
    [...ours.tensors.values()].map(({ name, shape, type, offset }) => [name, shape, weightFormats[type].id, offset]),
  ).toEqual(tensorInfos.map((it) => [it.name, it.shape.map(Number), it.dtype, Number(tensorDataOffset + it.offset)]));
}

describe("sound files", () => {
  test.each([2, 3])("version %i is read as it was written", async (version) => {
    const file = await read(small({ version }));
    expect(file.version).toBe(version);
    expect(file.files).toHaveLength(1);
    expect([...file.tensors.values()]).toMatchObject([
      { name: "first", type: "q8_0", rows: 4, cols: 32, shape: [32, 4], bytes: 136 },
      { name: "second", type: "f32", rows: 1, cols: 8, shape: [8], bytes: 32 },
    ]);
    const [first, second] = file.tensors.values();
    expect(first!.offset % 32).toBe(0);
    expect(second!.offset - first!.offset).toBe(160); // 136 bytes, padded to 32
    expect(second!.offset + second!.bytes).toBe(file.files[0]!.size);
  });

  test("every weight type has its block's bytes", async () => {
    const types: WeightType[] = ["f32", "f16", "bf16", "q8_0", "q4_0"];
    const file = await read(small({ tensors: types.map((type) => ({ name: type, shape: [64, 3, 2], type })) }));
    const bytes = { f32: 1536, f16: 768, bf16: 768, q8_0: 408, q4_0: 216 };
    expect(Object.fromEntries([...file.tensors].map(([name, it]) => [name, it.bytes]))).toEqual(bytes);
    expect(file.tensors.get("f16")).toMatchObject({ cols: 64, rows: 6 });
  });

  test("every value type, and a U+FEFF that a text decoder would drop", async () => {
    const metadata = {
      u8: u8(255),
      u64: u64(2n ** 40n),
      f32: f32(0.5),
      bool: bool(true),
      string: string("\ufeffé▁"),
      strings: array("string", ["\ufeff", "", "x"]),
      floats: array("f32", [1, -2.5]),
      integers: array("i32", [-1, 5]),
      longs: array("u64", [2n ** 63n]),
      bools: array("bool", [true, false]),
    };
    const { metadata: keys } = await read(small({ metadata }));
    expect(keys.integer("u8", 0, 255)).toBe(255);
    expect(keys.integer("u64", 0, Number.MAX_SAFE_INTEGER)).toBe(2 ** 40);
    expect(keys.float("f32", "any f32", () => true)).toBe(0.5);
    expect(keys.boolean("bool")).toBe(true);
    expect(keys.string("string")).toBe("\ufeffé▁");
    expect(keys.strings("strings")).toEqual(["\ufeff", "", "x"]);
    expect(keys.floats("floats")).toEqual(Float32Array.of(1, -2.5));
    expect(keys.integers("integers")).toEqual(Int32Array.of(-1, 5));
    expect(keys.entries.get("longs")!.value).toEqual(BigUint64Array.of(2n ** 63n));
    expect(keys.entries.get("bools")).toEqual({ type: "array", element: "bool", value: Uint8Array.of(1, 0) });
    expect(keys.string("absent", undefined)).toBeUndefined();
    expect(keys.integer("absent", 0, 9, 3)).toBe(3);
  });

  test("a general.alignment of its own places the data", async () => {
    const file = await read(small({ alignment: 4096, metadata: { "general.alignment": u32(4096) } }));
    expect([...file.tensors.values()].map((it) => it.offset)).toEqual([4096, 8192]);
  });

  test("a header longer than the first read", async () => {
    const words = Array.from({ length: 200_000 }, (_, i) => `a word of some length ${i}`);
    const file = await read(
      small({ metadata: { words: array("string", words), after: string("x".repeat(3_000_000)) } }),
    );
    expect(file.metadata.strings("words")).toEqual(words);
    expect(file.metadata.string("after")).toHaveLength(3_000_000);
    expect(file.tensors.size).toBe(2);
  });

  test("@huggingface/gguf reads the same of a file that we wrote", async () => {
    await using folder = await temporaryFolder();
    await expectSameAsLibrary(await folder.write("model.gguf", llamaFile()));
  });

  test.for([
    packageFile("models", "cria-tiny-q8_0.gguf"),
    dataFile("stories260K", "stories260Ktok512.gguf"),
    dataFile("fixtures", "tiny-bf16.gguf"),
    dataFile("fixtures", "tiny-q4_0.gguf"),
    dataFile("fixtures", "tiny-odd.gguf"),
  ])("@huggingface/gguf reads the same of %s", async (path, context) => {
    needFiles(context, path);
    await expectSameAsLibrary(path);
  });

  test("LLaMA's piece 30143 is U+FEFF", async (context) => {
    const path = dataFile("tokenizer", "ggml-vocab-llama-spm.gguf");
    needFiles(context, path);
    const { metadata } = await readGguf(path);
    expect(metadata.strings("tokenizer.ggml.tokens")[30143]).toBe("\ufeff");
    expect(metadata.strings("tokenizer.ggml.tokens")).not.toContain("");
  });
});

describe("files that are not what they should be", () => {
  test("a path that is not a string", async () => {
    await expect(readGguf(5 as never)).rejects.toMatchObject({
      name: "TypeError",
      code: "ERR_CRIA_ARGUMENT",
      message: "path: must be a string, not 5",
    });
  });

  test("no such file, a folder, a pipe, an empty file", async () => {
    await using folder = await temporaryFolder();
    const absent = join(folder.path, "absent.gguf");
    const pipe = join(folder.path, "pipe.gguf");
    execFileSync("mkfifo", [pipe]);
    const refusal = (path: string, problem: string) =>
      expect(readGguf(path)).rejects.toMatchObject({
        code: "ERR_CRIA_FILE",
        file: path,
        message: `${path}: ${problem}`,
      });
    await refusal(absent, "cannot be read: no such file or directory");
    await refusal(folder.path, "must be a regular file");
    await refusal(pipe, "must be a regular file");
    await refusal(await folder.write("empty.gguf", Buffer.alloc(0)), "must not be empty");
    await expect(readGguf("a\0b")).rejects.toMatchObject({ code: "ERR_CRIA_FILE", cause: expect.any(TypeError) });
  });

  test("another magic, a cut one, and other versions", async () => {
    const unsupported = (message: string): Refusal => ({ message, code: "ERR_CRIA_UNSUPPORTED" });
    await expectRefusal(small({ magic: "ggjt" }), { message: 'must begin with "GGUF", not "ggjt"' });
    await expectRefusal(Buffer.from("GG"), { message: "its header must end within the file's 2 bytes" });
    await expectRefusal(small({ version: 1 }), unsupported("must be GGUF version 2 or 3, not 1"));
    await expectRefusal(small({ version: 4 }), unsupported("must be GGUF version 2 or 3, not 4"));
    const bigEndian = unsupported("must be a little-endian GGUF file, not a big-endian one");
    await expectRefusal(small({ version: 0x03000000 }), bigEndian);
  });

  test("absurd counts", async () => {
    const size = encodeGguf(small()).length;
    const room = Math.floor((size - 16) / 33);
    await expectRefusal(small({ tensorCount: 2n ** 64n - 1n }), {
      message: tooMany("number of tensors", room, size, 2n ** 64n - 1n),
    });
    await expectRefusal(small({ keyCount: 1_000_000n }), {
      message: tooMany("number of keys", Math.floor((size - 24) / 14), size, 1000000),
    });
    const sparse = Buffer.concat([encodeGguf(small({ keyCount: 70_000n })), Buffer.alloc(2_000_000)]);
    await expectRefusal(sparse, { message: "its number of keys must be at most 65536, not 70000" });
  });

  test("a header as long as a very large file", async () => {
    await using folder = await temporaryFolder();
    const metadata = { zeros: array("u8", [], 2 ** 33) };
    const path = await folder.write("model.gguf", small({ metadata }));
    await truncate(path, 2 ** 34); // sparse: takes no room
    const room = 2 ** 25 - (24 + 8 + "zeros".length + 4 + 12);
    await expect(readGguf(path)).rejects.toMatchObject({
      message:
        `${path}: zeros: its number of elements must be at most ${room}, ` +
        "which is all that fits into the 33554432 bytes that a header may take, not 8589934592",
    });
  });

  const keys: [what: string, file: GgufFile, Refusal][] = [
    ["twice", small({ repeat: ["a.key"] }), { subject: "a.key", message: "stands twice among the keys" }],
    [
      "without a name",
      small({ metadata: { "": u8(1) } }),
      { subject: "key 1 of 1", message: "its name must not be empty" },
    ],
    [
      "of an unknown type",
      small({ metadata: { "a.key": raw(13, Buffer.alloc(8)) } }),
      { subject: "a.key", message: "must be of a value type from 0 to 12, not 13" },
    ],
    [
      "that is an array of an unknown type",
      small({ metadata: { "a.key": raw(valueTypes.array, Buffer.alloc(12, 99)) } }),
      { subject: "a.key", message: `must be of a value type from 0 to 12, not ${0x63636363}` },
    ],
    [
      "that is an array of arrays",
      small({ metadata: { "a.key": raw(valueTypes.array, Buffer.from([9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])) } }),
      { subject: "a.key", message: "must not be an array of arrays", code: "ERR_CRIA_UNSUPPORTED" },
    ],
    [
      "that is a bool of 2",
      small({ metadata: { "a.key": bool(2) } }),
      { subject: "a.key", message: "must be 0 or 1, being a bool, not 2" },
    ],
    [
      "general.alignment that is no power of two",
      small({ metadata: { "general.alignment": u32(24) } }),
      { subject: "general.alignment", message: "must be a power of two, not 24" },
    ],
    [
      "general.alignment that is a string",
      small({ metadata: { "general.alignment": string("32") } }),
      { subject: "general.alignment", message: 'must be an integer from 8 to 65536, not "32" (string)' },
    ],
    [
      "general.alignment beyond any page",
      small({ metadata: { "general.alignment": u64(2n ** 40n) } }),
      { subject: "general.alignment", message: "must be an integer from 8 to 65536, not 1099511627776n (u64)" },
    ],
  ];
  test.each(keys)("a key %s", async (_, file, refusal) => {
    await expectRefusal(file, refusal);
  });

  test("strings and arrays longer than the file", async () => {
    const tokens = small({ metadata: { tokens: array("string", ["a"], 2n ** 60n) } });
    const size = encodeGguf(tokens).length;
    const left = size - (24 + 8 + "tokens".length + 4 + 12);
    await expectRefusal(tokens, {
      subject: "tokens",
      message: tooMany("number of elements", Math.floor(left / 8), size, 2n ** 60n),
    });
    const text = small({ metadata: { text: raw(valueTypes.string, u64(10_000).bytes) } });
    const textSize = encodeGguf(text).length;
    await expectRefusal(text, {
      subject: "text",
      message: tooMany("length", textSize - (24 + 8 + "text".length + 4 + 8), textSize, 10000),
    });
  });

  const size = encodeGguf(small()).length;
  const inside = `its data must end within the file's ${size} bytes`;
  const tensors: [what: string, file: GgufFile, Refusal][] = [
    ["without a name", smallWith({ name: "" }), { subject: "tensor 2 of 2", message: "its name must not be empty" }],
    ["twice", smallWith({ name: "first" }), { subject: "first", message: "stands twice among the tensors" }],
    [
      "of no dimensions",
      smallWith({ shape: [], data: Buffer.alloc(32) }),
      { subject: "second", message: "must have 1 to 4 dimensions, not 0" },
    ],
    [
      "of five dimensions",
      smallWith({ shape: [8, 1, 1, 1, 1] }),
      { subject: "second", message: "must have 1 to 4 dimensions, not 5" },
    ],
    [
      "of a dimension of 0",
      smallWith({ shape: [8, 0] }),
      { subject: "second", message: "its dimensions must be positive and their product below 2^53, not [8, 0]" },
    ],
    [
      "of dimensions that overflow",
      smallWith({ shape: [2n ** 32n, 2n ** 32n], data: Buffer.alloc(32) }),
      {
        subject: "second",
        message: "its dimensions must be positive and their product below 2^53, not [4294967296, 4294967296]",
      },
    ],
    [
      "larger than the file",
      smallWith({ shape: [9], data: Buffer.alloc(32) }),
      {
        subject: "second",
        message: `${inside}, not at ${size + 4}`,
      },
    ],
    [
      "far past the file's end",
      smallWith({ offset: 2n ** 63n }),
      { subject: "second", message: `${inside}, not at ${2n ** 63n + BigInt(size - 160)}` },
    ],
    [
      "at a misaligned offset",
      smallWith({ offset: 4n }),
      { subject: "second", message: "its offset must be a multiple of the alignment, 32, not 4" },
    ],
    [
      "of a type that cria does not read",
      smallWith({ shape: [256], type: 23, data: Buffer.alloc(136) }),
      {
        subject: "second",
        message:
          "must be of a type that cria reads (F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, " +
          "IQ4_NL, BF16), not IQ4_XS",
        code: "ERR_CRIA_UNSUPPORTED",
      },
    ],
    [
      "of a type that nobody knows",
      smallWith({ type: 77, data: Buffer.alloc(32) }),
      { subject: "second", message: "must be of a type that GGUF defines, not 77" },
    ],
    [
      "of rows that are not whole blocks",
      smallWith({ shape: [48, 2], type: "q4_0", data: Buffer.alloc(54) }),
      { subject: "second", message: "the length of a row must be a multiple of Q4_0's block of 32, not 48" },
    ],
  ];
  test.each(tensors)("a tensor %s", async (_, file, refusal) => {
    await expectRefusal(file, refusal);
  });

  test("tensors that overlap", async () => {
    await using folder = await temporaryFolder();
    const path = await folder.write("model.gguf", smallWith({ offset: 128n }));
    const start = (await readGguf(await folder.write("sound.gguf", small()))).tensors.get("first")!.offset;
    await expect(readGguf(path)).rejects.toMatchObject({
      code: "ERR_CRIA_FILE",
      subject: "second",
      message:
        `${path}: second: its data must not overlap that of first, ` +
        `bytes ${start} to ${start + 136}, but begins at ${start + 128}`,
    });
  });

  test("cut at any byte", async () => {
    await using folder = await temporaryFolder();
    const whole = encodeGguf(small());
    for (let length = 1; length < whole.length; length++) {
      const path = await folder.write("model.gguf", whole.subarray(0, length));
      await expect(readGguf(path), `${length} bytes`).rejects.toMatchObject({ name: "CriaFileError", file: path });
    }
  });
});

describe("split models", () => {
  /** Writes a model in three parts, changed by `spoil`, and returns their paths. */
  function writeParts(folder: TemporaryFolder, spoil: (parts: GgufFile[]) => void = () => {}): Promise<string[]> {
    const parts = splitGguf(llamaFile(), "model", 3, 11);
    spoil([...parts.values()]);
    return Promise.all([...parts].map(([name, part]) => folder.write(name, part)));
  }

  test("any part leads to all of them", async () => {
    await using folder = await temporaryFolder();
    const paths = await writeParts(folder);
    const whole = await readGguf(await folder.write("whole.gguf", llamaFile()));
    for (const path of paths) {
      const split = await readGguf(path);
      expect(split.files.map((file) => file.path)).toEqual(paths);
      expect([...split.tensors.keys()]).toEqual([...whole.tensors.keys()]);
      expect(split.metadata.string("general.architecture")).toBe("llama");
      for (const [name, tensor] of split.tensors) {
        const { type, shape, bytes } = whole.tensors.get(name)!;
        expect(tensor).toMatchObject({ type, shape, bytes });
      }
    }
    expect((await readGguf(paths[0]!)).tensors.get("output.weight")!.file).toBe(paths[2]);
  });

  test("a missing part is named", async () => {
    await using folder = await temporaryFolder();
    const paths = await writeParts(folder);
    await unlink(paths[1]!);
    for (const given of [paths[0]!, paths[2]!]) {
      await expect(readGguf(given)).rejects.toMatchObject({
        code: "ERR_CRIA_FILE",
        file: paths[1],
        subject: "part 2 of 3",
        message: `${paths[1]}: part 2 of 3: cannot be read: no such file or directory`,
      });
    }
  });

  const spoils: [key: string, part: number, spoil: (part: GgufFile) => void, message: string][] = [
    [
      "split.count",
      1,
      ({ metadata }) => (metadata["split.count"] = u16(4)),
      "must be 3, the parts that the file's name gives, not 4",
    ],
    [
      "split.no",
      2,
      ({ metadata }) => (metadata["split.no"] = u16(0)),
      "must be 2, the place that the file's name gives it, from 0, not 0",
    ],
    [
      "split.tensors.count",
      0,
      ({ metadata }) => (metadata["split.tensors.count"] = i32(22)),
      "must be 21, the tensors of all parts, not 22",
    ],
    ["output.weight", 2, ({ tensors }) => (tensors[0]!.name = "output.weight"), "stands twice among the tensors"],
  ];
  test.each(spoils)("a wrong %s in part %i", async (subject, part, spoil, problem) => {
    await using folder = await temporaryFolder();
    const paths = await writeParts(folder, (parts) => spoil(parts[part]!));
    const message = `${paths[part]}: ${subject}: ${problem}`;
    await expect(readGguf(paths[0]!)).rejects.toMatchObject({ code: "ERR_CRIA_FILE", subject, message });
  });

  test("a part under a name that is not a part's", async () => {
    await using folder = await temporaryFolder();
    const [first] = [...splitGguf(llamaFile(), "model", 3).values()];
    const path = await folder.write("renamed.gguf", first!);
    const message = `${path}: split.count: must be 1, the parts that the file's name gives, not 2`;
    await expect(readGguf(path)).rejects.toMatchObject({ code: "ERR_CRIA_FILE", message });
    const fifth = await folder.write("model-00005-of-00003.gguf", first!);
    const outside = `${fifth}: its name must give a part from 00001 to 00003, not 00005`;
    await expect(readGguf(fifth)).rejects.toMatchObject({ code: "ERR_CRIA_FILE", message: outside });
  });
});
