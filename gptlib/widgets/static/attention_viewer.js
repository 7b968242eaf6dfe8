// All heads of a model as thumbnails, one opened large: which token looks at which, and how much.
import {
  GRADIENT, PIXELS, adapter, clipped, field, floats, frame, gradually, inline, make, once, quoted, requests, roving, shown, surface,
  theme, watch,
} from "./base.js";

const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1];
const GAP = 4; // pixels between thumbnails
const GRADES = 1023; // colour grows with the square root of the weight, so that small weights can be told apart

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

/** What one head does on this text, as shares of its attention averaged over queries; null where no query qualifies. */
export function summary(weights, layer, head) {
  const { T, ids } = weights;
  let entropy = 0, most = 0, distance = 0;
  const shares = { previous: [0, 0], first: [0, 0], self: [0, 0], same: [0, 0], induction: [0, 0] };
  const add = (name, value) => { shares[name][0] += value; shares[name][1] += 1; };
  for (let q = 0; q < T; q++) {
    const start = weights.row(layer, head, q);
    let same = 0, after = 0, repeated = false;
    for (let k = 0; k <= q; k++) {
      const w = weights.values[start + k];
      if (w > 0) entropy -= w * Math.log(w);
      distance += w * (q - k);
      if (k < q && ids[k] === ids[q]) { same += w; repeated = true; }
      if (k > 0 && ids[k - 1] === ids[q]) after += w;
    }
    most += Math.log(q + 1);
    if (q > 0) { // the first token can only look at itself
      add("previous", weights.values[start + q - 1]);
      add("first", weights.values[start]);
      add("self", weights.values[start + q]);
    }
    if (repeated) { add("same", same); add("induction", after); }
  }
  const mean = ([sum, n]) => (n ? sum / n : null);
  return {
    entropy: entropy / T, most: most / T, distance: distance / T,
    ...Object.fromEntries(Object.entries(shares).map(([name, share]) => [name, mean(share)])),
  };
}

/** Length of the common beginning of two texts, and the largest change of any weight in its rows. */
export function unchanged(before, after) {
  let rows = 0;
  while (rows < Math.min(before.T, after.T) && before.ids[rows] === after.ids[rows]) rows++;
  let difference = 0;
  for (let i = 0; i < after.layers * after.heads; i++) {
    for (let j = 0; j < (rows * (rows + 1)) / 2; j++) {
      difference = Math.max(difference, Math.abs(after.values[i * after.size + j] - before.values[i * before.size + j]));
    }
  }
  return { rows, difference };
}

function exact(weight) {
  if (weight === 0) return "0";
  return weight < 0.001 ? weight.toExponential(1) : weight.toFixed(4);
}

