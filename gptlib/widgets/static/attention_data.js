// What the attention viewer computes from its weights, apart from the page: reading them, comparing them, colouring them.
import { PIXELS, floats } from "./base.js";

const GRADES = PIXELS.length - 1; // colour grows with the square root of the weight, so that small weights can be told apart
export const MORE = [213, 94, 0], LESS = [0, 114, 178]; // Okabe-Ito's vermilion and blue

// What a difference of -1 to 1 looks like: less in blue, more in vermilion, nothing where there is none.
export const DIFFERENCES = Uint32Array.from({ length: 2 * GRADES + 1 }, (_, i) => {
  const [r, g, b] = i < GRADES ? LESS : MORE;
  return (Math.round(255 * (Math.abs(i - GRADES) / GRADES) ** 0.7) << 24) | (b << 16) | (g << 8) | r;
});

/** Weights of all heads, kept as they came: each head's rows one after another, row q with its q + 1 weights. */
export class Weights {
  constructor({ weights, dtype, layers, heads, ids }) {
    Object.assign(this, { layers, heads, ids: Array.from(ids), T: ids.length });
    this.size = (this.T * (this.T + 1)) / 2;
    this.values = floats(weights, dtype);
  }

  /** Where the row of query `q` begins in `values`. */
  row(layer, head, q) { return (layer * this.heads + head) * this.size + (q * (q + 1)) / 2; }

  /** How much query `q` attends to key `k`; 0 for a key that comes later. */
  at(layer, head, q, k) { return k > q ? 0 : this.values[this.row(layer, head, q) + k]; }
}

/** Length of the common beginning of two texts, and the largest change of any weight in its rows. */
export function unchanged(before, after) {
  let rows = 0;
  while (rows < Math.min(before.T, after.T) && before.ids[rows] === after.ids[rows]) rows++;
  const difference = largest(before, after, rows, 0, after.layers);
  return { rows, difference };
}

/** How many layers from the first on have the very same weights in both, and the largest change in the others. */
export function sameLayers(before, after) {
  let layers = 0;
  while (layers < after.layers && largest(before, after, after.T, layers, layers + 1) === 0) layers++;
  return { layers, difference: largest(before, after, after.T, layers, after.layers) };
}

function largest(before, after, rows, from, to) {
  let difference = 0;
  for (let i = from * after.heads; i < to * after.heads; i++) {
    for (let j = 0; j < (rows * (rows + 1)) / 2; j++) {
      difference = Math.max(difference, Math.abs(after.values[i * after.size + j] - before.values[i * before.size + j]));
    }
  }
  return difference;
}

/** Share of a head's attention that goes from marked words to what they depend on, and the share under even attention.
 * The rows of a mark are that of the token before it, which has to predict it, and its own. */
export function onMarks(weights, layer, head, marks) {
  let share = 0, even = 0, rows = 0;
  for (const [, start, end, from, to] of marks) {
    for (let q = Math.max(0, start - 1, from); q < end; q++, rows++) {
      const stop = Math.min(to, q + 1);
      for (let k = from; k < stop; k++) share += weights.at(layer, head, q, k);
      even += (stop - from) / (q + 1);
    }
  }
  return rows ? { share: share / rows, even: even / rows } : null;
}

/** A weight for a sentence: four digits, or its order of magnitude. */
export function exact(weight) {
  if (weight === 0) return "0";
  return Math.abs(weight) < 0.001 ? weight.toExponential(1) : weight.toFixed(4);
}

export const signed = (value) => (value > 0 ? `+${exact(value)}` : exact(value).replace("-", "−"));
export const percent = (p) => `${(100 * p).toFixed(p < 0.1 ? 1 : 0)} %`;

/** A head of T tokens on no more than `most` cells a side: each cell has the largest weight (or change) of those it stands for,
 * since on average a column that all rows look at, one cell wide, would vanish. */
export function pooled({ T, at, from = 0, ...rest }, most) {
  const size = Math.ceil(T / most);
  if (size === 1) return { T, at, from, ...rest };
  const largest = (Q, K) => {
    let found = 0;
    for (let q = Q * size; q < Math.min(T, (Q + 1) * size); q++) {
      for (let k = K * size; k <= Math.min(q, (K + 1) * size - 1); k++) { const v = at(q, k); if (Math.abs(v) > Math.abs(found)) found = v; }
    }
    return found;
  };
  return { T: Math.ceil(T / size), at: largest, from: Math.floor(from / size), ...rest };
}

/** One head as a T × T picture of `value(q, k)`; keys that come later stay transparent. */
export function headPicture(T, value, colours, canvas = document.createElement("canvas")) {
  Object.assign(canvas, { width: T, height: T });
  const context = canvas.getContext("2d");
  const image = context.createImageData(T, T);
  const pixels = new Uint32Array(image.data.buffer);
  const zero = colours === DIFFERENCES ? GRADES : 0;
  for (let q = 0; q < T; q++) {
    for (let k = 0; k <= q; k++) {
      const v = value(q, k);
      const grade = Math.round(Math.sqrt(Math.min(1, Math.abs(v))) * GRADES);
      pixels[q * T + k] = colours[zero + (v < 0 ? -grade : grade)];
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
