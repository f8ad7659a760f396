#!/usr/bin/env node
import { main } from "./commands.js";
import { processIo } from "./io.js";

main(process.argv.slice(2), processIo()).then((code) => {
  // Unless the output could not be written meanwhile.
  if (code !== 0 || process.exitCode === undefined) process.exitCode = code;
});
