/** The memory that adapters take beside a model's weights. */
import { showBytes } from "../bytes.js";
import type { Device } from "../device.js";
import { CriaError } from "../errors.js";
import { type DeviceKind, native } from "../native.js";
import type { LlamaConfig } from "../weights/source.js";
import { blockStacks, embeddingStack, outputStack, rowsOf, type Stack } from "./stacks.js";

/** Of an adapter, what its size beside the weights follows from. */
export interface Outline {
  readonly updates: ReadonlyMap<string, { readonly rank: number }>;
  readonly prefix: ReadonlyMap<number, { readonly prompt: { readonly length: number } }>;
}

/** Bytes that are taken, which on a CPU are of one memory. */
export interface Room {
  /** In JavaScript. */
  readonly host: number;
  /** On the device. */
  readonly device: number;
}

export const sumOfRooms = (...rooms: readonly Room[]): Room => ({
  host: rooms.reduce((sum, { host }) => sum + host, 0),
  device: rooms.reduce((sum, { device }) => sum + device, 0),
});

const floatBytes = Float32Array.BYTES_PER_ELEMENT;

/**
 * What adapters take that are set together: on the device their tensors, as packAdapters makes them, and in JavaScript
 * the largest matrix that one of these is made from.
 *
 * Of matrices that share an input, B is [rows of all, ranks of all]: where all of q, k and v are changed, by equal
 * ranks, it is three times what their own Bs are.
 */
export function packedRoom(config: LlamaConfig, kind: DeviceKind, adapters: readonly Outline[]): Room {
  const matrix = (rows: number, cols: number) => native.matrixBytes(kind, "f32", rows, cols);
  const rankOf = ({ targets }: Stack) =>
    targets.reduce(
      (sum, [name]) => adapters.reduce((sum, { updates }) => sum + (updates.get(name)?.rank ?? 0), sum),
      0,
    );
  const room = { host: 0, device: 0 };
  const add = (stack: Stack, rank: number, bytes: () => number) => {
    if (rank === 0) return;
    room.device += bytes();
    room.host = Math.max(room.host, floatBytes * rank * Math.max(stack.inputs, rowsOf(stack)));
  };
  const stacks = Array.from({ length: config.layers }, (_, layer) => Object.values(blockStacks(config, layer))).flat();
  for (const stack of [...stacks, outputStack(config)]) {
    const rank = rankOf(stack);
    add(stack, rank, () => matrix(rank, stack.inputs) + matrix(rowsOf(stack), rank));
  }
  const embedding = embeddingStack(config);
  const rank = rankOf(embedding);
  add(embedding, rank, () => matrix(rowsOf(embedding), rank) + matrix(embedding.inputs, rank));
  for (const { prefix } of adapters) {
    for (const { prompt } of prefix.values()) room.device += prefixBytes(config, prompt.length / config.dim);
  }
  return room;
}

/** Of a layer's prefix: keys, values and gates. */
const prefixBytes = ({ kvHeads, headDim, heads }: LlamaConfig, length: number) =>
  floatBytes * (2 * length * kvHeads * headDim + heads);

/**
 * @throws CriaError ERR_CRIA_MEMORY, its message beginning with `name`, where there is less memory than is to be taken
 */
export function checkRoom(name: string, { host, device: onDevice }: Room, device: Device): void {
  const { kind, availableBytes } = native.deviceInfo(device.handle);
  const check = (needed: number, available: number, where: string) => {
    if (needed <= available) return;
    const problem = `must fit the ${showBytes(available)} of memory available${where}, but takes ${showBytes(needed)}`;
    throw new CriaError("ERR_CRIA_MEMORY", `${name}: ${problem}`);
  };
  if (kind === "cpu") {
    check(host + onDevice, availableBytes, "");
    return;
  }
  check(onDevice, availableBytes, ` on ${device.info.name}`);
  const machine = native.deviceDescribe("cpu");
  if (machine.available) check(host, machine.availableBytes, "");
}
