// One panel of the attention viewer: a head as a map or as arcs, of one text or of the difference of two.
import { clipped, make, shown, surface } from "./base.js";
import { DIFFERENCES, LESS, MORE, headPicture, signed } from "./attention_data.js";

const ARC_ROW = 17; // pixels a token in the list of arcs
const FAINT = 0.08; // arcs of tokens that are not chosen are drawn from this weight on
const TITLES = { first: "First text", other: "Second text", difference: "Second minus first" };

function frameOf(context, x, y, w, h, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(x, y, w, h);
}

/**
 * A panel of `kind` "first", "other" or "difference".
 *
 * `host` tells what all panels share: `source(kind)` (T, tokens, colours and at(q, k), or null), `name` of the head, `form`,
 * `direction`, `active()` and whether it is `pinned`, `marks()`, `kept`, `colours`, `comparing`, `T` and `follow(i)` of the
 * first text; and is told by `point(cell or null)`, `pin(cell)` and `key(event)`. Returns `box`, `renew()`, to be called when
 * the head or the text is another, and `render()`.
 */
export function attentionPanel(kind, host) {
  const canvas = make("canvas", {
    class: "gl-map", tabindex: "0", role: "application",
    onpointermove: (event) => host.point(cellAt(event)), onpointerleave: () => host.point(null),
    onpointerdown: (event) => { const cell = cellAt(event); if (cell) host.pin(cell); },
    onkeydown: (event) => host.key(event),
  });
  const caption = make("figcaption", { class: "gl-muted" });
  const scroller = make("div", { class: "gl-stage" }, canvas);
  const box = make("figure", {}, caption, scroller);
  const behind = document.createElement("canvas"); // arcs of all tokens, drawn once for a head
  let what = null, image = null, geometry = null, stale = "";

  function renew() {
    what = host.source(kind);
    if (!what) return;
    image = headPicture(what.T, what.at, what.colours);
    stale = "";
    const title = TITLES[kind];
    caption.textContent = what.from ? `${title}, from row ${what.from} on: before it the texts are the same` : title;
    caption.hidden = !host.comparing;
    canvas.setAttribute("aria-label", `${host.comparing ? `${title}: attention` : "Attention"} of ${host.name}. `
      + "Arrow keys move, Page Up and Page Down change the head.");
  }

  const here = () => {
    const { q, k } = host.active();
    return q < what.T && k < what.T && (q >= (what.from ?? 0) || host.form === "arcs") ? { q, k } : null;
  };

  function render() {
    if (!what || !scroller.clientWidth) return;
    canvas.setAttribute("aria-roledescription", host.form === "map" ? "heat map" : "arcs between tokens");
    scroller.classList.toggle("gl-arcs", host.form === "arcs");
    if (host.form === "map") drawMap(); else drawArcs();
  }

  function labelsOf(context, length) {
    const labels = what.tokens.map((token) => clipped(shown(token), length));
    return { labels, longest: Math.ceil(Math.max(...labels.map((text) => context.measureText(text).width))) };
  }

  function measure() {
    const { T, from = 0 } = what;
    const context = canvas.getContext("2d");
    context.font = getComputedStyle(canvas).font;
    const { labels, longest } = labelsOf(context, 12);
    const left = longest + 10;
    let cell = Math.min(44, (Math.min(scroller.clientWidth, 640) - left - 8) / T);
    if (cell > 4) cell = Math.floor(cell);
    const upright = longest > cell - 2;
    const top = upright ? longest + 10 : 22;
    const every = Math.max(1, Math.ceil(13 / cell)); // labels closer than 13 pixels would overlap
    // Few rows may be higher than they are wide. Row q is at `down(q)`.
    const high = from ? Math.max(cell, Math.min(18, (cell * T) / (T - from) / 2)) : cell;
    const down = (q) => top + (q - from) * high;
    return { labels, left, top, cell, high, down, upright, every, steps: Math.max(1, Math.ceil(13 / high)), side: cell * T };
  }

  function drawMap() {
    geometry = measure();
    const { labels, left, top, cell, high, down, upright, every, steps, side } = geometry;
    const { T, from = 0 } = what;
    const bottom = down(T);
    // A label is higher than a small cell: the last ones need room.
    const context = surface(canvas, left + side + Math.max(2, 8 - cell / 2), bottom + Math.max(2, 8 - high / 2));
    context.font = getComputedStyle(canvas).font;
    context.textBaseline = "middle";
    context.direction = "ltr";
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, from, T, T - from, left, top, side, bottom - top);
    if (what.colours === DIFFERENCES) { // where nothing differs nothing is drawn: the edge says where the map is
      context.strokeStyle = host.colours.line;
      context.beginPath();
      context.moveTo(left, top);
      for (let i = from; i < T; i++) { context.lineTo(left + (i + 1) * cell, down(i)); context.lineTo(left + (i + 1) * cell, down(i + 1)); }
      context.lineTo(left, bottom);
      context.closePath();
      context.stroke();
    } else if (cell >= 8) { // hairlines between cells
      context.fillStyle = host.colours.back;
      for (let i = 1; i < T; i++) {
        context.fillRect(left, top + i * cell - 0.5, i * cell + cell, 1);
        context.fillRect(left + i * cell - 0.5, top + (i - 1) * cell, 1, (T - i + 1) * cell);
      }
    }
    const at = here();
    const write = (i, isRow, strong) => {
      context.fillStyle = strong ? host.colours.text : host.colours.muted;
      context.save();
      if (isRow) context.translate(left - 6, down(i) + high / 2);
      else context.translate(left + (i + 0.5) * cell, top - 6);
      context.textAlign = isRow ? "right" : upright ? "left" : "center";
      if (!isRow && upright) context.rotate(-Math.PI / 2);
      if (!isRow && !upright) context.translate(0, -6);
      if (strong) context.font = `bold ${context.font}`;
      context.fillText(labels[i], 0, 0);
      context.restore();
    };
    const hidden = (i, chosen, size) => at && Math.abs(i - chosen) * size < 13; // under the label of the chosen one, or too close to it
    for (let i = from; i < T; i += steps) if (!hidden(i, at?.q, high)) write(i, true, false);
    for (let i = 0; i < T; i += every) if (!hidden(i, at?.k, cell)) write(i, false, false);
    if (kind === "first") {
      for (const [, start, end, first, to] of host.marks()) {
        const begin = Math.max(0, start - 1);
        for (const [colour, width] of [[host.colours.back, 4], [host.colours.mark, 2]]) {
          frameOf(context, left + first * cell, down(begin), (to - first) * cell, (end - begin) * cell, colour, width);
        }
      }
      if (host.kept && host.kept.rows > 0 && host.kept.rows < T) {
        context.fillStyle = host.colours.text;
        for (let x = left; x < left + (host.kept.rows + 1) * cell; x += 8) context.fillRect(x, top + host.kept.rows * cell - 1, 5, 2);
      }
    }
    if (!at) return;
    const { q, k } = at;
    write(q, true, true);
    write(k, false, true);
    frameOf(context, left, down(q), (q + 1) * cell, high, host.colours.muted, 1);
    frameOf(context, left + k * cell, down(Math.max(k, from)), cell, bottom - down(Math.max(k, from)), host.colours.muted, 1);
    frameOf(context, left + k * cell, down(q), cell, high, host.colours.back, 4);
    frameOf(context, left + k * cell, down(q), cell, high, host.colours.text, 2);
  }

  // Tokens one under the other; an arc from each query up to each key it looks at.
  function drawArcs() {
    const { T } = what;
    const probe = canvas.getContext("2d");
    probe.font = getComputedStyle(canvas).font;
    const { labels, longest } = labelsOf(probe, 14);
    const width = Math.min(scroller.clientWidth, 640);
    const bow = Math.max(60, Math.min(260, width - longest - 74));
    geometry = { arcs: true };
    const height = T * ARC_ROW + 4;
    const y = (i) => 2 + (i + 0.5) * ARC_ROW;
    const context = surface(canvas, Math.min(width, bow + longest + 74), height);
    const arc = (target, q, k, weight, faint) => {
      const size = Math.sqrt(Math.min(1, Math.abs(weight)));
      target.globalAlpha = faint ? 0.3 * size : Math.max(0.15, size);
      target.strokeStyle = what.colours === DIFFERENCES ? `rgb(${weight < 0 ? LESS : MORE})` : faint ? host.colours.muted : host.colours.accent;
      target.lineWidth = faint ? 1 : 0.5 + 3.5 * size;
      const reach = bow * Math.pow((q - k) / Math.max(1, T - 1), 0.6);
      target.beginPath();
      if (q === k) target.arc(bow - 3, y(q), faint ? 1.5 : 1 + 3 * size, 0, 2 * Math.PI);
      else { target.moveTo(bow, y(q)); target.bezierCurveTo(bow - 1.3 * reach, y(q), bow - 1.3 * reach, y(k), bow, y(k)); }
      target.stroke();
    };
    const wanted = `${bow} ${height} ${host.colours.muted} ${host.colours.back} ${window.devicePixelRatio}`;
    if (stale !== wanted) {
      const all = surface(behind, bow + 4, height);
      for (let q = 0; q < T; q++) {
        for (let k = 0; k <= q; k++) { const w = what.at(q, k); if (Math.abs(w) >= FAINT) arc(all, q, k, w, true); }
      }
      stale = wanted;
    }
    context.drawImage(behind, 0, 0, bow + 4, height);
    context.font = probe.font = getComputedStyle(canvas).font;
    context.textBaseline = "middle";
    context.direction = "ltr";
    const at = here();
    const row = host.direction === "row";
    const chosen = at ? (row ? at.q : at.k) : -1;
    const weight = (i) => (row ? what.at(chosen, i) : what.at(i, chosen));
    for (let i = 0; i < T; i++) {
      const partner = chosen >= 0 && (row ? i <= chosen : i >= chosen);
      const w = partner ? weight(i) : 0;
      if (partner && Math.abs(w) >= 1e-3) arc(context, row ? chosen : i, row ? i : chosen, w, false);
      context.globalAlpha = 1;
      context.fillStyle = i === chosen || partner ? host.colours.text : host.colours.muted;
      if (i === chosen) context.font = `bold ${context.font}`;
      context.fillText(labels[i], bow + 8, y(i));
      if (partner && Math.abs(w) >= 0.005) context.fillText(what.colours === DIFFERENCES ? signed(w).slice(0, 5) : w.toFixed(2), bow + longest + 18, y(i));
      if (i === chosen) {
        context.font = getComputedStyle(canvas).font;
        frameOf(context, bow + 4, 2 + i * ARC_ROW, longest + 8, ARC_ROW, host.colours.text, 1.5);
      }
    }
    if (at && at.q !== at.k) { // the partner that the readout names
      frameOf(context, bow + 4, 2 + (row ? at.k : at.q) * ARC_ROW, longest + 8, ARC_ROW, host.colours.muted, 1);
    }
    if (kind === "first") {
      for (const [, start, end, from, to] of host.marks()) {
        context.fillStyle = context.strokeStyle = host.colours.mark;
        context.fillRect(bow - 2, 2 + start * ARC_ROW + 1, 3, (end - start) * ARC_ROW - 2);
        context.fillRect(bow - 2, 2 + from * ARC_ROW + 1, 3, (to - from) * ARC_ROW - 2);
        const [a, b] = [(y(start) + y(end - 1)) / 2, (y(from) + y(to - 1)) / 2];
        const reach = bow * Math.pow(Math.max(1, start - from) / Math.max(1, T - 1), 0.6);
        context.lineWidth = 1.5;
        context.setLineDash([4, 3]);
        context.beginPath();
        context.moveTo(bow - 2, a);
        context.bezierCurveTo(bow - 1.3 * reach, a, bow - 1.3 * reach, b, bow - 2, b);
        context.stroke();
        context.setLineDash([]);
      }
    }
    if (at && host.pinned) { // the cursor stays in sight while keys move it
      const end = y(chosen) + ARC_ROW;
      if (end > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = end - scroller.clientHeight;
      if (y(chosen) - ARC_ROW < scroller.scrollTop) scroller.scrollTop = y(chosen) - ARC_ROW;
    }
  }

  function cellAt(event) {
    if (!geometry) return null;
    const bounds = canvas.getBoundingClientRect();
    if (geometry.arcs) {
      const i = Math.floor((event.clientY - bounds.top - 2) / ARC_ROW);
      return i < 0 || i >= what.T || i >= host.T ? null : host.follow(i);
    }
    const from = what.from ?? 0;
    const q = from + Math.floor((event.clientY - bounds.top - geometry.top) / geometry.high);
    const k = Math.floor((event.clientX - bounds.left - geometry.left) / geometry.cell);
    const T = Math.min(what.T, host.T);
    return q < from || k < 0 || q >= T || k >= T ? null : { q, k };
  }

  return { box, renew, render };
}
