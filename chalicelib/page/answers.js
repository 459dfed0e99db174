// An answer's rows as lines over time, as bars, or as a table.

import { h, link } from "./dom.js";
import { NONE, count, toDated } from "./format.js";
import { sample, timeChart } from "./plot.js";

const MOST_LINES = 8; // more cannot be told apart
const MOST_BARS = 40;
const DAYS = ["dt", "week", "day"];
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

const isTime = ({ name, type }) =>
  type.startsWith("timestamp") || type === "date" || DAYS.includes(name);
const isText = ({ type }) => type.startsWith("varchar");
const isNumber = ({ type }) =>
  /^(tinyint|smallint|integer|int|bigint|double|float|real|decimal)/.test(type);

/** Athena's times are UTC and do not say so. */
function toMoment(text) {
  const iso = text.replace(" UTC", "").replace(" ", "T");
  return `${iso}${iso.length === 10 ? "T00:00:00" : ""}Z`;
}

/** A chart of one column of numbers: lines where there is a time, else bars. */
export function chartOf(answer, column) {
  const value = answer.columns.findIndex((each) => each.name === column);
  const when = answer.columns.findIndex(isTime);
  const who = answer.columns.findIndex((each, place) => isText(each) && place !== when);
  return when >= 0
    ? lines(answer, { column, value, when, who })
    : bars(answer, { column, value, who });
}

async function lines({ rows }, { column, value, when, who }) {
  const series = new Map();
  const stamps = [
    ...new Set(rows.filter((row) => row[when] !== null).map((row) => toMoment(row[when]))),
  ].sort();
  const places = new Map(stamps.map((stamp, place) => [stamp, place]));
  for (const row of rows) {
    if (row[when] === null) continue;
    const name = who >= 0 ? String(row[who] ?? NONE) : column;
    if (!series.has(name)) series.set(name, Array(stamps.length).fill(null));
    series.get(name)[places.get(toMoment(row[when]))] = row[value];
  }
  const kept = [...series].slice(0, MOST_LINES);
  const left = series.size - kept.length;
  const said = kept.map(([name, values]) => `${name} from ${shortest(values)}`).join("; ");
  const canvas = h("div", {
    class: "plot",
    role: "img",
    "aria-label": `${column} over time, ${toDated(stamps[0])} to ${toDated(stamps.at(-1))}. ${said}. “Table” has every value.`,
  });
  const figure = h(
    "figure",
    { class: "panel figure" },
    h(
      "figcaption",
      {},
      column,
      left
        ? h(
            "span",
            { class: "dim" },
            ` the first ${MOST_LINES} of ${series.size}; ask for fewer with the parameters`,
          )
        : "",
    ),
    canvas,
    h(
      "p",
      { class: "readout" },
      kept.map(([name], place) => h("span", { class: `key line k${place}` }, sample(place), name)),
    ),
  );
  // It can only be measured where it is shown.
  requestAnimationFrame(() =>
    timeChart(canvas, {
      lines: kept.map(([name, avg]) => [name, { unit: "", avg }]),
      timestamps: stamps,
      height: 300,
    }).catch(() => canvas.replaceWith("The chart cannot be drawn; the table has every value.")),
  );
  return figure;
}

function shortest(values) {
  const known = values.filter((value) => value !== null);
  return known.length
    ? `${number.format(Math.min(...known))} to ${number.format(Math.max(...known))}`
    : NONE;
}

function bars({ rows }, { column, value, who }) {
  const kept = rows.slice(0, MOST_BARS);
  const most = Math.max(...kept.map((row) => Math.abs(row[value] ?? 0)), 1e-9);
  const write = writer(kept.map((row) => row[value]));
  return h(
    "figure",
    { class: "panel figure" },
    h(
      "figcaption",
      {},
      column,
      rows.length > kept.length
        ? h("span", { class: "dim" }, ` the first ${MOST_BARS} of ${count(rows.length, "row")}`)
        : "",
    ),
    h(
      "ul",
      { class: "bars" },
      kept.map((row, place) => {
        const bar = h("span", { class: row[value] < 0 ? "bar below" : "bar" });
        bar.style.width = `${(100 * Math.abs(row[value] ?? 0)) / most}%`;
        return h(
          "li",
          {},
          h("span", { class: "who" }, who >= 0 ? (row[who] ?? NONE) : String(place + 1)),
          h("span", { class: "track", "aria-hidden": "true" }, bar),
          h("span", { class: "number" }, write(row[value])),
        );
      }),
    ),
  );
}

/** How a column is written: all with the same number of digits after the point. */
function writer(values) {
  const all = values.filter((value) => typeof value === "number");
  const numbers = all.every(Number.isInteger) ? number : fixed;
  return (value) =>
    value === null ? NONE : typeof value === "number" ? numbers.format(value) : String(value);
}

export function tableOf({ columns, rows }) {
  const writers = columns.map((_, place) => writer(rows.map((row) => row[place])));
  return h(
    "div",
    { class: "panel scroll tall", tabindex: "0", role: "region", "aria-label": "Answer" },
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
            h("th", { scope: "col", class: isNumber(column) ? "number" : null }, column.name),
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
            row.map((value, place) => td(columns[place], writers[place](value), row, columns)),
          ),
        ),
      ),
    ),
  );
}

function td(column, text, row, columns) {
  if (column.name !== "resource_id" || text === NONE)
    return h("td", { class: isNumber(column) ? "number" : null }, text);
  const of = (name) => row[columns.findIndex((each) => each.name === name)] ?? "";
  const parameters = { account: of("account_id"), region: of("region") };
  return h("td", {}, h("a", { href: link("host", [text], parameters) }, text));
}
