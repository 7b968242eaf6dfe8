// What stands under every view: its numbers as a table, and the view as a file (PNG, SVG, CSV).
import { drawn, make, once, shown } from "./base.js";

const TABLE_ROWS = 40; // that a table shows; the CSV file has all
const SKIPPED = ".gl-unseen, .gl-foot, .gl-actions, details, input, textarea, option, script, style"; // no part of a picture

/**
 * The foot of a view; appends itself to `root`.
 *
 * `table(limit)` gives `{ caption, columns, rows, total }`: rows of strings and numbers, no more than `limit` of them, and how
 * many there are (`rows.length` when left out); with `words` the strings are the view's own words and no tokens. `picture()`
 * gives the elements that make the picture, the whole view when left out; controls, `details` and `.gl-actions` in them are
 * left out. `name` begins the files' names, `say` reads aloud.
 * Returns `changed()`, to be called after each change of the view.
 */
export function foot(root, { name, table, picture = () => [...root.children], say = () => {} }) {
  const body = make("table", {});
  const rest = make("p", { class: "gl-muted" });
  const region = make("div", { class: "gl-scroll", role: "region", tabindex: "0", "aria-label": "Table" }, body);
  const details = make("details", { class: "gl-table", ontoggle: () => fill() }, make("summary", {}, "Show as table"), region, rest);
  const fill = () => {
    if (!details.open) return;
    const { caption, columns, rows, total = rows.length, words = false } = table(TABLE_ROWS);
    region.setAttribute("aria-label", caption);
    body.replaceChildren(
      make("caption", {}, caption),
      make("thead", {}, make("tr", {}, ...columns.map((column, i) => make("th", { scope: "col", class: wordy(rows, i) }, column)))),
      make("tbody", {}, ...rows.slice(0, TABLE_ROWS).map((row) => make("tr", {}, ...row.map((cell, i) => make("td", { class: wordy(rows, i) },
        typeof cell === "number" ? figureOf(cell) : make("bdi", {}, words ? cell : shown(cell ?? "")))))),
      ),
    );
    rest.textContent = total > TABLE_ROWS ? `The first ${TABLE_ROWS} of ${total.toLocaleString("en")} rows; the CSV file has all.` : "";
  };
  const files = {
    PNG: async () => download(await pngOf(picture()), `${name}.png`),
    SVG: () => download(new Blob([svgOf(picture())], { type: "image/svg+xml" }), `${name}.svg`),
    CSV: () => download(new Blob([csvOf(table(Infinity))], { type: "text/csv;charset=utf-8" }), `${name}.csv`),
  };
  const button = (kind) => make("button", {
    type: "button", "aria-label": `Save as ${kind}`,
    onclick: async () => {
      try {
        await files[kind]();
        say(`Saved as ${kind}`);
      } catch (error) {
        rest.textContent = `${kind} could not be made here: ${error.message}`;
        say(rest.textContent);
      }
    },
  }, kind);
  root.append(make("div", { class: "gl-foot" }, details,
    make("span", { class: "gl-field", role: "group", "aria-label": "Save this view" }, make("span", {}, "save as"), ...Object.keys(files).map(button))));
  const later = once(fill);
  return () => { if (details.open) later(); };
}

const wordy = (rows, column) => (rows.some((row) => typeof row[column] !== "number") ? "gl-word" : null);

/** A number for a table: four digits, whole numbers whole. */
export function figureOf(number) {
  return Number.isInteger(number) ? String(number) : String(Number(number.toPrecision(4)));
}

/** The table as CSV (RFC 4180). A text that a spreadsheet would compute, such as `=1+1`, gets an apostrophe in front. */
export function csvOf({ columns, rows }) {
  const cell = (value) => {
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value ?? "") ? `'${value}` : value ?? "";
    return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return `\ufeff${[columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")}\r\n`; // the mark tells Excel that it is UTF-8
}

