// An answer's rows as lines over time, as bars, or as a table.

import { h, link } from "./dom.js";
import { NONE, count, toDated, toUtcDay } from "./format.js";
import { sample, timeChart } from "./plot.js";
import { align, isDay, isMoment, isNumber, naming, seriesOf, timeOf, toMoment } from "./series.js";

const MOST_LINES = 8; // more cannot be told apart
const MOST_BARS = 40;
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

/** A chart of one column of numbers: lines where there is a time, else bars. */
export function chartOf(answer, column) {
  const value = answer.columns.findIndex((each) => each.name === column);
  return timeOf(answer.columns) >= 0 ? lines(answer, value) : bars(answer, value);
}

function lines(answer, value) {
  const column = answer.columns[value].name;
  const days = isDay(answer.columns[timeOf(answer.columns)]);
  const { series, total } = seriesOf(answer, value);
  const kept = series.slice(0, MOST_LINES);
  const { moments, lines: aligned } = align(kept);
  const word = days ? toUtcDay : toDated;
  const said = kept.map(([name, values]) => `${name} from ${span([...values.values()])}`);
  const part = partOf(answer);
  const canvas = h("div", {
    class: "plot",
    role: "img",
    "aria-label": `${column} over time, ${word(moments[0])} to ${word(moments.at(-1))}${days ? " (UTC)" : ""}${part && `, ${part}`}. ${said.join("; ")}. “Table” has every value.`,
  });
  const more = answer.cursor ? "+" : "";
  const figure = h(
    "figure",
    { class: "panel figure" },
    caption(column, [
      days && "by UTC day",
      kept.length < total && `${kept.length} of ${total}${more}; ask for fewer with the parameters`,
      part,
    ]),
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
      lines: aligned.map(([name, avg]) => [name, { unit: "", avg }]),
      timestamps: moments,
      height: 300,
      days,
    }).catch(() => canvas.replaceWith("The chart cannot be drawn; the table has every value.")),
  );
  return figure;
}

const partOf = ({ rows, cursor }) =>
  cursor ? `from the first ${count(rows.length, "row")}; more are not loaded` : "";

function caption(column, remarks) {
  const told = remarks.filter(Boolean).join("; ");
  return h("figcaption", {}, column, told && h("span", { class: "dim" }, ` ${told}`));
}

function span(values) {
  const known = values.filter((value) => value !== null);
  return known.length
    ? `${number.format(Math.min(...known))} to ${number.format(Math.max(...known))}`
    : NONE;
}

function bars(answer, value) {
  const { columns, rows } = answer;
  const kept = rows.slice(0, MOST_BARS);
  const name = naming(columns, rows);
  const most = Math.max(...kept.map((row) => Math.abs(row[value] ?? 0)), 1e-9);
  const write = writer(kept.map((row) => row[value]));
  const more = answer.cursor ? "+" : "";
  return h(
    "figure",
    { class: "panel figure" },
    caption(columns[value].name, [
      rows.length > kept.length && `the first ${MOST_BARS} of ${rows.length}${more} rows`,
      partOf(answer),
    ]),
    h(
      "ul",
      { class: "bars" },
      kept.map((row, place) => {
        const bar = h("span", { class: row[value] < 0 ? "bar below" : "bar" });
        bar.style.width = `${(100 * Math.abs(row[value] ?? 0)) / most}%`;
        return h(
          "li",
          {},
          h("span", { class: "who" }, name(row) || String(place + 1)),
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
            row.map((value, place) => td(columns[place], writers[place](value), row, columns)),
          ),
        ),
      ),
    ),
  );
}

function td(column, text, row, columns) {
  if (isMoment(column)) return h("td", {}, local(text));
  if (column.name !== "resource_id" || text === NONE)
    return h("td", { class: isNumber(column) ? "number" : null }, text);
  const of = (name) => row[columns.findIndex((each) => each.name === name)] ?? "";
  const parameters = { account: of("account_id"), region: of("region") };
  return h("td", {}, h("a", { href: link("host", [text], parameters) }, text));
}

/** A moment in the reader's time; what is none stays as it is. */
function local(text) {
  const moment = toMoment(text);
  if (Number.isNaN(moment)) return text;
  const datetime = new Date(moment).toISOString();
  return h("time", { datetime, title: datetime }, toDated(moment));
}
