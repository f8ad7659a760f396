/** node --expose-gc end.mjs STAGE ENDING: a process that comes to a stage of its work, and ends there in that way. */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

import { speaks, stages } from "./work.mjs";

const [stage, ending] = isMainThread ? process.argv.slice(2) : [workerData, "stay"];

const endings = {
  async return() {
    const { work } = await stages[stage]();
    await Promise.all(work);
  },
  async dispose() {
    const { work, dispose } = await stages[stage]();
    dispose();
    dispose();
    await Promise.all(work);
    await speaks();
  },
  /** All handles are garbage while the work goes on. */
  async gc() {
    const { work } = await stages[stage]();
    for (let i = 0; i < 5; i++) {
      globalThis.gc();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await Promise.all(work);
    globalThis.gc();
    await speaks();
  },
  async exit() {
    await stages[stage]();
    process.exit(7);
  },
  async throw() {
    await stages[stage]();
    setImmediate(() => {
      throw new Error("nobody catches this");
    });
  },
  async sigterm() {
    await stages[stage]();
    process.kill(process.pid, "SIGTERM");
  },
  /** A worker thread comes there, and is ended from outside. */
  async terminate() {
    const worker = new Worker(new URL(import.meta.url), { workerData: stage });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    await worker.terminate();
    await speaks();
  },
  /** What that worker does. */
  async stay() {
    const { work } = await stages[stage]();
    parentPort.postMessage("there");
    await Promise.all(work);
    await new Promise(() => setInterval(() => undefined, 1000));
  },
};

await endings[ending]();
