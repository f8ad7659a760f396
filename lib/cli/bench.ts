import type { Command } from "./command.js";

/** It reads its own options, for `npm run bench` is the same. */
export const bench: Command = async (argv) => {
  const { runBench } = await import("../../bench/tokens.js");
  return runBench(argv);
};
