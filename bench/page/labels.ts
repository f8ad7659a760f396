/** Where the names of things go in a plot: near what they name, and over nothing else. */

export interface Point {
  x: number;
  y: number;
}

/** From its upper left corner. */
export interface Box extends Point {
  width: number;
  height: number;
}

export interface Wanted {
  text: string;
  /** Any of which the label may stand by. */
  at: readonly Point[];
  /** Left out where it has no room; others are then put where they cover least. */
  optional?: boolean;
}

export interface Label {
  text: string;
  /** The text's middle, and its baseline. */
  x: number;
  y: number;
  /** What it covers. */
  box: Box;
  /** To what it names, where that is not beside it. */
  leader?: readonly [Point, Point];
}

export interface Ground {
  bounds: Box;
  /** Never covered: other texts. */
  texts: readonly Box[];
  /** Better not covered: marks and lines. */
  marks: readonly Point[];
  fontSize: number;
}

/** Of a letter, over the font's size: a little more than the widest common sans-serif, Verdana and DejaVu, has on average. */
const letterWidth = 0.64;

export const textWidth = (text: string, fontSize: number): number => [...text].length * fontSize * letterWidth;

/** Distances tried, from a point to the label's nearest edge. */
const distances = [5, 10, 18, 28, 42, 60, 84];
/** Of an optional one: a line from farther off would be more than it says. */
const nearest = distances.slice(0, 3);
const directions = Array.from({ length: 16 }, (_, i) => (i * Math.PI) / 8);

/** Farther than this a line joins a label to what it names. */
const leaderFrom = 10;

/** Of covering a mark, in pixels of distance. */
const markCost = 30;

/** Anchors tried of one label: enough to find an empty place, few enough to be quick. */
const mostAnchors = 24;

/** Places each in turn, the first with the widest choice. */
export function placeLabels(wanted: readonly Wanted[], ground: Ground): Label[] {
  const texts = [...ground.texts];
  const marks = [...ground.marks];
  return wanted.flatMap(({ text, at, optional = false }) => {
    const best = bestPlace(text, thinned(at), { ...ground, texts, marks }, optional);
    if (!best) return [];
    const label = labelOf(text, best, ground.fontSize);
    texts.push(label.box);
    marks.push(...leaderMarks(label));
    return [label];
  });
}

/** Of a label's leader, for others to keep off. */
export const leaderMarks = ({ leader }: Label): Point[] => (leader ? along(...leader) : []);

interface Place {
  anchor: Point;
  box: Box;
  cost: number;
}

function bestPlace(text: string, anchors: readonly Point[], ground: Ground, clear: boolean): Place | undefined {
  let best: Place | undefined;
  for (const anchor of anchors) {
    for (const distance of clear ? nearest : distances) {
      if (best && distance >= best.cost) break;
      for (const direction of directions) {
        const box = boxAt(text, anchor, distance, direction, ground.fontSize);
        if (!within(box, ground.bounds) || ground.texts.some((other) => overlap(box, other))) continue;
        const covered = ground.marks.reduce((count, mark) => count + Number(touches(mark, box)), 0);
        const cost = distance + covered * markCost;
        if ((!clear || covered === 0) && cost < (best?.cost ?? Number.POSITIVE_INFINITY)) best = { anchor, box, cost };
      }
    }
  }
  return best;
}

/** The box whose nearest edge or corner lies in that direction, at that distance. */
function boxAt(text: string, anchor: Point, distance: number, direction: number, fontSize: number): Box {
  const width = textWidth(text, fontSize);
  const height = fontSize * 1.2;
  // On a square rather than a circle, so that a diagonal direction leaves the box's corner there.
  const [right, down] = [Math.cos(direction), Math.sin(direction)].map((part) => clamp(part * Math.SQRT2, -1, 1));
  const x = anchor.x + right! * (distance + width / 2) - width / 2;
  const y = anchor.y + down! * (distance + height / 2) - height / 2;
  return { x, y, width, height };
}

function labelOf(text: string, { anchor, box }: Place, fontSize: number): Label {
  const end = {
    x: clamp(anchor.x, box.x, box.x + box.width),
    y: clamp(anchor.y, box.y, box.y + box.height),
  };
  // The letters' middle is some 0.35 of their size above the baseline.
  const label = { text, box, x: box.x + box.width / 2, y: box.y + box.height / 2 + fontSize * 0.35 };
  return Math.hypot(end.x - anchor.x, end.y - anchor.y) > leaderFrom ? { ...label, leader: [anchor, end] } : label;
}

const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);

function within(box: Box, bounds: Box): boolean {
  return (
    box.x >= bounds.x &&
    box.y >= bounds.y &&
    box.x + box.width <= bounds.x + bounds.width &&
    box.y + box.height <= bounds.y + bounds.height
  );
}

/** Whether two texts come so near that they read as one. */
export function overlap(a: Box, b: Box): boolean {
  return nearer(a.x, a.width, b.x, b.width, 6) && nearer(a.y, a.height, b.y, b.height, 1);
}

const nearer = (a: number, aLength: number, b: number, bLength: number, distance: number) =>
  a < b + bLength + distance && b < a + aLength + distance;

/** Half of a mark's size, and a hair. */
const markRadius = 4;

/** Whether a mark at that point reaches into the box. */
function touches({ x, y }: Point, box: Box): boolean {
  return (
    x > box.x - markRadius &&
    x < box.x + box.width + markRadius &&
    y > box.y - markRadius &&
    y < box.y + box.height + markRadius
  );
}

function thinned(points: readonly Point[]): readonly Point[] {
  const every = Math.ceil(points.length / mostAnchors);
  return points.filter((_, i) => i % every === 0);
}

/** Points along a line, near enough for a label not to slip between them. */
export function along(from: Point, to: Point): Point[] {
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / markRadius));
  return Array.from({ length: steps + 1 }, (_, i) => ({
    x: from.x + ((to.x - from.x) * i) / steps,
    y: from.y + ((to.y - from.y) * i) / steps,
  }));
}
