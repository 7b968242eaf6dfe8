// What every view shares: building elements, showing tokens, colours and theme, keyboard, binary data, talking to the kernel.
// A view imports this file; where relative imports cannot work (a notebook loads a view from a blob), Python joins the two.

// JupyterLab takes keys away from a focused element, and `d d` deletes the cell, unless that very element says this.
const KEEP_KEYS = "data-lm-suppress-shortcuts";
const FOCUSABLE = new Set(["button", "input", "select", "summary", "textarea"]);

/** An element with attributes, listeners (`onclick` and so on) and children; strings become text, never markup. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  if (FOCUSABLE.has(tag) || "tabindex" in attributes) node.setAttribute(KEEP_KEYS, "true");
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element; numbers in its attributes are rounded to hundredths. */
export function drawn(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    node.setAttribute(name, typeof value === "number" ? String(Number(value.toFixed(2))) : String(value));
  }
  node.append(...children);
  return node;
}

/** The outer element of a view: named for screen readers, with a line that is read aloud when `say` changes it. */
export function frame(element, name, kind) {
  const live = make("p", { class: "gl-unseen", role: "status" });
  const root = make("section", { class: `gl-view gl-${kind}`, "aria-label": name }, live);
  element.replaceChildren(root);
  root.addEventListener("keydown", (event) => event.stopPropagation()); // it would also take Enter from a text field
  let timer;
  const say = (text) => {
    clearTimeout(timer);
    timer = setTimeout(() => { live.textContent = text; }, 120); // a held key should not queue a hundred sentences
  };
  return { root, say };
}

/** A label and its control; clicking the label reaches the control. */
export function field(text, control, ...more) {
  return make("label", { class: "gl-field" }, make("span", {}, text), control, ...more);
}

// Tokens ---------------------------------------------------------------------------------------------------------------

const MARKS = { " ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥" };
// Control characters, and marks that turn the writing direction of what follows.
const HIDDEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const escaped = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** A token as a label: every character visible, spaces and line breaks as marks. */
export function shown(token) {
  if (token === "") return "∅";
  return token.replace(/[ \n\r\t]/g, (c) => MARKS[c]).replace(HIDDEN, escaped);
}

/** A token inside running text: spaces stay spaces, a line break is marked and still breaks the line. */
export function inline(token) {
  return token.replace(HIDDEN, (c) => (c === "\n" ? "⏎\n" : c === "\t" ? "⇥\t" : escaped(c)));
}

/** A label of at most `length` characters. */
export function clipped(label, length) {
  const characters = [...label];
  return characters.length <= length ? label : `${characters.slice(0, length - 1).join("")}…`;
}

/** Quoted, for sentences. */
export const quoted = (token) => `“${shown(token)}”`;

// Colours and theme ----------------------------------------------------------------------------------------------------

const VIRIDIS = [
  "440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c",
  "1fa088", "28ae80", "3fbc73", "5ec962", "84d44b", "addc30", "d8e219", "fde725",
].map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
export const GRADIENT = `linear-gradient(90deg, ${VIRIDIS.map((c) => `rgb(${c})`).join(", ")})`;

/** Viridis as 1024 opaque pixels, for `Uint32Array` views of image data (bytes in the order R, G, B, A). */
export const PIXELS = Uint32Array.from({ length: 1024 }, (_, i) => {
  const at = (i / 1023) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [r, g, b] = [0, 1, 2].map((c) => Math.round(VIRIDIS[low][c] + (at - low) * (VIRIDIS[low + 1][c] - VIRIDIS[low][c])));
  return (255 << 24) | (b << 16) | (g << 8) | r;
});

/** The view's colours as the theme now has them; also marks the view as light or dark, which the style sheet uses.
 * Null while the view is not on the page; `watch` calls again when it is. */
export function theme(root) {
  const channels = getComputedStyle(root).backgroundColor.match(/[\d.]+/g);
  if (!channels) return null; // not on the page yet
  const [r, g, b] = channels.map(Number);
  root.dataset.glTheme = 0.2126 * r + 0.7152 * g + 0.0722 * b < 128 ? "dark" : "light";
  const style = getComputedStyle(root);
  const colour = (name) => style.getPropertyValue(`--gl-${name}`).trim();
  return { back: style.backgroundColor, text: style.color, muted: colour("muted"), line: colour("line"), accent: colour("accent") };
}

/** Call `changed` when the page's theme or the view's width changes; returns a function that stops. */
export function watch(root, changed) {
  const later = once(changed);
  const themes = new MutationObserver(() => { later(); setTimeout(later, 300); }); // a theme's style sheet may load late
  for (const node of [document.documentElement, document.body]) {
    themes.observe(node, { attributes: true, attributeFilter: ["class", "theme", "data-theme", "data-jp-theme-light", "data-jp-theme-name"] });
  }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", later);
  const sizes = new ResizeObserver(later);
  sizes.observe(root);
  return () => {
    themes.disconnect();
    sizes.disconnect();
    dark.removeEventListener("change", later);
    later.cancel();
  };
}

/** True when the reader asked their system for less motion: then nothing may move by itself. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** `action` at the next frame, once, however often it is asked for until then. */
export function once(action) {
  let frame = 0;
  const ask = () => { frame ||= requestAnimationFrame(() => { frame = 0; action(); }); };
  ask.cancel = () => { cancelAnimationFrame(frame); frame = 0; };
  return ask;
}

