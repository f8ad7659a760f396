/** Tensors of which several files have a part each: of its rows, or of its columns. */
import type { TensorHandle } from "../native.js";
import { converting, OpenFiles, type Placing, packing, placeChunks } from "./chunks.js";
import { type TensorInfo, weightBytes } from "./source.js";
import { naming, type WeightSource } from "./store.js";

/** Where a part's elements stand. */
export interface TensorPart {
  readonly file: string;
  readonly offset: number;
}

/** A tensor that is its parts one below the other (`rows`), or side by side (`columns`). All are of the same size. */
export interface JoinedTensor {
  readonly info: TensorInfo;
  readonly cut: "rows" | "columns";
  /** At least one; their number divides what is cut. */
  readonly parts: readonly TensorPart[];
}

/** Weights in parts. Rows are read natively; of columns each row is put together in JavaScript first. */
export function joinedSource(tensors: ReadonlyMap<string, JoinedTensor>): WeightSource & Disposable {
  const place = ({ name }: TensorInfo, placing: Placing, into: TensorHandle, row: number) => {
    const tensor = tensors.get(name)!;
    // One part alone has whole rows.
    const ofRows = tensor.cut === "rows" || tensor.parts.length === 1;
    return (ofRows ? placeRows : placeColumns)(tensor, placing, into, row);
  };
  return {
    tensors: new Map([...tensors].map(([name, { info }]) => [name, info])),
    pack: (info, into, row) => place(info, packing, into, row),
    convert: (info, into, row) => place(info, converting(info.type), into, row),
    [Symbol.dispose]: () => undefined,
  };
}

async function placeRows(
  { info, parts }: JoinedTensor,
  placing: Placing,
  into: TensorHandle,
  row: number,
): Promise<void> {
  const rows = info.rows / parts.length;
  for (const [i, { file, offset }] of parts.entries()) {
    try {
      await placing.file(into, row + i * rows, rows, file, offset);
    } catch (error) {
      throw naming(error, file, info.name);
    }
  }
}

async function placeColumns(
  { info, parts }: JoinedTensor,
  placing: Placing,
  into: TensorHandle,
  row: number,
): Promise<void> {
  const pieceBytes = weightBytes(info.type, 1, info.cols / parts.length);
  const rowBytes = weightBytes(info.type, 1, info.cols);
  await using files = await OpenFiles.open(parts.map(({ file }) => file));
  let pieces = Buffer.alloc(0);
  await placeChunks(info, placing, into, row, async (chunk, from, count) => {
    if (pieces.length < count * pieceBytes) pieces = Buffer.alloc(count * pieceBytes);
    for (const [i, { file, offset }] of parts.entries()) {
      const part = pieces.subarray(0, count * pieceBytes);
      try {
        await files.read(i, part, offset + from * pieceBytes);
      } catch (error) {
        throw naming(error, file, info.name);
      }
      for (let r = 0; r < count; r++) {
        part.copy(chunk, r * rowBytes + i * pieceBytes, r * pieceBytes, (r + 1) * pieceBytes);
      }
    }
  });
}
