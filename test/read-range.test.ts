import { expect, test } from "vitest";

import { readRange } from "../lib/files.js";
import { OpenFiles } from "../lib/weights/chunks.js";
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

test("of files that are open, ranges are read into what is given, or end at a byte that is told", async () => {
  await using folder = await temporaryFolder();
  const paths = [await folder.write("one", Buffer.from("0123")), await folder.write("two", Buffer.from("456789"))];
  await using files = await OpenFiles.open(paths);
  const into = Buffer.from("......");
  await files.read(1, into.subarray(1, 5), 2);
  expect(into.toString()).toBe(".6789.");
  const ends = { code: "ERR_CRIA_FILE", message: `${paths[0]}: ends at byte 4, inside a tensor` };
  await expect(files.read(0, into, 1)).rejects.toMatchObject(ends);
});
