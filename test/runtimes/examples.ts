/** What the programs of examples/ print, by the kernels of the addon. */
import * as kernels from "../../lib/kernels.js";
import product from "./fixtures/product.cjs";

/** The numbers that an example prints, and the sentence after them. */
export interface Output {
  numbers: number[];
  refusal: string;
}

/** Numbers are printed with as many digits as tell each float32 from every other. */
export function parse(output: string): Output {
  const lines = output.trimEnd().split("\n");
  const refusal = lines.pop()!;
  return { numbers: lines.flatMap((line) => line.split(" ").map(Number).map(Math.fround)), refusal };
}

export const matmul = (): Output => ({
  numbers: product(kernels),
  refusal: "refused with 1: cols: must be a multiple of 32 in q4_0, not 65",
});

/** Of program.c: logits = head rmsnorm(embed(token)) of the tokens 2 and 7. */
export function program(): Output {
  const [vocabulary, dim] = [8, 32];
  const matrix = (data: Float32Array) => kernels.packWeights({ type: "f32", rows: vocabulary, cols: dim, data });
  const table = matrix(Float32Array.from({ length: vocabulary * dim }, (_, i) => (((7 * i) % 13) - 6) / 8));
  const head = matrix(Float32Array.from({ length: vocabulary * dim }, (_, i) => (((5 * i) % 11) - 5) / 8));
  const weight = Float32Array.from({ length: dim }, (_, i) => ((i % 3) + 1) / 2);
  const tokens = Int32Array.of(2, 7);
  const x = new Float32Array(tokens.length * dim);
  kernels.embed({ table, tokens, out: x });
  kernels.rmsNorm({ x, weight, eps: 1e-5, out: x });
  const out = new Float32Array(tokens.length * vocabulary);
  kernels.matmul({ weight: head, x, out });
  return { numbers: Array.from(out), refusal: "refused with 1: program: must not be finished" };
}
