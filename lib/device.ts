/// <reference lib="esnext.disposable" preserve="true" />
import { CriaError, integer, outOfRange } from "./errors.js";
import {
  type AbsentDevice,
  type CpuInfo,
  type DeviceHandle,
  type DeviceInfo,
  type DeviceKind,
  type GpuInfo,
  type Isa,
  type LimitKind,
  native,
} from "./native.js";

import { requireObject } from "./options.js";

export type { AbsentDevice, CpuInfo, DeviceInfo, DeviceKind, GpuInfo, Isa, LimitKind };

export const isas: readonly Isa[] = ["scalar", "avx2", "avx512"];

const kinds: readonly DeviceKind[] = ["cpu", "cuda", "cuda-emulated"];

/** Where to compute, and with what. */
export interface DeviceOptions {
  /**
   * "auto" is the GPU where there is one that can be opened and neither `isa` nor `threads` is given, else the CPU;
   * `info` says which, `withoutGpu` why. Asking for one that is absent is an error, never a silent fall back.
   * "cuda-emulated" runs the GPU's kernels on the CPU, slowly: for tests.
   */
  device?: "auto" | DeviceKind | undefined;
  /** The instruction set of the CPU's kernels; the best that the processor has by default. Not with a GPU. */
  isa?: Isa | undefined;
  /** Threads that compute, the physical cores that this process may use by default. Not with a GPU. */
  threads?: number | undefined;
}

export const deviceOptions = ["device", "isa", "threads"] as const satisfies readonly (keyof DeviceOptions)[];

/**
 * Every kind of device, with what it is or the reason why it is absent.
 *
 * @example
 * ```js
 * import { devices } from "cria";
 *
 * for (const device of devices()) console.log(device.kind, device.available ? device.name : device.reason);
 * ```
 */
export function devices(): (DeviceInfo | AbsentDevice)[] {
  return (["cpu", "cuda"] as const).map((kind) => native.deviceDescribe(kind));
}

/** An open device, whose description is of what it is as opened. */
interface Opened {
  handle: DeviceHandle;
  info: DeviceInfo;
}

function open(kind: DeviceKind, isa?: Isa, threads = 0): Opened {
  const found = native.deviceDescribe(kind);
  if (!found.available) throw new CriaError(found.code, `device: ${kind} is not available: ${found.reason}`);
  const handle = native.deviceOpen(kind, isa, threads);
  try {
    return { handle, info: native.deviceInfo(handle) };
  } catch (error) {
    native.free(handle);
    throw error;
  }
}

/** The GPU, or else the CPU and why. */
function openBest(): Opened & { withoutGpu?: CriaError } {
  try {
    return open("cuda");
  } catch (error) {
    if (!(error instanceof CriaError)) throw error;
    return { ...open("cpu"), withoutGpu: error };
  }
}

/** A device that weights are loaded to and programs run on. */
export class Device {
  readonly handle: DeviceHandle;
  readonly info: DeviceInfo;
  /** Where "auto" is the CPU and neither `isa` nor `threads` was given: the error that asking for the GPU throws. */
  readonly withoutGpu: CriaError | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /**
   * @throws CriaError ERR_CRIA_UNSUPPORTED where the device or the instruction set is absent, ERR_CRIA_DEVICE or
   *     ERR_CRIA_MEMORY where a GPU that was asked for cannot be opened
   */
  constructor(options: DeviceOptions = {}) {
    requireObject("options", options);
    const { device = "auto", isa, threads } = options;
    if (device !== "auto" && !kinds.includes(device)) {
      throw outOfRange("device", "auto, cpu, cuda or cuda-emulated", device);
    }
    if (isa !== undefined && !isas.includes(isa)) throw outOfRange("isa", "scalar, avx2 or avx512", isa);
    if (threads !== undefined) integer("threads", threads, 1, 256);
    const forCpu = isa !== undefined || threads !== undefined;
    if (device !== "auto" && device !== "cpu" && forCpu)
      throw outOfRange(isa === undefined ? "threads" : "isa", `left out with ${device}`, isa ?? threads);
    // Whoever asks for an instruction set or threads wants the CPU.
    const best = device === "auto" && !forCpu;
    const opened: ReturnType<typeof openBest> = best
      ? openBest()
      : open(device === "auto" ? "cpu" : device, isa, threads);
    this.handle = opened.handle;
    this.info = opened.info;
    this.withoutGpu = opened.withoutGpu;
  }

  /**
   * Runs `work` after all work queued before it. The device computes one thing at a time, and work that waits for it on
   * a thread of libuv's pool would keep that thread from everyone else's files and sockets.
   */
  queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch((_: CriaError) => undefined);
    return result;
  }

  /**
   * What the device's threads do at most, measured `samples` times: of "read" and "copy" (read plus written) bytes a
   * second of memory, of the instructions operations a second, a multiply-add being two.
   *
   * @throws CriaError ERR_CRIA_UNSUPPORTED where the processor, or the device's instruction set, lacks the instruction
   */
  async measureLimit(limit: LimitKind, samples: number): Promise<number[]> {
    return [...(await this.queue(() => native.measureLimit(this.handle, limit, samples)))];
  }

  /** Frees the device. Weights, caches and programs that it has go on with its threads until they are freed too. */
  dispose(): void {
    native.free(this.handle);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
