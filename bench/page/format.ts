/** Numbers as the page shows them: digits in threes, a narrow no-break space before a unit. */

const absent = "–";
const space = "\u202f";

/** With as many decimals as are asked for, so that a column stays aligned. */
export function fixed(value: number | null | undefined, decimals: number): string {
  if (!isNumber(value)) return absent;
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Three digits that matter: 0.0123, 7.93, 31.4, 916, 12,346. */
export function short(value: number | null | undefined): string {
  if (!isNumber(value)) return absent;
  if (Math.abs(value) >= 100) return fixed(value, 0);
  return value.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

/** A measured value: short, but with the zeros that say how exact it is, as in 30.0. */
export function figure(value: number | null | undefined): string {
  if (!isNumber(value)) return absent;
  const size = Math.abs(value);
  return fixed(value, size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

/** A share as whole percent, without the sign. */
export function percent(share: number | null | undefined): string {
  return isNumber(share) ? fixed(share * 100, 0) : absent;
}

export function withUnit(text: string, unit: string): string {
  return text === absent ? absent : `${text}${space}${unit}`;
}

/** In 10⁹ bytes. */
export function gigabytes(bytes: number): string {
  return withUnit(short(bytes / 1e9), "GB");
}

export function plural(count: number, thing: string): string {
  return `${fixed(count, 0)} ${thing}${count === 1 ? "" : "s"}`;
}

/** JSON has null for what is not a number. */
export function isNumber(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value);
}
