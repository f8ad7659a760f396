/** truncate.mjs FILE MMAP: packs the package's model to a file, loads that, cuts the file, and has the model speak. */
import { truncateSync } from "node:fs";

import { loadModel, tinyModel } from "../../../dist/lib/index.mjs";
import { greedyText } from "./work.mjs";

const { packModel } = (await import("../../../dist/lib/pack.js")).default;
const [file, mmap] = process.argv.slice(2);

await packModel(tinyModel, file);
const model = await loadModel(file, { mmap: mmap === "true" });
console.log("before:", JSON.stringify(await greedyText(model)));
truncateSync(file, 0);
console.log("after:", JSON.stringify(await greedyText(model)));
