// Attention for one row of one head, step by step: q·k, ÷ √D, + mask, softmax, · v; any step can be switched off.
import {
  PIXELS, adapter, clipped, field, floats, frame, make, once, quoted, requests, roving, shown, slider, surface, theme, watch,
} from "./base.js";
import { foot } from "./exporting.js";

/** The steps in their order: what each is called, what it adds, and its key. */
export const STEPS = [
  ["products", "q·k", "how well the query fits each key"],
  ["scale", "÷ √D", "keeps scores small whatever the width"],
  ["mask", "+ mask", "forbids what comes later"],
  ["softmax", "softmax", "turns scores into weights that sum to 1"],
  ["values", "· v", "takes along what was found"],
];
const WHOLE = Object.fromEntries(STEPS.map(([name]) => [name, true]));

/**
 * All rows of attention, with the steps that are `on`; one that is off hands on what it got (without q·k all scores are 0).
 *
 * `q` (T, D), `k` (S, D), `v` (S, E), `mask` (T, S), row after row. Returns products, scaled, masked, weights (each T × S) and
 * output (T × E; without `values` the weights themselves, T × S).
 */
export function attend({ q, k, v, mask, T, S, D, E }, on = WHOLE) {
  const [products, scaled, masked, weights] = [0, 1, 2, 3].map(() => new Float64Array(T * S));
  const output = on.values ? new Float64Array(T * E) : weights;
  const root = on.scale ? Math.sqrt(D) : 1;
  for (let i = 0; i < T; i++) {
    let largest = -Infinity;
    for (let j = 0; j < S; j++) {
      const at = i * S + j;
      for (let d = 0; on.products && d < D; d++) products[at] += q[i * D + d] * k[j * D + d];
      scaled[at] = products[at] / root;
      masked[at] = scaled[at] + (on.mask ? mask[at] : 0);
      largest = Math.max(largest, masked[at]);
    }
    let sum = 0;
    for (let j = 0; j < S; j++) {
      const at = i * S + j;
      weights[at] = on.softmax ? Math.exp(masked[at] - largest) : masked[at];
      sum += weights[at];
    }
    for (let j = 0; on.softmax && j < S; j++) weights[i * S + j] /= sum;
    for (let j = 0; on.values && j < S; j++) {
      for (let e = 0; e < E; e++) output[i * E + e] += weights[i * S + j] * v[j * E + e];
    }
  }
  return { products, scaled, masked, weights, output };
}

/**
 * What one row of weights is: its sum, its largest weight, the weight on keys that the mask forbids, its entropy in nats, and
 * how much of a gradient the softmax passes on (1 - Σw², which is 0 for a row that is all on one key).
 */
export function measure(weights, forbidden) {
  let [sum, largest, later, entropy, squares] = [0, -Infinity, 0, 0, 0];
  weights.forEach((w, j) => {
    sum += w;
    largest = Math.max(largest, w);
    if (forbidden[j]) later += w;
    if (w > 0) entropy -= w * Math.log(w);
    squares += w * w;
  });
  return { sum, largest, later, entropy, passed: 1 - squares };
}

/** What the switched-off steps break in row `i`: a sentence for each. `now` and `whole` are what `attend` gave. */
export function breaks(data, now, whole, on, i) {
  const { S, E, mask } = data;
  const row = (values, n) => values.subarray(i * n, (i + 1) * n);
  const forbidden = Array.from(row(mask, S), (value) => value === -Infinity);
  const [is, was] = [measure(row(now.weights, S), forbidden), measure(row(whole.weights, S), forbidden)];
  const said = [];
  const per = (share) => `${(100 * share).toFixed(share < 0.1 && share > 0 ? 1 : 0)} %`;
  const seen = S - forbidden.filter((value) => on.mask && value).length;
  if (!on.products) said.push(`Without q·k all scores are equal: each of the ${seen} tokens weighs the same, whatever it says.`);
  if (on.products && !on.scale && on.softmax) {
    said.push(is.largest > 0.9 && is.largest > was.largest + 0.02
      ? `Without ÷ √D the softmax saturates: the largest weight is ${is.largest.toFixed(3)} in place of ${was.largest.toFixed(3)}, and ${is.passed < 0.9 * was.passed ? `${(was.passed / is.passed).toFixed(is.passed > 0.1 * was.passed ? 1 : 0)} times less gradient passes` : "less gradient passes"}.`
      : `Without ÷ √D the largest weight goes from ${was.largest.toFixed(3)} to ${is.largest.toFixed(3)}; the wider the head, the larger the step.`);
  }
  if (!on.mask) {
    if (!forbidden.includes(true)) said.push("Without the mask nothing changes in this row: no token comes after it.");
    else if (on.softmax) said.push(`Without the mask ${per(is.later)} of the weight lies on what comes later: in training that is the answer.`);
    else said.push("Without the mask scores of what comes later enter the sum: in training that is the answer.");
  }
  if (!on.softmax) {
    const negative = row(now.weights, S).filter((w) => w < 0).length;
    said.push(on.mask && forbidden.includes(true)
      ? "Without softmax −∞ stays in the row: its sum is −∞, and times a value it is no number."
      : `Without softmax the row sums to ${is.sum.toFixed(2)} and not to 1${negative ? `, and ${negative} of ${S} weights are negative` : ""}: no average any more.`);
  }
  if (!on.values) said.push(`Without · v the output is ${S} weights: who was looked at, nothing of what they hold, and not the ${E} numbers that the next layer takes.`);
  return said;
}

