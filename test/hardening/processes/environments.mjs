/** Two worker threads and the main one, each with the addon for itself. One ends in the midst of a run, the others go on. */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

import { Device, loadModel, tinyModel } from "../../../dist/lib/index.mjs";
import native from "../../../dist/lib/native.mjs";
import { greedyText } from "./work.mjs";

const url = new URL(import.meta.url);

async function main() {
  const device = new Device({ device: "cpu", threads: 1 });
  const handle = native.matrixCreate(device.handle, "f32", 1, 1);
  const texts = [];
  const workers = ["ends", "stays"].map((name) => new Worker(url, { workerData: { name, handle } }));
  const [ends, stays] = workers;
  const failed = new Promise((_, reject) => workers.map((worker) => worker.once("error", reject)));
  const there = workers.map((worker) => new Promise((resolve) => worker.once("message", resolve)));
  stays.on("message", (text) => texts.push(text));
  await Promise.race([failed, Promise.all(there)]);

  const model = await loadModel(tinyModel);
  const expected = await greedyText(model);
  await ends.terminate();
  const before = texts.length;
  // The other goes on, and says the same as ever; so does this one.
  while (texts.length < before + 5) await new Promise((resolve) => stays.once("message", resolve));
  await greedyText(model).then((text) => texts.push(text));
  await stays.terminate();
  const wrong = texts.find((text) => text !== expected);
  if (wrong !== undefined) throw new Error(`${JSON.stringify(wrong)} was said, not ${JSON.stringify(expected)}`);
  console.log(`${texts.length} texts`);
}

async function worker({ handle }) {
  // A handle does not come along: what does is an object like any other.
  try {
    native.tensorRows(handle);
    throw new Error("another environment's handle was taken");
  } catch (error) {
    if (!(error instanceof TypeError) || error.message !== "tensor: must be a tensor") throw error;
  }
  const model = await loadModel(tinyModel);
  for (;;) parentPort.postMessage(await greedyText(model));
}

await (isMainThread ? main() : worker(workerData));
