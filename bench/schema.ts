/** What a benchmark run writes with --json, reads with --compare, and draws with --report. */
import type { Isa } from "../lib/device.js";

export interface Report {
  /** Of this file's form. */
  version: 1;
  /** ISO 8601, UTC. */
  date: string;
  /** The commit that was measured, where it is known; with "+" after it where files had changed since. */
  commit?: string;
  /** As it was typed. */
  command: string;
  machine: Machine;
  limits: Limits;
  results: Result[];
  /** With --peer: cria's median over a peer's, both measured alternately in this run. */
  ratios?: Ratio[];
}

export interface Machine {
  processor: string;
  /** That cria may use: physical cores in the affinity mask, or the quota's. */
  cores: number;
  memoryBytes: number;
  system: string;
  /** Absent where cria_gpu_check measured, which needs no Node.js. */
  node?: string;
  /** What is a GPU's: compute capability, versions of CUDA, and clocks and power as nvidia-smi has them. */
  gpu?: { capability: string; cuda: string; clocks: string };
}

/**
 * What the machine did at best in this run, on as many threads as the run used at most; null for an instruction that it
 * lacks. In 10⁹ bytes or operations a second; a multiply-add is two operations.
 */
export interface Limits {
  readGBs: number;
  /** Bytes read plus bytes written. */
  copyGBs: number;
  /** In the widest registers that the kernels use. */
  fmaGflops: number | null;
  /** vpmaddubsw with vpaddw, 256 bits wide: int8 products summed in int16. */
  maddubsGops: number | null;
  /** vpdpbusd, 512 bits wide: int8 products summed in int32. */
  dpbusdGops: number | null;
  /** vdpbf16ps, 512 bits wide. */
  bf16dotGflops: number | null;
  /** Of a GPU's tensor cores, dense; of wgmma where it has that, else of mma.sync. */
  tensorBf16Gflops?: number;
  tensorInt8Gops?: number;
}

export interface Result {
  /** "prefill", "decode", "load", or "op/shape/tokens": "matmul_q4/7b.gate_up/128". */
  name: string;
  /** Whose: "cria", or a peer's name and version. */
  by: string;
  isa: Isa | string;
  threads: number;
  /** The median. */
  value: number;
  unit: "tok/s" | "GB/s" | "GOP/s" | "GFLOP/s" | "s" | "µs" | "x";
  /** What the machine allows at most, in the same unit and on as many threads; null where no limit was measured. */
  limit: number | null;
  /** value / limit. */
  share: number | null;
  /** (90th percentile - 10th) / median, of the samples. */
  spread: number;
  samples: number;
  /** How the value follows from a time: "2 · rows · cols · tokens operations". */
  model?: string;
  /** Median time of one run of the op, in microseconds. */
  micros?: number;
  /** What one run of the op must move to and from memory, and calculate, at the least. */
  bytes?: number;
  operations?: number;
  /** Largest difference from the scalar kernel, of a cut of the shape: 0, for the bits are the same. NaN, where there is one, is null in JSON. */
  error?: number;
  /** Where it was read: { context: 2048 }, { sequences: 8 }, { format: "q4_0" }, { shape: "7b" }. */
  at?: Readonly<Record<string, string | number>>;
}

export interface Ratio {
  name: string;
  peer: string;
  isa: Isa | string;
  threads: number;
  /** cria's median over the peer's. */
  value: number;
  at?: Readonly<Record<string, string | number>>;
}
