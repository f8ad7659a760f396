import { type SafetensorsType, safetensorsTypes } from "../../lib/weights/safetensors.js";

/** Builds safetensors files for tests: sound ones, and by the options so marked, damaged ones. */
export interface SafetensorsFile {
  tensors: Record<string, SafetensorsSpec>;
  metadata?: Record<string, string>;
  /** Damage: the header's length. */
  length?: bigint;
  /** Damage: the header itself. */
  header?: string | Uint8Array;
  /** Damage: what follows the tensors. */
  trailing?: Uint8Array;
}

export interface SafetensorsSpec {
  /** A type of the format; any other string is damage, and wants `data`. */
  dtype: SafetensorsType | (string & {});
  shape: number[];
  /** Zeros of the right length unless given. */
  data?: Uint8Array;
  /** Damage: the offsets in the header, which the data's place does not follow. */
  offsets?: number[];
}

/** The file's bytes. */
export function encodeSafetensors(file: SafetensorsFile): Buffer {
  const parts: Uint8Array[] = [];
  const entries: Record<string, unknown> = Object.create(null);
  if (file.metadata !== undefined) entries.__metadata__ = file.metadata;
  let end = 0;
  for (const [name, { dtype, shape, data, offsets }] of Object.entries(file.tensors)) {
    const part = data ?? Buffer.alloc(shape.reduce((a, b) => a * b, 1) * safetensorsTypes[dtype as SafetensorsType]);
    parts.push(part);
    entries[name] = { dtype, shape, data_offsets: offsets ?? [end, end + part.length] };
    end += part.length;
  }
  const header = Buffer.from(file.header ?? JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(file.length ?? BigInt(header.length));
  return Buffer.concat([length, header, ...parts, file.trailing ?? Buffer.alloc(0)]);
}
