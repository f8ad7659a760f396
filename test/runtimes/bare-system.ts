import { execFile } from "node:child_process";
import { cp, lstat, mkdir, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";

import { temporaryFolder } from "../support/gguf-writer.js";

const execute = promisify(execFile);

const mirror = "http://deb.debian.org/debian";
const suite = process.env.CRIA_DEBIAN ?? "bookworm";

/** A mirror that has not answered by then, behind a firewall that drops what it forbids, is out of reach. */
const patienceMs = 20_000;

/** Why a bare system cannot be made or entered here; undefined where it can. */
export async function missingForBareSystems(): Promise<string | undefined> {
  if (process.getuid?.() !== 0) return "only root may change the root";
  const fails = (program: string, ...args: string[]) =>
    execute(program, args).then(
      () => false,
      () => true,
    );
  if (await fails("debootstrap", "--version")) return "debootstrap is absent";
  if (await fails("unshare", "--mount", "--pid", "--fork", "true")) return "namespaces are forbidden";
  const request = { method: "HEAD", signal: AbortSignal.timeout(patienceMs) };
  const release = await fetch(`${mirror}/dists/${suite}/Release`, request).catch(() => undefined);
  return release?.ok ? undefined : `${mirror} has no ${suite}, or is out of reach`;
}

/**
 * Debian's smallest system (debootstrap's minbase) in a folder: no compiler, no interpreter but the shell and Perl.
 * Its packages are unpacked and not configured: no program that needs it is run here.
 */
export class BareSystem implements AsyncDisposable {
  readonly #folder: Awaited<ReturnType<typeof temporaryFolder>>;
  readonly #root: string;
  /** Certificates that this machine trusts beside the public ones: who installs in the system meets the same network. */
  readonly #certificates = process.env.NODE_EXTRA_CA_CERTS;

  private constructor(folder: Awaited<ReturnType<typeof temporaryFolder>>) {
    this.#folder = folder;
    this.#root = join(folder.path, "root");
  }

  static async create(): Promise<BareSystem> {
    const system = new BareSystem(await temporaryFolder());
    await execute("debootstrap", ["--variant=minbase", "--foreign", suite, system.#root, mirror]);
    const proc = join(system.#root, "proc");
    // In a container debootstrap leaves a link to the outer one, which in here would be a link to itself.
    if ((await lstat(proc)).isSymbolicLink()) {
      await rm(proc);
      await mkdir(proc);
    }
    await system.add("/etc/resolv.conf", "etc");
    if (system.#certificates !== undefined) await system.add(system.#certificates, "certificates");
    return system;
  }

  /** Copies a file or a folder of this machine's into a folder of the system's; returns its path there. */
  async add(file: string, folder: string): Promise<string> {
    const there = join("/", folder, basename(file));
    await mkdir(join(this.#root, dirname(there)), { recursive: true });
    await cp(file, join(this.#root, there), { recursive: true, dereference: true });
    return there;
  }

  /** What a line of shell prints there, run in a folder of the system's, with `paths` before its own programs. */
  async run(line: string, folder: string, paths: readonly string[] = []): Promise<string> {
    await mkdir(join(this.#root, folder), { recursive: true });
    const certificates = this.#certificates && join("/certificates", basename(this.#certificates));
    const environment = {
      PATH: [...paths, "/usr/sbin", "/usr/bin", "/sbin", "/bin"].join(":"),
      HOME: "/root",
      // Node's, Bun's and Deno's.
      ...(certificates && { NODE_EXTRA_CA_CERTS: certificates, SSL_CERT_FILE: certificates, DENO_CERT: certificates }),
    };
    const enter = ["--mount", "--pid", "--fork", `--mount-proc=${join(this.#root, "proc")}`, "chroot", this.#root];
    const shell = ["sh", "-ec", `cd "$0"; ${line}`, join("/", folder)];
    return (await execute("unshare", [...enter, ...shell], { env: environment })).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
