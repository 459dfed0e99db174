// uPlot, loaded when the first chart is drawn: bands, thresholds and gaps.

import { svg } from "./dom.js";
import { measure, toClock, toDay, toUtcDay } from "./format.js";

const HEIGHT = 190;
const DAY = 86_400; // seconds
const PALETTE = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [1, 5], [14, 4], [5, 2, 1, 2, 1, 2], [3, 7]];

let library = null;
let drawn = false;

/** A line as in a chart, for its legend. */
export function sample(number) {
  const line = svg("path", {
    d: "M0 4H26",
    "stroke-dasharray": DASHES[number % DASHES.length].join(" "),
  });
  return svg("svg", { class: "sample", viewBox: "0 0 26 8", "aria-hidden": "true" }, line);
}

/** uPlot, with its stylesheet. */
function loaded() {
  library ??= new Promise((resolve, reject) => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = "page/uplot.min.css";
    const script = document.createElement("script");
    script.src = "page/uplot.min.js";
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => {
      library = null;
      reject(Object.assign(new Error("the chart library could not be loaded"), { status: 0 }));
    };
    document.head.append(sheet, script);
  });
  return library;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart over time into an element, kept as wide as it.
 * `lines` are pairs of a name and columns `{unit, avg, min, max, thresholds}`; with `days`,
 * timestamps are days of UTC.
 */
