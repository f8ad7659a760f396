import { mkdir, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { CriaError } from "../../lib/errors.js";
import { isSafetensors, readSafetensors, type Safetensors } from "../../lib/weights/safetensors.js";
import { readSafetensorsFolder } from "../../lib/weights/safetensors-shards.js";
import { dataFile, needFiles } from "../support/data.js";
import { temporaryFolder } from "../support/gguf-writer.js";
import { mutate, mutation } from "../support/mutants.js";
import { encodeSafetensors, type SafetensorsFile, type SafetensorsSpec } from "../support/safetensors-writer.js";

/** Two small tensors: the least that can be spoiled in every way. Their data has 48 bytes. */
const small = (changes: Partial<SafetensorsFile> = {}): SafetensorsFile => ({
  tensors: { first: { dtype: "F32", shape: [2, 4] }, second: { dtype: "BF16", shape: [8] } },
  ...changes,
});

const smallWith = (second: Partial<SafetensorsSpec>): SafetensorsFile =>
  small({ tensors: { ...small().tensors, second: { ...small().tensors.second!, ...second } } });

async function read(content: SafetensorsFile): Promise<Safetensors> {
  await using folder = await temporaryFolder();
  return await readSafetensors(await folder.write("model.safetensors", encodeSafetensors(content)));
}

describe("sound files", () => {
  test("tensors stand where the header says, each with its type and shape", async () => {
    const { tensors, metadata, files } = await read(small({ metadata: { format: "pt", __proto__x: "1" } }));
    expect([...tensors.values()]).toMatchObject([
      { name: "first", dtype: "F32", shape: [2, 4], bytes: 32 },
      { name: "second", dtype: "BF16", shape: [8], bytes: 16 },
    ]);
    expect(tensors.get("second")!.offset - tensors.get("first")!.offset).toBe(32);
    expect(tensors.get("second")!.offset + 16).toBe(files[0]!.size);
    expect(metadata).toEqual(
      new Map([
        ["format", "pt"],
        ["__proto__x", "1"],
      ]),
    );
  });

  test("a scalar, an empty tensor, no tensors at all, and padding after the header", async () => {
    const { tensors } = await read({
      tensors: { scalar: { dtype: "I64", shape: [] }, empty: { dtype: "F16", shape: [3, 0, 2 ** 52] } },
    });
    expect([...tensors.values()]).toMatchObject([{ bytes: 8 }, { bytes: 0 }]);
    expect((await read({ tensors: {} })).tensors.size).toBe(0);
    expect((await read({ tensors: {}, header: "{}      " })).tensors.size).toBe(0);
  });

  test("names that objects have already are names like any other", async () => {
    const header = '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":'.concat(
      '{"data_offsets":[1,2],"dtype":"BOOL","shape":[1]}}',
    );
    const { tensors } = await read({ tensors: {}, header, trailing: Buffer.alloc(2) });
    expect([...tensors.keys()]).toEqual(["__proto__", "constructor"]);
    expect(({} as { dtype?: string }).dtype).toBeUndefined();
  });

  test("order in the header is not order in the file", async () => {
    const header =
      '{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}}';
    const { tensors } = await read({ tensors: {}, header, trailing: Buffer.alloc(3) });
    expect(tensors.get("a")!.offset + 1).toBe(tensors.get("b")!.offset);
  });

  test("a file that others wrote", async (context) => {
    const path = dataFile("tinystories-656k-hf", "model.safetensors");
    needFiles(context, path);
    const { tensors, metadata } = await readSafetensors(path);
    expect(metadata.get("format")).toBe("pt");
    expect(tensors.size).toBe(20);
    expect(tensors.get("lm_head.weight")).toMatchObject({ dtype: "F32", shape: [2048, 128] });
    expect(await isSafetensors(path)).toBe(true);
    expect(await isSafetensors(dataFile("tinystories-656k-hf", "config.json"))).toBe(false);
  });
});

describe("damaged files", () => {
  const entry = (changes: string) => `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]${changes}}}`;
  const cases: [what: string, content: SafetensorsFile | Uint8Array, message: RegExp, subject?: string][] = [
    ["no header", Buffer.alloc(5), /must begin with its header's length, but has 5 bytes/],
    ["a header beyond 100 MB", small({ length: 100_000_001n }), /header must be of at most 100000000 bytes/],
    ["a header of 2^64 - 1 bytes", small({ length: 2n ** 64n - 1n }), /of at most 100000000 bytes/],
    ["a header beyond the file", small({ length: 5000n }), /header must end within the file's \d+ bytes/],
    ["a header that is not UTF-8", small({ header: Uint8Array.of(0x7b, 0xff, 0x7d) }), /must be UTF-8/],
    ["a header that is no JSON", small({ header: "{'first'}" }), /its header must have a string, a key,/],
    ["a header that is an array", small({ header: "[]" }), /must have an object, the header,/],
    ["a header that ends early", small({ header: '{"first":' }), /not its end/],
    ["a header that goes on", small({ header: "{} x" }), /must have the end at character 3/],
    ["a deep header", small({ header: `{"a":${"[".repeat(200_000)}` }), /must have an object, "a",/],
    ["a string that does not end", small({ header: '{"a' }), /must have a string/],
    ["a control character in a string", small({ header: '{"a\n":{}}' }), /must have a string/],
    ["a name that stands twice", small({ header: entry("").replace("}}", '},"a":{}}') }), /must have the key "a"/],
    ["a field that stands twice", small({ header: entry(',"dtype":"I8"') }), /must have the key "dtype" of "a" once/],
    ["an unknown field", small({ header: entry(',"color":1') }), /not "color"/, "a"],
    ["metadata that is no string", small({ header: '{"__metadata__":{"a":1}}' }), /the value of "a"/],
    [
      "metadata without end",
      small({ metadata: Object.fromEntries(Array.from({ length: 65_537 }, (_, i) => [`${i}`, ""])) }),
      /its header must have at most 65536 keys of metadata/,
    ],
    [
      "tensors without end",
      small({ header: `{${Array.from({ length: 65_537 }, (_, i) => `"${i}":{}`).join()}}` }),
      /its header must have at most 65536 tensors/,
    ],
    ["no shape", small({ header: '{"a":{"dtype":"U8","data_offsets":[0,1]}}' }), /must have a shape/, "a"],
    ["no type", small({ header: '{"a":{"shape":[1],"data_offsets":[0,1]}}' }), /must have a dtype/, "a"],
    ["no offsets", small({ header: '{"a":{"dtype":"U8","shape":[1]}}' }), /must have data_offsets/, "a"],
    ["one offset", smallWith({ offsets: [32] }), /must have data_offsets/, "second"],
    ["three offsets", smallWith({ offsets: [32, 48, 48] }), /data_offsets must have at most 2/, "second"],
    ["too many dimensions", smallWith({ shape: Array(65).fill(1) }), /shape must have at most 64/, "second"],
    ["a negative dimension", smallWith({ shape: [-8], data: Buffer.alloc(16) }), /must have shape, an integer/],
    ["a fraction", smallWith({ shape: [1.5], data: Buffer.alloc(16) }), /must have a comma or a closing bracket/],
    ["2^53", small({ header: entry("").replace("[1]", "[9007199254740992]") }), /must have shape, an integer from 0/],
    ["many digits", small({ header: entry("").replace("[1]", `[${"1".repeat(5000)}]`) }), /must have shape/],
    ["a leading zero", small({ header: entry("").replace("[1]", "[01]") }), /must have shape/],
    ["an exponent", small({ header: entry("").replace("[1]", "[1e0]") }), /a comma or a closing bracket/],
    [
      "a shape whose product overflows",
      smallWith({ shape: [2 ** 52, 2 ** 12], data: Buffer.alloc(16) }),
      /takes 36893488147419103232 bytes/,
      "second",
    ],
    ["a shape that is too long", smallWith({ shape: [9], data: Buffer.alloc(16) }), /takes 18 bytes/, "second"],
    ["offsets that end before they begin", smallWith({ offsets: [48, 32] }), /must not end at 32/, "second"],
    ["overlapping tensors", smallWith({ offsets: [16, 32] }), /must not overlap what stands before it/, "second"],
    ["a hole", smallWith({ offsets: [40, 56] }), /must end within the file's/, "second"],
    [
      "a hole that fits into the file",
      { ...smallWith({ offsets: [40, 56] }), trailing: Buffer.alloc(8) },
      /must not leave a hole before it: first ends at \d+, and its data begins at/,
      "second",
    ],
    [
      "a hole at the beginning",
      { tensors: { a: { dtype: "U8", shape: [4], offsets: [4, 8] } }, trailing: Buffer.alloc(4) },
      /must not leave a hole before it: the header ends at/,
      "a",
    ],
    ["bytes after the tensors", small({ trailing: Buffer.alloc(1) }), /must end where its tensors do/],
    ["a file that was cut", encodeSafetensors(small()).subarray(0, -1), /its data must end within/, "second"],
  ];
  test.each(cases)("%s", async (_, content, message, subject) => {
    await using folder = await temporaryFolder();
    const bytes = content instanceof Uint8Array ? content : encodeSafetensors(content);
    const path = await folder.write("model.safetensors", bytes);
    await expect(readSafetensors(path)).rejects.toMatchObject({
      name: "CriaFileError",
      code: "ERR_CRIA_FILE",
      file: path,
      subject,
      message: expect.stringMatching(message),
    });
  });

  test("a type that is not known is not supported", async () => {
    await expect(read(smallWith({ dtype: "F4", data: Buffer.alloc(16) }))).rejects.toMatchObject({
      code: "ERR_CRIA_UNSUPPORTED",
      subject: "second",
      message: expect.stringContaining("(F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U64, U32, U16, U8"),
    });
  });

  test("a folder, a missing file and an empty one", async () => {
    await using folder = await temporaryFolder();
    await expect(readSafetensors(folder.path)).rejects.toThrow("must be a regular file");
    await expect(readSafetensors(join(folder.path, "none"))).rejects.toThrow("no such file or directory");
    await expect(readSafetensors(await folder.write("empty", Buffer.alloc(0)))).rejects.toThrow("must not be empty");
  });

  test("cut and mutated, a file is read or refused", async () => {
    await using folder = await temporaryFolder();
    // A long text among the keys, in which a changed byte may be as good as what was there.
    const sound = encodeSafetensors(small({ metadata: { format: "x".repeat(200) } }));
    const header = sound.length - 48;
    const path = join(folder.path, "model.safetensors");
    const outcomes = { read: 0, refused: 0 };
    const property = fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 3 }), async (changes) => {
      const mutant = changes.reduce(
        (bytes, change) => (bytes.length > 8 ? mutate(bytes, header, change) : bytes),
        sound,
      );
      await writeFile(path, mutant);
      try {
        for (const { offset, bytes } of (await readSafetensors(path)).tensors.values()) {
          expect(Number.isSafeInteger(offset) && offset >= 8 && offset + bytes <= mutant.length).toBe(true);
        }
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof CriaError)) throw error;
        expect(error.message.startsWith(path)).toBe(true);
        outcomes.refused++;
      }
    });
    await fc.assert(property, { numRuns: 2000, seed: 20_230_227 });
    // Both must occur, or the mutants test nothing.
    expect(outcomes.read).toBeGreaterThan(20);
    expect(outcomes.refused).toBeGreaterThan(1000);
  });
});

