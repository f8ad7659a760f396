import { show } from "../errors.js";

/**
 * Reads a JSON text front to back, by what its format says must come next. Nothing is built but what is asked for, so
 * that no text makes it hold more than it is long, or go deeper than the reader that calls it does. Integers are read
 * as digits: those that no double holds are refused, not rounded.
 */
export class JsonCursor {
  position = 0;

  /** @param fail makes the error of a text that is not what was asked for: "must be such and such at 17" */
  constructor(
    private readonly text: string,
    private readonly fail: (problem: string) => Error,
  ) {}

  /**
   * An object. `member` is called before each value, which it must read.
   *
   * @throws where a key stands twice
   */
  object(what: string, member: (key: string) => void): void {
    this.#open("{", `an object, ${what},`);
    const keys = new Set<string>();
    if (this.#takes("}")) return;
    do {
      const key = this.string("a key");
      if (keys.has(key)) throw this.fail(`must have the key ${show(key)} of ${what} once`);
      keys.add(key);
      this.#open(":", "a colon");
      member(key);
    } while (this.#takes(","));
    this.#open("}", "a comma or a closing brace");
  }

  /** An array. `element` is called before each element, which it must read. */
  array(what: string, element: () => void): void {
    this.#open("[", `an array, ${what},`);
    if (this.#takes("]")) return;
    do element();
    while (this.#takes(","));
    this.#open("]", "a comma or a closing bracket");
  }

  string(what: string): string {
    const start = this.#peek();
    if (this.text[start] !== '"') throw this.#wanted(`a string, ${what},`);
    let end = start + 1;
    while (end < this.text.length && this.text[end] !== '"') end += this.text[end] === "\\" ? 2 : 1;
    this.position = end + 1;
    try {
      return JSON.parse(this.text.slice(start, end + 1)) as string;
    } catch {
      this.position = start;
      throw this.#wanted(`a string, ${what},`);
    }
  }

  /** An integer from 0 to 2^53 - 1, written without a point or an exponent. */
  integer(what: string): number {
    const start = this.#peek();
    let end = start;
    while (end < this.text.length && isDigit(this.text.charCodeAt(end))) end++;
    // As many digits as the largest has: a longer number is larger, or begins with a zero, which JSON forbids.
    const value = end - start <= 16 ? Number(this.text.slice(start, end)) : Number.NaN;
    const sound = end > start && Number.isSafeInteger(value) && (end === start + 1 || this.text[start] !== "0");
    if (!sound) throw this.#wanted(`${what}, an integer from 0 to 2^53 - 1,`);
    this.position = end;
    return value;
  }

  /** Checks that nothing but white space is left. */
  end(): void {
    if (this.#peek() < this.text.length) throw this.#wanted("the end");
  }

  #open(sign: string, what: string): void {
    if (!this.#takes(sign)) throw this.#wanted(what);
  }

  #takes(sign: string): boolean {
    if (this.text[this.#peek()] !== sign) return false;
    this.position++;
    return true;
  }

  /** Skips white space. */
  #peek(): number {
    while (this.position < this.text.length && " \t\n\r".includes(this.text[this.position]!)) this.position++;
    return this.position;
  }

  #wanted(what: string): Error {
    const at = this.position;
    const found = at >= this.text.length ? "its end" : JSON.stringify(this.text.slice(at, at + 20));
    return this.fail(`must have ${what} at character ${at}, not ${found}`);
  }
}

const isDigit = (unit: number) => unit >= 0x30 && unit <= 0x39;
