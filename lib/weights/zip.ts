/**
 * The entries of a zip archive (PKWARE's APPNOTE 6.3), as torch.save writes one: stored, not compressed, so that each
 * stands in the archive as it is. Nothing is unpacked, and no name becomes a path.
 *
 *     for each entry   local header, data, and where the flags say so, a descriptor of the data
 *     for each entry   record of the central directory: sizes, flags, the local header's offset, name
 *     [zip64]          record of the directory's place as 64 bits, and the place of that record
 *     end              number of entries, size and offset of the directory, comment
 *
 * All numbers are little-endian. A number that does not fit its field is all ones there, and stands as 64 bits in the
 * zip64 record, or among the extra fields of its entry.
 */
import { CriaFileError, show } from "../errors.js";
import { readAll } from "../files.js";
import { readFrom } from "./open.js";

/** An entry whose bytes lie in the archive, apart from all others'. */
export interface ZipEntry {
  readonly name: string;
  /** Where its data begin. */
  readonly offset: number;
  readonly bytes: number;
}

const signatures = {
  local: 0x04034b50,
  central: 0x02014b50,
  end: 0x06054b50,
  end64: 0x06064b50,
  locator64: 0x07064b50,
} as const;

/** The bytes of each record, but for names, extra fields and comments. */
const sizes = { local: 30, central: 46, end: 22, end64: 56, locator64: 20 } as const;

/** What a field holds whose number stands elsewhere as 64 bits. */
const saturated = { u16: 0xffff, u32: 0xffffffff } as const;

/** The id of the extra field with an entry's 64-bit numbers. */
const zip64Id = 1;

/** Flags of an entry: it is encrypted; its sizes follow its data; its name is UTF-8. The others are unknown to us. */
const flagBits = { encrypted: 1, descriptor: 8, utf8: 0x800 } as const;

/** The longest comment of an archive. */
const mostComment = 65_535;

/** Far above the 723 tensors of a LLaMA of 80 layers. */
const mostEntries = 65_536;

/** A directory's record takes some 80 bytes. */
const mostDirectoryBytes = 16 * 2 ** 20;

/** Whether a file begins as a zip archive with an entry does. */
export function beginsAsZip(fd: number): boolean {
  const first = Buffer.alloc(4);
  return readAll(fd, first, 0) === 4 && first.readUInt32LE() === signatures.local;
}

/** The same of a file by its path. @throws CriaFileError where it cannot be read */
export const isZip = (path: string): Promise<boolean> => readFrom(path, undefined, beginsAsZip);

/**
 * Reads and checks the directory of a zip archive, and the header of each entry.
 *
 * @param path the file's name in errors
 * @param size the file's length in bytes
 * @returns the entries by name, in the directory's order
 * @throws CriaFileError ERR_CRIA_FILE where a size, an offset or a name is not what it must be, or two entries overlap,
 *   ERR_CRIA_UNSUPPORTED for an archive that is compressed, encrypted or in several parts
 */
export function readZip(fd: number, path: string, size: number): Map<string, ZipEntry> {
  const archive = new Archive(fd, path, size);
  const directory = archive.findDirectory();
  const records = archive.readDirectory(directory);
  const entries = new Map<string, ZipEntry>();
  const taken: Range[] = [];
  for (const record of records) {
    if (entries.has(record.name)) throw archive.error(record.name, "stands twice in the archive");
    const offset = archive.readLocalHeader(record, directory.offset);
    entries.set(record.name, { name: record.name, offset, bytes: record.bytes });
    taken.push({ name: record.name, begin: record.header, end: offset + record.bytes });
  }
  checkApart(archive, taken);
  return entries;
}

interface Directory {
  readonly entries: number;
  readonly offset: number;
  readonly bytes: number;
}

/** An entry as the directory has it. */
interface DirectoryRecord {
  readonly name: string;
  readonly rawName: Buffer;
  readonly flags: number;
  readonly bytes: number;
  /** Where its local header begins. */
  readonly header: number;
}

interface Range {
  readonly name: string;
  readonly begin: number;
  readonly end: number;
}

/** An open archive. */
class Archive {
  constructor(
    private readonly fd: number,
    private readonly path: string,
    private readonly size: number,
  ) {}

  error(subject: string | undefined, problem: string, code?: "ERR_CRIA_UNSUPPORTED"): CriaFileError {
    return new CriaFileError(this.path, subject, problem, code);
  }

