import { type PackOptions, packModel } from "../pack.js";
import { given } from "./arguments.js";
import { command } from "./command.js";
import { type Io, Progress } from "./io.js";
import { replaces } from "./quantize.js";
import { runningOptions } from "./running.js";

export const pack = command({
  name: "pack",
  operand: "MODEL OUT",
  about:
    "Writes a model to a file in the kernels' own layout, which every command and loadModel take in its place, and which\n" +
    "loads without being read through. Another version of cria may ask for it to be packed again: keep the model.\n" +
    replaces,
  options: { tokenizer: runningOptions.tokenizer, threads: runningOptions.threads },
  async run(args, io) {
    const path = args.requiredModel();
    const out = args.requiredOperand("OUT");
    const own = given({ tokenizer: args.text("tokenizer"), threads: args.integer("threads") });
    const { bytes } = await withProgress(io, (options) => packModel(path, out, { ...own, ...options }));
    if (args.flag("json")) io.stdout.write(`${JSON.stringify({ path, out, bytes })}\n`);
    else io.stderr.write(`${out}: ${bytes} bytes\n`);
  },
});

/** Shown while it packs, and gone when the file is told of. */
async function withProgress<T>(io: Io, pack: (options: PackOptions) => Promise<T>): Promise<T> {
  io.catchInterrupts();
  using progress = new Progress(io.stderr, "packing");
  return await pack({ signal: io.signal, onProgress: (done, total) => progress.update(done, total) });
}
