// Line charts as SVG: axes with round numbers, lines in the theme's colours, and a cursor that keys and pointer move.
import { drawn, make } from "./base.js";

/** Round numbers from `low` to `high`, `most` of them at most, a step of 1, 2 or 5 times a power of ten apart. */
export function roundNumbers(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(1, most - 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * 0.999999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** A number for an axis or a readout: few digits, thousands as k, millions as M. */
export function brief(number, digits = 3) {
  const size = Math.abs(number);
  if (size >= 1e9) return `${Number((number / 1e9).toPrecision(digits))} G`;
  if (size >= 1e6) return `${Number((number / 1e6).toPrecision(digits))} M`;
  if (size >= 1e4) return `${Number((number / 1e3).toPrecision(digits))} k`;
  if (size !== 0 && size < 1e-3) return number.toExponential(Math.max(0, digits - 2));
  return String(Number(number.toPrecision(digits)));
}

const LEFT = 46;
const BOTTOM = 34;
const TOP = 8;
const RIGHT = 10;

/**
 * A chart. `name` is spoken, `xLabel` and `yLabel` stand at the axes, `height` is in pixels.
 *
 * With `moved(x)` the chart has a cursor: the pointer and the arrow keys (Page Up and Page Down by ten, Home, End) call it with
 * the nearest of `stops`. Returns `node` and `draw({ lines, levels, x, y, stops, cursor, says, width })`: `lines` hold
 * `{ xs, ys, colour, kind, name }` with colours 0 to 6 and kinds "line", "dashed", "faint" or "dots"; NaN breaks a line.
 * `levels` are `{ y, name }`, `x` and `y` the ranges shown.
 */
export function chart({ name, xLabel, yLabel, height = 220, moved = null, format = brief }) {
  const svg = drawn("svg", { class: "gl-chart", role: moved ? "slider" : "img", "aria-label": name });
  const figure = make("figure", { class: "gl-figure" }, make("figcaption", {}, name), svg);
  let shown = null;
  let place = null;
  if (moved) {
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("data-lm-suppress-shortcuts", "true");
    const nearest = (x) => {
      const { stops } = shown;
      let best = 0;
      for (let i = 1; i < stops.length; i++) if (Math.abs(stops[i] - x) < Math.abs(stops[best] - x)) best = i;
      return best;
    };
    svg.addEventListener("pointermove", (event) => {
      if (!shown?.stops.length) return;
      const at = event.clientX - svg.getBoundingClientRect().left;
      moved(shown.stops[nearest(place.back(at))]);
    });
    svg.addEventListener("keydown", (event) => {
      if (!shown?.stops.length) return;
      const at = nearest(shown.cursor ?? shown.stops.at(-1));
      const target = {
        ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - 10, PageUp: at + 10,
        Home: 0, End: shown.stops.length - 1,
      }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      moved(shown.stops[Math.max(0, Math.min(shown.stops.length - 1, target))]);
    });
  }
  return {
    node: figure,
    draw({ lines, levels = [], x, y, stops = [], cursor = null, says = "", width }) {
      shown = { stops, cursor };
      const [x0, x1] = x[1] > x[0] ? x : [x[0], x[0] + 1];
      const [y0, y1] = y[1] > y[0] ? y : [y[0], y[0] + 1];
      const [inner, tall] = [Math.max(40, width - LEFT - RIGHT), height - TOP - BOTTOM];
      const across = (value) => LEFT + ((value - x0) / (x1 - x0)) * inner;
      const down = (value) => TOP + (1 - (value - y0) / (y1 - y0)) * tall;
      place = { back: (pixels) => x0 + ((pixels - LEFT) / inner) * (x1 - x0) };
      const parts = [];
      for (const value of roundNumbers(y0, y1, Math.max(4, Math.floor(tall / 30)))) {
        parts.push(drawn("line", { class: "gl-grid", x1: LEFT, x2: LEFT + inner, y1: down(value), y2: down(value) }),
          drawn("text", { class: "gl-tick", x: LEFT - 6, y: down(value), "text-anchor": "end", "dominant-baseline": "central" }, format(value)));
      }
      for (const value of roundNumbers(x0, x1, Math.max(2, Math.floor(inner / 70)))) {
        parts.push(drawn("text", { class: "gl-tick", x: across(value), y: TOP + tall + 14, "text-anchor": "middle" }, format(value)));
      }
      parts.push(drawn("text", { class: "gl-tick", x: LEFT + inner, y: height - 5, "text-anchor": "end" }, xLabel),
        drawn("text", { class: "gl-tick", x: 2, y: height - 5 }, yLabel));
      for (const level of levels) {
        if (level.y < y0 || level.y > y1) continue;
        parts.push(drawn("line", { class: "gl-level", x1: LEFT, x2: LEFT + inner, y1: down(level.y), y2: down(level.y) }));
      }
      for (const { xs, ys, colour = 0, kind = "line" } of lines) {
        if (kind === "dots") {
          for (let i = 0; i < xs.length; i++) {
            if (Number.isFinite(ys[i])) parts.push(drawn("circle", { class: `gl-dot gl-c${colour}`, cx: across(xs[i]), cy: down(clamp(ys[i], y0, y1)), r: 3.2 }));
          }
          continue;
        }
        let path = "";
        let pen = "M";
        for (let i = 0; i < xs.length; i++) {
          if (!Number.isFinite(ys[i]) || xs[i] < x0 || xs[i] > x1) { pen = "M"; continue; }
          path += `${pen}${across(xs[i]).toFixed(1)} ${down(clamp(ys[i], y0, y1)).toFixed(1)}`;
          pen = "L";
        }
        if (path) parts.push(drawn("path", { class: `gl-line gl-${kind} gl-c${colour}`, d: path }));
      }
      for (const level of levels) { // after the lines, so that its halo keeps it readable where one passes
        if (level.y < y0 || level.y > y1) continue;
        parts.push(drawn("text", { class: "gl-tick gl-level-name", x: LEFT + 6, y: down(level.y) - 5 }, level.name));
      }
      if (cursor !== null) parts.push(drawn("line", { class: "gl-cursor", x1: across(cursor), x2: across(cursor), y1: TOP, y2: TOP + tall }));
      svg.setAttribute("width", width);
      svg.setAttribute("height", height);
      svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      svg.replaceChildren(...parts);
      if (moved) {
        svg.setAttribute("aria-valuemin", stops[0] ?? 0);
        svg.setAttribute("aria-valuemax", stops.at(-1) ?? 0);
        svg.setAttribute("aria-valuenow", cursor ?? stops.at(-1) ?? 0);
        svg.setAttribute("aria-valuetext", says);
      } else if (says) {
        svg.setAttribute("aria-label", `${name}: ${says}`);
      }
    },
  };
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** Names of lines with their colours: `{ name, colour, kind }`. */
export function key(entries) {
  return make("p", { class: "gl-chart-key gl-muted" }, ...entries.map(({ name, colour = 0, kind = "line" }) => make("span", {},
    make("i", { class: `gl-swatch gl-${kind} gl-c${colour}` }), name)));
}

/** From the smallest to the largest of some lists of numbers, NaN left out, with some air above and below. */
export function extent(lists, air = 0.05) {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) for (const value of list) if (Number.isFinite(value)) { low = Math.min(low, value); high = Math.max(high, value); }
  if (low > high) return [0, 1];
  const room = (high - low || Math.abs(high) || 1) * air;
  return [low - room, high + room];
}