function download(blob, file) {
  const link = make("a", { href: URL.createObjectURL(blob), download: file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** What the elements show, as a PNG of twice the screen's density. */
export async function pngOf(elements) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svgOf(elements))}`; // from a blob the canvas could not be read
  await image.decode();
  const canvas = make("canvas", { width: 2 * image.naturalWidth, height: 2 * image.naturalHeight });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the picture is too large"))), "image/png");
  });
}

// From the page to SVG: boxes, text and canvases as they are laid out now, so that any program can open the file. ------------

const FORBIDDEN = /[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu; // in XML
const PAINTED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "stroke-linecap", "stroke-linejoin",
  "opacity", "font", "text-anchor", "dominant-baseline", "visibility", "display"]; // of an SVG element's style

/** What the elements show, as an SVG file. */
export function svgOf(elements) {
  elements = elements.filter((element) => !element.matches(SKIPPED) && element.getClientRects().length);
  const boxes = elements.map((element) => element.getBoundingClientRect());
  const [left, top] = [Math.min(...boxes.map((box) => box.left)) - 8, Math.min(...boxes.map((box) => box.top)) - 8];
  const scene = { left, top, right: left, bottom: top, clips: 0, measure: document.createElement("canvas").getContext("2d") };
  const content = drawn("g");
  for (const element of elements) paintNode(element, content, scene);
  const [width, height] = [Math.ceil(scene.right - left + 8), Math.ceil(scene.bottom - top + 8)];
  const root = elements[0]?.closest(".gl-view");
  const svg = drawn("svg", { width, height, viewBox: `0 0 ${width} ${height}` },
    drawn("title", {}, root?.getAttribute("aria-label") ?? "View"),
    drawn("rect", { width, height, fill: root ? getComputedStyle(root).backgroundColor : "white" }), content);
  return new XMLSerializer().serializeToString(svg);
}

const invisible = (colour) => colour === "transparent" || /[,/]\s*0\)$/.test(colour);

function paintNode(node, into, scene) {
  if (node.nodeType === Node.TEXT_NODE) { paintText(node, into, scene); return; }
  if (node.nodeType !== Node.ELEMENT_NODE || node.matches(SKIPPED)) return;
  const style = getComputedStyle(node);
  const rects = [...node.getClientRects()];
  if (style.display !== "contents" && (!rects.length || style.visibility === "hidden")) return;
  const group = drawn("g", style.opacity === "1" ? {} : { opacity: style.opacity });
  into.append(group);
  if (node instanceof HTMLCanvasElement || node instanceof SVGSVGElement) { group.append(inset(node, scene)); return; }
  for (const rect of rects) decorate(node, rect, style, group, scene);
  if (node instanceof HTMLSelectElement) {
    const box = rects[0];
    group.append(drawn("text", { x: box.left - scene.left + 6, y: box.top - scene.top + box.height / 2, "dominant-baseline": "central",
      fill: style.color, style: `font: ${fontOf(style)}` }, node.selectedOptions[0]?.text ?? ""));
    return;
  }
  const scrolls = style.overflowX !== "visible" && (node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1);
  const inner = scrolls ? cutOut(rects[0], group, scene) : group;
  const before = scrolls ? { right: scene.right, bottom: scene.bottom } : null;
  for (const child of node.childNodes) paintNode(child, inner, scene);
  if (before) Object.assign(scene, before); // what is cut off does not widen the picture
}

function cutOut(box, group, scene) {
  const id = `clip${scene.clips++}`;
  group.append(drawn("clipPath", { id }, drawn("rect", placed(box, scene))));
  return group.appendChild(drawn("g", { "clip-path": `url(#${id})` }));
}

const placed = ({ left, top, width, height }, scene) => ({ x: left - scene.left, y: top - scene.top, width, height });

function widen(box, scene) {
  scene.right = Math.max(scene.right, box.right);
  scene.bottom = Math.max(scene.bottom, box.bottom);
}

// Background, border, and the two shadows that the style sheet uses.
function decorate(node, rect, style, group, scene) {
  widen(rect, scene);
  const box = { ...placed(rect, scene), rx: parseFloat(style.borderRadius) || null };
  const before = getComputedStyle(node, "::before");
  if (!invisible(style.backgroundColor)) group.append(drawn("rect", { ...box, fill: style.backgroundColor }));
  const stops = style.backgroundImage.startsWith("linear-gradient") ? style.backgroundImage.match(/rgba?\([^)]*\)/g) : null;
  if (stops) {
    const id = `gradient${scene.clips++}`;
    const [x1, x2, y1, y2] = style.backgroundImage.includes("90deg") ? [0, 1, 0, 0] : [0, 0, 0, 1];
    group.append(drawn("linearGradient", { id, x1, x2, y1, y2 }, ...stops.map((stop, i) => drawn("stop", { offset: i / (stops.length - 1), "stop-color": stop }))),
      drawn("rect", { ...box, fill: `url(#${id})` }));
  }
  if (before.content !== "none" && before.content !== "normal" && !invisible(before.backgroundColor)) {
    group.append(drawn("rect", { ...box, fill: before.backgroundColor, "fill-opacity": before.opacity }));
  }
  const [t, r, b, l] = ["Top", "Right", "Bottom", "Left"].map((side) => parseFloat(style[`border${side}Width`]));
  const line = (x1, y1, x2, y2, width, stroke) => width && group.append(drawn("line", { x1, y1, x2, y2, stroke, "stroke-width": width }));
  const { x, y, width, height } = box;
  line(x, y + t / 2, x + width, y + t / 2, t, style.borderTopColor);
  line(x, y + height - b / 2, x + width, y + height - b / 2, b, style.borderBottomColor);
  line(x + l / 2, y, x + l / 2, y + height, l, style.borderLeftColor);
  line(x + width - r / 2, y, x + width - r / 2, y + height, r, style.borderRightColor);
  const ring = style.boxShadow.match(/^(rgba?\([^)]*\)) 0px 0px 0px ([\d.]+)px$/);
  if (ring) group.append(drawn("rect", { ...box, fill: "none", stroke: ring[1], "stroke-width": ring[2] }));
  const under = style.boxShadow.match(/^(rgba?\([^)]*\)) 0px -([\d.]+)px 0px 0px inset$/);
  if (under) line(x, y + height - under[2] / 2, x + width, y + height - under[2] / 2, Number(under[2]), under[1]);
}

