// Small charts: one SVG path each, drawn when they come into view.

import { svg } from "./dom.js";
import { measure } from "./format.js";

const HEIGHT = 20;
const STEP = 10;
const LONE = /M[^ML]*h0/g; // a window without neighbours, as `path` writes it

const waiting = new WeakMap();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      for (const draw of waiting.get(entry.target)) draw();
      waiting.delete(entry.target);
    }
  },
  { rootMargin: "300px" },
);

/** Draw when the element comes near the screen. */
export function whenSeen(element, draws) {
  waiting.set(element, draws);
  watcher.observe(element);
}

/** Fill an empty `<svg>`; `series` has a value or null for each window. */
export function draw(chart, series, unit) {
  const known = series.filter((value) => value !== null);
  if (!known.length) return;
  const most = unit === "percent" ? 100 : Math.max(...known, 1);
  chart.setAttribute("viewBox", `0 0 ${(series.length - 1) * STEP} ${HEIGHT}`);
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", describe(known, unit));
  const line = path(series, most);
  chart.append(
    svg("path", { class: "area", d: area(series, most) }),
    svg("path", { class: "line", d: line }),
    svg("path", { class: "lone", d: line.match(LONE)?.join("") ?? "" }),
  );
  if (!drawn) performance.mark("first-chart");
  drawn = true;
}

let drawn = false;

function describe(known, unit) {
  if (known.length === 1) return `one window: ${measure(known[0], unit)}`;
  return `${known.length} windows: ${measure(Math.min(...known), unit)} to ${measure(Math.max(...known), unit)}`;
}

const x = (place) => place * STEP;
const y = (value, most) => (HEIGHT * (1 - Math.min(Math.max(value / most, 0), 1))).toFixed(1);

/** The line; where a window is missing it has a gap, and a lone window is a dot. */
export function path(series, most) {
  return series
    .map((value, place) => {
      if (value === null) return "";
      const starts = place === 0 || series[place - 1] === null;
      const alone = starts && (series[place + 1] ?? null) === null;
      return `${starts ? "M" : "L"}${x(place)} ${y(value, most)}${alone ? "h0" : ""}`;
    })
    .join("");
}

function area(series, most) {
  let text = "";
  let from = null;
  for (let place = 0; place <= series.length; place += 1) {
    const value = series[place] ?? null;
    if (value !== null) {
      text +=
        from === null
          ? `M${x(place)} ${HEIGHT}L${x(place)} ${y(value, most)}`
          : `L${x(place)} ${y(value, most)}`;
      from ??= place;
    } else if (from !== null) {
      text += `L${x(place - 1)} ${HEIGHT}Z`;
      from = null;
    }
  }
  return text;
}