const digits = (x, n) => (Math.abs(x) < 0.5 * 10 ** -n ? 0 : x).toFixed(n).replace("-", "−");
const numeral = (x, n = 2) => (x === -Infinity ? "−∞" : x === Infinity ? "∞" : Number.isNaN(x) ? "no number" : digits(x, n));
const weightOf = (x) => numeral(x, 3);
// Vermilion for positive numbers, blue for negative ones (Okabe-Ito), in ten steps; light enough to read text on.
const tint = (x, most) => (Number.isFinite(x) && most ? `color-mix(in srgb, var(--gl-${x > 0 ? "warm" : "fill"}) ${5 * Math.round(9 * Math.min(1, Math.abs(x) / most))}%, var(--gl-back))` : "");

// A cell of a table; `write(words, background)` touches only what changed, because each cell that is touched costs the frame.
function numbered() {
  const number = document.createTextNode("");
  const cell = make("td", {}, number);
  let [words, background] = ["", ""];
  const write = (nextWords, nextBackground) => {
    if (words !== nextWords) number.data = words = nextWords;
    if (background !== nextBackground) cell.style.background = background = nextBackground;
  };
  return { cell, write };
}

/**
 * Does first what is in sight: `run(tasks)`, one task for each row (or each column, `across`) of what `scroller` scrolls, does
 * those that show now, and the others when nothing came after them for a moment, or as soon as they are scrolled to. `look()`
 * measures anew what shows. A table may have several times as many cells as the page shows, and each costs the frame.
 */
function inSight(scroller, across = false) {
  const [at, size, whole] = across ? ["scrollLeft", "clientWidth", "scrollWidth"] : ["scrollTop", "clientHeight", "scrollHeight"];
  let [from, to] = [0, 1]; // the part that shows, as shares of the whole
  let rest = [];
  let timer = 0;
  const finish = () => { clearTimeout(timer); for (const task of rest.splice(0)) task(); };
  const look = () => { [from, to] = scroller[size] ? [scroller[at] / scroller[whole], (scroller[at] + scroller[size]) / scroller[whole]] : [0, 1]; };
  scroller.addEventListener("scroll", () => { look(); finish(); }, { passive: true });
  return {
    look,
    run(tasks) {
      clearTimeout(timer);
      rest = [];
      tasks.forEach((task, i) => { if (i >= from * tasks.length - 3 && i <= to * tasks.length + 3) task(); else rest.push(task); });
      timer = setTimeout(finish, 80);
    },
    stop() { clearTimeout(timer); },
  };
}

