import { aborted } from "./errors.js";

/** What is to happen when a signal aborts, and the one listener that does it. */
interface Hearing {
  readonly callbacks: Set<() => void>;
  readonly listener: () => void;
}

const hearings = new WeakMap<AbortSignal, Hearing>();

/**
 * Calls `callback` when a signal aborts. All that hear one signal share a listener: of more than ten on a target
 * Node.js warns, for they may be a leak, and a hundred texts may well have one signal.
 *
 * @returns ends the hearing
 */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const hearing = hearings.get(signal) ?? hear(signal);
  hearing.callbacks.add(callback);
  return () => {
    if (!hearing.callbacks.delete(callback) || hearing.callbacks.size > 0) return;
    signal.removeEventListener("abort", hearing.listener);
    hearings.delete(signal);
  };
}

function hear(signal: AbortSignal): Hearing {
  const callbacks = new Set<() => void>();
  const listener = () => {
    for (const callback of [...callbacks]) callback();
  };
  const hearing = { callbacks, listener };
  signal.addEventListener("abort", listener);
  hearings.set(signal, hearing);
  return hearing;
}

/** @throws CriaError ERR_CRIA_ABORTED where the signal has aborted. `work`: "the loading" */
export function unaborted(work: string, signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted(work, signal);
}

/**
 * Waits for something, or until a signal ends the waiting; what was waited for goes on.
 *
 * @throws CriaError ERR_CRIA_ABORTED when the signal aborts, and what `promise` throws
 */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(aborted("the run", signal));
    const ended = onAbort(signal, stop);
    promise.then(resolve, reject).finally(ended);
    if (signal.aborted) stop();
  });
}
