import { CriaFileError, show } from "../errors.js";
import { builtIn, templateNames } from "../text/chat/built-in.js";
import { isJinja } from "../text/chat/choose.js";
import { mostTemplateBytes } from "../weights/hugging-face-tokenizer.js";
import { exists, readTextFile } from "../weights/json-file.js";
import { UsageError } from "./arguments.js";

/**
 * What `--template` stands for: the name of a template that is built in, a Jinja template, or the text of a file of
 * one.
 *
 * @throws UsageError where it is none of these
 * @throws CriaFileError where the file cannot be read, or is no template
 */
export async function templateOf(given: string): Promise<string> {
  if (builtIn(given) !== undefined || isJinja(given)) return given;
  if (!(await exists(given))) {
    const known = templateNames.join(", ");
    throw new UsageError(`--template: must be ${known}, a Jinja template or the file of one, not ${show(given)}`);
  }
  const text = await readTextFile(given, mostTemplateBytes);
  if (isJinja(text)) return text;
  throw new CriaFileError(given, undefined, "must be a Jinja template, which has {{ or {% in it");
}
