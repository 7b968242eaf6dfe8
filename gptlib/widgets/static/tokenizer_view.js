// One text, cut into tokens by several tokenizers side by side. Characters and byte pair encoding run here, in the browser.
import { adapter, frame, inline, make, once, quoted, requests, roving, watch, theme } from "./base.js";
import { foot } from "./exporting.js";

const DRAWN = 400; // tokens of one tokenizer that are drawn; all are counted
const PAIR = 2 ** 21; // more than any vocabulary has
// GPT-2's rule for cutting text, with white space as Unicode defines it (a browser's \s differs at two characters). Letters that
// Unicode has added since the kernel's tables were made may be cut in other places there.
const PIECES = /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
const utf8 = new TextEncoder();

/** Tokenizers as they were sent: `kinds` says what each is, `tables` holds the numbers of those that run here, one after another. */
export function tokenizers(kinds, tables) {
  const start = tables.byteOffset ?? 0;
  const buffer = (tables.buffer ?? tables).slice(start, start + tables.byteLength);
  let at = 0;
  const take = (Type, n) => {
    const values = new Type(buffer, at, n);
    at += 4 * Math.ceil((n * Type.BYTES_PER_ELEMENT) / 4);
    return values;
  };
  return kinds.map((kind) => {
    if (kind.kind === "characters") return { ...kind, encode: characters(kind) };
    if (kind.kind !== "bpe") return { ...kind, encode: null };
    const merges = take(Int32Array, 3 * kind.merges);
    const [ids, lengths] = [take(Int32Array, kind.tokens), take(Int32Array, kind.tokens)];
    return { ...kind, encode: pairs(kind, merges, ids, lengths, take(Uint8Array, lengths.reduce((sum, n) => sum + n, 0))) };
  });
}

/** Each character's id; one that the tokenizer does not know has id null. */
function characters({ characters: known }) {
  const ids = new Map(known.map((character, id) => [character, id]));
  return (text) => Array.from(text, (character) => ({ id: ids.get(character) ?? null, label: character, bytes: utf8.encode(character) }));
}

/** Byte pair encoding: merge the pair that was learned first, everywhere, until no learned pair is left. */
function pairs({ special }, merges, ids, lengths, bytes) {
  const become = new Map(); // pair -> rank
  for (let rank = 0; rank < merges.length / 3; rank++) become.set(merges[3 * rank] * PAIR + merges[3 * rank + 1], rank);
  const tokens = new Map();
  const single = new Int32Array(256);
  for (let i = 0, from = 0; i < ids.length; from += lengths[i++]) {
    const token = bytes.slice(from, from + lengths[i]);
    if (token.length === 1) single[token[0]] = ids[i];
    tokens.set(ids[i], { id: ids[i], label: readable(token), bytes: token });
  }
  const whole = Object.entries(special).sort(([a], [b]) => b.length - a.length);
  for (const [text, id] of whole) tokens.set(id, { id, label: text, bytes: utf8.encode(text) });
  const split = whole.length ? new RegExp(`(${whole.map(([text]) => text.replace(/[.*+?^${}()|[\]\\/-]/g, "\\$&")).join("|")})`) : null;
  const known = new Map();

  function piece(text) {
    let found = known.get(text);
    if (found) return found;
    found = Array.from(utf8.encode(text), (byte) => single[byte]);
    for (;;) {
      let first = Infinity;
      for (let i = 1; i < found.length; i++) first = Math.min(first, become.get(found[i - 1] * PAIR + found[i]) ?? Infinity);
      if (first === Infinity) break;
      const [left, right, id] = merges.subarray(3 * first, 3 * first + 3);
      const merged = [];
      for (let i = 0; i < found.length; i++) {
        if (found[i] === left && found[i + 1] === right) { merged.push(id); i++; } else merged.push(found[i]);
      }
      found = merged;
    }
    if (known.size > 20_000) known.clear();
    known.set(text, found);
    return found;
  }
  return (text) => (split ? text.split(split) : [text]).flatMap((part) => (special[part] !== undefined && Object.hasOwn(special, part)
    ? [tokens.get(special[part])]
    : (part.match(PIECES) ?? []).flatMap((cut) => piece(cut).map((id) => tokens.get(id)))));
}

