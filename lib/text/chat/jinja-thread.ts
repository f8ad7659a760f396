import { Worker } from "node:worker_threads";

import { unlessAborted } from "../../abort.js";
import { CriaError } from "../../errors.js";
import { type JinjaLimits, type JinjaReply, type JinjaRequest, serveTemplates } from "./jinja-worker.js";

/**
 * A text holds no message's content, for which a placeholder of some 60 units stands, so that this is enough for
 * thousands of messages; and what a step makes of such a text at worst, a list of each of its characters' places, is a
 * few MiB, far less than the 16 MiB that Node.js leaves a thread to end in.
 */
const limits: JinjaLimits = { text: 2 ** 18, list: 2 ** 16 };

/** The longest template that was published is a tenth of it. */
const longestTemplate = 2 ** 17;

/** In MiB. A template that was published takes one or two. */
const memory = { maxOldGenerationSizeMb: 64, maxYoungGenerationSizeMb: 8, stackSizeMb: 2 } as const;

/** In milliseconds, of one rendering; a template that was published takes one or two. */
const deadline = 2000;

/** In milliseconds; it takes 30 where the machine has nothing else to do. */
const startDeadline = 30_000;

/**
 * Why a thread gave no reply: by want of time, of memory or of a thread. Of what the template writes it says nothing.
 */
export class NoReplyError extends CriaError {
  constructor(problem: string) {
    super("ERR_CRIA_TEMPLATE", `template: ${problem}`);
  }
}

/** A worker that answers one question at a time. */
class Answerer {
  readonly #worker: Worker;
  #settle: { resolve: (message: unknown) => void; reject: (error: Error) => void } | undefined;

  constructor(source: string, workerData: object) {
    this.#worker = new Worker(source, { eval: true, env: {}, resourceLimits: memory, workerData });
    this.#worker.on("message", (message) => this.#settle?.resolve(message));
    this.#worker.on("error", (error) => this.#settle?.reject(new NoReplyError(reasonOf(error))));
    this.#worker.on("exit", () => this.#settle?.reject(new NoReplyError("ended its thread")));
  }

  /**
   * Its next message. Where none comes in time it is ended. Only while one is waited for does it keep the process
   * alive.
   *
   * @param question what it is sent, if it needs any to speak
   * @param late the error's words where none comes
   */
  async answer<T>(ms: number, late: string, question?: JinjaRequest): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    let immediate: NodeJS.Immediate | undefined;
    this.#worker.ref();
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#settle = { resolve: resolve as (message: unknown) => void, reject };
        const end = () => {
          reject(new NoReplyError(late));
          void this.#worker.terminate();
        };
        // Where this thread was busy itself, the message may have come in time: what has come is heard before an
        // immediate.
        timer = setTimeout(() => {
          immediate = setImmediate(end);
        }, ms);
        if (question !== undefined) this.#worker.postMessage(question);
      });
    } finally {
      clearTimeout(timer);
      clearImmediate(immediate);
      this.#settle = undefined;
      this.#worker.unref();
    }
  }
}

/**
 * A thread that renders Jinja templates, one after another, whoever they come from. It starts with the first, is kept
 * for the next, and does not keep the process from ending.
 */
class JinjaThread {
  #answerer: Answerer | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /**
   * @throws CriaError ERR_CRIA_TEMPLATE where the template is none, fails, refuses what it was given, or takes too much
   *   memory or time; ERR_CRIA_ABORTED when `signal` stops the waiting
   */
  async render(request: JinjaRequest, signal?: AbortSignal): Promise<string> {
    if (request.template.length > longestTemplate) {
      throw failed(`must be at most ${longestTemplate} UTF-16 units long, not ${request.template.length}`);
    }
    const turn = this.#last.then(() => this.#render(request));
    this.#last = turn.catch(() => undefined);
    const reply = await unlessAborted(turn, signal);
    if ("text" in reply) return reply.text;
    throw reply.refused ? new CriaError("ERR_CRIA_TEMPLATE", `messages: ${reply.problem}`) : failed(reply.problem);
  }

  async #render(request: JinjaRequest): Promise<JinjaReply> {
    try {
      this.#answerer ??= await start();
      return await this.#answerer.answer(deadline, `takes longer than ${deadline / 1000} s`, request);
    } catch (error) {
      this.#answerer = undefined;
      throw error;
    }
  }
}

async function start(): Promise<Answerer> {
  const source = `const { parentPort, workerData } = require("node:worker_threads");
    (${serveTemplates})(require(workerData.jinja), parentPort, workerData.limits);`;
  const answerer = new Answerer(source, { jinja: require.resolve("@huggingface/jinja"), limits });
  await answerer.answer(startDeadline, "found no thread to run in");
  return answerer;
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code !== "ERR_WORKER_OUT_OF_MEMORY") return `cannot be run: ${error.message}`;
  return `takes more memory than ${memory.maxOldGenerationSizeMb} MiB`;
}

const failed = (problem: string): CriaError => new CriaError("ERR_CRIA_TEMPLATE", `template: ${problem}`);

const thread = new JinjaThread();

/** Renders a Jinja template. @throws as {@link JinjaThread.render} */
export const renderJinja = (request: JinjaRequest, signal?: AbortSignal): Promise<string> =>
  thread.render(request, signal);
