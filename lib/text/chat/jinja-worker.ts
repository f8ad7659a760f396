/** What runs in the thread that renders chat templates. */
/** What a rendering may make. */
export interface JinjaLimits {
  /** UTF-16 units of any text on the way, the result too. */
  readonly text: number;
  /** Elements of any list on the way. */
  readonly list: number;
}

/** A template, and the values that it knows by name. */
export interface JinjaRequest {
  readonly template: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** The text, or why there is none; `refused` where the template itself says so, by `raise_exception`. */
export type JinjaReply = { readonly text: string } | { readonly problem: string; readonly refused: boolean };

/** What is used of the library @huggingface/jinja, whose own types NodeNext cannot resolve. */
interface Jinja {
  Template: new (template: string) => { readonly parsed: object };
  Environment: new () => Environment;
  Interpreter: new (environment: Environment) => Interpreter;
}

interface Environment {
  set(name: string, value: unknown): unknown;
}

interface Interpreter {
  run(program: object): Value;
  /** Of a statement or an expression, each of which passes through it. */
  evaluate(node: object, environment: Environment): Value;
  /** Of the body of a statement: the text that it writes, which need not pass through `evaluate`. */
  evaluateBlock(statements: readonly object[], environment: Environment): Value;
}

interface Value {
  readonly value: unknown;
}

/** What of a worker's port is used. */
interface Port {
  postMessage(reply: JinjaReply | "ready"): void;
  on(event: "message", listener: (request: JinjaRequest) => void): unknown;
}

/**
 * Renders templates that come through a port. The thread is started from this function's own text, so that it is the
 * same code in the sources, in the package and in a bundle: it must use nothing of this file but its parameters.
 *
 * A limit of the heap is not enough to bound a rendering. Where one allocation alone is larger than what the limit
 * leaves, V8 ends the whole process: `"a" | indent(500000000)` would. So nothing on the way may be long: every value of
 * an expression and every block's text is measured when it is made, and of the built-in methods, those that can make a
 * long text of short ones measure what they make before it is made. (`+` makes no such allocation: V8 joins texts when
 * they are used.) These are the thread's own built-ins, which nobody else has.
 */
export function serveTemplates(jinja: Jinja, port: Port, limits: JinjaLimits): void {
  const measured = (length: number, most: number, what: string): void => {
    if (length > most) throw new Error(`makes ${what} longer than ${most}`);
  };
  const measuredText = (length: number): void => measured(length, limits.text, "a text");
  const measuredList = (length: number): void => measured(length, limits.list, "a list");

  const { join } = Array.prototype;
  Array.prototype.join = function (this: unknown[], separator: string = ",") {
    let length = 0;
    const parts = Array.from(this, (part) => {
      const text = part === undefined || part === null ? "" : String(part);
      length += text.length + separator.length;
      measuredText(length);
      return text;
    });
    return join.call(parts, separator);
  };
  const { repeat, replaceAll } = String.prototype;
  String.prototype.repeat = function (this: string, count: number) {
    measuredText(this.length * count);
    return repeat.call(this, count);
  };
  type Replacer = (match: string, ...others: unknown[]) => string;
  String.prototype.replaceAll = function (this: string, pattern: string | RegExp, by: string | Replacer) {
    let length = 0;
    return replaceAll.call(this, pattern as RegExp, (match: string, ...others: unknown[]) => {
      const text = typeof by === "string" ? by : by(match, ...others);
      length += text.length;
      measuredText(length);
      return text;
    });
  };

  const measuredValue = (made: Value): Value => {
    const { value } = made;
    if (typeof value === "string") measuredText(value.length);
    else if (Array.isArray(value)) measuredList(value.length);
    return made;
  };
  class Bounded extends jinja.Interpreter {
    override evaluate(node: object, environment: Environment): Value {
      return measuredValue(super.evaluate(node, environment));
    }

    /** Of `filter` and of a `set` with a body nobody else measures it before it is used. */
    override evaluateBlock(statements: readonly object[], environment: Environment): Value {
      return measuredValue(super.evaluateBlock(statements, environment));
    }
  }

  class Refusal extends Error {}

  const range = (first: number, last?: number, step: number = 1): number[] => {
    const [start, stop] = last === undefined ? [0, first] : [first, last];
    const length = Math.max(0, Math.ceil((stop - start) / step));
    if (!Number.isFinite(length)) throw new Error("range: must have numbers, and a step that is not 0");
    measuredList(length);
    return Array.from({ length }, (_, i) => start + i * step);
  };
  /** The fields of Python's strftime that templates use, in English, as the models know dates. */
  const now = (format: string): string => {
    const date = new Date();
    const two = (number: number) => String(number).padStart(2, "0");
    const month = (style: "long" | "short") => new Intl.DateTimeFormat("en", { month: style }).format(date);
    const day = (style: "long" | "short") => new Intl.DateTimeFormat("en", { weekday: style }).format(date);
    const fields: Record<string, () => string> = {
      ...{ Y: () => String(date.getFullYear()), m: () => two(date.getMonth() + 1), d: () => two(date.getDate()) },
      ...{ b: () => month("short"), B: () => month("long"), a: () => day("short"), A: () => day("long") },
      ...{ H: () => two(date.getHours()), M: () => two(date.getMinutes()), S: () => two(date.getSeconds()) },
    };
    return String(format).replace(/%([YmdbBaAHMS%])/g, (_, field: string) => fields[field]?.() ?? "%");
  };
  const globals = {
    ...{ true: true, True: true, false: false, False: false, none: null, None: null },
    range,
    strftime_now: now,
    raise_exception: (message: unknown) => {
      throw new Refusal(String(message));
    },
  };

  const render = ({ template, values }: JinjaRequest): string => {
    const environment = new jinja.Environment();
    for (const [name, value] of Object.entries({ ...globals, ...values })) environment.set(name, value);
    const { parsed } = new jinja.Template(template);
    return String(new Bounded(environment).run(parsed).value);
  };

  port.on("message", (request) => {
    try {
      port.postMessage({ text: render(request) });
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      port.postMessage({ problem: problem.slice(0, 300), refused: error instanceof Refusal });
    }
  });
  port.postMessage("ready");
}
