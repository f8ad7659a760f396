import { matmulOp } from "./matmul.js";

export const matmulQ4_1 = matmulOp("matmul_q4_1", ["q4_1"]);
