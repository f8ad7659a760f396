/**
 * Tokens by rank. They are ranked by scores indexed by id, the highest first, equal ones by id, the lowest first. NaN
 * and -Infinity are no score: such tokens are never selected.
 */
export type Scores = Float32Array | Float64Array;

/** Whether token `a` ranks below token `b`. */
const worse = (scores: Scores, a: number, b: number): boolean =>
  scores[a]! < scores[b]! || (scores[a]! === scores[b]! && a > b);

/** The id of the highest score, the lowest such id; -1 if none is above -Infinity. */
export function argmax(scores: Scores): number {
  let best = -1;
  let max = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < scores.length; id++) {
    if (scores[id]! > max) {
      max = scores[id]!;
      best = id;
    }
  }
  return best;
}

/**
 * Fills `ids` with the best tokens, in no order, and returns how many they are: `ids.length`, or all that have a score.
 * The worst of them is at the root of a heap (Williams 1964), so that most other tokens are compared with it alone.
 */
export function selectBest(scores: Scores, ids: Int32Array): number {
  let count = 0;
  let id = 0;
  for (; id < scores.length && count < ids.length; id++) {
    if (scores[id]! > Number.NEGATIVE_INFINITY) ids[count++] = id;
  }
  if (id === scores.length || count === 0) return count;
  heapify(scores, ids, count);
  for (let worst = scores[ids[0]!]!; id < scores.length; id++) {
    // A later id with an equal score ranks lower, so that > is enough; it is false for NaN.
    if (!(scores[id]! > worst)) continue;
    ids[0] = id;
    sink(scores, ids, 0, count);
    worst = scores[ids[0]!]!;
  }
  return count;
}

/** Heapsort of ids[0, count): the worst goes to the end, again and again. */
export function sortBestFirst(scores: Scores, ids: Int32Array, count: number): void {
  heapify(scores, ids, count);
  for (let end = count - 1; end > 0; end--) {
    const worst = ids[0]!;
    ids[0] = ids[end]!;
    ids[end] = worst;
    sink(scores, ids, 0, end);
  }
}

/**
 * Puts the fewest best tokens of ids[0, count) whose weights sum to at least `mass` to the front, in no order, and
 * returns how many they are: all where that is more than the sum of all. It is Hoare's quickselect (1961), by weight: a
 * pass over some two times the tokens, where a sort would take as many passes as their number has bits.
 *
 * @param weights those of `ids`, which they follow
 */
export function takeMass(scores: Scores, ids: Int32Array, weights: Float64Array, count: number, mass: number): number {
  // The last token to take is one of ids[begin, end); those before are taken, and weigh `mass` less what is missing.
  let begin = 0;
  let end = count;
  let missing = mass;
  while (end - begin > 1) {
    const middle = partition(scores, ids, weights, begin, end);
    let sum = 0;
    for (let i = begin; i < middle; i++) sum += weights[i]!;
    if (sum >= missing) {
      end = middle;
    } else {
      missing -= sum;
      begin = middle;
    }
  }
  return end;
}

/** Parts ids[begin, end), at least two: returns a place between them before which all rank above all from there on. */
function partition(scores: Scores, ids: Int32Array, weights: Float64Array, begin: number, end: number): number {
  const pivot = ids[(begin + end - 1) >>> 1]!;
  let i = begin;
  let j = end - 1;
  for (;;) {
    while (worse(scores, pivot, ids[i]!)) i++;
    while (worse(scores, ids[j]!, pivot)) j--;
    if (i >= j) return j + 1;
    const id = ids[i]!;
    const weight = weights[i]!;
    ids[i] = ids[j]!;
    weights[i++] = weights[j]!;
    ids[j] = id;
    weights[j--] = weight;
  }
}

/** Moves the token at `node` down the heap ids[0, count), whose root is the worst. */
function sink(scores: Scores, ids: Int32Array, node: number, count: number): void {
  const id = ids[node]!;
  for (let child = 2 * node + 1; child < count; child = 2 * node + 1) {
    if (child + 1 < count && worse(scores, ids[child + 1]!, ids[child]!)) child++;
    if (!worse(scores, ids[child]!, id)) break;
    ids[node] = ids[child]!;
    node = child;
  }
  ids[node] = id;
}

function heapify(scores: Scores, ids: Int32Array, count: number): void {
  for (let node = (count >>> 1) - 1; node >= 0; node--) sink(scores, ids, node, count);
}
