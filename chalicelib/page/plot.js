// Time charts drawn by uPlot: bands, thresholds and gaps. uPlot is loaded with the first chart.

import { svg } from "./dom.js";
import { measure, toClock, toDay, toUtcDay } from "./format.js";

const HEIGHT = 190;
const DAY = 86_400; // seconds
const PALETTE = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [1, 5], [14, 4], [5, 2, 1, 2, 1, 2], [3, 7]];

let library = null;
let firstChartMarked = false;

/** Line sample for a legend. */
export function lineSample(number) {
  const line = svg("path", {
    d: "M0 4H26",
    "stroke-dasharray": DASHES[number % DASHES.length].join(" "),
  });
  return svg("svg", { class: "sample", viewBox: "0 0 26 8", "aria-hidden": "true" }, line);
}

/** Load uPlot and its stylesheet, once. */
function loadLibrary() {
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
 * Draw a time chart into an element and follow the element's width.
 *
 * `lines` are pairs of a name and columns `{unit, avg, min, max, thresholds}`. `step` is the window
 * length in seconds; longer distances are gaps. With `days`, timestamps are UTC days. `onSelect` is
 * called with the index of the window under the cursor, or null.
 * Returns `{selected, moveTo}`: the selected index, and a function that moves the cursor to one.
 */
export async function timeChart(
  element,
  { lines, timestamps, step = 0, onSelect, from, to, height = HEIGHT, days = false },
) {
  const UPlot = await loadLibrary();
  const stamps = timestamps.map((each) => new Date(each) / 1000);
  const gaps = findGaps(stamps, step);
  const { data, series, bands } = uplotData(lines, stamps, gaps);
  const unit = lines[0][1].unit;
  const thresholds = lines[0][1].thresholds;
  const handle = { selected: null, moveTo: () => {} };
  const axis = {
    stroke: () => colour("--muted"),
    grid: { stroke: () => colour("--grid"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
  };
  const span = from && to ? [Date.parse(from) / 1000, Date.parse(to) / 1000] : null;
  const [first, last] = span ?? [stamps[0], stamps.at(-1)];
  const formatTicks = days ? utcDays : tickFormatter(last - first);
  const chart = new UPlot(
    {
      tzDate: (stamp) => toDate(UPlot, stamp, days),
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
        y: { range: (_, minimum, maximum) => valueRange(unit, minimum, maximum) },
      },
      axes: [
        {
          ...axis,
          values: (_, ticks) => formatTicks(ticks),
          space: 70,
          size: formatTicks === timesAndDays ? 44 : 30,
        },
        {
          ...axis,
          values: (_, ticks) => ticks.map((each) => measure(each, unit)),
          size: 62,
          space: 34,
        },
      ],
      hooks: {
        draw: thresholds ? [(u) => drawThresholds(u, thresholds)] : [],
        setCursor: [(u) => selectAtCursor(u, { handle, stamps, data, onSelect })],
      },
    },
    data,
    element,
  );
  handle.moveTo = (index) => {
    const left = index === null ? -10 : chart.valToPos(stamps[index], "x");
    handle.isMoving = true;
    chart.setCursor({ left, top: 10 }, false);
    handle.isMoving = false;
  };
  redrawOnChange(element, chart, height);
  if (!firstChartMarked) performance.mark("first-chart");
  firstChartMarked = true;
  return handle;
}

/** Select the window under the pointer, which may be over a synchronized chart. */
function selectAtCursor(u, { handle, stamps, data, onSelect }) {
  if (handle.isMoving || !onSelect) return;
  const { idx } = u.cursor;
  if (idx === null || idx === undefined) {
    if (handle.selected !== null) onSelect((handle.selected = null));
    return;
  }
  const index = stamps.indexOf(data[0][idx]);
  if (index >= 0 && index !== handle.selected) onSelect((handle.selected = index));
}

const width = (element) => Math.max(element.clientWidth, 240);

/** Follow width and colour scheme changes; destroy the chart when its element is removed. */
function redrawOnChange(element, chart, height) {
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

/** Indexes of windows that follow missing windows. */
function findGaps(stamps, step) {
  if (!step) return new Set();
  return new Set(
    stamps.flatMap((stamp, index) =>
      index > 0 && stamp - stamps[index - 1] > 1.5 * step ? [index] : [],
    ),
  );
}

/** Insert a null into each gap, so that the line breaks there. */
function insertGaps(values, gaps) {
  if (!gaps.size) return values;
  return values.flatMap((value, index) => (gaps.has(index) ? [null, value] : [value]));
}

/** Columns, series options and bands as uPlot takes them. */
function uplotData(lines, stamps, gaps) {
  const data = [
    stamps.flatMap((value, index) =>
      gaps.has(index) ? [(value + stamps[index - 1]) / 2, value] : [value],
    ),
  ];
  const series = [];
  const bands = [];
  lines.forEach(([label, columns], number) => {
    const name = PALETTE[number % PALETTE.length];
    if (columns.min && columns.max) {
      bands.push({ series: [data.length, data.length + 1], fill: () => colour(`${name}-band`) });
      for (const edge of ["max", "min"]) {
        data.push(insertGaps(columns[edge], gaps));
        series.push({
          label: `${label} ${edge}`,
          stroke: () => colour(`${name}-band`),
          width: 1,
          points: { show: false },
        });
      }
    }
    data.push(insertGaps(columns.avg, gaps));
    series.push({
      label,
      stroke: () => colour(name),
      width: 1.75,
      dash: DASHES[number % DASHES.length],
      points: { show: true, size: 5, fill: () => colour(name), filter: isolatedPoints },
    });
  });
  return { data, series, bands };
}

/** Indexes of values without neighbours. They have no line, so they are drawn as points. */
function isolatedPoints(u, seriesIndex) {
  const values = u.data[seriesIndex];
  const points = [];
  const [first, last] = u.series[0].idxs ?? [0, values.length - 1];
  for (let index = first; index <= last; index += 1) {
    const isIsolated =
      neighbour(values, index, -1) === null && neighbour(values, index, 1) === null;
    if ((values[index] ?? null) !== null && isIsolated) points.push(index);
  }
  return points;
}

/** The next value in one direction; undefined values belong to other lines and are skipped. */
function neighbour(values, index, step) {
  let next = index + step;
  while (next in values && values[next] === undefined) next += step;
  return values[next] ?? null;
}

function valueRange(unit, minimum, maximum) {
  if (unit === "percent") return [0, 100];
  const low = Math.min(minimum ?? 0, 0);
  const high = maximum ?? 1;
  return [low, high > low ? high + (high - low) * 0.08 : low + 1];
}

/** Label formatter of a time axis that spans `length` seconds. */
function tickFormatter(length) {
  if (length > 2.2 * DAY) return (ticks) => withoutRepeats(ticks, toDay);
  return length > 1.2 * DAY ? timesAndDays : (ticks) => withoutRepeats(ticks, toClock);
}

const utcDays = (ticks) => withoutRepeats(ticks, toUtcDay);

/** The time, with the day below it at the first tick of each day. */
function timesAndDays(ticks) {
  const days = withoutRepeats(ticks, toDay);
  return ticks.map((tick, index) => `${toClock(tick * 1000)}\n${days[index]}`);
}

function withoutRepeats(ticks, format) {
  const labels = ticks.map((tick) => format(tick * 1000));
  return labels.map((label, index) => (label === labels[index - 1] ? "" : label));
}

/** UTC for charts by day, else the reader's time zone. */
function toDate(UPlot, stamp, days) {
  const date = new Date(stamp * 1000);
  return days ? UPlot.tzDate(date, "Etc/UTC") : date;
}

function drawThresholds(u, { warning, critical }) {
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
