import { expect, test } from "vitest";

import { ColumnOrders, groupsOf } from "../../lib/weights/column-order.js";

const inputs = 8192;
const groups = inputs / 32;

test("equal orders are one, and others are not", () => {
  const orders = new ColumnOrders();
  const plain = orders.of(groupsOf(64, 32), 2);
  expect(plain.inOrder).toBe(true);
  expect(orders.of(groupsOf(64, 32), 2)).toBe(plain);
  const exchanged = orders.of(groupsOf(64, 32).reverse(), 2);
  expect(exchanged).not.toBe(plain);
  expect(exchanged.columns).not.toEqual(plain.columns);
  // The same columns, whose first 32 are of the second group.
  const second = orders.of(groupsOf(64, 32).fill(1), 2);
  expect(second.columns).toEqual(plain.columns);
  expect(second).not.toBe(plain);
  expect(orders.of(groupsOf(64, 32).fill(1), 2)).toBe(second);
});

test("orders that differ near their ends take no time that grows with their square", () => {
  const orders = new ColumnOrders();
  const begun = performance.now();
  // Compared each with each from the first column on, these take half a minute; told apart at once, half a second.
  const found = new Set(Array.from({ length: 3 * groups }, (_, i) => orders.of(hostile(i), groups)));
  expect(found.size).toBe(3 * groups);
  expect(performance.now() - begun).toBeLessThan(8000);
});

/** Groups of 32 inputs, of which some of the last ten are of the group before: which, `i` tells by its bits. */
function hostile(i: number): Int32Array {
  const of = groupsOf(inputs, 32);
  for (let bit = 0; bit < 10; bit++) if ((i >> bit) & 1) of[inputs - 1 - bit] = groups - 2;
  return of;
}