describe("folders", () => {
  const shard = (...names: string[]) =>
    encodeSafetensors({ tensors: Object.fromEntries(names.map((name) => [name, { dtype: "U8", shape: [4] }])) });
  const index = (weight_map: unknown) => Buffer.from(JSON.stringify({ metadata: { total_size: 12 }, weight_map }));
  const indexName = "model.safetensors.index.json";

  test("shards are read as their index lists them", async () => {
    await using folder = await temporaryFolder();
    await folder.write("1.safetensors", shard("a", "b"));
    const second = await folder.write("2.safetensors", shard("c"));
    await folder.write(indexName, index({ c: "2.safetensors", a: "1.safetensors", b: "1.safetensors" }));
    const { tensors, files } = await readSafetensorsFolder(folder.path);
    expect([...tensors.keys()]).toEqual(["a", "b", "c"]);
    expect(tensors.get("c")!.file).toBe(second);
    expect(files).toHaveLength(2);
  });

  test("a model that is one file, under the usual name or another", async () => {
    await using folder = await temporaryFolder();
    const other = await folder.write("gptq_model-4bit-128g.safetensors", shard("a"));
    expect((await readSafetensorsFolder(folder.path)).files[0]!.path).toBe(other);
    const usual = await folder.write("model.safetensors", shard("b"));
    expect((await readSafetensorsFolder(folder.path)).files[0]!.path).toBe(usual);
    await unlink(usual);
    await folder.write("more.safetensors", shard("c"));
    await expect(readSafetensorsFolder(folder.path)).rejects.toThrow("but has 2 others");
  });

  test("a folder of pickles, and none at all", async () => {
    await using folder = await temporaryFolder();
    await expect(readSafetensorsFolder(folder.path)).rejects.toThrow("but has none");
    await folder.write("pytorch_model-00001-of-00002.bin", Buffer.of(1));
    await expect(readSafetensorsFolder(folder.path)).rejects.toThrow(
      "has pytorch_model-00001-of-00002.bin, which is a pickle and must be saved as safetensors first",
    );
    await expect(readSafetensorsFolder(join(folder.path, "none"))).rejects.toThrow("no such file or directory");
  });

  test.each<[what: string, weightMap: unknown, message: string]>([
    ["a shard that is missing", { a: "1.safetensors", b: "3.safetensors" }, "3.safetensors: a shard that model"],
    ["a tensor in another shard", { a: "2.safetensors" }, "a: must stand in this shard, as model.safetensors.index"],
    ["a tensor in two shards", { a: "1.safetensors", b: "2.safetensors", c: "4.safetensors" }, "stands in"],
    ["a name that leaves the folder", { a: "../1.safetensors" }, 'of the folder, not "../1.safetensors"'],
    ["an absolute name", { a: "/etc/passwd" }, 'must be the name of a file of the folder, not "/etc/passwd"'],
    ["another system's path", { a: "..\\1.safetensors" }, "must be the name of a file of the folder"],
    ["the folder itself", { a: "." }, "must be the name of a file of the folder"],
    ["a name that is none", { a: 1 }, "weight_map.a: must be a shard's name, not 1"],
    ["an index without tensors", {}, "weight_map: must list at least one tensor"],
    ["an index without a map", undefined, "weight_map: must be an object, but is missing"],
    ["an index whose map is an array", [], "weight_map: must be an object, not"],
  ])("%s", async (_, weightMap, message) => {
    await using folder = await temporaryFolder();
    await folder.write("1.safetensors", shard("a"));
    await folder.write("2.safetensors", shard("b"));
    await folder.write("4.safetensors", shard("c", "a"));
    await folder.write(indexName, index(weightMap));
    const refused = readSafetensorsFolder(folder.path);
    await expect(refused).rejects.toMatchObject({ name: "CriaFileError", code: "ERR_CRIA_FILE" });
    await expect(refused).rejects.toThrow(message);
  });

  test("an index that is no JSON, no object, no UTF-8, or too long", async () => {
    await using folder = await temporaryFolder();
    const refusal = async (content: Uint8Array) => {
      await folder.write(indexName, content);
      return readSafetensorsFolder(folder.path);
    };
    await expect(refusal(Buffer.from("{"))).rejects.toThrow("must be JSON: ");
    await expect(refusal(Buffer.from("[]"))).rejects.toThrow("must hold a JSON object, not Array");
    await expect(refusal(Buffer.of(0x22, 0xff, 0x22))).rejects.toThrow("must be UTF-8 throughout");
    await truncate(join(folder.path, indexName), 2 ** 40);
    await expect(readSafetensorsFolder(folder.path)).rejects.toThrow("must be of at most 8388608 bytes");
    await unlink(join(folder.path, indexName));
    await mkdir(join(folder.path, indexName));
    await expect(readSafetensorsFolder(folder.path)).rejects.toThrow("must be a regular file");
  });
});
