// How positions are told apart: sinusoids, rotations, penalties on distance, and what happens beyond the trained length.
import { adapter, drawn, field, frame, make, once, roving, slider, surface, theme, watch, PIXELS } from "./base.js";
import { brief, chart, extent, key } from "./charts.js";
import { foot } from "./exporting.js";

/** Row `t` of the sinusoidal table: sine and cosine of each frequency, side by side. */
export function sinusoid(t, width, base = 10_000) {
  return Float64Array.from({ length: width }, (_, i) => {
    const angle = t * base ** (-(i - (i % 2)) / width);
    return i % 2 ? Math.cos(angle) : Math.sin(angle);
  });
}

/** How far each of the D/2 planes turns from one position to the next. `rule`: "plain", "linear", "ntk" or "yarn". */
export function frequencies(D, { base = 10_000, rule = "plain", factor = 1, original = 1 } = {}) {
  const planes = Array.from({ length: D / 2 }, (_, i) => i);
  const plain = planes.map((i) => base ** ((-2 * i) / D));
  if (rule === "linear") return plain.map((f) => f / factor);
  if (rule === "ntk") return plain.map((f, i) => f / factor ** ((2 * i) / Math.max(D - 2, 1)));
  if (rule === "yarn") {
    const plane = (turns) => (D * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(base));
    const first = Math.max(Math.floor(plane(32)), 0);
    const last = Math.min(Math.ceil(plane(1)), D - 1);
    const span = Math.max(last - first, 0.001);
    return plain.map((f, i) => {
      const kept = 1 - Math.min(1, Math.max(0, (i - first) / span));
      return kept * f + ((1 - kept) * f) / factor;
    });
  }
  return plain;
}

/** What YaRN multiplies cosines and sines by; scores grow by its square. */
export const sharpening = (rule, factor) => (rule === "yarn" ? 0.1 * Math.log(factor) + 1 : 1);

/** q·k at each distance for q and k with the same unit pair in every plane, divided by D/2: the mean cosine. */
export function agreement(turns, distances) {
  return Float64Array.from(distances, (distance) => turns.reduce((sum, f) => sum + Math.cos(distance * f), 0) / turns.length);
}

/** ALiBi's slope for each of H heads. */
export function slopes(H) {
  const below = 2 ** Math.floor(Math.log2(H));
  return [...Array.from({ length: below }, (_, i) => 2 ** ((-8 * (i + 1)) / below)),
    ...Array.from({ length: H - below }, (_, i) => 2 ** ((-4 * (2 * i + 1)) / below))];
}

const VIEWS = { sinusoids: "Sinusoids", rotary: "Rotary turns", decay: "Decay with distance", alibi: "ALiBi", beyond: "Beyond the trained length" };
const RULES = { plain: "plain rotary", linear: "interpolation", ntk: "NTK", yarn: "YaRN" };
const range = (low, high, step = 1) => Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, i) => low + i * step);
const digits = (value) => value.toFixed(3).replace("-", "−");
const degrees = (radians) => { const turned = ((radians * 180) / Math.PI) % 360; return `${turned.toFixed(0)}°`; };
let instances = 0;

