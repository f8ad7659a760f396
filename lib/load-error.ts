/** What keeps the native addon from being loaded, and what helps. */
import { existsSync, readdirSync } from "node:fs";
import { arch, machine, platform } from "node:os";
import { join } from "node:path";
import { familySync, versionSync } from "detect-libc";

import { type BindingError, DamagedFile } from "./binding.js";
import { CriaError } from "./errors.js";
import { packageRoot } from "./package.js";
import { ifAllowed } from "./system.js";

export interface LoadCause {
  readonly cause: string;
  readonly cure: string;
}

/** ERR_CRIA_LOAD, with all that may be wrong and what helps against each. */
export class CriaLoadError extends CriaError {
  constructor(
    readonly causes: readonly LoadCause[],
    host: Host,
    options: ErrorOptions,
  ) {
    const list = causes.map(({ cause, cure }) => `\n- ${cause}.\n  ${cure}.`).join("");
    super("ERR_CRIA_LOAD", `cria's native addon could not be loaded on ${describe(host)}:${list}`, options);
  }
}

/** What the addon must be made for. */
export interface Host {
  readonly platform: string;
  /** Of Node.js; the processor's, as uname has it, is `machine`. */
  readonly arch: string;
  readonly machine: string;
  readonly libc: string | undefined;
  readonly libcVersion: string | undefined;
  /** cria's, or that of the bundle that it is in. */
  readonly folder: string;
}

/** Asked only when something is wrong: it may start a process to learn the C library's version. */
export const thisHost = (): Host => ({
  platform: platform(),
  arch: arch(),
  machine: machine(),
  libc: ifAllowed(familySync) ?? undefined,
  // Deno's process report names a glibc of its own making, whichever is there.
  libcVersion: process.versions.deno === undefined ? (ifAllowed(versionSync) ?? undefined) : undefined,
  folder: ifAllowed(() => process.env.CRIA_PREBUILD) ?? packageRoot, // as node-gyp-build takes it
});

/** What runs this: "Node.js 20.4.0". The others say which Node.js they stand in for, too. */
export function runtime(versions: NodeJS.ProcessVersions = process.versions): string {
  const others = { bun: "Bun", deno: "Deno", electron: "Electron" };
  const [key, name] = Object.entries(others).find(([key]) => versions[key] !== undefined) ?? ["node", "Node.js"];
  return `${name} ${versions[key]}`;
}

const system = ({ platform, arch }: Host) => `${platform}-${arch}`;

/** "glibc 2.36", as far as it is known: of systems other than Linux nothing is. */
export const libcOf = ({ libc, libcVersion }: Pick<Host, "libc" | "libcVersion">): string[] =>
  libc === undefined ? [] : [[libc, libcVersion].filter((known) => known !== undefined).join(" ")];

const describe = (host: Host) => [system(host), ...libcOf(host), runtime()].join(", ");

/** The error that tells people what `error` means on this system. */
export function loadError(error: BindingError, host: Host = thisHost()): CriaLoadError {
  const causes = error.file === undefined ? whyNotFound(error, host) : [whyNotLoaded(error.file, error, host)];
  return new CriaLoadError(causes, host, { cause: error.cause });
}

const reinstall = "Install cria anew (remove node_modules/cria before): none of its files is optional";
const buildHere = 'In a clone of cria\'s repository "npm ci" builds it, with CMake and a C++20 compiler';

/** Nothing there is for this system, or what looks for it is not there. */
function whyNotFound({ cause }: BindingError, host: Host): LoadCause[] {
  if ((cause as NodeJS.ErrnoException | undefined)?.code === "MODULE_NOT_FOUND") {
    return [
      {
        cause:
          "node-gyp-build, which finds the addon, is missing: cria was installed or copied without its dependencies",
        cure: "Install cria anew, and its dependencies with it",
      },
    ];
  }
  const [, permission] = denoRefusal.says.exec(String(cause)) ?? [];
  if (permission !== undefined)
    return [{ cause: denoRefusal.cause(permission, undefined), cure: denoRefusal.cure(permission) }];
  const prebuilds = join(host.folder, "prebuilds");
  const systems = namesIn(prebuilds);
  if (systems.includes(system(host))) return [whyNoneForLibc(join(prebuilds, system(host)), host)];
  if (systems.length > 0) {
    return [
      {
        cause: `there is no prebuilt addon for ${system(host)}, only for ${systems.join(", ")}`,
        cure: `Run Node.js on one of these. ${buildHere}, on Linux on x86-64`,
      },
    ];
  }
  if (existsSync(join(host.folder, "CMakeLists.txt"))) {
    return [{ cause: `${host.folder} is a clone in which nothing has been built`, cure: 'Build it with "npm ci"' }];
  }
  return [
    {
      cause: `${prebuilds}, where prebuilt addons stand, is missing: an installer or a copy has left it out`,
      cure: reinstall,
    },
    {
      cause: "or cria's code was bundled, and has left its package",
      cure: 'Import "cria/linux-x64" before anything else of cria, or keep cria out of the bundle',
    },
  ];
}

