// Where a GPT's parameters sit: a map whose areas are counts, and the shape under the reader's hand.
import { adapter, field, frame, make, once, roving, slider, theme, watch } from "./base.js";
import { foot } from "./exporting.js";

/** Every kind of weight of a config (GPTConfig's own names): `{ part, name, shape, count }`, all layers together. */
export function weightsOf(c) {
  const [C, L, H] = [c.n_embd, c.n_layer, c.n_head];
  const K = c.n_kv_head ?? H;
  const D = C / H;
  const gated = c.mlp === "swiglu" || c.mlp === "geglu";
  const I = c.n_inner ?? (gated ? Math.ceil((8 * C) / 3 / 32) * 32 : 4 * C);
  const qkvBias = c.qkv_bias ?? c.bias;
  const found = [];
  const add = (part, name, times, rows, columns, bias) => found.push({
    part, name, count: times * (rows * columns + (bias ? rows : 0)),
    shape: `${times > 1 ? `${n(times)} layers × ` : ""}${bias ? "(" : ""}${n(rows)} × ${n(columns)}${bias ? ` + ${n(rows)} biases)` : ""}`,
  });
  add("token embeddings", "token embeddings", 1, c.vocab_size, C, false);
  if (c.position === "learned") add("position embeddings", "position embeddings", 1, c.n_positions, C, false);
  add("attention", "queries", L, C, C, qkvBias);
  add("attention", "keys", L, K * D, C, qkvBias);
  add("attention", "values", L, K * D, C, qkvBias);
  add("attention", "output", L, C, C, c.bias);
  if (c.qk_norm) add("norms", "norms of queries and keys", L, 2, D, false);
  if (gated) add("feed-forward", "gate", L, I, C, c.bias);
  add("feed-forward", "widen", L, I, C, c.bias);
  add("feed-forward", "narrow", L, C, I, c.bias);
  const shift = c.norm === "layernorm" && c.bias ? 2 : 1;
  const norms = 2 * L + (c.norm_order === "pre" ? 1 : 0);
  found.push({ part: "norms", name: "norms", count: norms * C * shift, shape: `${n(norms)} norms × ${n(C)}${shift > 1 ? " × 2 (scale and shift)" : ""}` });
  if (!c.tie_weights) add("output map", "output map", 1, c.vocab_size, C, false);
  return found;
}

/** Parameters by part, in the order of the parts. */
export function countsOf(config) {
  const counts = {};
  for (const { part, count } of weightsOf(config)) counts[part] = (counts[part] ?? 0) + count;
  return counts;
}

/** Rectangles of areas in proportion to `sizes`, in their order: halves of like weight, cut across the longer side. */
export function rectangles(sizes, x, y, width, height) {
  if (sizes.length === 1) return [{ x, y, width, height }];
  const total = sizes.reduce((sum, size) => sum + size, 0);
  let [cut, first, best] = [1, sizes[0], Infinity];
  for (let i = 1, sum = sizes[0]; i < sizes.length; sum += sizes[i++]) {
    if (Math.abs(sum - total / 2) < best) [cut, first, best] = [i, sum, Math.abs(sum - total / 2)];
  }
  const share = first / total;
  const [a, b] = [sizes.slice(0, cut), sizes.slice(cut)];
  return width >= height
    ? [...rectangles(a, x, y, width * share, height), ...rectangles(b, x + width * share, y, width * (1 - share), height)]
    : [...rectangles(a, x, y, width, height * share), ...rectangles(b, x, y + height * share, width, height * (1 - share))];
}

/** The preset's config with another width, depth, number of heads and vocabulary; what follows from them follows. */
export function reshaped(preset, { width, depth, heads, vocabulary }) {
  const config = { ...preset, n_embd: width, n_layer: depth, n_head: heads, vocab_size: vocabulary };
  if (preset.n_kv_head != null) { // as many query heads to a key head as before, or the nearest number that divides
    const wanted = (preset.n_kv_head / preset.n_head) * heads;
    config.n_kv_head = divisors(heads).reduce((best, d) => (Math.abs(d - wanted) < Math.abs(best - wanted) ? d : best));
  }
  if (preset.n_inner != null && width !== preset.n_embd) config.n_inner = Math.round((preset.n_inner / preset.n_embd) * width);
  return config;
}

