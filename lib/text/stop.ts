/** What a text that is being watched for stop strings gives: what may be shown, and whether one has come. */
export interface Watched {
  readonly text: string;
  readonly stopped: boolean;
}

/** Watches a text that comes in pieces for the first of some strings; what may be the beginning of one is held back. */
export class StopWatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Adds a piece. Once `stopped`, the text ends before the stop string. */
  push(piece: string): Watched {
    const text = this.#held + piece;
    const found = this.#stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
    if (found.length > 0) return { text: text.slice(0, Math.min(...found)), stopped: true };
    const certain = text.length - Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(certain);
    return { text: text.slice(0, certain), stopped: false };
  }

  /** The text that was held back, when no more comes. */
  end(): string {
    return this.#held;
  }
}

/** The length of the longest end of `text` that `stop` begins with, short of all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
