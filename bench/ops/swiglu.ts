import { swiGlu } from "../../lib/kernels.js";
import { randomFloats } from "./random.js";
import { rowOp } from "./rows.js";

export const swiglu = rowOp({
  name: "swiglu",
  of: "ffn",
  bytes: 12,
  model: "12 bytes an element: gate and up read, one written",
  inputWidth: (ffn) => 2 * ffn,
  record: (program, gateUp, out) => program.swiGlu(gateUp, out),
  result: (rows, dim, execution) => {
    const out = new Float32Array(rows * dim);
    swiGlu({ gateUp: randomFloats(2 * rows * dim), dim, out, ...execution });
    return out;
  },
});
