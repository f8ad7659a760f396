/** Builds zip archives for tests as torch.save does: stored, sizes behind the data too, zip64 records at the end. */

export interface ZipSpec {
  name: string;
  data: Uint8Array;
  /** Damage: what the directory's record says, 32 bits each, of which all ones ask for 64-bit ones. */
  method?: number;
  flags?: number;
  size?: number;
  storedSize?: number;
  header?: number;
  /** Extra fields of the directory's record. */
  extra?: Uint8Array;
  /** Damage: what the local header says. */
  localName?: string;
  localFlags?: number;
  localSize?: number;
  localSignature?: number;
}

export interface ZipOptions {
  /** With the zip64 records, which torch always writes. Default: true. */
  zip64?: boolean;
  comment?: string;
  /** Damage: what the end records say. */
  entries?: number;
  directoryOffset?: number;
  directoryBytes?: number;
  /** What the zip64 record says instead, and where it is said to be. */
  entries64?: bigint;
  offset64?: bigint;
  record64?: bigint;
  disk?: number;
}

const fields = (...values: (readonly [width: 2 | 4 | 8, value: number | bigint])[]): Buffer =>
  Buffer.concat(
    values.map(([width, value]) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(BigInt(value));
      return bytes.subarray(0, width);
    }),
  );

/** torch aligns storages to 64 bytes by an extra field of the local header, "FB". */
function alignment(at: number, name: number): Buffer {
  const padding = 64 - ((at + 30 + name + 4) % 64);
  return Buffer.concat([Buffer.from("FB"), fields([2, padding]), Buffer.alloc(padding, "Z")]);
}

const flagsOf = ({ flags = 0x0808 }: ZipSpec) => flags;

function local(spec: ZipSpec, at: number): Buffer {
  const name = Buffer.from(spec.localName ?? spec.name);
  const extra = alignment(at, name.length);
  const size = spec.localSize ?? 0;
  const header = fields(
    [4, spec.localSignature ?? 0x04034b50],
    [2, 0], // the version that it needs
    [2, spec.localFlags ?? flagsOf(spec)],
    [2, 0], // the method
    [4, 0], // time
    [4, 0], // checksum
    [4, size],
    [4, size],
    [2, name.length],
    [2, extra.length],
  );
  const descriptor = fields([4, 0x08074b50], [4, 0], [4, spec.data.length], [4, spec.data.length]);
  return Buffer.concat([header, name, extra, spec.data, descriptor]);
}

function central(spec: ZipSpec, at: number): Buffer {
  const name = Buffer.from(spec.name);
  const extra = spec.extra ?? Buffer.alloc(0);
  const header = fields(
    [4, 0x02014b50],
    [2, 0],
    [2, 0],
    [2, flagsOf(spec)],
    [2, spec.method ?? 0],
    [4, 0],
    [4, 0],
    [4, spec.storedSize ?? spec.data.length],
    [4, spec.size ?? spec.data.length],
    [2, name.length],
    [2, extra.length],
    [2, 0],
    [2, 0],
    [2, 0],
    [4, 0],
    [4, spec.header ?? at],
  );
  return Buffer.concat([header, name, extra]);
}

/** 64-bit numbers of a directory's record. */
export const wideExtra = (...values: (number | bigint)[]): Buffer =>
  Buffer.concat([fields([2, 1], [2, 8 * values.length]), ...values.map((value) => fields([8, value]))]);

/** The archive's bytes. */
export function encodeZip(specs: readonly ZipSpec[], options: ZipOptions = {}): Buffer {
  const locals: Buffer[] = [];
  const offsets: number[] = [];
  let length = 0;
  for (const spec of specs) {
    offsets.push(length);
    locals.push(local(spec, length));
    length += locals.at(-1)!.length;
  }
  const directory = Buffer.concat(specs.map((spec, i) => central(spec, offsets[i]!)));
  return Buffer.concat([...locals, directory, ending(specs.length, length, directory.length, options)]);
}

function ending(count: number, offset: number, bytes: number, options: ZipOptions): Buffer {
  const { zip64 = true, comment = "", entries = count, disk = 0 } = options;
  const { directoryOffset = offset, directoryBytes = bytes } = options;
  const wide = Buffer.concat([
    fields([4, 0x06064b50], [8, 44], [2, 0], [2, 0], [4, 0], [4, 0], [8, options.entries64 ?? entries]),
    fields([8, options.entries64 ?? entries], [8, directoryBytes], [8, options.offset64 ?? directoryOffset]),
    fields([4, 0x07064b50], [4, 0], [8, options.record64 ?? offset + bytes], [4, 1]),
  ]);
  return Buffer.concat([
    zip64 ? wide : Buffer.alloc(0),
    fields([4, 0x06054b50], [2, disk], [2, disk], [2, entries], [2, entries]),
    fields([4, directoryBytes], [4, directoryOffset], [2, Buffer.byteLength(comment)]),
    Buffer.from(comment),
  ]);
}
