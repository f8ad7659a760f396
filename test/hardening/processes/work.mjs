/** Work for processes and worker threads that end in the midst of it. Of what was compiled, as a user has it. */
import { Device, loadModel, Program, tinyModel } from "../../../dist/lib/index.mjs";
import native from "../../../dist/lib/native.mjs";

const rows = 16;
const shape = { keys: "f32", values: "f32", layers: 1, kvHeads: 1, headDim: 8 };
const batch = {
  tokens: new Int32Array(rows),
  positions: new Int32Array(rows),
  lengths: Int32Array.of(rows),
  pasts: Int32Array.of(0),
  blockCounts: Int32Array.of(1),
  blocks: Int32Array.of(0),
  outputs: Int32Array.from({ length: rows }, (_, i) => i),
};

/** A program whose runs take some tenths of a second on two threads: 200 products of 16 rows with 4 MiB. */
function longProgram() {
  const device = new Device({ device: "cpu", threads: 2 });
  const weight = native.matrixCreate(device.handle, "f32", 1024, 1024);
  const cache = native.cacheCreate(device.handle, shape, 1);
  const program = new Program(device, shape);
  const [x, y] = [program.value("outputs", 1024), program.value("outputs", 1024)];
  for (let i = 0; i < 200; i++) program.matmul(i % 2 === 0 ? x : y, weight, i % 2 === 0 ? y : x);
  program.finish(x);
  return {
    program,
    cache,
    dispose: () => {
      program.dispose();
      device.dispose();
      native.free(weight);
      native.free(cache);
    },
  };
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const prompt = Int32Array.from({ length: 80 }, (_, i) => 3 + (i % 300));

/** Whatever it comes to, as long as it is one of cria's errors. */
const typed = (work) =>
  work.then(
    (value) => value,
    (error) => {
      if (!/^ERR_CRIA_(ABORTED|DISPOSED|STATE)$/.test(error.code)) throw error;
    },
  );

/** How far a process is: each stage gives the work that is in progress then, and the disposal of all that it works on. */
export const stages = {
  /** A model is being loaded. */
  async loading() {
    const controller = new AbortController();
    const loading = loadModel(tinyModel, { signal: controller.signal });
    return { work: [typed(loading)], dispose: () => controller.abort() };
  },
  /** A model is loaded, and nothing asked of it. */
  async idle() {
    const model = await loadModel(tinyModel);
    const sequence = model.sequence();
    return {
      work: [],
      dispose: () => {
        sequence.dispose();
        model.dispose();
      },
    };
  },
  /** More runs than the device does at a time were asked for just now. */
  async queued() {
    const model = await loadModel(tinyModel);
    const long = longProgram();
    const sequences = [model.sequence(), model.sequence()];
    const text = (async () => {
      for await (const _ of model.generate("Once upon a time", { maxTokens: 8 }));
    })();
    const work = [
      long.program.run(long.cache, batch),
      long.program.run(long.cache, batch),
      ...sequences.map((sequence) => sequence.forward(prompt, "last")),
      text,
    ];
    return {
      work: work.map(typed),
      dispose: () => {
        for (const each of [...sequences, model, long]) each.dispose();
      },
    };
  },
  /** The pool's threads are at work, and a thread of libuv's waits for them. */
  async running() {
    const reached = await stages.queued();
    await sleep(100);
    return reached;
  },
  /** A run has just come to its end, and the next one begins. */
  async settling() {
    const { program, cache, dispose } = longProgram();
    const first = program.run(cache, batch);
    const second = program.run(cache, batch);
    await first;
    return { work: [typed(second)], dispose };
  },
};

/** What the package's model says, always. */
export async function greedyText(model) {
  let text = "";
  for await (const piece of model.generate("Once upon a time", { maxTokens: 12, temperature: 0 })) text += piece;
  return text;
}

/** Loads a model anew: does all still work in this process? */
export async function speaks() {
  const model = await loadModel(tinyModel);
  const text = await greedyText(model);
  model.dispose();
  if (!text.startsWith(", there was a little girl named")) throw new Error(`it says ${JSON.stringify(text)}`);
}
