// Small charts as SVG paths, drawn when they scroll into view.

import { svg } from "./dom.js";
import { measure } from "./format.js";

const HEIGHT = 20;
const STEP = 10;
const ISOLATED = /M[^ML]*h0/g; // a window without neighbours, as written by `path`

const pending = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      for (const draw of pending.get(entry.target)) draw();
      pending.delete(entry.target);
    }
  },
  { rootMargin: "300px" },
);

/** Call the `draws` functions when the element comes near the viewport. */
export function drawWhenVisible(element, draws) {
  pending.set(element, draws);
  observer.observe(element);
}

/** Draw into an empty `<svg>`. `values` has a number or null for each window. */
export function draw(chart, values, unit) {
  const numbers = values.filter((value) => value !== null);
  if (!numbers.length) return;
  const maximum = unit === "percent" ? 100 : Math.max(...numbers, 1);
  chart.setAttribute("viewBox", `0 0 ${(values.length - 1) * STEP} ${HEIGHT}`);
  chart.setAttribute("preserveAspectRatio", "none");
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", describe(numbers, unit));
  const line = path(values, maximum);
  chart.append(
    svg("path", { class: "area", d: area(values, maximum) }),
    svg("path", { class: "line", d: line }),
    svg("path", { class: "isolated", d: line.match(ISOLATED)?.join("") ?? "" }),
  );
  if (!firstChartMarked) performance.mark("first-chart");
  firstChartMarked = true;
}

let firstChartMarked = false;

function describe(numbers, unit) {
  if (numbers.length === 1) return `one window: ${measure(numbers[0], unit)}`;
  return `${numbers.length} windows: ${measure(Math.min(...numbers), unit)} to ${measure(Math.max(...numbers), unit)}`;
}

const x = (index) => index * STEP;
const y = (value, maximum) => (HEIGHT * (1 - Math.min(Math.max(value / maximum, 0), 1))).toFixed(1);

/** SVG path of the line: a gap for each missing window, a dot for an isolated one. */
export function path(values, maximum) {
  return values
    .map((value, index) => {
      if (value === null) return "";
      const starts = index === 0 || values[index - 1] === null;
      const isIsolated = starts && (values[index + 1] ?? null) === null;
      return `${starts ? "M" : "L"}${x(index)} ${y(value, maximum)}${isIsolated ? "h0" : ""}`;
    })
    .join("");
}

function area(values, maximum) {
  let text = "";
  let from = null;
  for (let index = 0; index <= values.length; index += 1) {
    const value = values[index] ?? null;
    if (value !== null) {
      text +=
        from === null
          ? `M${x(index)} ${HEIGHT}L${x(index)} ${y(value, maximum)}`
          : `L${x(index)} ${y(value, maximum)}`;
      from ??= index;
    } else if (from !== null) {
      text += `L${x(index - 1)} ${HEIGHT}Z`;
      from = null;
    }
  }
  return text;
}