/** The weights of one head as a T × T picture; keys that come later stay transparent. */
function picture(weights, layer, head, canvas = document.createElement("canvas")) {
  const { T } = weights;
  Object.assign(canvas, { width: T, height: T });
  const context = canvas.getContext("2d");
  const image = context.createImageData(T, T);
  const pixels = new Uint32Array(image.data.buffer);
  for (let q = 0, i = weights.row(layer, head, 0); q < T; q++) {
    for (let k = 0; k <= q; k++, i++) pixels[q * T + k] = PIXELS[Math.round(Math.sqrt(Math.min(1, weights.values[i])) * GRADES)];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * Show attention in `element`.
 *
 * `state`: tokens (strings), ids, layers, heads, weights (bytes of layers × heads × rows of the lower triangle), dtype
 * ("float32" or "float16"), text, problem; with `send`, the text can be edited and `send({ text })` asks for new weights.
 * Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  let weights = new Weights(state);
  let tokens = state.tokens;
  let layer = 0, head = 0;
  let cursor = { q: weights.T - 1, k: weights.T - 1 };
  let hover = null;
  let direction = "row"; // "row": where the query looks; "column": who looks at the key
  let kept = null; // after an edit: what did not change
  let image = null, geometry = null, colours = null;

  const { root, say } = frame(element, "Attention viewer", "attention");
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const ask = requests((text) => state.send({ text }), (sentence) => { problem.textContent = sentence; });

  // Text ---------------------------------------------------------------------------------------------------------------
  const editor = make("textarea", { rows: 2, spellcheck: "false", oninput: () => ask.ask(editor.value) });
  const change = make("p", { class: "gl-muted" });
  const strip = make("p", { class: "gl-text", "aria-hidden": "true" }); // the table below says the same to a screen reader
  const words = "Text: edit it, and see which rows change";

  // Heads --------------------------------------------------------------------------------------------------------------
  const layerPicker = make("select", { onchange: () => choose(Number(layerPicker.value), head) });
  const headPicker = make("select", { onchange: () => choose(layer, Number(headPicker.value)) });
  const grid = make("div", { class: "gl-heads", role: "grid", "aria-label": "All heads: one row for each layer" });
  let thumbs = [];
  let stopPictures = () => {};
  const scratch = document.createElement("canvas");
  const focusThumb = roving(grid, () => thumbs, () => weights.heads);

  // Map ----------------------------------------------------------------------------------------------------------------
  const segment = (name, text) => make("button", { type: "button", "data-direction": name, onclick: () => { direction = name; refresh(); } }, text);
  const segments = make("span", { class: "gl-segments", role: "group", "aria-label": "What the text shows" },
    segment("row", "looks at"), segment("column", "is seen by"));
  const map = make("canvas", {
    class: "gl-map", tabindex: "0", role: "application", "aria-roledescription": "heat map",
    onpointermove: (event) => point(event), onpointerleave: () => { hover = null; refresh(); },
    onpointerdown: (event) => { const cell = cellAt(event); if (cell) { cursor = cell; hover = null; refresh(); } },
    onkeydown: (event) => key(event),
  });
  const readout = make("p", { class: "gl-readout" });
  const facts = make("dl", { class: "gl-facts" });
  const table = make("table", {});
  const details = make("details", { ontoggle: () => tabulate() }, make("summary", {}, "The same as a table"), table);

  root.append(
    ...(state.send ? [make("label", {}, make("span", { class: "gl-muted" }, words), editor), problem] : []),
    make("div", { class: "gl-columns" },
      grid,
      make("div", { class: "gl-main" },
        make("div", { class: "gl-bar" }, field("layer", layerPicker), field("head", headPicker),
          make("span", { class: "gl-field" }, make("span", {}, "a token"), segments)),
        strip, readout, make("div", {}, map), change),
      make("div", { class: "gl-side" }, legend(), facts, details)),
  );

  const active = () => hover ?? cursor;
  const drawn = once(() => draw());

  function choose(nextLayer, nextHead) {
    layer = Math.max(0, Math.min(weights.layers - 1, nextLayer));
    head = Math.max(0, Math.min(weights.heads - 1, nextHead));
    layerPicker.value = layer;
    headPicker.value = head;
    thumbs.forEach((thumb, i) => thumb.setAttribute("aria-selected", String(i === layer * weights.heads + head)));
    focusThumb(layer * weights.heads + head, false);
    image = picture(weights, layer, head);
    map.setAttribute("aria-label", `Attention of layer ${layer}, head ${head}. Arrow keys move, Page Up and Page Down change the head.`);
    describe();
    refresh();
  }

  function refresh() {
    const { q, k } = active();
    const weight = weights.at(layer, head, q, k);
    for (const button of segments.children) button.setAttribute("aria-pressed", String(button.dataset.direction === direction));
    readout.replaceChildren(...(k > q
      ? [name(q), " cannot look at ", name(k), ", which comes later"]
      : [name(q), " looks at ", name(k), " with weight ", make("b", {}, exact(weight))]));
    [...strip.children].forEach((span, i) => {
      const w = direction === "row" ? weights.at(layer, head, q, i) : weights.at(layer, head, i, k);
      span.style.setProperty("--w", Math.sqrt(w).toFixed(3));
      span.classList.toggle("gl-at", i === (direction === "row" ? q : k));
      span.classList.toggle("gl-later", direction === "row" ? i > q : i < k);
    });
    if (details.open) tabulate();
    drawn();
  }

  function name(position) { return make("span", {}, make("bdi", {}, quoted(tokens[position])), ` at ${position}`); }

  function describe() {
    const s = summary(weights, layer, head);
    const share = (value) => (value === null ? "no token repeats" : `${(100 * value).toFixed(0)} %`);
    const rows = [
      ["Entropy", `${s.entropy.toFixed(2)} of ${s.most.toFixed(2)} nats`], ["Mean distance", `${s.distance.toFixed(1)} tokens`],
      ["On the token before", share(s.previous)], ["On the first token", share(s.first)], ["On itself", share(s.self)],
      ["On the same token earlier", share(s.same)], ["On what followed it then", share(s.induction)],
    ];
    facts.replaceChildren(...rows.map(([term, value]) => make("div", {}, make("dt", {}, term), make("dd", {}, value))));
  }

  function tabulate() {
    if (!details.open) return;
    const { q, k } = active();
    const row = direction === "row";
    const cells = row
      ? tokens.slice(0, q + 1).map((_, i) => [i, weights.at(layer, head, q, i)])
      : tokens.slice(k).map((_, i) => [k + i, weights.at(layer, head, k + i, k)]);
    cells.sort((a, b) => b[1] - a[1]);
    const caption = row ? `${quoted(tokens[q])} at ${q} looks at` : `${quoted(tokens[k])} at ${k} is seen by`;
    table.replaceChildren(
      make("thead", {}, make("tr", {}, make("th", { scope: "col", class: "gl-word" }, caption),
        make("th", { scope: "col" }, "position"), make("th", { scope: "col" }, "weight"))),
      make("tbody", {}, ...cells.slice(0, 12).map(([i, w]) => make("tr", {},
        make("td", { class: "gl-word" }, make("bdi", {}, shown(tokens[i]))), make("td", {}, String(i)), make("td", {}, exact(w))))),
    );
  }

  // The map: labels, cells, cross-hair -----------------------------------------------------------------------------------
  function measure() {
    const { T } = weights;
    const context = map.getContext("2d");
    context.font = getComputedStyle(map).font;
    const labels = tokens.map((token) => clipped(shown(token), 12));
    const longest = Math.max(...labels.map((label) => context.measureText(label).width));
    const width = map.parentElement.clientWidth;
    const left = Math.ceil(longest) + 10;
    let cell = Math.min(44, (Math.min(width, 640) - left) / T);
    if (cell > 4) cell = Math.floor(cell);
    const upright = longest > cell - 2;
    const top = upright ? Math.ceil(longest) + 10 : 22;
    const every = Math.max(1, Math.ceil(13 / cell)); // labels closer than 13 pixels would overlap
    return { labels, left, top, cell, upright, every, side: cell * T };
  }

  function draw() {
    colours = theme(root);
    if (!colours || !map.parentElement.clientWidth) return;
    geometry = measure();
    const { labels, left, top, cell, upright, every, side } = geometry;
    const { T } = weights;
    const { q, k } = active();
    const context = surface(map, left + side + 2, top + side + 2);
    context.font = getComputedStyle(map).font;
    context.textBaseline = "middle";
    context.direction = "ltr";

    context.imageSmoothingEnabled = false;
    context.drawImage(image, left, top, side, side);
    if (cell >= 8) { // hairlines between cells
      context.fillStyle = colours.back;
      for (let i = 1; i < T; i++) {
        context.fillRect(left, top + i * cell - 0.5, i * cell + cell, 1);
        context.fillRect(left + i * cell - 0.5, top + (i - 1) * cell, 1, (T - i + 1) * cell);
      }
    }

    const label = (i, isRow, strong) => {
      context.fillStyle = strong ? colours.text : colours.muted;
      context.save();
      if (isRow) context.translate(left - 6, top + (i + 0.5) * cell);
      else context.translate(left + (i + 0.5) * cell, top - 6);
      context.textAlign = isRow ? "right" : upright ? "left" : "center";
      if (!isRow && upright) context.rotate(-Math.PI / 2);
      if (!isRow && !upright) context.translate(0, -6);
      if (strong) context.font = `bold ${context.font}`;
      context.fillText(labels[i], 0, 0);
      context.restore();
    };
    const hidden = (i, chosen) => Math.abs(i - chosen) * cell < 13; // under the label of the chosen one, or too close to it
    for (let i = 0; i < T; i += every) {
      if (!hidden(i, q)) label(i, true, false);
      if (!hidden(i, k)) label(i, false, false);
    }
    label(q, true, true);
    label(k, false, true);

    if (kept && kept.rows > 0 && kept.rows < T) {
      context.fillStyle = colours.text;
      for (let x = left; x < left + (kept.rows + 1) * cell; x += 8) context.fillRect(x, top + kept.rows * cell - 1, 5, 2);
    }
    frameOf(context, left, top + q * cell, (q + 1) * cell, cell, colours.muted, 1);
    frameOf(context, left + k * cell, top + k * cell, cell, (T - k) * cell, colours.muted, 1);
    frameOf(context, left + k * cell, top + q * cell, cell, cell, colours.back, 4);
    frameOf(context, left + k * cell, top + q * cell, cell, cell, colours.text, 2);
  }

  function frameOf(context, x, y, w, h, colour, width) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.strokeRect(x, y, w, h);
  }

  // One canvas for a layer, under its buttons: a canvas for each head would cost every frame more than the map itself.
  function thumbnails() {
    const size = Math.max(24, Math.min(64, Math.floor(330 / weights.heads) - GAP));
    const across = Array.from({ length: weights.heads }, (_, h) => h);
    const down = Array.from({ length: weights.layers }, (_, l) => l);
    if (thumbs.length !== across.length * down.length) {
      grid.style.setProperty("--thumb", `${size}px`);
      thumbs = [];
      const row = (l) => {
        const cells = across.map((h) => make("button", {
          type: "button", class: "gl-head", role: "gridcell", tabindex: "-1", "aria-label": `layer ${l}, head ${h}`,
          title: `layer ${l}, head ${h}`, onclick: () => { choose(l, h); announce(); },
        }));
        thumbs.push(...cells);
        return make("div", { class: "gl-heads-row", role: "row" }, make("span", { role: "rowheader" }, l ? String(l) : "layer 0"),
          make("div", { class: "gl-heads-cells" }, ...cells, make("canvas", {})));
      };
      const names = across.map((h) => make("span", { role: "columnheader" }, h ? String(h) : "head 0"));
      grid.replaceChildren(
        make("div", { class: "gl-heads-row", role: "row" }, make("span", { role: "columnheader" }), ...names), ...down.map(row));
      const options = (numbers) => numbers.map((n) => make("option", { value: n }, String(n)));
      layerPicker.replaceChildren(...options(down));
      headPicker.replaceChildren(...options(across));
    }
    const canvases = grid.querySelectorAll("canvas");
    const contexts = [];
    const paint = (l, h) => {
      const context = (contexts[l] ??= surface(canvases[l], weights.heads * (size + GAP) - GAP, size));
      context.imageSmoothingEnabled = weights.T > size;
      context.imageSmoothingQuality = "high";
      context.drawImage(picture(weights, l, h, scratch), h * (size + GAP), 0, size, size);
    };
    stopPictures();
    stopPictures = gradually(down.flatMap((l) => across.map((h) => () => paint(l, h))));
  }

  function text() {
    strip.replaceChildren(...tokens.map((token, i) => make("span", {
      class: "gl-token",
      onpointerenter: () => { hover = follow(i); refresh(); },
      onpointerleave: () => { hover = null; refresh(); },
      onclick: () => { cursor = follow(i); hover = null; refresh(); announce(); },
    }, inline(token))));
    if (document.activeElement !== editor && editor.value !== state.text) editor.value = state.text;
  }

  // The cell that stands for token i: its own strongest partner in the direction that is shown.
  function follow(i) {
    let best = i;
    for (let j = 0; j < weights.T; j++) {
      const weight = (other) => (direction === "row" ? weights.at(layer, head, i, other) : weights.at(layer, head, other, i));
      if (weight(j) > weight(best)) best = j;
    }
    return direction === "row" ? { q: i, k: best } : { q: best, k: i };
  }

  function announce() {
    say(`layer ${layer}, head ${head}: ${readout.textContent}`);
  }

  function cellAt(event) {
    const box = map.getBoundingClientRect();
    const q = Math.floor((event.clientY - box.top - geometry.top) / geometry.cell);
    const k = Math.floor((event.clientX - box.left - geometry.left) / geometry.cell);
    return q < 0 || k < 0 || q >= weights.T || k >= weights.T ? null : { q, k };
  }

  function point(event) {
    const cell = cellAt(event);
    if (cell?.q !== hover?.q || cell?.k !== hover?.k) { hover = cell; refresh(); }
  }

  function key(event) {
    const { q, k } = cursor;
    const last = weights.T - 1;
    const moves = {
      ArrowUp: { q: q - 1, k: Math.min(k, q - 1) }, ArrowDown: { q: q + 1, k }, ArrowLeft: { q, k: k - 1 }, ArrowRight: { q, k: k + 1 },
      Home: { q, k: 0 }, End: { q, k: q },
    };
    const turn = { PageUp: -1, PageDown: 1 }[event.key];
    if (turn) {
      const next = layer * weights.heads + head + turn;
      if (next >= 0 && next < thumbs.length) choose(Math.floor(next / weights.heads), next % weights.heads);
    } else if (event.key in moves) {
      const next = moves[event.key];
      if (next.q >= 0 && next.q <= last && next.k >= 0 && next.k <= next.q) cursor = next;
      hover = null;
      refresh();
    } else return;
    event.preventDefault();
    announce();
  }

  function legend() {
    const ticks = TICKS.map((w) => make("span", { style: `left: ${100 * Math.sqrt(w)}%` }, String(w)));
    const scale = make("div", { class: "gl-scale", style: `background: ${GRADIENT}` });
    return make("div", { class: "gl-legend", role: "img", "aria-label": "Colours: weight 0 is dark violet, 1 is yellow; they grow with the square root." },
      make("span", { class: "gl-muted" }, "weight"), scale, make("div", { class: "gl-ticks" }, ...ticks));
  }

  function load() {
    thumbnails();
    text();
    cursor = { q: Math.min(cursor.q, weights.T - 1), k: Math.min(cursor.k, Math.min(cursor.q, weights.T - 1)) };
    change.textContent = "Rows are queries, the tokens that look; columns are keys, the tokens looked at.";
    if (kept) change.textContent = sentence(kept);
    problem.textContent = state.problem ?? "";
    choose(layer, head);
  }

  function sentence({ rows, difference }) {
    if (rows === 0) return "The first token changed, so every row is new.";
    const rounding = state.dtype === "float16" ? 1e-3 : 1e-5;
    const which = rows === 1 ? "Row 0" : `Rows 0 to ${rows - 1}`;
    if (difference > rounding) return `${which} changed by up to ${exact(difference)}: this model lets an earlier token see a later one.`;
    const size = difference === 0 ? "not in a single bit" : `by at most ${difference.toExponential(0)}, which is rounding`;
    return `${which} did not change in any head (${size}): an earlier token never sees a later one.`
      + (rows < weights.T ? " New rows lie below the dashed line." : "");
  }

  load();
  cursor = follow(cursor.q);
  refresh();
  const stop = watch(root, drawn);
  return {
    update(next) {
      state = { ...state, ...next };
      if (!state.problem) {
        const before = weights;
        const moved = cursor.q === before.T - 1;
        weights = new Weights(state);
        tokens = state.tokens;
        hover = null;
        kept = before.layers === weights.layers && before.heads === weights.heads ? unchanged(before, weights) : null;
        if (moved) cursor = follow(weights.T - 1);
        load();
        if (kept) say(change.textContent);
      }
      problem.textContent = state.problem ?? "";
      ask.answered();
    },
    destroy() {
      stop();
      stopPictures();
      drawn.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, ["tokens", "ids", "layers", "heads", "weights", "dtype", "text", "problem"]);
