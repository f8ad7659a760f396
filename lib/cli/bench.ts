import type { Command } from "./command.js";

/** The command itself stands with what it measures, above the library. */
export const bench: Command = async (argv, io) => {
  const command = await import("../../bench/command.js");
  return command.bench(argv, io);
};
