/** In what order a matrix's columns are packed when each group of inputs has a scale: group after group. */

import { createHash } from "node:crypto";

/** Columns that share a scale in the kernels' blocks. */
const block = 32;

export interface ColumnOrder {
  /** Of each column the input; -1 of what fills a group up to whole blocks. */
  readonly columns: Int32Array;
  /** The group of each 32 columns. */
  readonly columnGroups: Int32Array;
  /** Whether the columns are the inputs, one after another. */
  readonly inOrder: boolean;
}

/** The groups of inputs that share one in their order. */
export const groupsOf = (inputs: number, groupSize: number): Int32Array =>
  Int32Array.from({ length: inputs }, (_, i) => Math.floor(i / groupSize));

/** Makes orders: those of equal groups are one object, so that products by them may be one. */
export class ColumnOrders {
  /** By their digests: to compare each with each takes as long as a hostile file's author likes. */
  readonly #known = new Map<string, ColumnOrder>();

  /** @param of the group of each input, below `groups` */
  of(of: Int32Array, groups: number): ColumnOrder {
    const order = orderOf(of, groups);
    const digest = digestOf(order);
    const known = this.#known.get(digest);
    if (known !== undefined) return known;
    this.#known.set(digest, order);
    return order;
  }
}

/** Inputs by their groups, those of one in their own order, each group filled up to whole blocks. */
function orderOf(of: Int32Array, groups: number): ColumnOrder {
  const sizes = new Int32Array(groups);
  for (const group of of) sizes[group]!++;
  const blocks = Array.from(sizes, (size) => Math.ceil(size / block));
  const ends: number[] = [];
  let end = 0;
  for (const count of blocks) {
    ends.push(end * block);
    end += count;
  }
  const columns = new Int32Array(end * block).fill(-1);
  for (const [input, group] of of.entries()) columns[ends[group]!++] = input;
  return {
    columns,
    columnGroups: Int32Array.from(blocks.flatMap((count, group) => Array<number>(count).fill(group))),
    inOrder: columns.every((input, i) => input === i),
  };
}

/**
 * SHA-256, which no two orders share: there is a group for 32 columns, so that the length of all tells that of each.
 */
const digestOf = ({ columns, columnGroups }: ColumnOrder) =>
  createHash("sha256").update(columns).update(columnGroups).digest("base64");
