// All heads of a model as thumbnails, one opened large: which token looks at which, and how much.
import {
  GRADIENT, PIXELS, adapter, field, floats, frame, gradually, inline, make, once, quoted, requests, roving, shown, surface, theme, watch,
} from "./base.js";
import { foot } from "./exporting.js";
import { DIFFERENCES, Weights, exact, headPicture, onMarks, percent, pooled, sameLayers, signed, unchanged } from "./attention_data.js";
import { attentionPanel } from "./attention_panel.js";

const TICKS = [0, 0.01, 0.1, 0.25, 0.5, 1];
const GAP = 4; // pixels between thumbnails
const TERMS = [
  ["Entropy", "nats"], ["Mean distance", "tokens"], ["On the token before", ""], ["On the first token", ""], ["On itself", ""],
  ["On the same token earlier", ""], ["On what followed it then", ""],
];
const SHORT = { previous: "prev", first: "first", self: "self", duplicate: "same", induction: "induct" };
const NAMES = {
  previous: "previous token", first: "first token (sink)", self: "itself", duplicate: "same token earlier", induction: "induction", mixed: "mixed",
};

/**
 * Show attention in `element`.
 *
 * `state`: text, tokens (strings), ids, layers, heads, weights (bytes of layers × heads × rows of the lower triangle), dtype
 * ("float32" or "float16"), scores (bytes of float32: layers × heads × 7), chance (7), labels (a pair for each head), marks
 * (kind, start, end, and start and end of what it depends on), the same of a second text as other_text, other_tokens,
 * other_ids, other_weights, silenced (pairs), next_tokens, problem; with `send`, texts can be edited and heads silenced, and
 * `send({ text, other, silenced })` asks for new weights. Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  let weights = new Weights(state);
  let other = second(state);
  let tokens = state.tokens;
  let layer = 0, head = 0;
  let cursor = { q: weights.T - 1, k: weights.T - 1 };
  let hover = null;
  let direction = "row"; // "row": where the query looks; "column": who looks at the key
  let form = "map"; // or "arcs"
  let markKind = "none";
  let kept = null; // after an edit: what did not change
  let layersKept = null; // after silencing a head: which layers did not change
  let colours = null;

  const { root, say } = frame(element, "Attention viewer", "attention");
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const ask = requests((request) => state.send(request), (sentence) => { problem.textContent = sentence; });

  // Text ---------------------------------------------------------------------------------------------------------------
  const editor = make("textarea", { rows: 2, spellcheck: "false", oninput: () => request() });
  const otherEditor = make("textarea", { rows: 2, spellcheck: "false", oninput: () => request() });
  const otherField = make("label", {}, make("span", { class: "gl-muted" }, "Second text, for comparison"), otherEditor);
  const twoTexts = () => otherField.parentNode !== null; // it stands in the view only while two texts are compared
  const comparing = make("button", { type: "button", onclick: () => compare(!twoTexts()) });
  const change = make("p", { class: "gl-muted" });
  const strip = make("p", { class: "gl-text", "aria-hidden": "true" }); // the table below says the same to a screen reader
  const words = "Text: edit it, and see which rows change";

  function request(silenced = state.silenced ?? []) {
    ask.ask({ text: editor.value, other: twoTexts() ? otherEditor.value : "", silenced });
  }

  function compare(open) {
    if (open) {
      otherEditor.value = editor.value;
      comparing.before(otherField);
      otherEditor.focus();
    } else otherField.remove();
    named();
    request();
  }

  const named = () => { comparing.textContent = twoTexts() ? "Close the comparison" : "Compare with a second text"; };

  // Heads --------------------------------------------------------------------------------------------------------------
  const layerPicker = make("select", { onchange: () => choose(Number(layerPicker.value), head) });
  const headPicker = make("select", { onchange: () => choose(layer, Number(headPicker.value)) });
  const grid = make("div", { class: "gl-heads", role: "grid", "aria-label": "All heads: one row for each layer" });
  const gridNote = make("p", { class: "gl-muted gl-heads-note" });
  let thumbs = [];
  let stopPictures = () => {};
  const scratch = document.createElement("canvas");
  const focusThumb = roving(grid, () => thumbs, () => weights.heads);

  // Panels -------------------------------------------------------------------------------------------------------------
  const choice = (label, current, ...options) => make("span", { class: "gl-segments", role: "group", "aria-label": label },
    ...options.map(([name, text, act]) => make("button", { type: "button", "data-name": name, "aria-pressed": String(name === current), onclick: act }, text)));
  const segments = choice("What the text shows", direction,
    ["row", "looks at", () => { direction = "row"; refresh(); }], ["column", "is seen by", () => { direction = "column"; refresh(); }]);
  const forms = choice("How attention is drawn", form,
    ["map", "map", () => { form = "map"; explain(); refresh(); }], ["arcs", "arcs", () => { form = "arcs"; explain(); refresh(); }]);
  const markPicker = make("select", { onchange: () => { markKind = markPicker.value; explain(); describe(); refresh(); } });
  const markField = field("marks", markPicker);
  const readout = make("p", { class: "gl-readout" });
  const host = {
    source: (kind) => (kind === "first" || other ? source(kind) : null),
    get name() { return `layer ${layer}, head ${head}`; },
    get form() { return form; },
    get direction() { return direction; },
    get pinned() { return hover === null; },
    get kept() { return kept; },
    get colours() { return colours; },
    get comparing() { return other !== null; },
    get T() { return weights.T; },
    active: () => hover ?? cursor,
    marks: () => marksShown(),
    follow: (i) => follow(i),
    point: (cell) => { if (cell?.q !== hover?.q || cell?.k !== hover?.k) { hover = cell; refresh(); } },
    pin: (cell) => { cursor = cell; hover = null; refresh(); announce(); },
    key: (event) => key(event),
  };
  const panels = ["first", "other", "difference"].map((kind) => attentionPanel(kind, host));
  const stage = make("div", { class: "gl-panels" });

  // Beside -------------------------------------------------------------------------------------------------------------
  const label = make("p", { class: "gl-label" });
  const facts = make("dl", { class: "gl-facts" });
  const silence = make("button", { type: "button", onclick: () => toggle() });
  const restore = make("button", { type: "button", onclick: () => request([]) }, "Restore all");
  const silencedNow = make("p", { class: "gl-muted" });
  const nextTitle = make("p", { class: "gl-next-title" });
  const next = make("ol", { class: "gl-next" });

  const tools = make("div", { class: "gl-bar" }, field("layer", layerPicker), field("head", headPicker), forms,
    make("span", { class: "gl-field" }, make("span", {}, "a token"), segments));
  const main = make("div", { class: "gl-main" },
    tools, strip, readout, stage, change);
  root.append(
    ...(state.send ? [make("label", {}, make("span", { class: "gl-muted" }, words), editor),
      make("div", { class: "gl-second" }, comparing), problem] : []),
    make("div", { class: "gl-columns" },
      make("div", { class: "gl-grid" }, grid, gridNote),
      main,
      make("div", { class: "gl-side" }, legend(), label, facts,
        ...(state.send ? [make("div", { class: "gl-bar gl-actions" }, silence, restore)] : []), silencedNow, nextTitle, next)),
  );

  const redraw = once(() => draw());
  const tabulate = foot(root, { name: "attention", say, table: numbers, picture: () => [main] });
  const silenced = (l = layer, h = head) => (state.silenced ?? []).some(([a, b]) => a === l && b === h);

  function toggle() {
    const others = (state.silenced ?? []).filter(([l, h]) => l !== layer || h !== head);
    request(silenced() ? others : [...others, [layer, head]]);
  }

  // What a panel shows: values of the open head, of the first text, the second, or second minus first.
  function source(kind, l = layer, h = head) {
    if (kind === "first") return { T: weights.T, tokens, colours: PIXELS, at: (q, k) => weights.at(l, h, q, k) };
    if (kind === "other") return { T: other.weights.T, tokens: other.tokens, colours: PIXELS, at: (q, k) => other.weights.at(l, h, q, k) };
    const T = Math.min(weights.T, other.weights.T);
    const both = tokens.slice(0, T).map((token, i) => (token === other.tokens[i] ? token : `${token}|${other.tokens[i]}`));
    const same = both.findIndex((_, i) => tokens[i] !== other.tokens[i]);
    return { T, from: Math.max(0, same), tokens: both, colours: DIFFERENCES, at: (q, k) => other.weights.at(l, h, q, k) - weights.at(l, h, q, k) };
  }

  function second(from) {
    if (!from.other_text) return null;
    return { tokens: from.other_tokens, weights: new Weights({ ...from, weights: from.other_weights, ids: from.other_ids }) };
  }

  const marksShown = () => (markKind === "none" ? [] : (state.marks ?? []).filter(([kind]) => markKind === "all" || kind === markKind));

  function choose(nextLayer, nextHead) {
    layer = Math.max(0, Math.min(weights.layers - 1, nextLayer));
    head = Math.max(0, Math.min(weights.heads - 1, nextHead));
    layerPicker.value = layer;
    headPicker.value = head;
    thumbs.forEach((thumb, i) => thumb.setAttribute("aria-selected", String(i === layer * weights.heads + head)));
    focusThumb(layer * weights.heads + head, false);
    for (const each of panels) each.renew();
    describe();
    refresh();
  }

  function refresh() {
    const { q, k } = host.active();
    const weight = weights.at(layer, head, q, k);
    for (const button of segments.children) button.setAttribute("aria-pressed", String(button.dataset.name === direction));
    for (const button of forms.children) button.setAttribute("aria-pressed", String(button.dataset.name === form));
    readout.replaceChildren(...(k > q
      ? [name(q), " cannot look at ", name(k), ", which comes later"]
      : [name(q), " looks at ", name(k), " with weight ", make("b", {}, exact(weight)), ...compared(q, k, weight)]));
    const marked = new Set(marksShown().flatMap(([, start, end]) => range(start, end)));
    const sources = new Set(marksShown().flatMap(([, , , from, to]) => range(from, to)));
    [...strip.children].forEach((span, i) => {
      const w = direction === "row" ? weights.at(layer, head, q, i) : weights.at(layer, head, i, k);
      span.style.setProperty("--w", Math.sqrt(w).toFixed(3));
      span.classList.toggle("gl-at", i === (direction === "row" ? q : k));
      span.classList.toggle("gl-later", direction === "row" ? i > q : i < k);
      span.classList.toggle("gl-marked", marked.has(i));
      span.classList.toggle("gl-source", sources.has(i));
    });
    tabulate();
    redraw();
  }

  const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

  function compared(q, k, weight) {
    if (!other || q >= other.weights.T) return [];
    const there = other.weights.at(layer, head, q, k);
    return [" and in the second text ", make("b", {}, exact(there)), ` (${signed(there - weight)})`];
  }

  function name(position) { return make("span", {}, make("bdi", {}, quoted(tokens[position])), ` at ${position}`); }

  // Facts: the scores that Python computed for every head, beside even attention -------------------------------------------
  function describe() {
    const index = layer * weights.heads + head;
    const scores = floats(state.scores).subarray(7 * index, 7 * index + 7);
    const [pattern, nearest] = state.labels[index];
    const at = ["previous", "first", "self", "duplicate", "induction"].indexOf(nearest) + 2;
    const score = state.chance[at] === null ? "" : ` ${scores[at].toFixed(2)}`;
    label.replaceChildren(`Layer ${layer}, head ${head}: `, make("b", {}, NAMES[pattern]),
      pattern === "mixed" ? (score ? `, nearest to ${NAMES[nearest]}${score}` : "") : score, silenced() ? " (silenced)" : "");
    const rows = TERMS.map(([term, unit], i) => {
      const even = state.chance[i];
      if (even === null) return [term, i > 4 ? "no token repeats" : "nothing to choose", ""];
      const show = (v) => (unit ? `${v.toFixed(i ? 1 : 2)} ${unit}` : percent(v));
      return [term, show(scores[i]), `even: ${show(even)}`];
    });
    const marks = onMarks(weights, layer, head, marksShown());
    if (marks) rows.push(["From marked words to their source", percent(marks.share), `even: ${percent(marks.even)}`]);
    facts.replaceChildren(...rows.map(([term, value, even]) => make("div", {}, make("dt", {}, term), make("dd", {}, value, make("small", {}, even)))));
    silence.textContent = silenced() ? "Restore this head" : "Silence this head";
    silence.setAttribute("aria-pressed", String(silenced()));
    restore.disabled = !(state.silenced ?? []).length;
  }

  function foretell() {
    const { tokens: names, whole, now, other: there } = state.next_tokens ?? {};
    nextTitle.hidden = !names?.length;
    const without = (state.silenced ?? []).length > 0;
    silencedNow.textContent = without ? `Silenced: ${state.silenced.map(([l, h]) => `layer ${l} head ${h}`).join(", ")}.` : "";
    const columns = ["now", without ? "with all heads" : "", there ? "second text" : ""].filter(Boolean);
    nextTitle.textContent = `Next token${columns.length > 1 ? `: ${columns.join(", ")}` : ""}`;
    next.replaceChildren(...(names ?? []).map((token, i) => {
      const bar = (kind, p) => make("i", { class: kind, style: `transform: scaleX(${p.toFixed(4)})` });
      const figures = [percent(now[i]), without && percent(whole[i]), there && percent(there[i])].filter(Boolean);
      return make("li", {}, make("bdi", { class: "gl-name" }, shown(token)),
        make("span", { class: "gl-track" }, without ? bar("gl-before", whole[i]) : "", bar("gl-after", now[i])),
        make("span", { class: "gl-number" }, ...figures.flatMap((figure) => [make("span", {}, figure), " "])));
    }));
  }

  // The chosen token's weights, strongest first; then all others of the open head.
  function numbers(limit) {
    const { q, k } = host.active();
    const row = direction === "row";
    const pairs = row ? range(0, q + 1).map((i) => [q, i]) : range(k, weights.T).map((i) => [i, k]);
    pairs.sort((a, b) => weights.at(layer, head, ...b) - weights.at(layer, head, ...a));
    for (let i = 0; i < weights.T && pairs.length < limit; i++) {
      for (let j = 0; j <= i; j++) if (row ? i !== q : j !== k) pairs.push([i, j]);
    }
    const there = (i, j) => (i < other.weights.T ? other.weights.at(layer, head, i, j) : "");
    return {
      caption: `Layer ${layer}, head ${head}: ${row ? `${quoted(tokens[q])} at ${q} looks at` : `${quoted(tokens[k])} at ${k} is seen by`}`,
      columns: ["query", "token that looks", "key", "token looked at", "weight", ...(other ? ["in the second text"] : [])],
      rows: pairs.slice(0, limit).map(([i, j]) => [i, tokens[i], j, tokens[j], weights.at(layer, head, i, j), ...(other ? [there(i, j)] : [])]),
      total: (weights.T * (weights.T + 1)) / 2,
    };
  }

  function draw() {
    colours = theme(root);
    if (!colours) return;
    colours.mark = getComputedStyle(root).getPropertyValue("--gl-chosen").trim();
    for (const each of panels) each.render();
  }

  // One canvas for all, over the buttons: each canvas is a layer to the browser, and thirty of them cost every frame more
  // than the map itself.
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
          onclick: () => { choose(l, h); announce(); },
        }));
        thumbs.push(...cells);
        return make("div", { class: "gl-heads-row", role: "row" }, make("span", { role: "rowheader" }, l ? String(l) : "layer 0"),
          make("div", { class: "gl-heads-cells" }, ...cells, l ? "" : make("canvas", {})));
      };
      const names = across.map((h) => make("span", { role: "columnheader" }, h ? String(h) : "head 0"));
      grid.replaceChildren(
        make("div", { class: "gl-heads-row", role: "row" }, make("span", { role: "columnheader" }), ...names), ...down.map(row));
      const options = (numbers) => numbers.map((n) => make("option", { value: n }, String(n)));
      layerPicker.replaceChildren(...options(down));
      headPicker.replaceChildren(...options(across));
    }
    thumbs.forEach((thumb, i) => {
      const off = silenced(Math.floor(i / weights.heads), i % weights.heads);
      thumb.title = `${thumb.getAttribute("aria-label")}: ${NAMES[state.labels[i][0]]}${off ? ", silenced" : ""}`;
      thumb.setAttribute("aria-description", `${NAMES[state.labels[i][0]]}${off ? ", silenced" : ""}`);
      thumb.classList.toggle("gl-off", off);
    });
    gridNote.textContent = other ? "Second text minus first, from the first token that differs on: vermilion is more, blue is less." : "";
    const kind = other ? "difference" : "first";
    const canvas = grid.querySelector("canvas");
    const [wide, high] = [weights.heads * (size + GAP) - GAP, weights.layers * (size + GAP) - GAP];
    const fits = canvas.style.width === `${wide}px` && canvas.width === Math.round(wide * devicePixelRatio) && canvas.style.height === `${high}px`;
    const context = fits ? canvas.getContext("2d") : surface(canvas, wide, high); // what stands there stays until it is drawn anew
    const paint = (l, h) => {
      const what = pooled(source(kind, l, h), size * Math.max(1, Math.floor(devicePixelRatio)));
      const [x, y] = [h * (size + GAP), l * (size + GAP)];
      context.clearRect(x, y, size, size);
      context.imageSmoothingEnabled = false;
      context.drawImage(headPicture(what.T, what.at, what.colours, scratch), 0, what.from, what.T, what.T - what.from, x, y, size, size);
      const pattern = state.labels[l * weights.heads + h][0];
      if (size < 30 || pattern === "mixed") return;
      context.font = `${size < 44 ? 9 : 11}px system-ui, sans-serif`;
      context.fillStyle = getComputedStyle(grid).color;
      context.textAlign = "right";
      context.textBaseline = "top";
      context.fillText(SHORT[pattern], x + size - 2, y + 2);
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
    if (document.activeElement !== otherEditor && state.other_text) otherEditor.value = state.other_text;
    if (state.other_text && state.send && !twoTexts()) comparing.before(otherField);
    named();
  }

  // The cell that stands for token i: its own strongest partner in the direction that is shown.
  function follow(i) {
    let best = i;
    for (let j = 0; j < weights.T; j++) {
      const weight = (partner) => (direction === "row" ? weights.at(layer, head, i, partner) : weights.at(layer, head, partner, i));
      if (weight(j) > weight(best)) best = j;
    }
    return direction === "row" ? { q: i, k: best } : { q: best, k: i };
  }

  function announce() {
    say(`layer ${layer}, head ${head}: ${readout.textContent}`);
  }

  function key(event) {
    const { q, k } = cursor;
    const last = weights.T - 1;
    const moves = {
      ArrowUp: { q: q - 1, k: Math.min(k, q - 1) }, ArrowDown: { q: q + 1, k }, ArrowLeft: { q, k: k - 1 }, ArrowRight: { q, k: k + 1 },
      Home: { q, k: 0 }, End: { q, k: q },
    };
    if (form === "arcs") { // tokens stand one under the other: up and down choose one, left and right its partner
      const row = direction === "row";
      const step = (by) => { const i = (row ? q : k) + by; return i < 0 || i > last ? cursor : follow(i); };
      const partner = (by) => (row ? { q, k: k + by } : { q: q + by, k });
      Object.assign(moves, { ArrowUp: step(-1), ArrowDown: step(1), ArrowLeft: partner(-1), ArrowRight: partner(1) });
    }
    const turn = { PageUp: -1, PageDown: 1 }[event.key];
    if (turn) {
      const at = layer * weights.heads + head + turn;
      if (at >= 0 && at < thumbs.length) choose(Math.floor(at / weights.heads), at % weights.heads);
    } else if (event.key in moves) {
      const to = moves[event.key];
      if (to.q >= 0 && to.q <= last && to.k >= 0 && to.k <= to.q) cursor = to; // only what exists: no key is later than its query
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
    const kinds = [...new Set((state.marks ?? []).map(([kind]) => kind))].sort();
    if (kinds.length) tools.append(markField);
    else markField.remove();
    if (stage.childElementCount !== (other ? 3 : 1)) stage.replaceChildren(...panels.slice(0, other ? 3 : 1).map((each) => each.box));
    if (!["none", "all", ...kinds].includes(markKind)) markKind = "none";
    markPicker.replaceChildren(...["none", "all", ...kinds].map((kind) => make("option", { value: kind }, kind)));
    markPicker.value = markKind;
    cursor = { q: Math.min(cursor.q, weights.T - 1), k: Math.min(cursor.k, Math.min(cursor.q, weights.T - 1)) };
    stage.classList.toggle("gl-several", Boolean(other));
    explain();
    problem.textContent = state.problem ?? "";
    foretell();
    choose(layer, head);
  }

  function explain() {
    change.textContent = kept ? sentence(kept) : layersKept ? changedLayers(layersKept)
      : form === "map" ? "Rows are queries, the tokens that look; columns are keys, the tokens looked at."
        : "Arcs lead from the tokens that look up to the tokens looked at; faint ones are those of other tokens.";
    if (markKind !== "none") {
      change.textContent += form === "arcs" ? " Dashed: from marked words to what they depend on."
        : " Outlined: where marked words, and the token before them that has to predict them, can look at what they depend on.";
      change.textContent += " In the text marked words are underlined, and what they depend on is dotted.";
    }
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

  function changedLayers({ layers, difference }) {
    if (layers === weights.layers) return "No map changed: nothing that looks comes after the silenced heads.";
    const same = layers === 0 ? "Maps of every layer changed" : `Maps of layer${layers === 1 ? " 0" : `s 0 to ${layers - 1}`} did not change in any weight; later ones did,`;
    return `${same} by up to ${exact(difference)}: what a head writes is read by the layers after it.`;
  }

  load();
  cursor = follow(cursor.q);
  refresh();
  const stop = watch(root, () => { for (const each of panels) each.renew(); redraw(); });
  return {
    update(changed) {
      const before = { weights, silenced: JSON.stringify(state.silenced ?? []), other: state.other_text ?? "" };
      state = { ...state, ...changed };
      if (!state.problem) {
        const moved = cursor.q === before.weights.T - 1;
        weights = new Weights(state);
        other = second(state);
        tokens = state.tokens;
        hover = null;
        const shape = before.weights.layers === weights.layers && before.weights.heads === weights.heads;
        const sameHeads = before.silenced === JSON.stringify(state.silenced ?? []);
        const sameText = before.weights.ids.join() === weights.ids.join();
        kept = shape && sameHeads && before.other === (state.other_text ?? "") ? unchanged(before.weights, weights) : null;
        layersKept = shape && !sameHeads && sameText ? sameLayers(before.weights, weights) : null;
        if (moved) cursor = follow(weights.T - 1);
        load();
        if (kept || layersKept) say(change.textContent);
      }
      problem.textContent = state.problem ?? "";
      ask.answered();
    },
    destroy() {
      stop();
      stopPictures();
      redraw.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, [
  "text", "tokens", "ids", "layers", "heads", "weights", "dtype", "scores", "chance", "labels", "marks", "other_text", "other_tokens",
  "other_ids", "other_weights", "silenced", "next_tokens", "problem",
]);