/** Bytes as text; one that is no whole character shows as \xe2, for example. */
export function readable(bytes) {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  for (let i = 0; i < bytes.length;) {
    const length = bytes[i] < 0x80 ? 1 : bytes[i] >= 0xf0 ? 4 : bytes[i] >= 0xe0 ? 3 : 2;
    try {
      text += strict.decode(bytes.subarray(i, i + length));
      i += length;
    } catch {
      text += `\\x${bytes[i++].toString(16).padStart(2, "0")}`;
    }
  }
  return text;
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");

/**
 * Show the tokens of a text in `element`.
 *
 * `state`: text, kinds and tables (see `tokenizers`), answers ({ text, rows }: for a tokenizer that runs in the kernel its list of
 * [id, label], null for the others), problem; with `send`, `send({ text })` asks the kernel for its tokenizers' answers.
 * Returns `update(state)` and `destroy()`.
 */
export function mount(element, state) {
  const list = tokenizers(state.kinds, state.tables);
  const remote = list.some(({ encode }) => !encode);
  const { root, say } = frame(element, "Tokenizers", "tokenizers");
  const problem = make("p", { class: "gl-problem", role: "alert" });
  const ask = requests((text) => state.send({ text }), (sentence) => { problem.textContent = sentence; });
  const editor = make("textarea", { rows: 3, spellcheck: "false", maxlength: 5000, oninput: () => changed() });
  editor.value = state.text;
  const readout = make("p", { class: "gl-readout", "aria-live": "off" });
  const cards = list.map((tokenizer, number) => {
    const strip = make("div", { class: "gl-text gl-pieces", role: "listbox", "aria-label": `Tokens of ${tokenizer.name}`, "aria-orientation": "horizontal" });
    const card = { tokenizer, strip, number, tokens: [], starts: [], count: make("b", {}), note: make("span", { class: "gl-muted" }), bar: make("i", { class: "gl-after" }) };
    card.focus = roving(strip, () => [...strip.children], () => Math.max(1, strip.children.length), (i) => point(card, i, true));
    strip.addEventListener("pointerover", (event) => { if (event.target !== strip) point(card, [...strip.children].indexOf(event.target.closest("[role=option]"))); });
    strip.addEventListener("pointerleave", () => point(null));
    strip.addEventListener("focusin", (event) => point(card, [...strip.children].indexOf(event.target)));
    strip.addEventListener("focusout", () => point(null));
    card.node = make("div", { class: "gl-card" },
      make("div", { class: "gl-bar" }, make("span", {}, make("bdi", {}, tokenizer.name)), card.count, card.note),
      make("div", { class: "gl-track" }, card.bar), strip);
    return card;
  });
  root.append(make("label", {}, make("span", { class: "gl-muted" }, "Text: type, and see how it is cut"), editor), problem, readout, ...cards.map(({ node }) => node));
  const tabulate = foot(root, { name: "tokens", say, picture: () => cards.map(({ node }) => node), table: (limit) => {
    const total = cards.reduce((sum, { tokens }) => sum + tokens.length, 0);
    const rows = [];
    for (const { tokenizer, tokens } of cards) {
      for (let i = 0; i < tokens.length && rows.length < limit; i++) rows.push([tokenizer.name, i, tokens[i].label, tokens[i].id ?? "unknown", tokens[i].bytes ? hex(tokens[i].bytes) : ""]);
    }
    return { caption: "Tokens", columns: ["tokenizer", "position", "token", "id", "bytes"], rows, total };
  } });

  const changed = once(() => {
    if (remote && state.send) ask.ask(editor.value);
    render();
    say(cards.map(({ tokenizer, tokens }) => `${tokenizer.name}: ${tokens.length} tokens`).join(", "));
  });

  function render() {
    const text = editor.value;
    for (const card of cards) {
      const { encode, name } = card.tokenizer;
      const answer = state.answers.rows[card.number] ?? [];
      const tokens = encode ? encode(text) : answer.map(([id, label]) => ({ id, label }));
      draw(card, tokens);
      const letters = [...text].length;
      const unknown = tokens.filter(({ id }) => id === null).length;
      const stale = !encode && state.answers.text !== text;
      card.count.textContent = `${tokens.length.toLocaleString("en")} token${tokens.length === 1 ? "" : "s"}`;
      card.note.textContent = [
        tokens.length ? `${(letters / tokens.length).toFixed(2)} characters each` : "", `${card.tokenizer.size.toLocaleString("en")} in the vocabulary`,
        unknown ? `${unknown} not among them` : "", stale ? (state.send ? "waiting for the kernel" : `of the text “${name}” was last asked for`) : "",
        tokens.length > DRAWN ? `the first ${DRAWN.toLocaleString("en")} are drawn` : "",
      ].filter(Boolean).join(" · ");
    }
    const most = Math.max(1, ...cards.map(({ tokens }) => tokens.length));
    for (const { bar, tokens } of cards) bar.style.transform = `scaleX(${tokens.length / most})`;
    point(null);
    tabulate();
  }

  // Only what changed between two texts is drawn anew: a letter typed into a long text costs a few elements.
  function draw(card, tokens) {
    const [before, after] = [card.tokens.slice(0, DRAWN), tokens.slice(0, DRAWN)];
    const same = (a, b) => a.id === b.id && a.label === b.label;
    let head = 0, tail = 0;
    while (head < Math.min(before.length, after.length) && same(before[head], after[head])) head++;
    while (tail < Math.min(before.length, after.length) - head && same(before.at(-1 - tail), after.at(-1 - tail))) tail++;
    for (const node of [...card.strip.children].slice(head, before.length - tail)) node.remove();
    const fresh = after.slice(head, after.length - tail).map(({ id, label }) => make("span", {
      class: id === null ? "gl-piece gl-unknown" : "gl-piece", role: "option", tabindex: "-1", "aria-selected": "false", "aria-label": `${quoted(label)}, ${id === null ? "unknown" : `id ${id}`}`,
    }, inline(label) || "∅"));
    const next = card.strip.children[head] ?? null;
    for (const node of fresh) card.strip.insertBefore(node, next);
    card.strip.hidden = !after.length;
    let at = 0;
    card.tokens = tokens;
    card.starts = tokens.map(({ bytes }) => { const start = at; at += bytes ? bytes.length : 0; return start; });
    card.focus(0, false);
  }

  // The token under the pointer or with focus, and in the other rows whatever shares a byte with it.
  let marked = [];
  function point(card, index = -1) {
    for (const node of marked) { node.classList.remove("gl-shared"); node.setAttribute("aria-selected", "false"); }
    marked = [];
    const token = card?.tokens[index];
    if (!token) {
      readout.textContent = "Point at a token, or move to it with Tab and the arrow keys, for its id.";
      return;
    }
    const mark = (node) => { node.classList.add("gl-shared"); marked.push(node); };
    mark(card.strip.children[index]);
    card.strip.children[index].setAttribute("aria-selected", "true");
    if (token.bytes) {
      const [from, to] = [card.starts[index], card.starts[index] + token.bytes.length];
      for (const other of cards) {
        if (other === card || !other.tokenizer.encode) continue;
        other.tokens.slice(0, DRAWN).forEach(({ bytes }, i) => {
          if (other.starts[i] < to && other.starts[i] + bytes.length > from) mark(other.strip.children[i]);
        });
      }
    }
    readout.replaceChildren(make("bdi", {}, quoted(token.label)), token.id === null ? " is not in this vocabulary" : " has id ", ...(token.id === null ? [] : [make("b", {}, String(token.id))]),
      `, token ${index + 1} of ${card.tokens.length} of ${card.tokenizer.name}${token.bytes ? `; bytes ${hex(token.bytes)}` : ""}`);
  }

  render();
  theme(root);
  const stop = watch(root, () => theme(root));
  return {
    update(next) {
      state = { ...state, ...next };
      problem.textContent = state.problem;
      if (state.problem) say(state.problem);
      render();
      ask.answered();
    },
    destroy() {
      stop();
      changed.cancel();
      ask.stop();
    },
  };
}

export default adapter(mount, ["text", "kinds", "tables", "answers", "problem"]);
