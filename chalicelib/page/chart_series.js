// Query results as named chart series, by the rules of `python -m infra query --format plot`.

import { NONE } from "./format.js";

const TIME_COLUMNS = ["ts", "dt", "week"];
// Columns that name a line or bar; those with the same value in all rows are left out.
const NAME_COLUMNS = ["resource_id", "label", "metric_type", "measurement", "region", "account_id"];
// Columns drawn by default, although they are not the first numeric column of their query.
const DEFAULT_COLUMNS = ["days_left", "difference", "breach_hours"];

export const isNumber = ({ type }) =>
  /^(tinyint|smallint|integer|int|bigint|double|float|real|decimal)/.test(type);
export const isTimestamp = ({ type }) => type.startsWith("timestamp");
/** Whether a column holds UTC days. */
export const isDay = ({ name, type }) => type === "date" || name === "dt" || name === "week";

/** Index of the column for the time axis, or -1. Timestamps such as last_seen do not count. */
export const timeColumn = (columns) => columns.findIndex(({ name }) => TIME_COLUMNS.includes(name));

/** The column to draw by default, of the numeric columns. */
export function defaultColumn(numbers) {
  return (
    numbers.find(({ name }) => DEFAULT_COLUMNS.includes(name)) ??
    numbers.find(({ type }) => type === "double") ??
    numbers[0]
  );
}

/** Milliseconds since the epoch of an Athena time, which is UTC without a time zone suffix. */
export function parseTime(text) {
  const iso = String(text).replace(" UTC", "").replace(" ", "T");
  return Date.parse(`${iso}${iso.length === 10 ? "T00:00:00" : ""}Z`);
}

/**
 * A function from a row to its name: the first name column and the others that differ between rows,
 * else the first text column.
 */
export function rowNamer(columns, rows) {
  const present = NAME_COLUMNS.map((name) =>
    columns.findIndex((each) => each.name === name),
  ).filter((index) => index >= 0);
  const differs = (index) => new Set(rows.map((row) => row[index])).size > 1;
  const text = columns.findIndex(
    ({ type }, index) => type.startsWith("varchar") && index !== timeColumn(columns),
  );
  const indexes = present.length
    ? [present[0], ...present.slice(1).filter(differs)]
    : [text].filter((index) => index >= 0);
  return (row) => indexes.map((index) => row[index] ?? NONE).join(" ");
}

/**
 * Chart series as pairs of a name and a Map from time to value, and their total number.
 * If more rows are to come, the series of the last row is incomplete and left out.
 */
export function chartSeries({ columns, rows, cursor }, valueColumn) {
  const timeIndex = timeColumn(columns);
  const name = rowNamer(columns, rows);
  const series = new Map();
  let last = null;
  let changes = 0;
  for (const row of rows) {
    const time = parseTime(row[timeIndex]);
    if (Number.isNaN(time)) continue;
    const key = name(row) || columns[valueColumn].name;
    changes += key !== last;
    last = key;
    if (!series.has(key)) series.set(key, new Map());
    series.get(key).set(time, row[valueColumn]);
  }
  const total = series.size;
  const isGrouped = changes === total; // the rows of each series are adjacent
  if (cursor && total > 1 && isGrouped) series.delete(last);
  return { series: [...series], total };
}

/**
 * Align chart series to common times, as uPlot requires.
 * Null breaks a line at a gap; undefined continues it where only another series has a value.
 */
export function align(series) {
  const gapped = series.map(([name, values]) => [name, withGaps(values)]);
  const times = [...new Set(gapped.flatMap(([, values]) => [...values.keys()]))];
  times.sort((a, b) => a - b);
  return {
    times,
    lines: gapped.map(([name, values]) => [name, times.map((time) => values.get(time))]),
  };
}

/** Add a null between two times that are further apart than the median distance. */
function withGaps(values) {
  const times = [...values.keys()].sort((a, b) => a - b);
  const steps = times.slice(1).map((time, index) => time - times[index]);
  const median = [...steps].sort((a, b) => a - b)[steps.length >> 1];
  const gaps = steps.flatMap((step, index) =>
    step > 1.5 * median ? [[times[index] + step / 2, null]] : [],
  );
  return new Map([...values, ...gaps]);
}