/**
 * Show the explorer in `element`. `state`: view (which part is open), head_dim, n_positions (the trained length), base, heads,
 * width (of the sinusoids). Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const { root, say } = frame(element, "Position explorer", "positions");
  const id = `gl-positions-${instances += 1}`;
  let open = state.view;
  let colours;
  let cursor = null;
  let told = { caption: "", columns: [], rows: [] };

  const tabs = Object.entries(VIEWS).map(([name, words]) => make("button", {
    type: "button", role: "tab", id: `${id}-${name}`, "aria-controls": `${id}-panel`, tabindex: "-1", onclick: () => choose(name),
  }, words));
  const strip = make("div", { class: "gl-tabs", role: "tablist", "aria-label": "What to look at" }, ...tabs);
  const focusTab = roving(strip, () => tabs, () => tabs.length, (i) => choose(Object.keys(VIEWS)[i]));
  const panel = make("div", { class: "gl-panel", role: "tabpanel", id: `${id}-panel` });
  const readout = make("p", { class: "gl-readout" });
  const explained = make("p", { class: "gl-muted" });

  const later = once(() => { render(); say(readout.textContent); });
  const number = (words, stops, value) => slider(words, stops, value, (v) => v.toLocaleString("en"), later);
  const half = Math.max(1, state.head_dim / 2);
  const position = number("position", range(0, 4 * state.n_positions), 8);
  const second = number("key's position", range(0, 4 * state.n_positions), 3);
  const plane = number("plane", range(0, half - 1), Math.round(0.6 * (half - 1)));
  const base = number("base", [100, 500, 1000, 5000, 10_000, 50_000, 100_000, 500_000, 1_000_000], state.base);
  const factor = number("times longer", [1, 1.5, 2, 3, 4, 6, 8, 16, 32], 4);
  const heads = number("heads", range(1, 32), state.heads);
  const pairs = number("column pair", range(0, state.width / 2 - 1), Math.min(8, state.width / 2 - 1));
  const rule = make("select", { onchange: later }, ...Object.entries(RULES).map(([value, words]) => make("option", { value }, words)));

  const heat = make("canvas", { class: "gl-heat", role: "img" });
  const circles = drawn("svg", { class: "gl-circles", role: "img" });
  const moved = (x) => { cursor = x; later(); };
  const wave = chart({ name: "One pair of columns", xLabel: "position", yLabel: "value", height: 170, moved });
  const likeness = chart({ name: "Likeness of two rows", xLabel: "distance", yLabel: "mean cosine", height: 170, moved });
  const decay = chart({ name: "Score by distance", xLabel: "distance", yLabel: "q·k, mean of planes", height: 280, moved });
  const penalty = chart({ name: "Penalty by distance", xLabel: "distance", yLabel: "added to the score", height: 280, moved });
  const angles = chart({ name: "Angle of one plane", xLabel: "position", yLabel: "turns", height: 220, moved });
  const seen = chart({ name: "Planes in unseen territory", xLabel: "plane, fast to slow", yLabel: "turns at the end of the text", height: 220, moved });
  const legend = make("div", {});
  const parts = {
    sinusoids: [[pairs.row, base.row], [heat, wave.node, likeness.node]],
    rotary: [[position.row, second.row, base.row], [circles]],
    decay: [[base.row, factor.row], [decay.node, legend]],
    alibi: [[heads.row], [penalty.node, legend]],
    beyond: [[factor.row, plane.row, base.row, field("rule", rule)], [angles.node, seen.node, legend]],
  };
  root.append(strip, panel, readout, explained);
  const tabulate = foot(root, { name: "positions", say, table: () => told });

  function choose(name) {
    open = name;
    cursor = null;
    tabs.forEach((tab, i) => tab.setAttribute("aria-selected", String(Object.keys(VIEWS)[i] === name)));
    focusTab(Object.keys(VIEWS).indexOf(name), false);
    panel.setAttribute("aria-labelledby", `${id}-${name}`);
    const [controls, pictures] = parts[name];
    panel.replaceChildren(make("div", { class: "gl-settings" }, ...controls), ...pictures);
    render();
  }

  const wide = () => Math.max(200, Math.floor(root.clientWidth - 12));

  function render() {
    ({ sinusoids, rotary, decay: distance, alibi, beyond })[open]();
    tabulate();
  }

  function sinusoids() {
    const [T, C] = [Math.min(state.n_positions, 256), state.width];
    const rows = range(0, T - 1).map((t) => sinusoid(t, C, base.value));
    const [width, tall] = [Math.min(wide(), 3 * T), Math.max(96, Math.min(C, 160))];
    const context = surface(heat, width, tall);
    const image = new ImageData(T, C);
    const pixels = new Uint32Array(image.data.buffer);
    rows.forEach((row, t) => row.forEach((value, i) => { pixels[i * T + t] = PIXELS[Math.round(((value + 1) / 2) * 1023)]; }));
    const plain = make("canvas", { width: T, height: C });
    plain.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(plain, 0, 0, width, tall);
    context.strokeStyle = colours?.text ?? "#000";
    context.strokeRect(0.5, (2 * pairs.value * tall) / C, width - 1, Math.max(2, (2 * tall) / C));
    heat.setAttribute("aria-label", `The table: ${T} positions across, ${C} columns down, values from −1 to 1; the pair ${pairs.value} is framed`);
    const xs = range(0, T - 1);
    const [sine, cosine] = [0, 1].map((k) => xs.map((t) => rows[t][2 * pairs.value + k]));
    const at = cursor ?? 8;
    wave.draw({ lines: [{ xs, ys: sine, colour: 0 }, { xs, ys: cosine, colour: 1, kind: "dashed" }], x: [0, T - 1], y: [-1, 1], stops: xs, cursor: at, width: wide(),
      says: `position ${at}: sine ${digits(sine[at])}, cosine ${digits(cosine[at])}` });
    const turns = frequencies(C, { base: base.value });
    const like = agreement(turns, xs);
    likeness.draw({ lines: [{ xs, ys: like, colour: 2 }], x: [0, T - 1], y: [Math.min(0, ...like), 1], stops: xs, cursor: at, width: wide(), says: `distance ${at}: ${digits(like[at])}` });
    const length = (2 * Math.PI) / turns[pairs.value];
    readout.textContent = `Pair ${pairs.value} repeats every ${brief(length)} positions; at position ${at} it is (${digits(sine[at])}, ${digits(cosine[at])}). Rows ${at} apart have a cosine of ${digits(like[at])}.`;
    explained.textContent = "Above, the whole table: a column for each position, fast pairs at the top. The product of two rows depends on their distance alone: the lowest curve.";
    told = { caption: `Pair ${pairs.value} of the sinusoidal table`, columns: ["position or distance", "sine", "cosine", "cosine of two rows that far apart"], rows: xs.map((t) => [t, sine[t], cosine[t], like[t]]) };
  }

  function rotary() {
    const turns = frequencies(state.head_dim, { base: base.value });
    const picked = [...new Set(range(0, 5).map((i) => Math.round((i * (half - 1)) / 5)))];
    const [width, columns] = [wide(), wide() < 520 ? 2 : Math.min(6, picked.length)];
    const side = Math.min(170, width / columns);
    const lines = Math.ceil(picked.length / columns);
    const radius = side / 2 - 22;
    const arrow = (x, y, angle, kind) => [
      drawn("line", { class: `gl-arrow ${kind}`, x1: x, y1: y, x2: x + radius * Math.cos(angle), y2: y - radius * Math.sin(angle) }),
      drawn("circle", { class: `gl-tip ${kind}`, cx: x + radius * Math.cos(angle), cy: y - radius * Math.sin(angle), r: 4 })];
    circles.setAttribute("width", width);
    circles.setAttribute("height", lines * (side + 18));
    circles.setAttribute("viewBox", `0 0 ${width} ${lines * (side + 18)}`);
    circles.replaceChildren(...picked.flatMap((i, number_) => {
      const [x, y] = [(number_ % columns) * side + side / 2, Math.floor(number_ / columns) * (side + 18) + side / 2];
      const between = (position.value - second.value) * turns[i];
      return [drawn("circle", { class: "gl-ring", cx: x, cy: y, r: radius }), ...arrow(x, y, position.value * turns[i], "gl-c0"), ...arrow(x, y, second.value * turns[i], "gl-c1"),
        drawn("text", { class: "gl-tick", x, y: y + side / 2 - 6, "text-anchor": "middle" }, `plane ${i}`),
        drawn("text", { class: "gl-tick", x, y: y + side / 2 + 9, "text-anchor": "middle" }, `${degrees(between)} apart`)];
    }));
    const gap = position.value - second.value;
    const score = agreement(turns, [gap])[0];
    circles.setAttribute("aria-label", `Planes ${picked.join(", ")}: a query at position ${position.value} and a key at ${second.value}, turned`);
    readout.textContent = `Query at ${position.value}, key at ${second.value}: ${gap} apart. Equal vectors turned so have q·k = ${digits(score)} of what it was.`;
    explained.textContent = "Blue is the query, orange the key, both the same vector before turning. Move both by as much: the angles between them stay. That is all that rotary positions do.";
    told = { caption: `Angles at positions ${position.value} and ${second.value}`, columns: ["plane", "radians a position", "angle of the query", "angle of the key", "cosine between"],
      rows: turns.map((f, i) => [i, f, position.value * f, second.value * f, Math.cos(gap * f)]) };
  }

  const rules = () => Object.keys(RULES).map((name, colour) => ({
    name, colour, kind: name === "plain" ? "line" : "dashed",
    turns: frequencies(state.head_dim, { base: base.value, rule: name, factor: factor.value, original: state.n_positions }), scale: sharpening(name, factor.value) ** 2,
  }));

  function distance() {
    const far = Math.round(state.n_positions * factor.value);
    const xs = range(0, far, Math.max(1, Math.round(far / 600)));
    const lines = rules().map((one) => ({ ...one, xs, ys: agreement(one.turns, xs).map((value) => value * one.scale) }));
    const at = cursor ?? xs[Math.min(xs.length - 1, 10)];
    const values = lines.map((line) => `${RULES[line.name]} ${digits(agreement(line.turns, [at])[0] * line.scale)}`).join(", ");
    decay.draw({ lines, x: [0, far], y: extent(lines.map((line) => line.ys)), stops: xs, cursor: at, width: wide(), says: `distance ${at}: ${values}` });
    legend.replaceChildren(key(lines.map(({ name, colour, kind }) => ({ name: RULES[name], colour, kind }))));
    readout.textContent = `At distance ${at}: ${values}.`;
    explained.textContent = `Query and key are equal before turning, so 1 is their product without positions. The trained length is ${state.n_positions}; the rules stretch ${brief(factor.value)} times.`;
    told = { caption: "q·k by distance, mean of planes", columns: ["distance", ...lines.map(({ name }) => RULES[name])], rows: xs.map((x, i) => [x, ...lines.map((line) => line.ys[i])]) };
  }

  function alibi() {
    const all = slopes(heads.value);
    const xs = range(0, state.n_positions - 1);
    const chosen = [...new Set(range(0, 6).map((i) => Math.round((i * (heads.value - 1)) / 6)))];
    const lines = chosen.map((head, i) => ({ xs, ys: xs.map((x) => -all[head] * x), colour: i % 7, head }));
    const at = cursor ?? Math.min(10, xs.length - 1);
    penalty.draw({ lines, x: [0, xs.at(-1)], y: [-12, 0], stops: xs, cursor: at, width: wide(), says: `distance ${at}: ${lines.map(({ head }) => `head ${head} ${digits(-all[head] * at)}`).join(", ")}` });
    legend.replaceChildren(key(lines.map(({ head, colour }) => ({ name: `head ${head}, slope ${brief(all[head])}`, colour }))));
    readout.textContent = `At distance ${at}: ${lines.map(({ head }) => `head ${head} divides by ${brief(Math.exp(all[head] * at))}`).join(", ")} what it would give without the penalty.`;
    explained.textContent = "ALiBi adds minus slope times distance to each score. Steep heads see a few tokens, flat ones the whole text; no distance is new, only larger, so a longer text does not confuse them.";
    told = { caption: `ALiBi's slopes for ${heads.value} heads`, columns: ["head", "slope", "distance at which a weight is divided by 100"], rows: all.map((slope, head) => [head, slope, Math.log(100) / slope]) };
  }

  function beyond() {
    const [trained, far] = [state.n_positions, Math.round(state.n_positions * factor.value)];
    const list = rules();
    const now = list.find(({ name }) => name === rule.value);
    const xs = range(0, far, Math.max(1, Math.round(far / 300)));
    const lines = list.map((one) => ({ ...one, xs, ys: xs.map((x) => (x * one.turns[plane.value]) / (2 * Math.PI)), kind: one.name === rule.value ? "line" : "dashed" }));
    const reached = (trained * list[0].turns[plane.value]) / (2 * Math.PI);
    angles.draw({ lines, levels: [{ y: reached, name: "as far as training turned it" }], x: [0, far], y: [0, Math.max(reached * 1.1, ...lines.flatMap((line) => line.ys.at(-1)))], stops: xs, cursor: cursor === null ? trained : cursor, width: wide(),
      says: `plane ${plane.value} turns ${brief((far * now.turns[plane.value]) / (2 * Math.PI))} times in ${far} positions; training knew ${brief(reached)}` });
    const planes = range(0, half - 1);
    const capped = (turns, length) => planes.map((i) => Math.min(4, (length * turns[i]) / (2 * Math.PI)));
    seen.draw({ lines: [{ xs: planes, ys: capped(list[0].turns, trained), colour: 6 }, { xs: planes, ys: capped(now.turns, far), colour: now.colour, kind: "dots" }], levels: [{ y: 1, name: "one whole turn: every angle was seen" }],
      x: [0, half - 1], y: [0, 4], stops: planes, cursor: plane.value, width: wide(), says: `plane ${plane.value}` });
    legend.replaceChildren(key([...lines.map(({ name, colour, kind }) => ({ name: RULES[name], colour, kind })), { name: "trained length, plain", colour: 6 }, { name: `${RULES[rule.value]} at the end of the longer text`, colour: now.colour, kind: "dots" }]));
    const unseen = planes.filter((i) => trained * list[0].turns[i] < 2 * Math.PI && far * now.turns[i] > trained * list[0].turns[i] * (1 + 1e-9)).length;
    const slowed = planes.filter((i) => now.turns[i] < list[0].turns[i] * (1 - 1e-9)).length;
    readout.textContent = `${RULES[rule.value]}, ${far.toLocaleString("en")} positions after training on ${trained.toLocaleString("en")}: ${unseen} of ${half} planes reach angles that training never showed; ${slowed} planes are slowed.`;
    explained.textContent = "A plane that turned all the way round in training has shown every angle. A slower one has not, and beyond the trained length plain rotary takes it to new ones. Interpolation slows all planes, NTK the slow ones most, YaRN only the slow ones, and it sharpens attention.";
    told = { caption: `Turns of each plane, ${far} positions`, columns: ["plane", "trained, plain", ...list.map(({ name }) => `${RULES[name]}, longer text`)],
      rows: planes.map((i) => [i, (trained * list[0].turns[i]) / (2 * Math.PI), ...list.map(({ turns }) => (far * turns[i]) / (2 * Math.PI))]) };
  }

  colours = theme(root);
  choose(open);
  const stop = watch(root, () => { colours = theme(root); render(); });
  return {
    update(next) {
      state = { ...state, ...next };
      choose(state.view);
    },
    destroy() {
      stop();
      later.cancel();
    },
  };
}

export default adapter(mount, ["view", "head_dim", "n_positions", "base", "heads", "width", "problem"]);
