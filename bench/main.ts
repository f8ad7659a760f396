import { runBench } from "./tokens.js";

process.exitCode = await runBench(process.argv.slice(2));
