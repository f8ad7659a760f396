/** What a text that is being watched for stop strings gives: what may be shown, and the stop string that has come. */
export interface Watched {
  readonly text: string;
  readonly stop: string | undefined;
}

/**
 * Watches a text that comes in pieces for some strings; what may be the beginning of one is held back. The first that
 * is complete stops the text, and of several that are complete at once the longest, so the pieces change nothing.
 */
export class StopWatcher {
  readonly #stops: readonly string[];
  #held = "";

  constructor(stops: readonly string[]) {
    this.#stops = stops.filter((stop) => stop !== "");
  }

  /** Adds a piece. Once there is a `stop`, the text ends before it. */
  push(piece: string): Watched {
    const text = this.#held + piece;
    const found = firstStop(text, this.#stops);
    if (found !== undefined) return { text: text.slice(0, found.begin), stop: found.stop };
    const certain = text.length - Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
    this.#held = text.slice(certain);
    return { text: text.slice(0, certain), stop: undefined };
  }

  /** The text that was held back, when no more comes. */
  end(): string {
    return this.#held;
  }
}

/** The stop that ends first, and is the longest of those that end there, and where it begins. */
function firstStop(text: string, stops: readonly string[]): { begin: number; stop: string } | undefined {
  return stops
    .map((stop) => ({ begin: text.indexOf(stop), stop }))
    .filter(({ begin }) => begin >= 0)
    .sort((a, b) => a.begin + a.stop.length - (b.begin + b.stop.length) || a.begin - b.begin)[0];
}

/** The length of the longest end of `text` that `stop` begins with, short of all of it. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
