import { type CpuInfo, Device, type Isa } from "../../lib/device.js";

export type { Isa };

/** The instruction sets that this machine runs. */
export const available: readonly Isa[] = (new Device({ device: "cpu" }).info as CpuInfo).isas;

/** Every way in which this machine runs a kernel that could differ from the scalar kernel on one thread. */
export const executions: readonly { isa: Isa; threads: number }[] = available.flatMap((isa) =>
  [1, 2, 3].map((threads) => ({ isa, threads })),
);

/** The specification: what every other execution is held against. */
export const scalar = { isa: "scalar", threads: 1 } as const satisfies { isa: Isa; threads: number };
