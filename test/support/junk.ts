/** What a caller might pass by mistake, or to do harm: for every argument and every option of everything. */

/** Its buffer has become another's. */
export function detached<T extends ArrayBufferView>(view: T): T {
  structuredClone(view, { transfer: [view.buffer as ArrayBuffer] });
  return view;
}

// Of ES2024, which Node.js 20 has and the project's TypeScript library does not.
type Resizable = ArrayBuffer & { resize(bytes: number): void };
const ResizableBuffer = ArrayBuffer as unknown as new (bytes: number, options: { maxByteLength: number }) => Resizable;
type Growable = SharedArrayBuffer & { grow(bytes: number): void };
const GrowableBuffer = SharedArrayBuffer as unknown as new (
  bytes: number,
  options: { maxByteLength: number },
) => Growable;

type View<T> = { new (buffer: ArrayBufferLike, offset?: number, length?: number): T; BYTES_PER_ELEMENT: number };

/** `length` elements in a buffer that can be resized, and how to do that. Without `fixed` the array follows the buffer. */
export function resizable<T>(view: View<T>, length: number, fixed = true): { array: T; resize: (to: number) => void } {
  const bytes = view.BYTES_PER_ELEMENT;
  const buffer = new ResizableBuffer(length * bytes, { maxByteLength: 4 * length * bytes });
  const array = fixed ? new view(buffer, 0, length) : new view(buffer);
  return { array, resize: (to) => buffer.resize(to * bytes) };
}

/** The same in shared memory, which can but grow. */
export function growable<T>(view: View<T>, length: number): { array: T; grow: (to: number) => void } {
  const bytes = view.BYTES_PER_ELEMENT;
  const buffer = new GrowableBuffer(length * bytes, { maxByteLength: 4 * length * bytes });
  return { array: new view(buffer), grow: (to) => buffer.grow(to * bytes) };
}

/** An array whose buffer has shrunk below it, which leaves it empty, or, where it follows the buffer, short. */
function shrunk<T>(view: View<T>, length: number, fixed: boolean): T {
  const { array, resize } = resizable(view, length, fixed);
  resize(1);
  return array;
}

function grown<T>(view: View<T>, length: number): T {
  const { array, grow } = growable(view, length);
  grow(2 * length);
  return array;
}

const floats = (n: number) => new Float32Array(n);

/** Sizes are small or absurd: one that a machine could just about serve is not junk. */
export const junk: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => true,
  ...[0, -0, 1, 3, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, -(2 ** 31), 2 ** 53, 2 ** 60, 1e300].map(
    (x) => () => x,
  ),
  () => 10n,
  () => "",
  () => "f16",
  () => "\0".repeat(1000),
  () => Symbol("junk"),
  () => () => 1,
  () => ({}),
  () => [],
  () => [1, 2, 3],
  () => Object.create(null),
  () => new Proxy({}, {}),
  () => new Date(),
  () => new ArrayBuffer(8),
  () => new DataView(new ArrayBuffer(8)),
  () => floats(0),
  () => floats(7),
  () => floats(8).subarray(1, 4),
  () => new Float64Array(3),
  () => new BigInt64Array(3),
  () => new Uint8Array(24),
  () => new Int32Array(1),
  () => new Float32Array(new SharedArrayBuffer(12)),
  () => detached(floats(6)),
  () => detached(new Int32Array(1)),
  ...[true, false].flatMap((fixed) => [
    () => shrunk(Float32Array, 6, fixed),
    () => shrunk(Int32Array, 2, fixed),
    () => shrunk(Uint8Array, 24, fixed),
  ]),
  () => resizable(Float32Array, 3).array,
  () => grown(Float32Array, 3),
  () => grown(Int32Array, 1),
];
