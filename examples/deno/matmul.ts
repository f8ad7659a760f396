/**
 * One kernel from Deno, by Deno.dlopen: the product of q4_0 weights and the activations of two tokens.
 *
 *     deno add npm:cria
 *     deno run --allow-ffi matmul.ts node_modules/cria/prebuilds/linux-x64/libcria.so
 *
 * (`import { matmul } from "cria/kernels"` does the same through the addon, with less to declare.)
 */
const abiVersion = 1;
const deviceCpu = 0; // cria_device_kind
const typeQ4_0 = 2; // cria_type

const path = Deno.args[0];
if (path === undefined) throw new Error("usage: deno run --allow-ffi matmul.ts LIBRARY");

const { symbols: cria } = Deno.dlopen(path, {
  cria_abi_version: { parameters: [], result: "u32" },
  cria_last_error: { parameters: [], result: "pointer" },
  cria_device_open: { parameters: ["buffer", "buffer"], result: "i32" },
  cria_device_free: { parameters: ["pointer"], result: "void" },
  cria_matrix_create: { parameters: ["pointer", "i32", "usize", "usize", "buffer"], result: "i32" },
  cria_tensor_pack: { parameters: ["pointer", "usize", "usize", "buffer", "usize"], result: "i32" },
  cria_tensor_free: { parameters: ["pointer"], result: "void" },
  cria_matmul: { parameters: ["pointer", "pointer", "usize", "buffer", "buffer"], result: "i32" },
});
if (cria.cria_abi_version() !== abiVersion) {
  throw new Error(`${path} is of ABI version ${cria.cria_abi_version()}, not ${abiVersion}`);
}

function check(status: number): void {
  if (status === 0) return;
  throw new Error(new Deno.UnsafePointerView(cria.cria_last_error()!).getCString(), { cause: status });
}

/** The handle that a call puts where it is told. */
function made(make: (handle: BigUint64Array<ArrayBuffer>) => number): Deno.PointerValue {
  const handle = new BigUint64Array(1);
  check(make(handle));
  return Deno.UnsafePointer.create(handle[0]!);
}

const [rows, cols, tokens, block] = [4, 64, 2, 32];

// Weights and activations from nowhere in particular, the same in the examples of every language. A q4_0 block, as GGUF
// files hold it, is 32 weights of a row: a scale in f16, little-endian (0x2c00 is 1/16), and 32 times 4 bits.
const weights = Uint8Array.from(
  Array.from({ length: (rows * cols) / block }, (_, b) => [
    ...[0x00, 0x2c],
    ...Array.from({ length: block / 2 }, (_, i) => 37 * b + 11 * i),
  ]).flat(),
);
const x = Float32Array.from({ length: tokens * cols }, (_, i) => (((7 * i) % 13) - 6) / 8);
const out = new Float32Array(tokens * rows);

// cria_device_options: struct_size, kind, isa, threads. 0 leaves the last two to cria.
const options = Uint32Array.of(16, deviceCpu, 0, 0);
const device = made((handle) => cria.cria_device_open(options, handle));
try {
  const weight = made((handle) => cria.cria_matrix_create(device, typeQ4_0, BigInt(rows), BigInt(cols), handle));
  try {
    check(cria.cria_tensor_pack(weight, 0n, BigInt(rows), weights, BigInt(weights.byteLength)));
    check(cria.cria_matmul(device, weight, BigInt(tokens), x, out));
    for (let t = 0; t < tokens; t++) console.log(out.subarray(t * rows, (t + 1) * rows).join(" "));
  } finally {
    cria.cria_tensor_free(weight);
  }

  // What cannot be is refused, with a sentence that says why.
  try {
    made((handle) => cria.cria_matrix_create(device, typeQ4_0, BigInt(rows), BigInt(cols + 1), handle));
  } catch (error) {
    const { cause, message } = error as Error;
    console.log(`refused with ${cause}: ${message}`);
  }
} finally {
  cria.cria_device_free(device);
}