function whyNoneForLibc(folder: string, { libc }: Host): LoadCause {
  const found = namesIn(folder).flatMap((name) => /\.(glibc|musl)\.node$/.exec(name)?.[1] ?? []);
  if (found.length === 0) return { cause: `${folder} has no addon: a copy has left it out`, cure: reinstall };
  return {
    cause: `the C library here is ${ifAllowed(() => process.env.LIBC) ?? libc}, and the prebuilt addon is for ${found.join(", ")}`,
    cure: `Run Node.js on a system with ${found.join(" or ")}, or unset LIBC if that is what is wrong. ${buildHere}`,
  };
}

/** What is wrong with a file that was found. */
function whyNotLoaded(file: string, { message, cause }: BindingError, { libcVersion }: Host): LoadCause {
  if (cause instanceof DamagedFile) return { cause: message, cure: reinstall };
  const archive = archives.find(({ path }) => path.test(file));
  if (archive !== undefined) return { cause: `${file} is packed in an archive`, cure: archive.cure };
  const said = message.trim().replace(/\.$/, "");
  for (const { says, cause, cure } of symptoms) {
    const match = says.exec(said);
    const found = match?.[1] ?? "";
    if (match) return { cause: `${cause(found, libcVersion)}. ${file} was not loaded: ${said}`, cure: cure(found) };
  }
  return { cause: `${file} was not loaded: ${said}`, cure: reinstall };
}

/** Files that Node.js reads from an archive, and the dynamic linker cannot. */
const archives = [
  { path: /\.asar[/\\]/, cure: 'Add "**/node_modules/cria/**" to asarUnpack' },
  { path: /\.zip[/\\]/, cure: 'Run "yarn unplug cria"' },
];

interface Symptom {
  /** In the words of Node.js, or of the dynamic linker of glibc or musl. */
  readonly says: RegExp;
  /** @param found what the expression's group matched */
  cause(found: string, libcVersion: string | undefined): string;
  cure(found: string): string;
}

const noexec = "the file system is mounted so that nothing on it is executed (noexec)";
const elsewhere = "Install cria on another file system, or mount that one without noexec";
const moreMemory = "Let the process have more memory: see ulimit -v, and the control group's limit";

const denoRefusal: Symptom = {
  says: /Requires (\w+) access to/,
  cause: (permission) => `Deno was started without the permission "${permission}"`,
  cure: () => "Start it with --allow-ffi, --allow-read and --allow-env",
};

const symptoms: readonly Symptom[] = [
  {
    says: /loading addons is disabled|--allow-addons/i,
    cause: () => "Node.js was started so that it loads no addon",
    cure: () => "Start it without --no-addons, and beside --permission with --allow-addons",
  },
  denoRefusal,
  {
    says: /Cannot allocate memory|Out of memory/,
    cause: () => "there is no memory for it, or none that this process may have",
    cure: () => moreMemory,
  },
  {
    says: /Operation not permitted/,
    cause: () => noexec,
    cure: () => elsewhere,
  },
  {
    says: /failed to map segment/, // glibc at times says no more, whichever it is
    cause: () => `${noexec}, or this process may have no more memory`,
    cure: () => `${elsewhere}. ${moreMemory}`,
  },
  {
    says: /Permission denied/,
    cause: () => "this user may not read it",
    cure: () => "Give the right to read it, and to enter the folders that it is in",
  },
  {
    says: /version [`'"]?GLIBC_([\d.]+)/,
    cause: (needed, here = "an older one") => `glibc ${needed} is needed, and ${here} is here`,
    cure: () => `Run Node.js on a newer system. ${buildHere}, for the C library that is there`,
  },
  {
    says: /version [`'"]?((?:GLIBCXX|CXXABI|GCC)_[\d.]+)/,
    cause: (needed) => `${needed} is needed, and the compiler's library here is older`,
    cure: () => "Run Node.js on a newer system",
  },
  {
    says: /(libc\.musl-\S+|ld-musl-\S+): cannot open shared object file/,
    cause: () => "it was made for musl, and the C library here is glibc",
    cure: () => "Unset LIBC in the environment, or set it to glibc: it chooses the addon",
  },
  {
    says: /loading shared library (ld-linux\S*|libc\.so\.6): No such/,
    cause: () => "it was made for glibc, and the C library here is musl",
    cure: () => "Set LIBC=musl in the environment: it chooses the addon",
  },
  {
    says: /(libcria\S*?\.so): cannot open shared object file|loading shared library libcria/,
    cause: (library) =>
      `${library || "libcria"}, which must stand beside it, is missing: an installer or a copy left it out`,
    cure: () => `${reinstall}. Who copies the addon, as a bundler does, copies libcria beside it`,
  },
  {
    says: /([^\s/:]+): cannot open shared object file|loading shared library/,
    cause: (library) => `${library || "a library"}, which it needs, is not on this system`,
    cure: () => "Install it",
  },
  {
    says: /undefined symbol|symbol not found|of the C ABI|self-register/,
    cause: () => "the addon, libcria and this code are not all of one version of cria",
    cure: () => reinstall,
  },
];

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return []; // it is absent, no folder, or not to be read: nothing can be loaded from it
  }
}
