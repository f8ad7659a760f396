/** Tensors of which several files have a part each: of its rows, or of its columns. */
import { native, type TensorHandle } from "../native.js";
import { OpenFiles, packChunks } from "./chunks.js";
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

/** Weights in parts. Rows are read and packed natively; of columns each row is put together in JavaScript first. */
export function joinedSource(tensors: ReadonlyMap<string, JoinedTensor>): WeightSource & Disposable {
  return {
    tensors: new Map([...tensors].map(([name, { info }]) => [name, info])),
    pack: ({ name }, into, row) => {
      const tensor = tensors.get(name)!;
      // One part alone has whole rows.
      return tensor.cut === "rows" || tensor.parts.length === 1
        ? packRows(tensor, into, row)
        : packColumns(tensor, into, row);
    },
    [Symbol.dispose]: () => undefined,
  };
}

async function packRows({ info, parts }: JoinedTensor, into: TensorHandle, row: number): Promise<void> {
  const rows = info.rows / parts.length;
  for (const [i, { file, offset }] of parts.entries()) {
    try {
      await native.tensorPackFile(into, row + i * rows, rows, file, offset);
    } catch (error) {
      throw naming(error, file, info.name);
    }
  }
}

async function packColumns({ info, parts }: JoinedTensor, into: TensorHandle, row: number): Promise<void> {
  const pieceBytes = weightBytes(info.type, 1, info.cols / parts.length);
  const rowBytes = weightBytes(info.type, 1, info.cols);
  await using files = await OpenFiles.open(parts.map(({ file }) => file));
  let pieces = Buffer.alloc(0);
  await packChunks(info, into, row, async (chunk, from, count) => {
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