export async function timeChart(
  element,
  { lines, timestamps, step = 0, tell, from, to, height = HEIGHT, days = false },
) {
  const UPlot = await loaded();
  const stamps = timestamps.map((each) => new Date(each) / 1000);
  const gaps = gapsOf(stamps, step);
  const { data, series, bands } = columnsOf(lines, stamps, gaps);
  const unit = lines[0][1].unit;
  const thresholds = lines[0][1].thresholds;
  const handle = { at: null, mark: () => {} };
  const axis = {
    stroke: () => colour("--muted"),
    grid: { stroke: () => colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const span = from && to ? [Date.parse(from) / 1000, Date.parse(to) / 1000] : null;
  const [first, last] = span ?? [stamps[0], stamps.at(-1)];
  const write = days ? daily : writerOf(last - first);
  const chart = new UPlot(
    {
      tzDate: (stamp) => dateOf(UPlot, stamp, days),
      width: width(element),
      height,
      series: [{}, ...series],
      bands,
      legend: { show: false },
      cursor: {
        y: false,
        points: { size: 6 },
        drag: { x: false, y: false },
        sync: { key: "history" },
      },
      scales: {
        x: { time: true, ...(span && { range: () => span }) },
        y: { range: (_, least, most) => rangeOf(unit, least, most) },
      },
      axes: [
        {
          ...axis,
          values: (_, places) => write(places),
          space: 70,
          size: write === both ? 44 : 30,
        },
        {
          ...axis,
          values: (_, places) => places.map((each) => measure(each, unit)),
          size: 62,
          space: 34,
        },
      ],
      hooks: {
        draw: thresholds ? [(u) => limits(u, thresholds)] : [],
        setCursor: [(u) => follow(u, { handle, stamps, data, tell })],
      },
    },
    data,
    element,
  );
  handle.mark = (place) => {
    const left = place === null ? -10 : chart.valToPos(stamps[place], "x");
    handle.own = true;
    chart.setCursor({ left, top: 10 }, false);
    handle.own = false;
  };
  keepUp(element, chart, height);
  if (!drawn) performance.mark("first-chart");
  drawn = true;
  return handle;
}

/** Where the pointer is, or another chart's. */
function follow(u, { handle, stamps, data, tell }) {
  if (handle.own || !tell) return;
  const { idx } = u.cursor;
  if (idx === null || idx === undefined) {
    if (handle.at !== null) tell((handle.at = null));
    return;
  }
  const place = stamps.indexOf(data[0][idx]);
  if (place >= 0 && place !== handle.at) tell((handle.at = place));
}

const width = (element) => Math.max(element.clientWidth, 240);

/** As wide as its place, in the colours of the moment; gone when the view is left. */
function keepUp(element, chart, height) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => chart.redraw();
  const size = new ResizeObserver(() => {
    if (!element.isConnected) {
      size.disconnect();
      dark.removeEventListener("change", repaint);
      chart.destroy();
      return;
    }
    if (width(element) !== chart.width) chart.setSize({ width: width(element), height });
  });
  size.observe(element);
  dark.addEventListener("change", repaint);
}

/** Places after which windows are missing. */
function gapsOf(stamps, step) {
  if (!step) return new Set();
  return new Set(
    stamps.flatMap((stamp, place) =>
      place > 0 && stamp - stamps[place - 1] > 1.5 * step ? [place] : [],
    ),
  );
}

/** Values with a null where a gap is, so that the line breaks there. */
function broken(values, gaps) {
  if (!gaps.size) return values;
  return values.flatMap((value, place) => (gaps.has(place) ? [null, value] : [value]));
}

function columnsOf(lines, stamps, gaps) {
  const data = [
    stamps.flatMap((value, place) =>
      gaps.has(place) ? [(value + stamps[place - 1]) / 2, value] : [value],
    ),
  ];
  const series = [];
  const bands = [];
  lines.forEach(([label, columns], number) => {
    const name = PALETTE[number % PALETTE.length];
    if (columns.min && columns.max) {
      bands.push({ series: [data.length, data.length + 1], fill: () => colour(`${name}-band`) });
      for (const edge of ["max", "min"]) {
        data.push(broken(columns[edge], gaps));
        series.push({
          label: `${label} ${edge}`,
          stroke: () => colour(`${name}-band`),
          width: 1,
          points: { show: false },
        });
      }
    }
    data.push(broken(columns.avg, gaps));
    series.push({
      label,
      stroke: () => colour(name),
      width: 1.75,
      dash: DASHES[number % DASHES.length],
      points: { show: true, size: 5, fill: () => colour(name), filter: lonely },
    });
  });
  return { data, series, bands };
}

/** A value without neighbours has no line: it gets a point. */
function lonely(u, place) {
  const values = u.data[place];
  const found = [];
  const [first, last] = u.series[0].idxs ?? [0, values.length - 1];
  for (let at = first; at <= last; at += 1) {
    const alone = beside(values, at, -1) === null && beside(values, at, 1) === null;
    if ((values[at] ?? null) !== null && alone) found.push(at);
  }
  return found;
}

/** The next value on one side, passing over what belongs to other series. */
function beside(values, at, step) {
  let next = at + step;
  while (next in values && values[next] === undefined) next += step;
  return values[next] ?? null;
}

function rangeOf(unit, least, most) {
  if (unit === "percent") return [0, 100];
  const low = Math.min(least ?? 0, 0);
  const high = most ?? 1;
  return [low, high > low ? high + (high - low) * 0.08 : low + 1];
}

/** How the time axis is written, by its length in seconds. */
function writerOf(length) {
  if (length > 2.2 * DAY) return (places) => onceEach(places, toDay);
  return length > 1.2 * DAY ? both : (places) => onceEach(places, toClock);
}

const daily = (places) => onceEach(places, toUtcDay);

/** The time, and below it the day where another one begins. */
function both(places) {
  const days = onceEach(places, toDay);
  return places.map((each, place) => `${toClock(each * 1000)}\n${days[place]}`);
}

function onceEach(places, text) {
  const words = places.map((each) => text(each * 1000));
  return words.map((word, place) => (word === words[place - 1] ? "" : word));
}

/** Days begin at midnight of UTC, all else where the reader is. */
function dateOf(UPlot, stamp, days) {
  const date = new Date(stamp * 1000);
  return days ? UPlot.tzDate(date, "Etc/UTC") : date;
}

function limits(u, { warning, critical }) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.lineWidth = devicePixelRatio;
  for (const [value, name, dash] of [
    [warning, "--warning", [2, 4]],
    [critical, "--critical", [7, 4]],
  ]) {
    const at = Math.round(u.valToPos(value, "y", true));
    ctx.strokeStyle = colour(name);
    ctx.setLineDash(dash.map((each) => each * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(bbox.left, at);
    ctx.lineTo(bbox.left + bbox.width, at);
    ctx.stroke();
  }
  ctx.restore();
}
