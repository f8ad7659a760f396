import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { batchOf } from "../bench/cache.js";
import { CriaError } from "../lib/errors.js";
import { type Native, native } from "../lib/native.js";
import { packageFile } from "./support/data.js";
import { junk as anyJunk, detached } from "./support/junk.js";

type Name = keyof Native;
type Call = (...args: unknown[]) => unknown;

const call = (name: Name, args: readonly unknown[], self: unknown = undefined): unknown =>
  Reflect.apply(native[name] as Call, self, args);

const shape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 } as const;
const ropeOptions = { heads: 1, rotaryDim: 8, halves: false, theta: 10_000, scale: 1 };
const batch = () => batchOf([{ length: 1, past: 0, blocks: [0] }], () => 0, [0]);
const cache = () => ({ ...shape, blocks: 1, k: new Float32Array(128), v: new Float32Array(128) });
const int4 = () => ({
  layout: "gptq" as const,
  zerosLessOne: true,
  inputs: 32,
  outputs: 8,
  groups: 1,
  weights: new Int32Array(32),
  zeros: new Int32Array(1),
  scales: new Uint16Array(8),
  columns: new Int32Array(32),
  columnGroups: new Int32Array(1),
});
const floats = (n: number) => new Float32Array(n);

const openDevice = () => native.deviceOpen("cpu", "scalar", 1);
const device = openDevice();
const newMatrix = () => native.matrixCreate(device, "f32", 2, 3);
const newVector = (size: number) => native.vectorCreate(device, "f32", size);
const openFile = () => native.fileOpen(packageFile("package.json"));
const newCache = () => native.cacheCreate(device, shape, 1);

/** A program of two values, 0 for tokens and 1 for outputs, 3 wide, and 2 for tokens that q, k and v fit. */
function newProgram() {
  const program = native.programCreate(device, shape);
  native.programValue(program, "tokens", 3);
  native.programValue(program, "outputs", 3);
  native.programValue(program, "tokens", 24);
  native.programValue(program, "tokens", 8);
  native.programValue(program, "tokens", 6);
  native.programValue(program, "tokens", 2);
  native.programValue(program, "tokens", 1);
  return program;
}

function finishedProgram() {
  const program = newProgram();
  native.programEmbed(program, newMatrix(), 0);
  native.programSelect(program, 0, 1);
  native.programFinish(program, 1);
  return program;
}

/** Its logits are rows of its table, whose rows are tokens. */
function decodableProgram() {
  const program = newProgram();
  native.programEmbed(program, native.matrixCreate(device, "f32", 4, 3), 0);
  native.programSelect(program, 0, 1);
  native.programFinish(program, 1);
  return program;
}

const sampling = { temperature: 0.5, topP: 0.9, seed: 7 };