  /** The directory's place, which ends where the records of it begin. */
  findDirectory(): Directory {
    const endAt = this.#findEnd();
    const end = this.#read(endAt, sizes.end, undefined);
    const short = {
      disks: [end.readUInt16LE(4), end.readUInt16LE(6)],
      entries: [end.readUInt16LE(8), end.readUInt16LE(10)],
      bytes: end.readUInt32LE(12),
      offset: end.readUInt32LE(16),
    } as const;
    const long = this.#readEnd64(endAt);
    const value = (field: number, most: number, wide: bigint | undefined, what: string) => {
      if (wide === undefined || (field !== most && BigInt(field) === wide)) return field;
      if (field === most) return this.#number(wide, undefined, what);
      throw this.error(undefined, `its ${what} must be ${wide}, as its zip64 record says, not ${field}`);
    };
    if (short.disks.some((disk) => disk !== 0 && disk !== saturated.u16) || short.entries[0] !== short.entries[1]) {
      throw this.error(undefined, "must be an archive of one part", "ERR_CRIA_UNSUPPORTED");
    }
    const directory = {
      entries: value(short.entries[1], saturated.u16, long?.entries, "number of entries"),
      bytes: value(short.bytes, saturated.u32, long?.bytes, "directory's size"),
      offset: value(short.offset, saturated.u32, long?.offset, "directory's offset"),
    };
    this.#checkDirectory(directory, long?.at ?? endAt);
    return directory;
  }

