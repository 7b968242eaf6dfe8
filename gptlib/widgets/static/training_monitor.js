// A training run while it goes on: loss and its floor, the optimizer's numbers, abilities, texts, and a hand on it.
import { adapter, field, floats, frame, inline, make, once, requests, slider, theme, watch } from "./base.js";
import { brief, chart, extent, key } from "./charts.js";
import { foot } from "./exporting.js";

const COLUMNS = ["step", "loss", "rate", "norm", "speed", "validation"];

/** Rows of `width` numbers as a list for each column. */
export function columns(bytes, width) {
  const values = floats(bytes);
  return Array.from({ length: width }, (_, column) => Float64Array.from({ length: values.length / width }, (_, row) => values[row * width + column]));
}

/** A curve by name: step, loss, rate, norm, speed, validation. */
export const curveOf = (bytes) => Object.fromEntries(columns(bytes, COLUMNS.length).map((list, i) => [COLUMNS[i], list]));

/** Measures in groups that share an axis: "recall accuracy (held out)" is recall in the group "accuracy (held out)". */
export function groupsOf(names) {
  const groups = new Map();
  names.forEach((name, column) => {
    const [, kind, group] = name.match(/^(.*) ((?:accuracy|log_prob)(?: \(.*\))?)$/) ?? [null, name, "measured"];
    groups.set(group, [...(groups.get(group) ?? []), { kind, column: column + 1 }]);
  });
  return groups;
}

/** Seconds in words: 45 s, 3 min 20 s, 2 h 5 min. */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

const at = (list, steps, step) => { // the last value known at a step
  let found = NaN;
  for (let i = 0; i < list.length && steps[i] <= step; i++) if (Number.isFinite(list[i])) found = list[i];
  return found;
};
const number = (value, digits = 4) => (Number.isFinite(value) ? brief(value, digits) : "–");

