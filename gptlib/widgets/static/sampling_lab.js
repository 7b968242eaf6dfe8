// The next token's distribution, and what temperature, top-k, top-p, min-p and a repetition penalty make of it.
import {
  adapter, field, floats, frame, inline, make, once, quoted, requests, roving, shown, slider, theme, watch,
} from "./base.js";
import { foot } from "./exporting.js";

const BARS = 40;
const IDS = 2 ** 20; // more than any vocabulary has

/** Token ids from the largest logit to the smallest (of equal ones the lower id first), and the logits in that order. */
export function ranked(logits) {
  // The bits of a float, with the sign taken care of, sort like the float. With the id in the lower digits one number says
  // all, and sorting plain numbers is ten times faster than calling a function for each comparison.
  const V = logits.length;
  const values = new Float32Array(V);
  for (let id = 0; id < V; id++) values[id] = logits[id] + 0; // + 0 makes -0 and 0 the same
  const bits = new Int32Array(values.buffer);
  const keys = new Float64Array(V);
  for (let id = 0; id < V; id++) keys[id] = (bits[id] < 0 ? 2 ** 32 - 1 - ~bits[id] : 2 ** 31 - 1 - bits[id]) * IDS + id;
  keys.sort();
  const ids = new Uint32Array(V);
  const sorted = new Float64Array(V);
  for (let rank = 0; rank < V; rank++) {
    ids[rank] = keys[rank] % IDS;
    sorted[rank] = values[ids[rank]];
  }
  return { ids, logits: sorted };
}

/**
 * The distribution to draw from, by rank: divide by the temperature, keep the k largest, keep the fewest that reach p
 * together, keep those of at least minP times the largest, renormalise.
 *
 * Temperature changes no rank, so each filter keeps a beginning of the ranking. `cuts` has the length that each one leaves,
 * in their order; `mass` is the share of probability that was kept.
 */
export function choices({ logits }, { temperature = 1, topK = Infinity, topP = 1, minP = 0 } = {}) {
  const V = logits.length;
  const p = new Float64Array(V);
  if (temperature === 0) {
    p[0] = 1;
    return { probabilities: p, kept: 1, cuts: { greedy: 1 }, mass: 1, entropy: 0 };
  }
  let total = 0;
  for (let rank = 0; rank < V; rank++) total += p[rank] = Math.exp((logits[rank] - logits[0]) / temperature);
  const first = Math.min(V, topK);
  let second = first;
  if (topP < 1) {
    let among = 0;
    for (let rank = 0; rank < first; rank++) among += p[rank];
    let before = 0;
    for (second = 0; second < first && before < topP * among; second++) before += p[second];
    second = Math.max(1, second);
  }
  let third = second;
  while (third > 1 && p[third - 1] < minP * p[0]) third--;
  let sum = 0;
  for (let rank = 0; rank < third; rank++) sum += p[rank];
  let entropy = 0;
  for (let rank = 0; rank < third; rank++) {
    p[rank] /= sum;
    if (p[rank] > 0) entropy -= p[rank] * Math.log(p[rank]);
  }
  p.fill(0, third);
  return { probabilities: p, kept: third, cuts: { "top-k": first, "top-p": second, "min-p": third }, mass: sum / total, entropy };
}

/** The ranking after a repetition penalty: logits of `seen` ids are divided by it where positive, multiplied where negative.
 * All others keep their order, so that those of `seen` are only put in their new places. */
export function reranked(ranking, logits, seen, penalty) {
  const V = ranking.ids.length;
  const moves = new Uint8Array(V);
  const moved = Array.from(new Set(seen), (id) => {
    moves[id] = 1;
    return [id, Math.fround(logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty) + 0];
  }).sort(([a, x], [b, y]) => (x === y ? a - b : y > x ? 1 : -1));
  const ids = new Uint32Array(V);
  const sorted = new Float64Array(V);
  let next = 0;
  let rank = 0;
  const put = (id, logit) => { ids[rank] = id; sorted[rank++] = logit; };
  for (let r = 0; r < V; r++) {
    const id = ranking.ids[r];
    if (moves[id]) continue;
    const logit = ranking.logits[r];
    while (next < moved.length && (moved[next][1] > logit || (moved[next][1] === logit && moved[next][0] < id))) put(...moved[next++]);
    put(id, logit);
  }
  while (next < moved.length) put(...moved[next++]);
  return { ids, logits: sorted };
}

