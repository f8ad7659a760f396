import { matmulOp } from "./matmul.js";

export const matmulQ4 = matmulOp("matmul_q4", ["q4_0"]);