/**
 * Show a run in `element`.
 *
 * `state`: curve (bytes: float32 rows of step, loss, learning rate, gradient norm, tokens/s, validation loss or NaN), measures
 * (names), rising (bytes: float32 rows of step and a value for each name), samples ([step, text]), floor (or null), steps,
 * seconds, left, status, about, note, actions (what the kernel can be asked to do), name; the same of a recorded run as
 * recorded_name, recorded_curve, recorded_measures, recorded_rising, recorded_samples; problem; with `send` its buttons ask
 * `send({ do: action })`. Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const { root, say } = frame(element, "Training monitor", "training");
  let live;
  let past;
  let cursor = null;
  let group = "";

  const status = make("span", { class: "gl-status" });
  const about = make("p", { class: "gl-muted" });
  const note = make("p", { class: "gl-muted" });
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const bar = make("progress", { max: 1, "aria-label": "Steps done" });
  const ask = requests((request) => state.send(request), (sentence) => { problem.textContent = sentence; });
  const words = { start: "Start", pause: "Pause", "go on": "Go on", save: "Save now", stop: "Stop and save" };
  const buttons = Object.fromEntries(Object.entries(words).map(([action, label]) => [action, make("button", {
    type: "button", class: action === "start" || action === "go on" ? "gl-primary" : null, onclick: () => ask.ask({ do: action }),
  }, label)]));

  const numbers = make("dl", { class: "gl-numbers" });
  const tell = (term) => {
    const [value, small] = [make("span", {}), make("small", {})];
    numbers.append(make("div", {}, make("dt", {}, term), make("dd", {}, value, small)));
    return (text, more = "") => { value.textContent = text; small.textContent = more; };
  };
  const tellStep = tell("Step");
  const tellLoss = tell("Loss, nats per token");
  const tellValidation = tell("Validation loss");
  const tellRate = tell("Learning rate");
  const tellNorm = tell("Gradient norm");
  const tellSpeed = tell("Tokens per second");
  const tellLeft = tell("Time left");

  const moved = (step) => { cursor = step; later(); say(readout()); };
  const part = (options) => chart({ xLabel: "step", height: 150, moved, ...options });
  const loss = part({ name: "Loss", yLabel: "nats per token", height: 260 });
  const lossKey = make("div", {});
  const strip = [
    ["rate", part({ name: "Learning rate", yLabel: "" })], ["norm", part({ name: "Gradient norm", yLabel: "before clipping" })],
    ["speed", part({ name: "Tokens per second", yLabel: "" })],
  ];
  const abilities = part({ name: "Abilities", yLabel: "", height: 220 });
  const abilityKey = make("div", {});
  const choice = make("select", { onchange: () => { group = choice.value; render(); } });
  const chooser = field("measured", choice);
  const abilityPart = make("div", {}, chooser, abilities.node, abilityKey);
  const text = make("p", { class: "gl-written-text", tabindex: "0", role: "group", "aria-label": "What the model writes" });
  const which = slider("at step", [0], 0, (step) => step.toLocaleString("en"), () => { newest = which.input.value === which.input.max; showText(); });
  const textPart = make("div", {}, make("p", { class: "gl-heading" }, "What the model writes"), which.row, text);
  let newest = true;

  root.append(
    make("div", { class: "gl-bar" }, status, ...(state.send ? [make("span", { class: "gl-bar gl-actions" }, ...Object.values(buttons))] : [])),
    bar, about, note, problem, numbers, loss.node, lossKey, make("div", { class: "gl-strip" }, ...strip.map(([, plot]) => plot.node)),
    abilityPart, textPart,
  );
  const tabulate = foot(root, { name: "training", say, table: (limit) => table(limit) });
  const later = once(() => render());

  function texts() { return state.samples.length ? state.samples : state.recorded_samples; }

  function showText() {
    const written = texts();
    textPart.hidden = !written.length;
    if (!written.length) return;
    const found = written.find(([step]) => step === which.value) ?? written.at(-1);
    text.replaceChildren(make("bdi", {}, inline(found[1])));
  }

  function table(limit) {
    const every = Math.max(1, Math.ceil((live.step.length || past.step.length) / limit));
    const rows = [];
    const none = limit === Infinity ? "" : "–"; // a file's empty cell, a table's dash
    const add = (run, curve) => curve.step.forEach((step, i) => {
      if (i % every === 0 || i === curve.step.length - 1) {
        rows.push([run, step, ...COLUMNS.slice(1).map((column) => (Number.isFinite(curve[column][i]) ? curve[column][i] : none))]);
      }
    });
    if (live.step.length) add(state.name, live);
    if (state.recorded_name && (limit === Infinity || !live.step.length)) add(state.recorded_name, past);
    return { caption: `Numbers of ${live.step.length || !state.recorded_name ? state.name : state.recorded_name}`, columns: ["run", "step", "loss", "learning rate", "gradient norm", "tokens per second", "validation loss"], rows, words: true };
  }

  function readout() {
    const step = cursor ?? live.step.at(-1);
    if (step === undefined) return "nothing is measured yet";
    const parts = live.step.length ? [`step ${step}: loss ${number(at(live.loss, live.step, step))}`] : [`step ${step}`];
    if (past.step.length) parts.push(`${state.recorded_name} ${number(at(past.loss, past.step, step))}`);
    return parts.join(", ");
  }

  function render() {
    const step = cursor ?? live.step.at(-1) ?? past.step.at(-1);
    const shown = live.step.length ? live : past;
    const value = (column) => at(shown[column], shown.step, step);
    const compare = (column) => (live.step.length && past.step.length ? `${state.recorded_name}: ${number(at(past[column], past.step, step))}` : "");
    const above = (loss_) => (state.floor === null || !Number.isFinite(loss_) ? "" : `${number(loss_ - state.floor, 3)} above the floor`);
    tellStep(step === undefined ? "0" : step.toLocaleString("en"), state.steps ? `of ${state.steps.toLocaleString("en")}` : "");
    tellLoss(number(value("loss")), compare("loss") || above(value("loss")));
    tellValidation(number(value("validation")), above(value("validation")));
    tellRate(number(value("rate"), 3));
    tellNorm(number(value("norm"), 3));
    tellSpeed(number(value("speed"), 3));
    tellLeft(state.status === "running" ? duration(state.left) : "–", `${duration(state.seconds)} so far`);

    const width = Math.max(200, Math.floor(root.clientWidth - 12));
    const stops = Array.from(shown.step);
    const done = live.step.at(-1) ?? 0;
    const last = Math.max(past.step.at(-1) ?? 0, done ? Math.min(state.steps, 4 * done) : state.steps); // a long run begins as more than a stroke
    const common = { x: [0, last], stops, cursor, says: readout() };
    const [low, high] = extent([live.loss, live.validation, past.loss, state.floor === null ? [] : [state.floor]]);
    const entries = [];
    const lines = [];
    const add = (line, name) => { lines.push(line); entries.push({ ...line, name }); };
    if (past.step.length) add({ xs: past.step, ys: past.loss, colour: 6, kind: "faint" }, state.recorded_name);
    if (live.step.length) add({ xs: live.step, ys: live.loss, colour: 0 }, state.name);
    if (live.validation.some(Number.isFinite)) add({ xs: live.step, ys: live.validation, colour: 1, kind: "dots" }, "validation");
    else if (past.validation.some(Number.isFinite)) add({ xs: past.step, ys: past.validation, colour: 1, kind: "dots" }, "validation, recorded");
    const levels = state.floor === null ? [] : [{ y: state.floor, name: `floor ${state.floor.toFixed(3)}` }];
    loss.draw({ ...common, lines, levels, y: [Math.max(0, low), high], width });
    lossKey.replaceChildren(key(entries));
    const third = root.clientWidth >= 720 ? Math.floor((width - 40) / 3) : width;
    for (const [column, plot] of strip) {
      const both = [past, live].flatMap((curve, i) => (curve.step.length ? [{ xs: curve.step, ys: curve[column], colour: i ? 0 : 6, kind: i ? "line" : "faint" }] : []));
      plot.draw({ ...common, lines: both, y: [0, extent(both.map((line) => line.ys))[1]], width: third });
    }
    renderAbilities(common, width);
    tabulate();
  }

  function renderAbilities(common, width) {
    const runs = [
      { names: state.recorded_measures, rows: state.recorded_rising, kind: "faint" }, { names: state.measures, rows: state.rising, kind: "line" },
    ].filter(({ names }) => names.length).map((run) => ({ ...run, lists: columns(run.rows, run.names.length + 1), groups: groupsOf(run.names) }));
    abilityPart.hidden = !runs.length;
    if (!runs.length) return;
    const groups = [...new Set(runs.flatMap((run) => [...run.groups.keys()]))];
    if (!groups.includes(group)) group = groups[0];
    if (choice.options.length !== groups.length) {
      choice.replaceChildren(...groups.map((name) => make("option", { value: name }, name.replace("log_prob", "log-probability"))));
      choice.value = group;
    }
    const percent = group.startsWith("accuracy") ? 100 : 1;
    const colours = new Map();
    const lines = runs.flatMap(({ lists, kind, groups: own }) => (own.get(group) ?? []).map((entry) => {
      if (!colours.has(entry.kind)) colours.set(entry.kind, colours.size % 7);
      return { xs: lists[0], ys: lists[entry.column].map((v) => v * percent), colour: colours.get(entry.kind), kind, name: entry.kind };
    }));
    abilities.draw({ ...common, lines, y: percent === 100 ? [0, 100] : extent(lines.map((line) => line.ys)), width });
    const now = new Map(lines.map((line) => [line.name, at(line.ys, line.xs, common.cursor ?? Infinity)])); // the live run comes last
    abilityKey.replaceChildren(key([...now].map(([name, value]) => ({ name: `${name} ${number(value, 3)}${percent === 100 ? " %" : ""}`, colour: colours.get(name) }))));
  }

  function take() {
    live = curveOf(state.curve);
    past = curveOf(state.recorded_curve);
    status.textContent = state.status;
    about.textContent = state.about;
    note.textContent = state.note;
    problem.textContent = state.problem;
    bar.value = state.steps ? (live.step.at(-1) ?? 0) / state.steps : 0;
    bar.hidden = !state.steps;
    for (const [action, button] of Object.entries(buttons)) {
      const focused = document.activeElement === button;
      button.hidden = !state.actions.includes(action);
      if (focused && button.hidden) Object.values(buttons).find((other) => !other.hidden)?.focus(); // Pause gives way to Go on
    }
    const written = texts().map(([step]) => step);
    if (written.length) {
      which.restop(written);
      if (newest) which.value = written.at(-1);
    }
    showText();
    render();
  }

  take();
  theme(root);
  const stop = watch(root, () => { theme(root); render(); });
  return {
    update(next) {
      const before = state.status;
      state = { ...state, ...next };
      take();
      if (state.problem) say(state.problem);
      else if (state.status !== before) say(`The run is ${state.status}. ${state.note}`);
      ask.answered();
    },
    destroy() {
      stop();
      later.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, [
  "name", "curve", "measures", "rising", "samples", "floor", "steps", "seconds", "left", "status", "about", "note", "actions", "problem",
  "recorded_name", "recorded_curve", "recorded_measures", "recorded_rising", "recorded_samples",
]);
