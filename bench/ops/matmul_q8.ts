import { matmulOp } from "./matmul.js";

export const matmulQ8 = matmulOp("matmul_q8", ["q8_0"]);
