import { availableParallelism } from "node:os";
import { expect, test } from "vitest";

import { allowedProcessors, idsIn, vectorFeatures } from "../lib/system.js";

test.each([
  ["", []],
  ["0", [0]],
  ["0-3,8,10-11", [0, 1, 2, 3, 8, 10, 11]],
])("the list %j is of processors", (list, ids) => {
  expect(idsIn(list)).toEqual(ids);
});

test("this process may use some processors, and their cores", () => {
  const { processors, cores } = allowedProcessors();
  expect(processors).toBeGreaterThanOrEqual(availableParallelism()); // which heeds a quota too, where libuv does
  expect(cores).toBeGreaterThanOrEqual(1);
});

test("vector features are told from the others", () => {
  const flags = "fpu sse4_2 fma avx f16c avx2 bmi2 avx512f avx512_vnni amx_int8 fma4";
  expect(vectorFeatures(`processor\t: 0\nflags\t\t: ${flags}\nbugs\t\t: none\n`)).toEqual(
    "fma avx f16c avx2 avx512f avx512_vnni amx_int8".split(" "),
  );
  expect(vectorFeatures("")).toEqual([]);
});