/** For each function arguments that it takes. New ones each time: a call may use them up. */
const sound: Record<Exclude<Name, "kind">, () => unknown[]> = {
  abiVersion: () => [],
  setErrorClass: () => [CriaError],
  free: () => [openDevice()],
  handleCounts: () => [],
  deviceDescribe: () => ["cpu"],
  deviceOpen: () => ["cpu", "scalar", 1],
  deviceInfo: () => [openDevice()],
  measureLimit: () => [openDevice(), "read", 0], // a sample takes half a gigabyte
  matrixCreate: () => [openDevice(), "f32", 2, 3],
  fileOpen: () => [packageFile("package.json")],
  matrixMap: () => [openDevice(), "f32", 1, 3, openFile(), 64],
  matrixRead: () => [openDevice(), "f32", 1, 3, openFile(), 5],
  matrixLayout: () => ["cpu"],
  matrixBytes: () => ["cpu", "f32", 2, 3],
  vectorCreate: () => [openDevice(), "f32", 3],
  tensorPack: () => [newMatrix(), 0, 2, new Uint8Array(24)],
  tensorPackInt4: () => [native.matrixCreate(device, "q4_z", 8, 32), 0, int4()],
  tensorPackFile: () => [newMatrix(), 0, 2, packageFile("package.json"), 0],
  tensorUnpack: () => [newMatrix(), 0, 2, new Uint8Array(24)],
  tensorReadPacked: () => [newMatrix(), 0, new Uint8Array(24)],
  weightsDecode: () => ["f16", 3, new Uint8Array(12), floats(6)],
  weightsEncode: () => [openDevice(), "f16", 3, floats(6), new Uint8Array(12)],
  tensorConvert: () => [newMatrix(), 0, 2, "f16", new Uint8Array(12)],
  tensorConvertFile: () => [newMatrix(), 0, 2, packageFile("package.json"), 0, "bf16"],
  tensorFillRandom: () => [newMatrix(), 1, 1],
  tensorRows: () => [newMatrix()],
  tensorCols: () => [newMatrix()],
  tensorBytes: () => [newMatrix()],
  cacheCreate: () => [openDevice(), shape, 1],
  cacheBytes: () => [newCache()],
  cacheRead: () => [newCache(), Int32Array.of(0), new Uint8Array(1024)],
  cacheWrite: () => [newCache(), Int32Array.of(0), new Uint8Array(1024)],
  cacheMove: () => [newCache(), Int32Array.of(3), Int32Array.of(1), -2, ropeOptions],
  programCreate: () => [openDevice(), shape],
  programValue: () => [newProgram(), "tokens", 3],
  programEmbed: () => [newProgram(), newMatrix(), 0],
  programRmsnorm: () => [newProgram(), 0, native.vectorCreate(device, "f32", 3), 1e-5, 0],
  programMatmul: () => [newProgram(), 0, newMatrix(), 5, 0],
  programRope: () => [newProgram(), 2, 0, ropeOptions],
  programAttention: () => [newProgram(), 2, 0, 1, 3],
  programPrefixAttention: () => [newProgram(), 2, newVector(8), newVector(8), newVector(1), 3],
  programMatmulAdd: () => [newProgram(), 0, newMatrix(), 5],
  programMatmulSwiglu: () => [newProgram(), 0, newMatrix(), 6],
  programSwiglu: () => [newProgram(), 4, 0],
  programAdd: () => [newProgram(), 0, 0, 0],
  programSelect: () => [newProgram(), 0, 1],
  programGather: () => [newProgram(), 0, Int32Array.of(2, -1, 0, 0, 1, 2), 4],
  programFinish: () => [newProgram(), 1],
  programRun: () => [finishedProgram(), newCache(), batch(), 3, native.cancelCreate()],
  programDecode: () => [decodableProgram(), newCache(), batch(), 1, [sampling], 2, native.cancelCreate()],
  cancelCreate: () => [],
  cancelTrigger: () => [native.cancelCreate()],
  rmsnorm: () => [openDevice(), floats(6), floats(3), 1e-5, floats(6)],
  quantize: () => [openDevice(), 3, floats(3), new Int8Array(64), floats(2), new Int32Array(2)],
  embed: () => [openDevice(), newMatrix(), Int32Array.of(1), floats(3)],
  matmul: () => [openDevice(), newMatrix(), floats(3), floats(2)],
  rope: () => [openDevice(), batch(), ropeOptions, cache(), floats(24)],
  attention: () => [openDevice(), batch(), 1, cache(), floats(8), 8, floats(8)],
  swiglu: () => [openDevice(), 3, floats(6), floats(3)],
  add: () => [openDevice(), floats(3), floats(3), floats(3)],
};
const names = Object.keys(sound) as (keyof typeof sound)[];

const kinds = {
  device: openDevice,
  tensor: newMatrix,
  cache: newCache,
  program: newProgram,
  cancel: native.cancelCreate,
  file: openFile,
};

/** The places of a function's arguments that are handles. `free` takes any, freed ones too. */
function handlePlaces(name: keyof typeof sound): number[] {
  if (name === "free") return [];
  return sound[name]().flatMap((value, i) => (isHandle(value) ? [i] : []));
}

/** A handle is the only kind of object here with neither properties nor elements. */
const isHandle = (value: unknown) =>
  typeof value === "object" && value !== null && !ArrayBuffer.isView(value) && Object.keys(value).length === 0;

/** What an argument might be instead. */
const junk: (() => unknown)[] = [
  ...anyJunk,
  () => shape,
  () => ({ ...shape, headDim: 7, layers: 2 ** 53 }),
  () => ({ ...batch(), blocks: detached(new Int32Array(1)) }),
  () => ({ ...batch(), lengths: Int32Array.of(2 ** 31 - 1) }),
  () => ({ ...cache(), k: floats(127) }),
  () => ({ ...int4(), columns: new Int32Array(32).fill(32) }),
  () => ({ ...int4(), zeros: detached(new Int32Array(1)) }),
  () => ({ ...ropeOptions, rotaryDim: 10 }),
  () => ({ ...ropeOptions, rotaryDim: 2, frequencies: new Float64Array(1) }),
  () => ({ ...ropeOptions, rotaryDim: 0, frequencies: new Float64Array(0) }),
  () => ({ ...ropeOptions, magnitude: Number.NaN }),
  () => ({ ...ropeOptions, frequencies: detached(new Float64Array(4)) }),
  ...Object.values(kinds),
  () => {
    const freed = newMatrix();
    native.free(freed);
    return freed;
  },
];

