/** A report as a long run on two cores would leave it: real ops, their figures by a roofline and a little noise. */
import { ops } from "../../bench/ops/index.js";
import { amountOf, leastSeconds, type Problem } from "../../bench/ops/op.js";
import type { Limits, Report, Result } from "../../bench/schema.js";
import type { Isa } from "../../lib/device.js";

const limits: Limits = {
  readGBs: 34.2,
  copyGBs: 28.9,
  fmaGflops: 236.4,
  maddubsGops: 731.5,
  dpbusdGops: 918.3,
  bf16dotGflops: 462.1,
};

/** The same numbers in every run, evenly between 0 and 1 (a linear congruential generator: Knuth, TAOCP 2, 3.3.4). */
function noise(): () => number {
  let state = 2_463_534_242;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

/** What ops reach of their limit, at one token and at many. Products with other weights are on a page as these are. */
const reaches: Readonly<Record<string, readonly [number, number]>> = {
  matmul_q4: [0.96, 0.76],
  matmul_q8: [0.97, 0.78],
  matmul_f: [0.97, 0.88],
  attention: [0.93, 0.7],
  rmsnorm: [1.9, 0.92],
  quantize: [1.4, 0.9],
  rope: [0.9, 0.8],
  swiglu: [1.2, 0.6],
  add: [2.1, 0.95],
  embed: [0.4, 0.5],
};

export interface SampleOptions {
  models?: readonly string[];
  isas?: readonly Isa[];
  tokens?: readonly number[];
  ops?: readonly string[];
}

/** Of the ops that `reaches` has by default: some 700 results. */
export function sampleReport(options: SampleOptions = {}): Report {
  const { models = ["7b", "13b", "70b"], isas = ["avx2", "avx512"], tokens = [1, 2, 4, 8, 16, 128, 512] } = options;
  const random = noise();
  const measured = (options.ops ?? Object.keys(reaches)).flatMap((name) =>
    models.flatMap((model) =>
      ops[name]!.problems(model, tokens).flatMap((problem) =>
        isas.map((isa) => opResult(name, problem, isa, random())),
      ),
    ),
  );
  return {
    version: 1,
    date: "2026-03-14T09:26:53.589Z",
    commit: "d3ce0f1c0ffee5eed0a1b2c3d4e5f60718293a4b+",
    command: "npm run bench -- --ops --shapes 7b,13b,70b --tokens 1,2,4,8,16,128,512 --report out.html",
    machine: {
      processor: "AMD EPYC 9R14 (Zen 4)",
      cores: 2,
      memoryBytes: 16_642_998_272,
      system: "Linux 6.1.0-28-cloud-amd64",
      node: "v20.20.2",
    },
    limits,
    results: [...wholes(random), ...measured],
    ratios: ratios(),
  };
}

function opResult(name: string, { shape, tokens, format, context, work }: Problem, isa: Isa, luck: number): Result {
  const [few, many] = reaches[name]!;
  const limit = amountOf(work) / leastSeconds(work, isa, limits)!;
  const share = (tokens < 8 ? few : many * (isa === "avx512" ? 1 : 0.87)) * (0.94 + 0.06 * luck);
  return {
    name: `${name}/${shape}/${tokens}`,
    by: "cria",
    isa,
    threads: 2,
    value: limit * share,
    unit: work.unit,
    limit,
    share,
    spread: 0.01 + 0.04 * luck,
    samples: 15,
    model: work.model,
    micros: (amountOf(work) / (limit * share)) * 1e6,
    error: 0,
    bytes: work.bytes,
    operations: work.operations,
    at: {
      shape: shape.slice(0, shape.indexOf(".")),
      tokens,
      ...(format !== undefined && { format }),
      ...(context !== undefined && { context }),
    },
  };
}

const peer = "node-llama-cpp 3.22.1";
const at = { model: "7b", format: "q4_0" };

const contexts = [128, 512, 2048, 4096];
const sequenceCounts = [1, 2, 4, 8];

/** Tokens a second at the bandwidth: 3.79 GB of weights, and half a megabyte of cache for each token before. */
const atBandwidth = (context: number) => limits.readGBs / (3.79 + 5.24e-4 * context);

function wholes(random: () => number): Result[] {
  const whole = (
    name: string,
    [by, isa]: readonly [string, string],
    value: number,
    share: number | null,
    where = {},
  ) => ({
    name,
    by,
    isa,
    threads: 2,
    value,
    unit: name === "load" ? ("s" as const) : ("tok/s" as const),
    limit: share === null ? null : value / share,
    share,
    spread: 0.005 + 0.02 * random(),
    samples: 5,
    at: { ...at, ...where },
  });
  const [wide, narrow, other] = [
    ["cria", "avx512"],
    ["cria", "avx2"],
    [peer, "zen4"],
  ] as const;
  return [
    whole("load", wide, 1.31, null),
    whole("load", other, 4.42, null),
    ...[128, 512].flatMap((prompt) => [
      whole("prefill", wide, 44.6, 0.66, { prompt }),
      whole("prefill", narrow, 31.2, 0.58, { prompt }),
      whole("prefill", other, 16.1, 0.24, { prompt }),
    ]),
    ...contexts.flatMap((context) =>
      (
        [
          [wide, 0.955],
          [narrow, 0.94],
          [other, 0.85],
        ] as const
      ).map(([who, share]) =>
        whole("decode", who, atBandwidth(context) * share, share, { context, gen: 64, sequences: 1 }),
      ),
    ),
    ...sequenceCounts.slice(1).flatMap((sequences) =>
      (
        [
          [wide, 0.86],
          [narrow, 0.74],
        ] as const
      ).map(([who, gain]) =>
        whole("decode", who, atBandwidth(128) * sequences ** gain, null, { context: 128, gen: 64, sequences }),
      ),
    ),
  ];
}

function ratios(): NonNullable<Report["ratios"]> {
  const common = { peer: `${peer}, zen4`, isa: "avx512", threads: 2 };
  return [
    ...[128, 512].map((prompt) => ({ ...common, name: "prefill", value: 44.6 / 16.1, at: { ...at, prompt } })),
    ...contexts.map((context) => ({
      ...common,
      name: "decode",
      value: 0.955 / 0.85,
      at: { ...at, context, gen: 64, sequences: 1 },
    })),
  ];
}
