import { readSafetensors } from "../../../lib/weights/safetensors.js";
import { Finding, type Target } from "../target.js";

/** Safetensors files: what is read lies in the file, and one part after another. */
export const safetensors: Target = {
  dictionary: [
    '"dtype":"F32"',
    '"BF16"',
    '"shape":[1]',
    '"data_offsets":[0,4]',
    '"__metadata__":{',
    '"__proto__":{',
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "\\u0041",
    "1e0",
    "[[[[",
    "\ufeff",
  ],
  async run(bytes, path) {
    const { tensors } = await readSafetensors(path);
    const total = [...tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0);
    const first = Math.min(bytes.length, ...[...tensors.values()].map(({ offset }) => offset));
    if (first + total !== bytes.length) throw new Finding(`tensors of ${total} bytes from ${first} on do not fill it`);
  },
};
