import { expect, test } from "vitest";

import { readRange } from "../lib/files.js";
import { readFrom } from "../lib/weights/open.js";
import { temporaryFolder } from "./support/gguf-writer.js";

test("a range of a file is read whole, or it was cut", async () => {
  await using folder = await temporaryFolder();
  const path = await folder.write("bytes", Buffer.from("0123456789"));
  const read = (bytes: number) =>
    readFrom(path, undefined, (fd) => readRange(fd, path, { name: "t", offset: 4, bytes }));
  const all = await read(6);
  expect([all.toString(), all.byteOffset]).toEqual(["456789", 0]);
  const cut = { code: "ERR_CRIA_FILE", message: `${path}: t: was cut while it was read` };
  await expect(read(7)).rejects.toMatchObject(cut);
});