/** Makes the call; whatever it throws or rejects with must be one of cria's errors. */
async function expectTyped(name: keyof typeof sound, args: readonly unknown[], self?: unknown): Promise<void> {
  // A function would become the class of every error to come.
  if (name === "setErrorClass" && typeof args[0] === "function") return;
  try {
    await call(name, args, self);
  } catch (error) {
    const typed = error instanceof TypeError || error instanceof RangeError || error instanceof CriaError;
    const { code, message } = error as CriaError;
    if (!typed || !code.startsWith("ERR_CRIA_")) throw error;
    expect(message).not.toBe("");
  }
}

describe("the native addon", () => {
  test("exports what this file knows", () => {
    expect(Object.keys(native).sort()).toEqual([...names].sort());
  });

  test.each(names)("%s takes sound arguments", async (name) => {
    await call(name, sound[name]());
  });

  test.each(names)("%s survives any argument in the place of any of its own", async (name) => {
    for (let i = 0; i < sound[name]().length; i++) {
      for (const value of junk) await expectTyped(name, sound[name]().with(i, value()));
    }
  });

  test.each(names)("%s survives missing and surplus arguments, and any `this`", async (name) => {
    const args = sound[name]();
    for (let i = 0; i < args.length; i++) await expectTyped(name, sound[name]().slice(0, i));
    for (const value of junk) await expectTyped(name, [...sound[name](), value()], value());
  });

  test("survives any arguments", async () => {
    const argument = fc.constantFrom(...junk);
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.array(argument, { maxLength: 7 }), async (name, args) => {
        await expectTyped(
          name,
          args.map((make) => make()),
        );
      }),
      { numRuns: 2000 },
    );
  });
});

describe("a handle", () => {
  const places = names.flatMap((name) => handlePlaces(name).map((i) => [name, i] as const));

  test.each(places)("freed, is no argument of %s in place %i", async (name, i) => {
    const args = sound[name]();
    native.free(args[i] as never);
    await expect((async () => call(name, args))()).rejects.toThrow(
      expect.objectContaining({
        name: "CriaError",
        code: "ERR_CRIA_DISPOSED",
        message: expect.stringMatching(/: was disposed$/),
      }),
    );
  });

  test.each(places)("of another kind, or forged, is no argument of %s in place %i", async (name, i) => {
    const sounds = sound[name]();
    const own = sounds[i] as object;
    const forged = [{ ...own }, Object.create(own), new Proxy(own, {}), Object.create(Object.getPrototypeOf(own))];
    const others = Object.values(kinds).map((make) => make());
    let refused = 0;
    for (const handle of [...forged, ...others]) {
      const error = await (async () => call(name, sound[name]().with(i, handle)))().catch((error) => error);
      if (error instanceof TypeError && /: must be a \w+/.test(error.message)) refused++;
    }
    // One of the kinds is the right one.
    expect(refused).toBe(forged.length + others.length - 1);
  });

  test.each(Object.entries(kinds))("of a %s may be freed twice", (_, make) => {
    const handle = make();
    native.free(handle as never);
    native.free(handle as never);
  });

  test.each([{}, null, undefined, 1, new Proxy(newMatrix(), {}), Object.create(newMatrix())])(
    "%o cannot be freed",
    (value) => {
      expect(() => native.free(value as never)).toThrow(
        expect.objectContaining({
          name: "TypeError",
          code: "ERR_CRIA_ARGUMENT",
          message: "handle: must be a handle of this addon",
        }),
      );
    },
  );

  test("outlives those that it was made from", () => {
    const from = openDevice();
    const tensor = native.matrixCreate(from, "f32", 1, 1);
    native.free(from);
    expect(native.tensorRows(tensor)).toBe(1);
  });

  test("keeps a getter from pulling memory away", () => {
    // k is looked up before v's getter detaches it: its memory must not be written to.
    const k = floats(128);
    const trap = {
      ...shape,
      blocks: 1,
      k,
      get v() {
        detached(k);
        return floats(128);
      },
    };
    expect(() => native.rope(device, batch(), ropeOptions, trap, floats(24))).toThrow("cache.k: must not be detached");
  });
});

describe("the error class", () => {
  test("makes the addon's errors", () => {
    const freed = newMatrix();
    native.free(freed);
    class Mine extends Error {
      constructor(
        readonly code: string,
        message: string,
      ) {
        super(message);
      }
    }
    native.setErrorClass(Mine);
    try {
      expect(() => native.tensorRows(freed)).toThrow(Mine);
    } finally {
      native.setErrorClass(CriaError);
    }
    expect(() => native.tensorRows(freed)).toThrow(CriaError);
  });
});