export const divisors = (number) => Array.from({ length: number }, (_, i) => i + 1).filter((d) => number % d === 0);

const n = (number) => number.toLocaleString("en");
const short = (number) => (number >= 1e9 ? `${(number / 1e9).toFixed(1)} G` : number >= 1e6 ? `${(number / 1e6).toFixed(1)} M` : number >= 1e4 ? `${(number / 1e3).toFixed(0)} k` : n(number));
const share = (part) => (part > 0 && part < 0.0005 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`);
const PARTS = ["token embeddings", "position embeddings", "attention", "feed-forward", "norms", "output map"];
const SEEN = 0.004; // of the map's area that the smallest parts get, or nobody could point at them

/**
 * Show the map in `element`. `state`: presets (name → config with GPTConfig's names), preset (the name to begin with).
 * Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const { root, say } = frame(element, "Parameter map", "parameters");
  let config;
  let weights;
  let total;
  let at = 0;

  const names = Object.keys(state.presets);
  const choice = make("select", { onchange: () => choose(choice.value) }, ...names.map((name) => make("option", { value: name }, name)));
  const headline = make("p", { class: "gl-total" });
  const changed = () => { settle(); later(); };
  const powers = (values) => [...new Set(values)].sort((a, b) => a - b);
  const widths = powers([...Array.from({ length: 24 }, (_, i) => 64 * (i + 1)), ...[1600, 1792, 2048, 2560, 3072, 4096, 5120, 6144, 8192, 12288, 16384], ...Object.values(state.presets).map((p) => p.n_embd)]);
  const depths = powers([...Array.from({ length: 48 }, (_, i) => i + 1), 56, 64, 80, 96, 112, 128, ...Object.values(state.presets).map((p) => p.n_layer)]);
  const vocabularies = powers([65, 256, 512, 1024, 2048, 4096, 8192, 16384, 32000, 49152, 50257, 65536, 100256, 128256, 200000, 256000, ...Object.values(state.presets).map((p) => p.vocab_size)]);
  const width = slider("width", widths, 768, n, changed);
  const depth = slider("layers", depths, 12, n, changed);
  const heads = slider("heads", divisors(768), 12, n, changed);
  const vocabulary = slider("vocabulary", vocabularies, 50257, n, changed);
  const map = make("div", { class: "gl-treemap", role: "group", "aria-label": "Parts of the model; arrow keys move" });
  const readout = make("p", { class: "gl-readout" });
  const bars = make("div", { class: "gl-shares" });
  let cells = [];
  const focusCell = roving(map, () => cells, () => 1, (index) => show(index));
  const later = once(() => { render(); say(`${n(total)} parameters`); });

  root.append(
    make("div", { class: "gl-bar" }, make("span", { class: "gl-actions" }, field("model", choice)), headline),
    make("div", { class: "gl-settings" }, width.row, depth.row, heads.row, vocabulary.row),
    map, readout, make("p", { class: "gl-heading" }, "The same parts as shares of other models"), bars,
  );
  const tabulate = foot(root, { name: "parameters", say, table: () => ({
    caption: `Parameters of ${choice.value}${isPreset() ? "" : ", changed"}`, columns: ["part", "weights", "shape", "parameters", "share of all"],
    words: true, rows: [...weights.map((w) => [w.part, w.name, w.shape, w.count, w.count / total]), ["total", "", "", total, 1]],
  }) });

  function isPreset() {
    const preset = state.presets[choice.value];
    return ["n_embd", "n_layer", "n_head", "vocab_size"].every((name) => preset[name] === config[name]);
  }

  function choose(name) {
    const preset = state.presets[name];
    choice.value = name;
    width.value = preset.n_embd;
    heads.restop(allowed(preset.n_embd));
    [depth.value, heads.value, vocabulary.value] = [preset.n_layer, preset.n_head, preset.vocab_size];
    changed();
  }

  // Heads divide the width, and rotary positions turn planes of two features.
  function allowed(size) {
    const even = state.presets[choice.value].position === "rotary";
    return divisors(size).filter((d) => size / d >= 4 && !(even && (size / d) % 2));
  }

  function settle() {
    heads.restop(allowed(width.value));
    config = reshaped(state.presets[choice.value], { width: width.value, depth: depth.value, heads: heads.value, vocabulary: vocabulary.value });
    weights = weightsOf(config);
    total = weights.reduce((sum, weight) => sum + weight.count, 0);
  }

  function show(index) {
    at = index;
    cells.forEach((cell, i) => cell.classList.toggle("gl-at", i === index));
    const { part, name, shape, count } = weights[index];
    readout.replaceChildren(make("b", {}, name === part ? name : `${part}, ${name}`), `: ${shape} = ${n(count)} parameters, ${share(count / total)} of all.`);
    say(readout.textContent);
  }

  function render() {
    headline.replaceChildren(make("b", {}, `${n(total)} parameters`), ` ${isPreset() ? "" : "(changed) "}· ${short(total * 4)}B in fp32 · heads of ${config.n_embd / config.n_head}`);
    const [across, tall] = [Math.max(200, root.clientWidth - 12), root.clientWidth < 480 ? 420 : 320];
    const parts = PARTS.filter((part) => weights.some((weight) => weight.part === part));
    const size = (count) => Math.max(count, SEEN * total);
    const inPart = (part) => weights.filter((weight) => weight.part === part);
    const boxes = rectangles(parts.map((part) => inPart(part).reduce((sum, weight) => sum + size(weight.count), 0)), 0, 0, across, tall);
    const places = new Map();
    parts.forEach((part, i) => {
      const box = boxes[i];
      const inner = rectangles(inPart(part).map((weight) => size(weight.count)), box.x, box.y, box.width, box.height);
      inPart(part).forEach((weight, j) => places.set(weight, inner[j]));
    });
    const focused = map.contains(document.activeElement);
    map.style.height = `${tall}px`;
    cells = weights.map((weight, i) => {
      const box = places.get(weight);
      const room = box.width > 74 && box.height > 38;
      const node = make("button", {
        type: "button", tabindex: "-1", class: `gl-cell gl-c${PARTS.indexOf(weight.part)}`, onclick: () => { focusCell(i, true); show(i); }, onpointerenter: () => show(i),
        "aria-label": room ? null : `${weight.part}, ${weight.name}: ${n(weight.count)} parameters, ${share(weight.count / total)}`,
      }, ...(room ? [make("span", {}, `${weight.name} `, make("small", {}, `${short(weight.count)} · ${share(weight.count / total)}`))] : []));
      Object.assign(node.style, { left: `${box.x}px`, top: `${box.y}px`, width: `${Math.max(1, box.width - 2)}px`, height: `${Math.max(1, box.height - 2)}px` });
      return node;
    });
    map.replaceChildren(...cells);
    at = Math.min(at, cells.length - 1);
    focusCell(at, focused);
    if (!focused) show(at);
    const compared = [...(isPreset() ? [] : [["yours", config]]), ...names.map((name) => [name, state.presets[name]])];
    bars.replaceChildren(...compared.map(([name, other]) => {
      const counts = countsOf(other);
      const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
      const words = PARTS.filter((part) => counts[part]).map((part) => `${part} ${share(counts[part] / all)}`).join(", ");
      return make("div", { class: name === choice.value ? "gl-share gl-chosen" : "gl-share" }, make("span", {}, name), make("span", { class: "gl-share-track", role: "img", "aria-label": `${name}: ${words}` },
        ...PARTS.map((part, i) => { const piece = make("i", { class: `gl-c${i}` }); piece.style.flexGrow = (counts[part] ?? 0) / all; return piece; })), make("span", { class: "gl-number" }, short(all)));
    }), make("p", { class: "gl-chart-key gl-muted" }, ...PARTS.map((part, i) => make("span", {}, make("i", { class: `gl-patch gl-c${i}` }), part))));
    tabulate();
  }

  theme(root);
  choose(state.preset);
  later.cancel();
  render();
  const stop = watch(root, () => { theme(root); render(); });
  return {
    update(next) {
      state = { ...state, ...next };
      choose(state.preset);
    },
    destroy() {
      stop();
      later.cancel();
    },
  };
}

export default adapter(mount, ["presets", "preset", "problem"]);
