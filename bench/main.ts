import { main } from "../lib/cli/commands.js";
import { processIo } from "../lib/cli/io.js";

main(["bench", ...process.argv.slice(2)], processIo()).then((code) => {
  process.exitCode = code;
});