/** Nodes of a tree in the order in which they are drawn, each below its parent, with the probability of its whole path. */
export function flattened(nodes) {
  const below = new Map();
  for (const node of nodes) {
    const parent = node.path.slice(0, -1).join();
    below.set(parent, [...(below.get(parent) ?? []), node]);
  }
  const rows = [];
  const visit = (parent, along) => {
    for (const node of below.get(parent) ?? []) {
      rows.push({ ...node, along: along * node.p, leaf: !below.has(node.path.join()) });
      visit(node.path.join(), along * node.p);
    }
  };
  visit("", 1);
  return rows;
}

/** The rank at which the running sum of `probabilities` passes `u`, a number from [0, 1). */
export function draw({ probabilities, kept }, u) {
  let sum = 0;
  for (let rank = 0; rank < kept; rank++) {
    sum += probabilities[rank];
    if (u < sum) return rank;
  }
  return kept - 1;
}

// Text that did not change costs no layout.
function write(node, words) {
  if (node.textContent !== words) node.textContent = words;
}

function percent(p) {
  if (p === 0) return "0";
  if (p < 0.0005) return "< 0.1 %";
  return `${(100 * p).toFixed(1)} %`;
}

// Every number up to 20, then steps of about a seventh, then all.
function counts(V) {
  const stops = [];
  for (let k = 1; k < V; k = k < 20 ? k + 1 : Math.round(k * 1.15)) stops.push(k);
  return [...stops, V];
}

const steps = (low, high, n) => Array.from({ length: n + 1 }, (_, i) => Number((low + ((high - low) * i) / n).toFixed(4)));

