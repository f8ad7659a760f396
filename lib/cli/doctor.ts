import { cpus } from "node:os";

import { abiVersion, bindingFile } from "../binding.js";
import { showBytes } from "../bytes.js";
import type { AbsentDevice, CpuInfo, GpuInfo } from "../device.js";
import { CriaLoadError, libcOf, runtime, thisHost } from "../load-error.js";
import { allowedProcessors, hugePages, ifAllowed, nvidiaDriver, vectorFeatures } from "../system.js";
import { columns, command } from "./command.js";

export const doctor = command({
  name: "doctor",
  about:
    "Tells what cria finds on this machine: the processor, memory, GPU, and the native addon that it loads. Where that\n" +
    "cannot be loaded, it tells each cause and its cure, and fails.",
  options: {},
  async run(args, io) {
    const findings = await examine();
    const { error, ...rest } = findings;
    const { causes } = error ?? {};
    if (args.flag("json")) io.stdout.write(`${JSON.stringify({ ok: error === undefined, ...rest, causes })}\n`);
    else io.stdout.write(forPeople(findings));
    if (error !== undefined) throw error;
  },
});

type Findings = Awaited<ReturnType<typeof examine>>;

/** What `--json` prints, with the error that keeps the addon away. Sizes are bytes. */
async function examine() {
  const { platform, arch, machine, libc, libcVersion } = thisHost();
  const found = await inAddon();
  return {
    version: require("cria/package.json").version as string,
    system: { platform, arch, machine, libc, libcVersion, runtime: runtime() },
    processor: {
      name: found.cpu?.name ?? ifAllowed(cpus)?.[0]?.model,
      features: vectorFeatures(),
      ...allowedProcessors(),
    },
    kernels: found.cpu && { isa: found.cpu.isa, isas: found.cpu.isas, threads: found.cpu.threads },
    memory: found.cpu && { total: found.cpu.memoryBytes, available: found.cpu.availableBytes, hugePages: hugePages() },
    gpu: found.gpu && { ...found.gpu, driver: nvidiaDriver() },
    addon: found.addon,
    error: found.error,
  };
}

interface InAddon {
  cpu?: CpuInfo;
  gpu?: GpuInfo | AbsentDevice;
  addon?: { file: string; kind: "local build" | "prebuilt"; abiVersion: number };
  error?: CriaLoadError;
}

/**
 * What the addon knows, or the error that it was loaded with. It is loaded here, so that the rest can be told without
 * it.
 */
async function inAddon(): Promise<InAddon> {
  try {
    const { devices } = await import("../device.js");
    const [cpu, gpu] = devices() as [CpuInfo, GpuInfo | AbsentDevice];
    const file = bindingFile();
    const kind = /[/\\]prebuilds[/\\]/.test(file) ? "prebuilt" : "local build";
    return { cpu, gpu, addon: { file, kind, abiVersion } };
  } catch (error) {
    if (error instanceof CriaLoadError) return { error };
    throw error;
  }
}

function forPeople({ version, system, processor, kernels, memory, gpu, addon }: Findings): string {
  const { platform, arch, machine, runtime } = system;
  const rows: [string, string][] = [
    ["cria", version],
    ["system", [`${platform}-${arch}${machine === "x86_64" ? "" : ` on ${machine}`}`, ...libcOf(system)].join(", ")],
    ["runtime", runtime],
    ["processor", processor.name ?? "unknown"],
    ["features", processor.features.join(" ") || noFeatures(processor)],
  ];
  if (kernels) rows.push(["kernels", `${kernels.isa}, of ${kernels.isas.join(", ")}`]);
  if (kernels) rows.push(["threads", whyThreads(kernels.threads, processor)]);
  if (memory) rows.push(["memory", `${showBytes(memory.total)}, ${showBytes(memory.available)} available`]);
  if (memory) rows.push(["huge pages", memory.hugePages ?? "unknown"]);
  if (gpu) rows.push(["GPU", ofGpu(gpu)]);
  rows.push(["addon", addon ? `${addon.file}, ${addon.kind}, C ABI ${addon.abiVersion}` : "cannot be loaded"]);
  return columns(rows);
}

/** Where not even the processors are known, /proc was not to be read: on other systems, or by Deno's leave. */
const noFeatures = ({ processors }: { processors: number }) =>
  processors === 0 ? "unknown" : "none that the kernels use";

/** The most that a device has, by csrc/cria.h. */
const mostThreads = 256;

/** Why the pool has as many threads as it has: see default_threads of csrc/cpu/machine.cc. */
export function whyThreads(threads: number, { processors, cores }: { processors: number; cores: number }): string {
  if (cores === 0) return `${threads}`; // without /proc it is the addon alone that knows them
  const may = `${cores} physical cores (${processors} processors) that this process may use`;
  if (threads >= cores) return `${threads}: the ${may}`;
  const limit = threads === mostThreads ? "that a device has," : "that the control group's quota leaves";
  return `${threads}: all ${limit} of ${may}`;
}

function ofGpu(gpu: NonNullable<Findings["gpu"]>): string {
  const driver = gpu.driver === undefined ? "" : `, driver ${gpu.driver}`;
  return gpu.available ? `${gpu.name}, ${showBytes(gpu.memoryBytes)}${driver}` : `none: ${gpu.reason}${driver}`;
}
