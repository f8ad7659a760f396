import { type Converted, type ConvertOptions, quantizeModel } from "../convert.js";
import { targetTypes } from "../weights/mixtures.js";
import { type Arguments, given, inCase } from "./arguments.js";
import { command } from "./command.js";
import { type Io, Progress } from "./io.js";
import { runningOptions } from "./running.js";

const { tokenizer, threads } = runningOptions;

/** What is told of the file. */
export const replaces =
  "OUT is replaced where there is one, when the new file is whole. Until then that is OUT.*.partial: one that is\n" +
  "left of a process that was killed may be deleted.";

export const quantize = command({
  name: "quantize",
  operand: "MODEL OUT",
  about: `Writes any model that cria reads to a GGUF file of few bits a weight, which llama.cpp reads too.\n${replaces}`,
  options: {
    type: {
      value: "TYPE",
      help: `of all matrices, or a mixture of llama.cpp's: ${targetTypes.join(" ")}`,
    },
    tokenizer,
    threads,
  },
  run: (args, io) =>
    writeGguf(
      args,
      io,
      (path, out, options) =>
        quantizeModel(path, out, { ...options, type: inCase(args.requiredText("type"), targetTypes) }),
      "quantising",
    ),
});

/** Runs what writes a GGUF file, with progress and warnings for people, and tells of the file. */
export async function writeGguf(
  args: Arguments<"tokenizer" | "threads" | "json">,
  io: Io,
  write: (path: string, out: string, options: ConvertOptions) => Promise<Converted>,
  label: string,
): Promise<void> {
  const path = args.requiredModel();
  const out = args.requiredOperand("OUT");
  const { bytes, tensors } = await withProgress(io, label, (options) =>
    write(path, out, { ...given({ tokenizer: args.text("tokenizer"), threads: args.integer("threads") }), ...options }),
  );
  if (args.flag("json")) io.stdout.write(`${JSON.stringify({ path, out, bytes, tensors })}\n`);
  else io.stderr.write(`${out}: ${bytes} bytes\n`);
}

/** Shown while it writes, and gone when the file is told of. */
async function withProgress<T>(io: Io, label: string, write: (options: ConvertOptions) => Promise<T>): Promise<T> {
  io.catchInterrupts();
  using progress = new Progress(io.stderr, label);
  return await write({
    signal: io.signal,
    onProgress: (done, total) => progress.update(done, total),
    onWarning: (message) => io.stderr.write(`cria: warning: ${message}\n`),
  });
}