function inset(node, scene) {
  const rect = node.getBoundingClientRect();
  widen(rect, scene);
  if (node instanceof HTMLCanvasElement) return drawn("image", { ...placed(rect, scene), href: node.toDataURL() });
  const copy = node.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [node, ...node.querySelectorAll("*")].forEach((original, i) => {
    const style = getComputedStyle(original);
    for (const name of PAINTED) copies[i].style.setProperty(name, style.getPropertyValue(name));
  });
  for (const [name, value] of Object.entries(placed(rect, scene))) copy.setAttribute(name, value);
  return copy;
}

// `style.font` is empty where digits are of equal width.
const fontOf = (style) => `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
const graphemes = (text) => (Intl.Segmenter ? Array.from(new Intl.Segmenter().segment(text), (part) => part.segment) : [...text]);

// One <text> for each line, at the baseline where the page has it and as wide as it is there.
function paintText(node, into, scene) {
  if (!node.data.trim() || !node.parentElement) return;
  const style = getComputedStyle(node.parentElement);
  const range = document.createRange();
  const lines = [];
  let at = 0;
  for (const part of graphemes(node.data)) {
    range.setStart(node, at);
    range.setEnd(node, at += part.length);
    const { left, right, top, height, width } = range.getBoundingClientRect();
    if (!width) continue;
    const last = lines.at(-1);
    if (last && Math.abs(last.top - top) < 2) Object.assign(last, { text: last.text + part, left: Math.min(left, last.left), right: Math.max(right, last.right) });
    else lines.push({ text: part, left, right, top, height });
  }
  scene.measure.font = fontOf(style);
  const { fontBoundingBoxAscent: ascent, fontBoundingBoxDescent: descent } = scene.measure.measureText("x");
  for (const { text, left, right, top, height } of lines) {
    widen({ right, bottom: top + height }, scene);
    into.append(drawn("text", {
      x: left - scene.left, y: top - scene.top + (height * ascent) / (ascent + descent), textLength: right - left, fill: style.color,
      "text-decoration": style.textDecorationLine === "none" ? null : style.textDecorationLine, style: `font: ${fontOf(style)}; white-space: pre`,
    }, text.replace(FORBIDDEN, "\ufffd")));
  }
}
