#!/usr/bin/env node
import { main } from "./commands.js";
import { processIo } from "./io.js";

main(process.argv.slice(2), processIo()).then((code) => {
  process.exitCode = code;
});
