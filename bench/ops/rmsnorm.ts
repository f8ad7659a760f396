import { rmsNorm } from "../../lib/kernels.js";
import { native } from "../../lib/native.js";
import { randomFloats } from "./random.js";
import { rowOp } from "./rows.js";

const eps = 1e-5;

export const rmsnorm = rowOp({
  name: "rmsnorm",
  of: "dim",
  bytes: 8,
  model: "8 bytes an element: read, and written",
  inputWidth: (dim) => dim,
  weights: async (device, dim) => native.vectorCreate(device.handle, "f32", dim),
  record: (program, x, out, weight) => program.rmsNorm(x, weight!, eps, out),
  result: (rows, dim, execution) => {
    const out = new Float32Array(rows * dim);
    rmsNorm({ x: randomFloats(rows * dim), weight: randomFloats(dim, 2), eps, out, ...execution });
    return out;
  },
});
