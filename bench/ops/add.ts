import { add as addArrays } from "../../lib/kernels.js";
import { randomFloats } from "./random.js";
import { rowOp } from "./rows.js";

/** As a residual is added: to itself. */
export const add = rowOp({
  name: "add",
  of: "dim",
  bytes: 12,
  model: "12 bytes an element: two read, one written",
  inputWidth: (dim) => dim,
  record: (program, x, out) => program.add(out, x, out),
  result: (rows, dim, execution) => {
    const out = new Float32Array(rows * dim);
    addArrays({ x: randomFloats(out.length), y: randomFloats(out.length, 2), out, ...execution });
    return out;
  },
});
