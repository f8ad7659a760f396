import { CriaError } from "../errors.js";
import { Replacement } from "../files.js";
import { logitsInChunks } from "../logits.js";
import { loadModel } from "../model.js";
import { UsageError } from "./arguments.js";
import { command } from "./command.js";
import { loadWith, runningOptions } from "./running.js";

export const logits = command({
  name: "logits",
  operand: "MODEL",
  about: "Writes the logits after each of some tokens: little-endian float32, [tokens, vocabulary]. BOS is not added.",
  options: {
    tokens: { value: "1,2,3", help: "the tokens' ids, at most the context's length of them" },
    out: { value: "FILE", help: "where the logits go" },
    ...runningOptions,
  },
  async run(args, io) {
    const path = args.requiredModel();
    const ids = args.requiredIntegers("tokens");
    const out = args.requiredText("out");
    using model = await loadWith(args, io, (options) => loadModel(path, options));
    const { vocab, contextLength } = model.config;
    const stranger = ids.find((id) => id < 0 || id >= vocab);
    if (stranger !== undefined) {
      throw new UsageError(`--tokens: must be ids from 0 to ${vocab - 1}, the vocabulary, not ${stranger}`);
    }
    if (ids.length > contextLength) {
      throw new CriaError(
        "ERR_CRIA_CONTEXT",
        `--tokens: must be at most ${contextLength}, the context, not ${ids.length}`,
      );
    }

    await using replacement = await Replacement.open(out);
    for await (const chunk of logitsInChunks(model.sequence(), Int32Array.from(ids), { signal: io.signal })) {
      // As it stands in memory: x86-64 is little-endian.
      await replacement.write(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
    }
    await replacement.finish();
    if (args.flag("json")) io.stdout.write(`${JSON.stringify({ tokens: ids.length, vocab, out })}\n`);
    else io.stderr.write(`${out}: ${ids.length} x ${vocab} float32\n`);
  },
});
