/** What Linux tells of the machine, beside what the addon does: for people, and where there is no addon. */
import { readFileSync } from "node:fs";

/** The processor's vector extensions, as the kernel names them: "avx2", "avx512_vnni". */
export function vectorFeatures(cpuinfo: string | undefined = contentOf("/proc/cpuinfo")): string[] {
  const flags = /^flags\s*: (.*)$/m.exec(cpuinfo ?? "")?.[1]?.split(" ") ?? [];
  return flags.filter((flag) => /^(avx|fma$|f16c$|amx)/.test(flag));
}

/** The processors that this process may run on, and the physical cores that these are threads of. */
export function allowedProcessors(): { processors: number; cores: number } {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(contentOf("/proc/self/status") ?? "")?.[1] ?? "";
  const allowed = idsIn(list);
  const siblings = allowed.map(
    (id) => contentOf(`/sys/devices/system/cpu/cpu${id}/topology/thread_siblings_list`) ?? `${id}`,
  );
  return { processors: allowed.length, cores: new Set(siblings).size };
}

/** "0-3,8": the ids 0, 1, 2, 3 and 8. */
export function idsIn(list: string): number[] {
  return list
    .split(",")
    .filter((range) => range !== "")
    .flatMap((range) => {
      const [first, last = first] = range.split("-").map(Number) as [number, number?];
      return Array.from({ length: last! - first + 1 }, (_, i) => first + i);
    });
}

/** How the system backs memory by huge pages: "always", "madvise", as cria asks for them, or "never". */
export const hugePages = (): string | undefined =>
  /\[(\w+)\]/.exec(contentOf("/sys/kernel/mm/transparent_hugepage/enabled") ?? "")?.[1];

/** The version of the NVIDIA driver that the system runs: "550.54.15". */
export const nvidiaDriver = (): string | undefined =>
  / (\d+\.\d+(\.\d+)?) /.exec(contentOf("/proc/driver/nvidia/version") ?? "")?.[1];

/** What `ask` returns, or nothing where this process may not ask: what Deno does not permit throws. */
export function ifAllowed<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

function contentOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // other systems have none of these
  }
}
