/** What a text that is being watched for stop strings gives: what may be shown, and whether one has come. */
export interface Watched {
  readonly text: string;
  readonly stopped: boolean;
}

/**
 * Watches a text that comes in pieces for some strings; what may be the beginning of one is held back. The first that is
 * complete stops the text, and of several that are complete at once the longest, so the pieces change nothing.
 */
export class StopWatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Adds a piece. Once `stopped`, the text ends before the stop string. */
  push(piece: string): Watched {
    const text = this.#held + piece;
    const found = firstStop(text, this.#stops);
    if (found !== undefined) return { text: text.slice(0, found), stopped: true };
    const certain = text.length - Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(certain);
    return { text: text.slice(0, certain), stopped: false };
  }

  /** The text that was held back, when no more comes. */
  end(): string {
    return this.#held;
  }
}

/** Where the stop begins that ends first, and is the longest of those that end there. */
function firstStop(text: string, stops: readonly string[]): number | undefined {
  const found = stops
    .map((stop) => ({ begin: text.indexOf(stop), length: stop.length }))
    .filter(({ begin }) => begin >= 0)
    .sort((a, b) => a.begin + a.length - (b.begin + b.length) || a.begin - b.begin);
  return found[0]?.begin;
}

/** The length of the longest end of `text` that `stop` begins with, short of all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
