/**
 * Text that is markup already, and text that is not: what a template is filled with is escaped unless it was made by
 * another template. So a name or a command line, wherever it comes from, is shown and never obeyed.
 */
export class Markup {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text;
  }
}

/** Undefined and false stand for nothing. */
export type Part = Markup | string | number | undefined | false | readonly Part[];

/** HTML or SVG. Attributes must be quoted with double quotes. */
export function markup(strings: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(strings.reduce((text, string, i) => text + written(parts[i - 1]) + string));
}

function written(part: Part): string {
  if (part === undefined || part === false) return "";
  if (part instanceof Markup) return part.text;
  if (typeof part === "object") return part.map(written).join("");
  return escaped(String(part));
}

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Characters that no page may hold, and those that turn the direction of what stands beside them: C0 and C1 but for tab
 * and line ends, and Unicode's bidirectional controls.
 */
const unshowable = /[^\P{Cc}\t\n\r]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

function escaped(text: string): string {
  return text.replace(unshowable, "\ufffd").replace(/[&<>"']/g, (character) => entities[character]!);
}