/**
 * Show the steps in `element`.
 *
 * `state`: tokens (S strings; the queries are the last T), T, width (D), out (E), q, k, v, mask (bytes, float32), place ({ layer,
 * head, layers, heads, text } of a model, or {}), problem; with `send` and a place, `send({ layer, head, text })` asks for other vectors.
 * Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  let data, on = { ...WHOLE }, now, whole;
  let query = 0, key = 0;
  let rows = [];
  let spelled = []; // rows of the vectors' table
  let told = "";
  let colours = null;
  let width = 0; // of the map's place

  const { root, say } = frame(element, "Attention step by step", "steps");
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const ask = requests((request) => state.send(request), (sentence) => { problem.textContent = sentence; });
  const asked = (change) => ask.ask({ layer: Number(layer.value), head: Number(head.value), text: editor.value, ...change });
  const editor = make("textarea", { rows: 2, spellcheck: "false", oninput: () => asked() });
  const layer = make("select", { onchange: () => asked() });
  const head = make("select", { onchange: () => asked() });

  const switches = STEPS.map(([name, words, why], i) => {
    const box = make("input", { type: "checkbox", checked: true, onchange: () => { on = { ...on, [name]: box.checked }; compute(); tell(); } });
    return { box, item: make("label", { class: "gl-step", title: `${why} (key ${i + 1})` }, box, make("span", {}, `${i + 1}  ${words}`)) };
  });
  const all = make("button", { type: "button", class: "gl-actions", onclick: () => {
    switches.forEach(({ box }) => { box.checked = true; });
    on = { ...WHOLE };
    compute();
    tell();
  } }, "All steps on");
  const said = make("ul", { class: "gl-said" });
  const rowSlider = slider("query", [0], 0, (i) => (data ? `${quoted(name(i))} at ${place(i)}` : ""), () => { query = rowSlider.value; drawnSoon(); tell(); });

  const body = make("tbody", {});
  const heads = STEPS.slice(0, 4).map(([, words]) => make("th", { scope: "col" }, words));
  const keys = make("table", { class: "gl-keys" }, make("caption", {}, ""), make("thead", {}, make("tr", {}, make("th", { scope: "col", class: "gl-word" }, "key"), ...heads)), body);
  const focusKey = roving(body, () => rows.map((row) => row.button), () => 1, (j) => { key = j; drawnSoon(); });
  const facts = make("dl", { class: "gl-facts" });
  const cells = { canvas: document.createElement("canvas") };
  const map = make("canvas", { class: "gl-weights", role: "img", onpointerdown: (event) => point(event) });
  const vectors = make("table", { class: "gl-vectors" });
  const keyRegion = make("div", { class: "gl-scroll", role: "region", tabindex: "0", "aria-label": "Scores and weights of this query" }, keys);
  const vectorRegion = make("div", { class: "gl-scroll", role: "region", tabindex: "0", "aria-label": "The vectors of this query and this key" }, vectors);
  root.append(
    ...(state.send && state.place.text !== undefined
      ? [make("label", { class: "gl-actions" }, make("span", { class: "gl-muted" }, "Text"), editor),
        make("div", { class: "gl-bar" }, field("layer", layer), field("head", head))] : []), problem,
    make("div", { class: "gl-bar" }, make("span", { class: "gl-bar", role: "group", "aria-label": "Steps; keys 1 to 5 switch them" }, ...switches.map(({ item }) => item)), all),
    rowSlider.row, said,
    make("div", { class: "gl-stepped" }, keyRegion,
      make("div", { class: "gl-overview" }, map, facts)),
    vectorRegion,
  );
  const [keysInSight, numbersInSight] = [inSight(keyRegion), inSight(vectorRegion, true)];
  const tabulate = foot(root, { name: "attention-steps", say, table: () => table() });
  root.addEventListener("keydown", (event) => {
    const chosen = switches[Number(event.key) - 1];
    if (!chosen || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea")) return;
    event.preventDefault();
    chosen.box.click();
  });
  const drawnSoon = once(() => draw());

  const place = (i) => data.S - data.T + i;
  const name = (i) => state.tokens[place(i)];
  const part = (values, i, n) => values.subarray(i * n, (i + 1) * n);

  function read() {
    const [T, S] = [state.T, state.tokens.length];
    data = { T, S, D: state.width, E: state.out, q: floats(state.q), k: floats(state.k), v: floats(state.v), mask: floats(state.mask) };
    whole = attend(data);
    query = Math.min(query || T - 1, T - 1);
    rowSlider.restop(Array.from({ length: T }, (_, i) => i));
    rowSlider.value = query;
    const row = part(whole.weights, query, S);
    key = row.indexOf(Math.max(...row));
    rows = state.tokens.map((token, j) => {
      const button = make("button", { type: "button", tabindex: "-1", class: "gl-key-name", onclick: () => { key = j; drawnSoon(); } }, make("bdi", {}, clipped(shown(token), 14)));
      const cells = STEPS.slice(0, 4).map(numbered);
      return { button, cells, item: make("tr", {}, make("th", { scope: "row", class: "gl-word" }, button), ...cells.map(({ cell }) => cell)) };
    });
    body.replaceChildren(...rows.map((row) => row.item));
    focusKey(key, false);
    if (state.place.text !== undefined) {
      const { layers, heads: H } = state.place;
      for (const [picker, n, value] of [[layer, layers, state.place.layer], [head, H, state.place.head]]) {
        if (picker.options.length !== n) picker.replaceChildren(...Array.from({ length: n }, (_, i) => make("option", { value: i }, String(i))));
        picker.value = value;
      }
      if (document.activeElement !== editor) editor.value = state.place.text;
    }
    compute();
  }

  function compute() {
    now = attend(data, on);
    heads.forEach((cell, i) => { cell.className = on[STEPS[i][0]] ? "" : "gl-off"; });
    all.disabled = Object.values(on).every(Boolean);
    drawnSoon();
  }

  function tell() {
    const sentences = breaks(data, now, whole, on, query);
    say(sentences.length ? sentences.join(" ") : "All steps on");
  }

  function draw() {
    const { T, S, D, E } = data;
    keys.caption.textContent = `What ${quoted(name(query))} at ${place(query)} makes of each key`;
    const stages = [now.products, now.scaled, now.masked, now.weights].map((values) => part(values, query, S));
    const most = stages.map((values) => Math.max(...values.map((x) => (Number.isFinite(x) ? Math.abs(x) : 0))));
    keysInSight.run(rows.map(({ button, cells, item }, j) => () => {
      item.classList.toggle("gl-chosen-row", j === key);
      button.setAttribute("aria-pressed", String(j === key));
      cells.forEach(({ cell, write }, s) => {
        const x = stages[s][j];
        const works = on[STEPS[s][0]];
        write(s === 3 && on.softmax ? weightOf(x) : numeral(x), works ? tint(x, s === 3 ? 1 : most[s]) : "");
        cell.classList.toggle("gl-off", !works);
      });
    }));
    const sentences = breaks(data, now, whole, on, query);
    if (sentences.join() !== told) said.replaceChildren(...sentences.map((sentence) => make("li", {}, sentence)));
    told = sentences.join();
    describe();
    spell(D, E);
    paint(T, S);
    tabulate();
  }

  function describe() {
    const { S, E } = data;
    const forbidden = Array.from(part(data.mask, query, S), (value) => value === -Infinity);
    const [is, was] = [now, whole].map((result) => measure(part(result.weights, query, S), forbidden));
    const far = () => {
      const [a, b] = [part(now.output, query, E), part(whole.output, query, E)];
      const norm = (values) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
      return norm(a.map((x, e) => x - b[e])) / norm(b);
    };
    const off = on.values ? far() : NaN;
    const list = [
      ["Sum of the row", weightOf(is.sum), weightOf(was.sum)],
      ["Largest weight", weightOf(is.largest), weightOf(was.largest)],
      ["On what comes later", weightOf(is.later), weightOf(was.later)],
      ["Gradient passed, 1 − Σw²", on.softmax ? weightOf(is.passed) : "no softmax", weightOf(was.passed)],
      ["Output differs by", Number.isFinite(off) ? `${(100 * off).toFixed(1)} %` : on.values ? "no number" : "another shape", "0.0 %"],
    ];
    if (!facts.childElementCount) {
      facts.append(...list.map(([term]) => make("div", {}, make("dt", {}, term), make("dd", {}, make("span"), make("small", { class: "gl-muted" })))));
    }
    list.forEach(([, value, right], i) => {
      const [is, was] = facts.children[i].lastChild.children;
      const words = value === right ? "" : `  all on: ${right}`;
      if (is.textContent !== value) is.textContent = value;
      if (was.textContent !== words) was.textContent = words;
    });
  }

  // The numbers behind one cell: q, k and their products; v, and what the output takes of it.
  function spell(D, E) {
    const { q, k, v, S } = data;
    const [a, b, c] = [part(q, query, D), part(k, key, D), part(v, key, E)];
    const w = now.weights[query * S + key];
    const who = clipped(shown(name(query)), 10), whom = clipped(shown(state.tokens[key]), 10);
    const lines = [
      [`q of ${who}`, a], [`k of ${whom}`, b], ["q × k, sum", a.map((x, d) => x * b[d]), numeral(now.products[query * S + key])], [`v of ${whom}`, c],
      ...(on.values ? [["weight × v", Float64Array.from(c, (x) => w * x), weightOf(w)], ["output", part(now.output, query, E)]] : [["output", part(now.output, query, S)]]),
    ];
    const shape = lines.map(([, values]) => values.length).join();
    if (vectors.dataset.shape !== shape) { // else the cells stay, and only their numbers change
      vectors.dataset.shape = shape;
      spelled = lines.map(([, values]) => {
        const numbers = Array.from(values, numbered);
        const [title, total] = [make("th", { scope: "row", class: "gl-word" }), make("td", { class: "gl-total" })];
        return { title, total, numbers, item: make("tr", {}, title, total, ...numbers.map(({ cell }) => cell)) };
      });
      const items = spelled.map(({ item }) => item);
      vectors.replaceChildren(make("tbody", {}, ...items.slice(0, 3)), make("tbody", {}, ...items.slice(3)));
    }
    lines.forEach(([words, , sum = ""], r) => {
      const { title, total } = spelled[r];
      if (title.textContent !== words) title.textContent = words;
      if (total.textContent !== sum) total.textContent = sum;
    });
    const most = lines.map(([, values]) => Math.max(...Array.from(values, (x) => (Number.isFinite(x) ? Math.abs(x) : 0))));
    const columns = Math.max(...lines.map(([, values]) => values.length));
    numbersInSight.run(Array.from({ length: columns }, (_, i) => () => lines.forEach(([, values], r) => {
      if (i < values.length) spelled[r].numbers[i].write(numeral(values[i]), tint(values[i], most[r]));
    })));
  }

  function paint(T, S) {
    colours ??= theme(root);
    width ||= map.parentElement.clientWidth;
    if (!colours || !width) return;
    const side = Math.max(3, Math.min(28, Math.floor(Math.min(width, 330) / S)));
    const context = surface(map, S * side + 4, T * side + 4);
    if (cells.weights !== now.weights || cells.side !== side || cells.colour !== colours.muted) cellsOf(T, S, side, colours);
    context.drawImage(cells.canvas, 0, 0, S * side + 4, T * side + 4);

    for (const [strokeStyle, lineWidth] of [[colours.back, 4], [colours.text, 2]]) {
      Object.assign(context, { strokeStyle, lineWidth });
      context.strokeRect(2, 2 + query * side, S * side - 1, side - 1);
    }
    map.setAttribute("aria-label", `Map of the weights, ${T} queries by ${S} keys; the row of ${quoted(name(query))} is framed`);
    map.dataset.side = side;
  }

  // All cells, painted anew when a weight changed; moving the frame only copies them.
  function cellsOf(T, S, side, colours) {
    Object.assign(cells, { weights: now.weights, side, colour: colours.muted });
    const context = surface(cells.canvas, S * side + 4, T * side + 4);
    for (let i = 0; i < T; i++) {
      for (let j = 0; j < S; j++) {
        const w = now.weights[i * S + j];
        if (!(w > 0) && data.mask[i * S + j] === -Infinity) continue; // forbidden, and nothing there
        const pixel = PIXELS[Math.round(1023 * Math.sqrt(Math.max(0, Math.min(1, w || 0))))];
        context.fillStyle = Number.isFinite(w) ? `rgb(${pixel & 255}, ${(pixel >> 8) & 255}, ${(pixel >> 16) & 255})` : colours.muted;
        context.fillRect(2 + j * side, 2 + i * side, side - 1, side - 1);
      }
    }
  }

  function point(event) {
    const box = map.getBoundingClientRect();
    const side = Number(map.dataset.side);
    query = Math.max(0, Math.min(data.T - 1, Math.floor((event.clientY - box.top - 2) / side)));
    key = Math.max(0, Math.min(data.S - 1, Math.floor((event.clientX - box.left - 2) / side)));
    rowSlider.value = query;
    focusKey(key, false);
    drawnSoon();
    tell();
  }

  function table() {
    const { S } = data;
    return {
      caption: `Query ${quoted(name(query))} at ${place(query)}${Object.values(on).every(Boolean) ? "" : `; off: ${STEPS.filter(([step]) => !on[step]).map(([, words]) => words).join(", ")}`}`,
      columns: ["key", "position", "q·k", "÷ √D", "mask added", "weight"],
      rows: state.tokens.map((token, j) => [token, j, ...[now.products, now.scaled, now.masked, now.weights].map((values) => values[query * S + j])]),
    };
  }

  read();
  const measured = () => { // here and not in each draw, which would make the browser lay out the page twice
    colours = theme(root);
    width = map.parentElement.clientWidth;
    keysInSight.look();
    numbersInSight.look();
  };
  const stop = watch(root, () => { measured(); draw(); });
  return {
    update(next) {
      const length = state.tokens.length;
      state = { ...state, ...next };
      if (state.tokens.length !== length) query = state.T - 1;
      problem.textContent = state.problem;
      read();
      if (state.problem) say(state.problem);
      ask.answered();
    },
    destroy() {
      stop();
      keysInSight.stop();
      numbersInSight.stop();
      drawnSoon.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, ["tokens", "T", "width", "out", "q", "k", "v", "mask", "place", "problem"]);
