import { add } from "./add.js";
import { attentionOp } from "./attention.js";
import { embed } from "./embed.js";
import { matmulF } from "./matmul_f.js";
import { matmulIq4Nl } from "./matmul_iq4_nl.js";
import { matmulQ2K } from "./matmul_q2_k.js";
import { matmulQ3K } from "./matmul_q3_k.js";
import { matmulQ4 } from "./matmul_q4.js";
import { matmulQ4_1 } from "./matmul_q4_1.js";
import { matmulQ4K } from "./matmul_q4_k.js";
import { matmulQ4Z } from "./matmul_q4_z.js";
import { matmulQ5_0 } from "./matmul_q5_0.js";
import { matmulQ5_1 } from "./matmul_q5_1.js";
import { matmulQ5K } from "./matmul_q5_k.js";
import { matmulQ6K } from "./matmul_q6_k.js";
import { matmulQ8 } from "./matmul_q8.js";
import type { Op } from "./op.js";
import { quantize } from "./quantize.js";
import { rmsnorm } from "./rmsnorm.js";
import { rope } from "./rope.js";
import { swiglu } from "./swiglu.js";

const all: readonly Op[] = [
  matmulQ4,
  matmulQ8,
  matmulQ4_1,
  matmulQ5_0,
  matmulQ5_1,
  matmulIq4Nl,
  matmulQ2K,
  matmulQ3K,
  matmulQ4K,
  matmulQ5K,
  matmulQ6K,
  matmulQ4Z,
  matmulF,
  attentionOp,
  rmsnorm,
  quantize,
  rope,
  swiglu,
  add,
  embed,
];

/** Every op by its name. */
export const ops: Readonly<Record<string, Op>> = Object.fromEntries(all.map((op) => [op.name, op]));