  #checkDirectory({ entries, bytes, offset }: Directory, end: number): void {
    if (entries > mostEntries) {
      throw this.error(undefined, `must have at most ${mostEntries} entries, not ${entries}`);
    }
    if (bytes > mostDirectoryBytes) {
      throw this.error(undefined, `its directory must be of at most ${mostDirectoryBytes} bytes, not ${bytes}`);
    }
    if (offset + bytes !== end) {
      throw this.error(
        undefined,
        `its directory must end at byte ${end}, before its end record, not at ${offset + bytes}`,
      );
    }
  }

  /** The place of the end record, whose comment ends where the file does. */
  #findEnd(): number {
    const length = Math.min(this.size, sizes.end + mostComment);
    const tail = this.#read(this.size - length, length, undefined);
    for (let at = length - sizes.end; at >= 0; at--) {
      if (tail.readUInt32LE(at) !== signatures.end) continue;
      if (at + sizes.end + tail.readUInt16LE(at + 20) === length) return this.size - length + at;
    }
    throw this.error(undefined, "must end with the end record of a zip archive: it was cut, or is none");
  }

  #readEnd64(endAt: number): { at: number; entries: bigint; bytes: bigint; offset: bigint } | undefined {
    if (endAt < sizes.locator64) return undefined;
    const locator = this.#read(endAt - sizes.locator64, sizes.locator64, undefined);
    if (locator.readUInt32LE() !== signatures.locator64) return undefined;
    const at = this.#number(locator.readBigUInt64LE(8), undefined, "zip64 record's offset");
    if (at + sizes.end64 > endAt - sizes.locator64) {
      throw this.error(
        undefined,
        `its zip64 record must end before byte ${endAt - sizes.locator64}, not begin at ${at}`,
      );
    }
    const record = this.#read(at, sizes.end64, undefined);
    if (record.readUInt32LE() !== signatures.end64) {
      throw this.error(undefined, `must have its zip64 record at byte ${at}, as it says`);
    }
    return {
      at,
      entries: record.readBigUInt64LE(32),
      bytes: record.readBigUInt64LE(40),
      offset: record.readBigUInt64LE(48),
    };
  }

  readDirectory({ entries, offset, bytes }: Directory): DirectoryRecord[] {
    const directory = this.#read(offset, bytes, undefined);
    const records: DirectoryRecord[] = [];
    let at = 0;
    while (records.length < entries) {
      const ordinal = `entry ${records.length + 1} of ${entries}`;
      if (at + sizes.central > bytes || directory.readUInt32LE(at) !== signatures.central) {
        throw this.error(ordinal, "must have a record in the archive's directory");
      }
      const [name, extra, comment] = [28, 30, 32].map((field) => directory.readUInt16LE(at + field)) as [
        number,
        number,
        number,
      ];
      const end = at + sizes.central + name + extra + comment;
      if (end > bytes) throw this.error(ordinal, "its record must end within the archive's directory");
      records.push(this.#directoryRecord(directory.subarray(at, end), name, extra, ordinal));
      at = end;
    }
    if (at !== bytes) {
      throw this.error(undefined, `its directory must have ${bytes} bytes for ${entries} entries, not ${at}`);
    }
    return records;
  }

  #directoryRecord(record: Buffer, nameBytes: number, extraBytes: number, ordinal: string): DirectoryRecord {
    const rawName = record.subarray(sizes.central, sizes.central + nameBytes);
    const name = this.#checkName(rawName, ordinal);
    const fields = [24, 20, 42].map((field) => record.readUInt32LE(field)); // in the order of the extra field
    const extra = record.subarray(sizes.central + nameBytes, sizes.central + nameBytes + extraBytes);
    const [bytes, stored, header] = this.#wideFields(name, fields, extra) as [number, number, number];
    const flags = record.readUInt16LE(8);
    this.#checkStored(name, record.readUInt16LE(10), flags);
    if (bytes !== stored) throw this.error(name, `must take the ${bytes} bytes that it has, not ${stored}`);
    return { name, rawName, flags, bytes, header };
  }

  /** The numbers of an entry, of which those that are saturated stand in its extra fields, one after another. */
  #wideFields(name: string, fields: readonly number[], extra: Buffer): number[] {
    const wide = this.#extraField(name, extra);
    let at = 0;
    return fields.map((field) => {
      if (field !== saturated.u32) return field;
      if (wide === undefined || at + 8 > wide.length) throw this.error(name, "must have its 64-bit sizes");
      at += 8;
      return this.#number(wide.readBigUInt64LE(at - 8), name, "size or offset");
    });
  }

  #extraField(name: string, extra: Buffer): Buffer | undefined {
    for (let at = 0; at < extra.length; ) {
      const end = at + 4 + (at + 4 <= extra.length ? extra.readUInt16LE(at + 2) : 0);
      if (end > extra.length) throw this.error(name, "its extra fields must end within its record");
      if (extra.readUInt16LE(at) === zip64Id) return extra.subarray(at + 4, end);
      at = end;
    }
    return undefined;
  }

  #checkStored(name: string, method: number, flags: number): void {
    if (flags & flagBits.encrypted) throw this.error(name, "must not be encrypted", "ERR_CRIA_UNSUPPORTED");
    if (method !== 0) {
      throw this.error(name, `must be stored as it is, not compressed by method ${method}`, "ERR_CRIA_UNSUPPORTED");
    }
    const unknown = flags & ~(flagBits.descriptor | flagBits.utf8);
    if (unknown !== 0) throw this.error(name, `must not have the flags ${unknown}`, "ERR_CRIA_UNSUPPORTED");
  }

  /** A name of parts with slashes between them, which nobody could take for a place outside of the archive. */
  #checkName(raw: Buffer, ordinal: string): string {
    const name = raw.toString("utf8");
    if (!Buffer.from(name).equals(raw)) throw this.error(ordinal, "its name must be UTF-8");
    const parts = name.split("/");
    const outside = parts.some((part) => part === "" || part === "." || part === "..") || /[\\\0]|^[a-z]:/i.test(name);
    if (outside) throw this.error(ordinal, `its name must be a path within the archive, not ${show(name)}`);
    return name;
  }

  /** Where the data begin of an entry, whose local header says what the directory does. */
  readLocalHeader({ name, rawName, flags, bytes, header }: DirectoryRecord, dataEnd: number): number {
    const fail = (problem: string) => this.error(name, problem);
    if (header + sizes.local + rawName.length > dataEnd) {
      throw fail(`its header must lie before the archive's directory, at byte ${dataEnd}, not at ${header}`);
    }
    const local = this.#read(header, sizes.local + rawName.length, name);
    if (local.readUInt32LE() !== signatures.local) throw fail(`must have its header at byte ${header}`);
    const sameName = local.readUInt16LE(26) === rawName.length && local.subarray(sizes.local).equals(rawName);
    if (!sameName) throw fail("must have the same name in its header");
    if (local.readUInt16LE(8) !== 0 || local.readUInt16LE(6) !== flags) {
      throw fail("must have the same method and flags in its header");
    }
    // Where the sizes follow the data, they may be zeros here.
    const stated = [local.readUInt32LE(18), local.readUInt32LE(22)];
    const open = flags & flagBits.descriptor;
    if (stated.some((size) => size !== bytes && size !== saturated.u32 && !(open && size === 0))) {
      throw fail(`must have the same size in its header, ${bytes}, not ${stated.join(" and ")}`);
    }
    const offset = header + sizes.local + rawName.length + local.readUInt16LE(28);
    if (offset + bytes > dataEnd) {
      throw fail(`its data must end before the archive's directory, at byte ${dataEnd}, not at ${offset + bytes}`);
    }
    return offset;
  }

  /** @param subject the entry, for errors */
  #read(offset: number, bytes: number, subject: string | undefined): Buffer {
    const buffer = Buffer.alloc(bytes);
    if (readAll(this.fd, buffer, offset) === bytes) return buffer;
    throw this.error(subject, `the file must keep its ${this.size} bytes while it is read`);
  }

  /** @throws for what is larger than the file */
  #number(value: bigint, subject: string | undefined, what: string): number {
    if (value <= this.size) return Number(value);
    throw this.error(subject, `its ${what} must be within the file's ${this.size} bytes, not ${value}`);
  }
}

function checkApart(archive: Archive, ranges: readonly Range[]): void {
  const sorted = ranges.toSorted((a, b) => a.begin - b.begin || a.end - b.end);
  for (const [i, { name, begin }] of sorted.entries()) {
    const before = sorted[i - 1];
    if (before === undefined || begin >= before.end) continue;
    throw archive.error(
      name,
      `must not overlap ${before.name}, bytes ${before.begin} to ${before.end}, but begins at ${begin}`,
    );
  }
}
