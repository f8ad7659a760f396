import { matmulOp } from "./matmul.js";

export const matmulQ5_0 = matmulOp("matmul_q5_0", ["q5_0"]);