/** Do every one of `tasks`, as many in each frame as fit into 8 milliseconds; returns a function that stops. */
export function gradually(tasks) {
  let frame = 0;
  let next = 0;
  const go = () => {
    const start = performance.now();
    while (next < tasks.length && performance.now() - start < 8) tasks[next++]();
    if (next < tasks.length) frame = requestAnimationFrame(go);
  };
  go();
  return () => cancelAnimationFrame(frame);
}

/** Give a canvas its size in CSS pixels and return a context that draws in them, sharp on every screen. */
export function surface(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// Controls -------------------------------------------------------------------------------------------------------------

/** One tab stop for many items in rows of `columns()`: arrows, Home and End move, the item with focus is told to `moved`. */
export function roving(container, items, columns, moved = () => {}) {
  let current = 0;
  const select = (index, focus) => {
    items()[current]?.setAttribute("tabindex", "-1");
    current = Math.max(0, Math.min(items().length - 1, index));
    const item = items()[current];
    item?.setAttribute("tabindex", "0");
    if (focus) { item.focus(); moved(current); }
  };
  container.addEventListener("keydown", (event) => {
    const n = columns();
    const row = Math.floor(current / n) * n;
    const target = {
      ArrowLeft: current - 1, ArrowRight: current + 1, ArrowUp: current - n, ArrowDown: current + n,
      Home: event.ctrlKey ? 0 : row, End: event.ctrlKey ? items().length - 1 : row + n - 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    if (target >= 0 && target < items().length) select(target, true);
  });
  container.addEventListener("focusin", (event) => {
    const index = items().indexOf(event.target);
    if (index >= 0 && index !== current) select(index, false);
  });
  return select;
}

/** A labelled slider over `stops` (an array of values), shown and spoken as `format(value)`; `value` reads and sets it. */
export function slider(label, stops, value, format, changed) {
  const nearest = (v) => stops.reduce((best, stop, i) => (Math.abs(stop - v) < Math.abs(stops[best] - v) ? i : best), 0);
  const output = make("output", {});
  const input = make("input", { type: "range", min: 0, max: stops.length - 1, step: 1, oninput: () => { show(); changed(); } });
  const show = () => {
    output.textContent = format(stops[input.value]);
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const control = {
    row: make("label", { class: "gl-slider" }, make("span", {}, label), input, output),
    input,
    get value() { return stops[input.value]; },
    set value(v) { input.value = nearest(v); show(); },
    restop(next) { const kept = control.value; stops = next; input.max = stops.length - 1; control.value = kept; },
  };
  control.value = value;
  return control;
}

// Data -----------------------------------------------------------------------------------------------------------------

/** Numbers sent as bytes: `bytes` is a DataView, a typed array or an ArrayBuffer; `dtype` is "float32" or "float16". */
export function floats(bytes, dtype = "float32") {
  const buffer = bytes.buffer ?? bytes;
  const [start, length] = [bytes.byteOffset ?? 0, bytes.byteLength];
  const copy = buffer.slice(start, start + length); // a view into a message may start at an odd byte
  if (dtype === "float32") return new Float32Array(copy);
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => half(bits)); // a table: millions of weights are looked up in it
  const bits = new Uint16Array(copy);
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = halves[bits[i]];
  return values;
}

let halves;

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

// Kernel ---------------------------------------------------------------------------------------------------------------

/** Requests to the kernel, one at a time; the latest that had to wait is sent after the answer. `report` gets a sentence or "". */
export function requests(send, report, patience = 10_000) {
  let waiting = null;
  let busy = false;
  let timer;
  const post = (request) => {
    busy = true;
    timer = setTimeout(() => report("The kernel does not answer. Wait for a running cell to end, or run this cell again."), patience);
    send(request);
  };
  return {
    get busy() { return busy; },
    ask(request) { if (busy) waiting = request; else post(request); },
    answered() {
      clearTimeout(timer);
      busy = false;
      const next = waiting;
      waiting = null;
      if (next !== null) post(next);
    },
    stop() { clearTimeout(timer); },
  };
}

const LOST = "The kernel stopped or was restarted. What the browser computes still works; for the rest run this cell again.";

/** anywidget's render function for a view: `names` are the synchronised values that make its state, `step` counts changes.
 * A kernel that stops is said at the top of the view, until it answers again. */
export function adapter(mount, names) {
  return {
    render({ model, el }) {
      const state = () => Object.fromEntries(names.map((name) => [name, model.get(name)]));
      const note = make("p", { class: "gl-problem", role: "alert" });
      const lost = () => { note.textContent = LOST; };
      const send = (request) => {
        try {
          Promise.resolve(model.send(request)).catch(lost);
        } catch {
          lost(); // there is nobody to send to
        }
      };
      const view = mount(el, { ...state(), send });
      el.firstElementChild.prepend(note);
      const changed = () => {
        note.textContent = "";
        view.update(state());
      };
      model.on("change:step", changed);
      model.on("comm_live_update", lost);
      return () => {
        model.off("change:step", changed);
        model.off("comm_live_update", lost);
        view.destroy();
      };
    },
  };
}
