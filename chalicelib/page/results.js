// Query results as a line chart, a bar chart or a table.

import { h, link } from "./dom.js";
import { NONE, count, toDateTime, toUtcDay } from "./format.js";
import {
  align,
  chartSeries,
  isDay,
  isNumber,
  isTimestamp,
  parseTime,
  rowNamer,
  timeColumn,
} from "./chart_series.js";
import { lineSample, timeChart } from "./plot.js";

const MAX_LINES = 8; // more are hard to distinguish
const MAX_BARS = 40;
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** Chart of a numeric column: lines if the result has a time column, else bars. */
export function resultChart(result, column) {
  const valueColumn = result.columns.findIndex((each) => each.name === column);
  return timeColumn(result.columns) >= 0
    ? lineChart(result, valueColumn)
    : barChart(result, valueColumn);
}

function lineChart(result, valueColumn) {
  const column = result.columns[valueColumn].name;
  const days = isDay(result.columns[timeColumn(result.columns)]);
  const { series, total } = chartSeries(result, valueColumn);
  const drawn = series.slice(0, MAX_LINES);
  const { times, lines } = align(drawn);
  const format = days ? toUtcDay : toDateTime;
  const ranges = drawn.map(([name, values]) => `${name}: ${range([...values.values()])}`);
  const loadedPart = describeLoadedPart(result);
  const canvas = h("div", {
    class: "plot",
    role: "img",
    "aria-label": `${column} over time, ${format(times[0])} to ${format(times.at(-1))}${days ? " (UTC)" : ""}${loadedPart && `, ${loadedPart}`}. ${ranges.join("; ")}. Select “Table” for all values.`,
  });
  const more = result.cursor ? "+" : "";
  const figure = h(
    "figure",
    { class: "panel figure" },
    caption(column, [
      days && "by UTC day",
      drawn.length < total && `${drawn.length} of ${total}${more} lines; narrow the parameters`,
      loadedPart,
    ]),
    canvas,
    h(
      "p",
      { class: "readout" },
      drawn.map(([name], index) =>
        h("span", { class: `key line k${index}` }, lineSample(index), name),
      ),
    ),
  );
  // The chart takes its width from the page, so it is drawn once the figure is attached.
  requestAnimationFrame(() =>
    timeChart(canvas, {
      lines: lines.map(([name, avg]) => [name, { unit: "", avg }]),
      timestamps: times,
      height: 300,
      days,
    }).catch(() => canvas.replaceWith("The chart cannot be drawn. Select “Table” for all values.")),
  );
  return figure;
}

const describeLoadedPart = ({ rows, cursor }) =>
  cursor ? `first ${count(rows.length, "row")} only; more rows are available` : "";

function caption(column, remarks) {
  const text = remarks.filter(Boolean).join("; ");
  return h("figcaption", {}, column, text && h("span", { class: "dim" }, ` ${text}`));
}

function range(values) {
  const present = values.filter((value) => value !== null);
  return present.length
    ? `${number.format(Math.min(...present))} to ${number.format(Math.max(...present))}`
    : NONE;
}

function barChart(result, valueColumn) {
  const { columns, rows } = result;
  const drawn = rows.slice(0, MAX_BARS);
  const name = rowNamer(columns, rows);
  const maximum = Math.max(...drawn.map((row) => Math.abs(row[valueColumn] ?? 0)), 1e-9);
  const format = columnFormatter(drawn.map((row) => row[valueColumn]));
  const more = result.cursor ? "+" : "";
  return h(
    "figure",
    { class: "panel figure" },
    caption(columns[valueColumn].name, [
      rows.length > drawn.length && `first ${MAX_BARS} of ${rows.length}${more} rows`,
      describeLoadedPart(result),
    ]),
    h(
      "ul",
      { class: "bars" },
      drawn.map((row, index) => {
        const bar = h("span", { class: row[valueColumn] < 0 ? "bar negative" : "bar" });
        bar.style.width = `${(100 * Math.abs(row[valueColumn] ?? 0)) / maximum}%`;
        return h(
          "li",
          {},
          h("span", { class: "name" }, name(row) || String(index + 1)),
          h("span", { class: "track", "aria-hidden": "true" }, bar),
          h("span", { class: "number" }, format(row[valueColumn])),
        );
      }),
    ),
  );
}

/** Formatter for the values of a column: all numbers get the same number of decimals. */
function columnFormatter(values) {
  const numbers = values.filter((value) => typeof value === "number");
  const numberFormat = numbers.every(Number.isInteger) ? number : fixed;
  return (value) =>
    value === null ? NONE : typeof value === "number" ? numberFormat.format(value) : String(value);
}

export function resultTable({ columns, rows }) {
  const formatters = columns.map((_, index) => columnFormatter(rows.map((row) => row[index])));
  return h(
    "div",
    { class: "panel scroll tall", tabindex: "0", role: "region", "aria-label": "Query result" },
    h(
      "table",
      { class: "data" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map((column) =>
            h(
              "th",
              { scope: "col", class: isNumber(column) ? "number" : null },
              isDay(column) ? `${column.name} (UTC)` : column.name,
            ),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((value, index) => cell(columns[index], formatters[index](value), row, columns)),
          ),
        ),
      ),
    ),
  );
}

function cell(column, text, row, columns) {
  if (isTimestamp(column)) return h("td", {}, localTime(text));
  if (column.name !== "resource_id" || text === NONE)
    return h("td", { class: isNumber(column) ? "number" : null }, text);
  const valueOf = (name) => row[columns.findIndex((each) => each.name === name)] ?? "";
  const parameters = { account: valueOf("account_id"), region: valueOf("region") };
  return h("td", {}, h("a", { href: link("host", [text], parameters) }, text));
}

/** A timestamp in the reader's time zone; other text stays unchanged. */
function localTime(text) {
  const time = parseTime(text);
  if (Number.isNaN(time)) return text;
  const datetime = new Date(time).toISOString();
  return h("time", { datetime, title: datetime }, toDateTime(time));
}
