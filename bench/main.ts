import { main } from "../lib/cli/commands.js";
import { processIo } from "../lib/cli/io.js";

process.exitCode = await main(["bench", ...process.argv.slice(2)], processIo());
