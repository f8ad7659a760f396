/** A headless Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/). */
import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { Readable, Writable } from "node:stream";

/** Debian's name, and others'. */
const names = ["chromium", "chromium-browser", "google-chrome"];

/** Where a Chromium is on the PATH, or undefined. */
export function findChromium(): string | undefined {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** No sandbox, for root has none; nothing that speaks to anyone of its own accord. */
const flags = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
  "--hide-scrollbars",
  "--remote-debugging-pipe",
];

interface Message {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: unknown;
  error?: { message: string };
}

interface Waiting {
  resolve: (result: never) => void;
  reject: (error: Error) => void;
}

export interface Screen {
  width: number;
  height: number;
  scheme: "light" | "dark";
  media?: "screen" | "print";
}

/** One page of a browser of its own. */
export class Chromium implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #profile: string;
  readonly #waiting = new Map<number, Waiting>();
  readonly #requests: string[] = [];
  #session: string | undefined;
  #id = 0;
  #rest = "";

  private constructor(process: ChildProcess, profile: string) {
    this.#process = process;
    this.#profile = profile;
    const output = process.stdio[4] as Readable;
    output.setEncoding("utf8");
    output.on("data", (text: string) => this.#receive(text));
    process.on("exit", (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`Chromium ended with ${code}`));
    });
  }

  static async start(executable: string): Promise<Chromium> {
    const profile = await mkdtemp(join(tmpdir(), "cria-chromium-"));
    const process = spawn(executable, [...flags, `--user-data-dir=${profile}`], {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    const browser = new Chromium(process, profile);
    const { targetId } = await browser.send<{ targetId: string }>("Target.createTarget", { url: "about:blank" });
    const attached = await browser.send<{ sessionId: string }>("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = attached.sessionId;
    await browser.send("Page.enable");
    await browser.send("Network.enable");
    return browser;
  }

  /** The addresses that the page has asked for since it was opened, but for data: addresses, which ask nobody. */
  get requests(): readonly string[] {
    return this.#requests.filter((url) => !url.startsWith("data:"));
  }

  async open(url: string): Promise<void> {
    this.#requests.length = 0;
    await this.send("Page.navigate", { url });
    await this.evaluate(`new Promise((loaded) => {
      if (document.readyState === "complete") loaded(); else addEventListener("load", () => loaded());
    })`);
  }

  async show({ width, height, scheme, media = "screen" }: Screen): Promise<void> {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 640 });
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.send("Emulation.setEmulatedMedia", { media, features });
  }

  /** What an expression, or a promise that it gives, comes to in the page. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.send<{ result: { value: T }; exceptionDetails?: object }>(
      "Runtime.evaluate",
      { expression, returnByValue: true, awaitPromise: true },
    );
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }

  /** The whole page, or the first element of a kind, as a PNG. */
  async screenshot(element = "html"): Promise<Buffer> {
    const box = await this.evaluate<object>(`(() => {
      const { x, y, width, height } = document.querySelector(${JSON.stringify(element)}).getBoundingClientRect();
      return { x: x + scrollX, y: y + scrollY, width, height };
    })()`);
    const options = { format: "png", captureBeyondViewport: true, clip: { ...box, scale: 1 } };
    return Buffer.from((await this.send<{ data: string }>("Page.captureScreenshot", options)).data, "base64");
  }

  async pdf(): Promise<Buffer> {
    const options = { preferCSSPageSize: true, paperWidth: 8.27, paperHeight: 11.69 };
    return Buffer.from((await this.send<{ data: string }>("Page.printToPDF", options)).data, "base64");
  }

  send<T>(method: string, params: object = {}): Promise<T> {
    const id = ++this.#id;
    const session = this.#session === undefined ? {} : { sessionId: this.#session };
    (this.#process.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, ...session })}\0`);
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  #receive(text: string): void {
    const messages = (this.#rest + text).split("\0");
    this.#rest = messages.pop()!;
    for (const message of messages) this.#take(JSON.parse(message) as Message);
  }

  #take({ id, method, params, result, error }: Message): void {
    if (method === "Network.requestWillBeSent") this.#requests.push((params!.request as { url: string }).url);
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (!waiting) return;
    this.#waiting.delete(id!);
    if (error) waiting.reject(new Error(error.message));
    else waiting.resolve(result as never);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill();
    await ended;
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
