/**
 * The longest that is looked for, in UTF-16 units: it bounds the work at each place of a text, whatever a vocabulary
 * has. The published ones have some 30.
 */
const longestMarker = 64;

/**
 * What a chat template means by the names of a vocabulary's tokens.
 *
 * Names that are all white space are none of them: beside a message, its white space could not be told from the
 * template's.
 */
export class Markers {
  readonly #tokens = new Map<string, number>();
  /** By a name's first unit: how long those that begin with it are, the longest first. */
  readonly #lengths = new Map<string, number[]>();

  /** @param pieces names and their tokens; of several with one name the last counts */
  constructor(pieces: Iterable<readonly [piece: string, token: number]>) {
    const lengths = new Map<string, Set<number>>();
    for (const [piece, token] of pieces) {
      if (piece.trim() === "" || piece.length > longestMarker) continue;
      this.#tokens.set(piece, token);
      const first = piece[0]!;
      lengths.set(first, (lengths.get(first) ?? new Set()).add(piece.length));
    }
    for (const [first, all] of lengths)
      this.#lengths.set(
        first,
        [...all].sort((a, b) => b - a),
      );
  }

  /**
   * A text's parts, none of them empty: the leftmost marker first, and of those that begin at one place the longest.
   */
  split(text: string): ({ readonly text: string } | { readonly token: number })[] {
    const parts: ({ text: string } | { token: number })[] = [];
    let begun = 0;
    for (let place = 0; place < text.length; ) {
      const marker = this.#at(text, place);
      if (marker === undefined) {
        place += 1;
        continue;
      }
      if (place > begun) parts.push({ text: text.slice(begun, place) });
      parts.push({ token: this.#tokens.get(marker)! });
      place += marker.length;
      begun = place;
    }
    if (begun < text.length) parts.push({ text: text.slice(begun) });
    return parts;
  }

  /** The longest marker that stands at a place. */
  #at(text: string, place: number): string | undefined {
    const length = this.#lengths
      .get(text[place]!)
      ?.find((length) => this.#tokens.has(text.slice(place, place + length)));
    return length === undefined ? undefined : text.slice(place, place + length);
  }
}