/**
 * Show the next token's distribution in `element`.
 *
 * `state`: pieces (strings of the text so far), prompt (how many of them were given), forgotten (how many the model no longer
 * sees), logits (bytes, float32), labels (token id → string, for the largest logits), seen (ids in the text), tree (nodes: path,
 * label, p), columns (temperature, pieces, p), problem; with `send`, tokens can be appended (`send({ append: id or ids })`) and taken
 * back (`send({ undo: 1 })`, `send({ reset: 1 })`), the tree grown (`send({ grow: paths, branches, settings })`) and the text
 * continued at three temperatures (`send({ compare: 1 })`). `random` replaces Math.random.
 * Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const random = state.random ?? Math.random;
  let logits = floats(state.logits);
  let own = ranked(logits); // by the model; `ranking` is the order after the penalty
  let ranking = own;
  let before = choices(own);
  let after = before;
  let ownOf = byId(); // token id -> the model's probability
  let drawn = -1; // rank of the token that is being appended

  const { root, say } = frame(element, "Sampling lab", "sampling");
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const ask = requests((request) => state.send(request), (sentence) => { problem.textContent = sentence; });

  const text = make("p", { class: "gl-text", tabindex: "0", role: "group", "aria-label": "Text so far" });
  const button = (words, action, kind) => make("button", { type: "button", class: kind, onclick: action }, words);
  const sampleButton = button("Append a sampled token", sample, "gl-primary");
  const undoButton = button("Take back", () => request({ undo: 1 }));
  const resetButton = button("Start over", () => request({ reset: 1 }));

  const V = () => ranking.logits.length;
  const off = (value, none, words) => (value === none ? words : String(value));
  const changed = once(() => {
    render();
    say(`Entropy ${after.entropy.toFixed(2)} nats, ${after.kept} tokens kept`);
  });
  const temperature = slider("temperature", steps(0, 3, 60), 1, (v) => (v === 0 ? "0 (greedy)" : v.toFixed(2)), changed);
  const topK = slider("top-k", counts(V()), V(), (v) => off(v, V(), "all"), changed);
  const topP = slider("top-p", steps(0.01, 1, 99), 1, (v) => off(v, 1, "all"), changed);
  const minP = slider("min-p", steps(0, 1, 100), 0, (v) => off(v, 0, "all"), changed);
  const penalty = slider("penalty", steps(1, 2, 20), 1, (v) => off(v, 1, "none"), () => { rerank(); changed(); });
  const settings = [temperature, topK, topP, minP, penalty];
  const plain = button("Reset settings", () => { [1, V(), 1, 0, 1].forEach((v, i) => { settings[i].value = v; }); rerank(); changed(); }, "gl-actions");

  const results = make("dl", { class: "gl-results" });
  const result = (term) => {
    const value = make("span", {});
    const note = make("small", {});
    results.append(make("div", {}, make("dt", {}, term), make("dd", {}, value, note)));
    return (words, small) => { write(value, words); write(note, small); };
  };
  const showEntropy = result("Entropy");
  const showChoice = result("As open as a fair choice");
  const showKept = result("Tokens kept");
  const showMass = result("Probability kept");

  const list = make("ol", { class: "gl-bars", "aria-label": "Most probable next tokens; Enter appends one" });
  const rest = make("p", { class: "gl-muted" });
  let rows = [];
  let ownTail = 0; // the model's own probability of all tokens that have no bar
  const focusRow = roving(list, () => rows.map((row) => row.button), () => 1);

  const branches = make("select", {}, ...[2, 3, 4, 5].map((n) => make("option", { value: n, selected: n === 3 }, String(n))));
  const growButton = button("Grow every end (g)", grow);
  const useButton = button("Append this path", () => { if (twigs[twig]) request({ append: twigs[twig].path }); });
  const tree = make("ul", { class: "gl-tree", role: "tree", "aria-label": "Continuations; Enter grows one" });
  const forest = make("div", { class: "gl-more" },
    make("div", { class: "gl-bar gl-actions" }, make("b", {}, "Continuations as a tree"), growButton, field("branches", branches), useButton), tree);
  let twigs = [], twig = 0;
  const focusTwig = roving(tree, () => [...tree.children], () => 1, (i) => { twig = i; tellTwig(); });
  const columns = make("div", { class: "gl-three" });
  const beside = make("div", { class: "gl-more" },
    make("div", { class: "gl-bar gl-actions" }, make("b", {}, "At temperatures 0, 0.7 and 2.0"), button("Continue the text three times", () => request({ compare: 1 }))), columns);

  root.append(
    text, problem,
    ...(state.send ? [make("div", { class: "gl-bar gl-actions" }, sampleButton, undoButton, resetButton)] : []),
    make("div", { class: "gl-settings" }, ...settings.map((setting) => setting.row)),
    results,
    make("div", { class: "gl-bar" },
      make("p", { class: "gl-key gl-muted" },
        make("span", {}, make("i", { class: "gl-before" }), "the model’s own probability"),
        make("span", {}, make("i", { class: "gl-after" }), "what is drawn from")), plain),
    list, rest, ...(state.send || state.tree.length ? [forest] : []), ...(state.send || state.columns.length ? [beside] : []),
  );
  const tabulate = foot(root, { name: "next-tokens", say, table: (limit) => ({
    caption: `The next token after ${quoted(state.pieces.at(-1))}`,
    columns: ["rank", "token", "id", "logit", "probability by the model", "probability drawn from"],
    rows: Array.from({ length: Math.min(V(), limit) }, (_, rank) => [rank + 1, state.labels[ranking.ids[rank]] ?? `id ${ranking.ids[rank]}`,
      ranking.ids[rank], logits[ranking.ids[rank]], ownOf[ranking.ids[rank]], after.probabilities[rank]]),
    total: V(),
  }) });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !state.send) return;
    const action = { s: sampleButton, u: undoButton, g: growButton }[event.key];
    if (!action) return;
    event.preventDefault();
    if (!action.disabled) action.click();
  });

  function request(message) {
    if (ask.busy) return; // the next draw must be from the next distribution
    root.setAttribute("aria-busy", "true");
    ask.ask(message);
  }

  function sample() {
    if (ask.busy) return;
    drawn = draw(after, random());
    request({ append: ranking.ids[drawn] });
    render();
  }

  function pick(rank) {
    if (!state.send || ask.busy) return;
    drawn = rank;
    request({ append: ranking.ids[rank] });
    render();
  }

  function byId() {
    const values = new Float64Array(own.ids.length);
    own.ids.forEach((id, rank) => { values[id] = before.probabilities[rank]; });
    return values;
  }

  function rerank() {
    const first = ranking.ids.slice(0, BARS).join();
    ranking = penalty.value === 1 ? own : reranked(own, logits, state.seen, penalty.value);
    if (ranking.ids.slice(0, BARS).join() !== first) build();
  }

  const chosen = () => ({ temperature: temperature.value, topK: topK.value, topP: topP.value, minP: minP.value });

  function grow() {
    const paths = twigs.length ? twigs.filter(({ leaf }) => leaf).map(({ path }) => path) : [[]];
    growAt(paths);
  }

  function growAt(paths) {
    const { temperature: t, topK: k, topP: p, minP: m } = chosen();
    request({ grow: paths, branches: Number(branches.value),
      settings: { temperature: t, top_k: k === V() ? null : k, top_p: p === 1 ? null : p, min_p: m || null, repetition_penalty: penalty.value } });
  }

  function tellTwig() {
    const node = twigs[twig];
    useButton.disabled = !node;
    if (node) useButton.setAttribute("aria-label", `Append this path, ${quoted(along(node))}`);
  }

  const along = (node) => twigs.filter(({ path }) => path.length <= node.path.length && path.every((id, i) => id === node.path[i])).map(({ label }) => label).join("");

  function showTree() {
    const kept = twigs[twig]?.path.join();
    const focused = tree.contains(document.activeElement);
    twigs = flattened(state.tree);
    twig = Math.max(0, twigs.findIndex(({ path }) => path.join() === kept));
    tree.replaceChildren(...twigs.map((node, i) => {
      const bar = make("i", { class: "gl-after" });
      bar.style.transform = `scaleX(${node.p})`;
      const item = make("li", {
        role: "treeitem", tabindex: "-1", "aria-level": node.path.length, "aria-selected": String(i === twig), "aria-expanded": node.leaf ? null : "true",
        onclick: () => { focusTwig(i, true); if (node.leaf && state.send) growAt([node.path]); },
        onkeydown: (event) => { if (event.key === "Enter" && node.leaf && state.send) { event.preventDefault(); growAt([node.path]); } },
      }, make("span", { class: "gl-name" }, make("bdi", {}, shown(node.label))), make("span", { class: "gl-track" }, bar),
        make("span", { class: "gl-number" }, percent(node.p)), make("span", { class: "gl-number" }, make("small", {}, "path "), percent(node.along)));
      item.style.setProperty("--level", node.path.length - 1);
      return item;
    }));
    tree.hidden = !twigs.length;
    focusTwig(twig, focused);
    tellTwig();
  }

  function showColumns() {
    columns.replaceChildren(...state.columns.map(({ temperature: t, pieces, p }) => {
      const mean = p.reduce((sum, x) => sum + Math.log(x), 0) / p.length;
      return make("div", {}, make("p", { class: "gl-muted" }, `temperature ${t === 0 ? "0 (greedy)" : t.toFixed(1)}: ${(-mean).toFixed(2)} nats a token by the model`),
        make("p", { class: "gl-text" }, make("span", { class: "gl-prompt" }, "…"), ...pieces.map((piece, i) => {
          const token = make("span", { class: "gl-token", title: `${shown(piece)}: ${percent(p[i])}` }, inline(piece));
          token.style.setProperty("--w", Math.sqrt(p[i]).toFixed(2));
          return token;
        })));
    }));
    columns.hidden = !state.columns.length;
  }

  // Rows stay in their order while settings move, but for the penalty: temperature never changes a rank.
  function build() {
    const n = Math.min(BARS, V());
    list.style.setProperty("--rows", Math.ceil(n / 2));
    rows = Array.from({ length: n }, (_, rank) => {
      const label = state.labels[ranking.ids[rank]] ?? String(ranking.ids[rank]);
      const bar = make("i", { class: "gl-after" });
      const ghost = make("i", { class: "gl-before" });
      const note = make("small", {}, "");
      const value = make("span", {}, "");
      const number = make("span", { class: "gl-number" }, note, value);
      const spoken = make("span", { class: "gl-unseen" }, "");
      ghost.style.transform = `scaleX(${ownOf[ranking.ids[rank]]})`;
      const button = make("button", { type: "button", tabindex: "-1", onclick: () => pick(rank) },
        make("span", { class: "gl-name" }, make("bdi", {}, shown(label))), make("span", { class: "gl-track" }, ghost, bar), number, spoken);
      return { bar, note, value, spoken, button, item: make("li", {}, button) };
    });
    ownTail = 0;
    for (let r = n; r < V(); r++) ownTail += ownOf[ranking.ids[r]];
    const focused = list.contains(document.activeElement);
    list.replaceChildren(...rows.map((row) => row.item));
    focusRow(0, focused);
  }

  function render() {
    after = choices(ranking, chosen());
    rows.forEach(({ bar, note, value, spoken, item }, rank) => {
      const p = after.probabilities[rank];
      const cut = rank >= after.kept && Object.entries(after.cuts).find(([, length]) => rank >= length)[0];
      const [own, now] = [percent(ownOf[ranking.ids[rank]]), percent(p)];
      bar.style.transform = `scaleX(${p})`;
      write(note, cut ? `${cut}: ${own} → ` : own === now ? "" : `${own} → `);
      write(value, now);
      item.classList.toggle("gl-cut", Boolean(cut));
      item.classList.toggle("gl-drawn", rank === drawn);
      write(spoken, ` ${cut ? `cut by ${cut}; ` : ""}the model’s own ${own}`);
    });
    const others = V() - rows.length;
    let tail = 0;
    for (let r = rows.length; r < after.kept; r++) tail += after.probabilities[r];
    write(rest, others > 0 ? `${others.toLocaleString("en")} more tokens together: ${percent(tail)}; the model’s own ${percent(ownTail)}.` : "");
    showEntropy(`${after.entropy.toFixed(2)} nats`, `the model’s own ${before.entropy.toFixed(2)}`);
    const open = ({ entropy }) => Math.exp(entropy).toLocaleString("en", { maximumSignificantDigits: entropy < 4.6 ? 2 : 3 });
    showChoice(`among ${open(after)} tokens`, `the model’s own ${open(before)}`);
    showKept(after.kept.toLocaleString("en"), `of ${V().toLocaleString("en")}`);
    showMass(percent(after.mass), temperature.value === 1 ? "of the model’s own" : "at this temperature");
    tabulate();
  }

  function showText() {
    text.replaceChildren(...state.pieces.map((piece, i) => make("span", {
      class: ["gl-token", i < state.forgotten ? "gl-forgotten" : i < state.prompt ? "gl-prompt" : "gl-written",
        i >= state.prompt && i === state.pieces.length - 1 ? "gl-newest" : ""].join(" "),
    }, inline(piece))));
    text.scrollTop = text.scrollHeight;
    undoButton.disabled = resetButton.disabled = state.pieces.length <= state.prompt;
    problem.textContent = state.problem
      || (state.forgotten ? `The model sees the last ${state.pieces.length - state.forgotten} tokens; what is struck out is out of its sight.` : "");
  }

  build();
  showText();
  showTree();
  showColumns();
  render();
  theme(root);
  const stop = watch(root, () => theme(root));
  return {
    update(next) {
      const length = state.pieces.length;
      const nodes = twigs.length;
      state = { ...state, ...next };
      const size = V();
      logits = floats(state.logits);
      ranking = own = ranked(logits);
      if (V() !== size) topK.restop(counts(V()));
      before = choices(own);
      ownOf = byId();
      if (penalty.value !== 1) ranking = reranked(own, logits, state.seen, penalty.value);
      drawn = -1;
      build();
      showText();
      showTree();
      showColumns();
      render();
      root.removeAttribute("aria-busy");
      if (state.problem) say(state.problem);
      else if (state.pieces.length > length) say(`Appended ${quoted(state.pieces.slice(length).join(""))}`);
      else if (state.pieces.length < length) say("Taken back");
      else if (twigs.length !== nodes) say(`${twigs.length} continuations in the tree`);
      else say("Continued three times");
      ask.answered();
    },
    destroy() {
      stop();
      changed.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, ["pieces", "prompt", "forgotten", "logits", "labels", "seen", "tree", "columns", "problem"]);
