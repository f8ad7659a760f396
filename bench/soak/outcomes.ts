/** How often work ended well, as "done", or in which error. */
export class Outcomes {
  readonly #counts = new Map<string, number>();

  /**
   * Does some work.
   *
   * @param allowed "done", and the codes of errors, that it may end in; any other error is thrown
   */
  async count(work: () => Promise<unknown>, allowed: readonly string[]): Promise<void> {
    let outcome = "done";
    try {
      await work();
    } catch (error) {
      outcome = (error as { code?: string }).code ?? "";
      if (!allowed.includes(outcome)) throw error;
    }
    if (!allowed.includes(outcome)) throw new Error(`what was to end in ${allowed.join(" or ")} came to its end`);
    this.#counts.set(outcome, (this.#counts.get(outcome) ?? 0) + 1);
  }

  /** By name, in the order of the alphabet. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}
