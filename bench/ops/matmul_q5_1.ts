import { matmulOp } from "./matmul.js";

export const matmulQ5_1 = matmulOp("matmul_q5_1", ["q5_1"]);
