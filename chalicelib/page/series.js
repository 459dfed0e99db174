// An answer's rows as named series over time, by the command line's rules (infra/operate/charts.py).

import { NONE } from "./format.js";

const TIMES = ["ts", "dt", "week"];
// What tells one line or bar from another, where it differs.
const NAMES = ["resource_id", "label", "metric_type", "measurement", "region", "account_id"];
// What a question is about is not always the first number of its answer.
const SUBJECTS = ["days_left", "difference", "breach_hours"];

export const isNumber = ({ type }) =>
  /^(tinyint|smallint|integer|int|bigint|double|float|real|decimal)/.test(type);
export const isMoment = ({ type }) => type.startsWith("timestamp");
/** A day of UTC, which is not a moment of anybody's. */
export const isDay = ({ name, type }) => type === "date" || name === "dt" || name === "week";

/** Where the time axis is; -1 without one. That a host was seen last is no such time. */
export const timeOf = (columns) => columns.findIndex(({ name }) => TIMES.includes(name));

/** The column that is drawn unless another one is chosen. */
export function subject(numbers) {
  return (
    numbers.find(({ name }) => SUBJECTS.includes(name)) ??
    numbers.find(({ type }) => type === "double") ??
    numbers[0]
  );
}

/** Milliseconds of a time of Athena's, which is UTC and does not say so. */
export function toMoment(text) {
  const iso = String(text).replace(" UTC", "").replace(" ", "T");
  return Date.parse(`${iso}${iso.length === 10 ? "T00:00:00" : ""}Z`);
}

/** What a row is called: the first known column and those others that differ, else a text. */
export function naming(columns, rows) {
  const known = NAMES.map((name) => columns.findIndex((each) => each.name === name)).filter(
    (place) => place >= 0,
  );
  const differs = (place) => new Set(rows.map((row) => row[place])).size > 1;
  const text = columns.findIndex(
    ({ type }, place) => type.startsWith("varchar") && place !== timeOf(columns),
  );
  const places = known.length
    ? [known[0], ...known.slice(1).filter(differs)]
    : [text].filter((place) => place >= 0);
  return (row) => places.map((place) => row[place] ?? NONE).join(" ");
}

/**
 * Pairs of a name and a Map from moment to value, and how many there were.
 * Of an answer that goes on, the series that its last row breaks off is left out.
 */
export function seriesOf({ columns, rows, cursor }, value) {
  const when = timeOf(columns);
  const name = naming(columns, rows);
  const found = new Map();
  let last = null;
  let turns = 0;
  for (const row of rows) {
    const moment = toMoment(row[when]);
    if (Number.isNaN(moment)) continue;
    const key = name(row) || columns[value].name;
    turns += key !== last;
    last = key;
    if (!found.has(key)) found.set(key, new Map());
    found.get(key).set(moment, row[value]);
  }
  const total = found.size;
  const oneAfterTheOther = turns === total;
  if (cursor && total > 1 && oneAfterTheOther) found.delete(last);
  return { series: [...found], total };
}

/**
 * Columns of equal length, as uPlot takes them: it breaks a line at null and goes on over
 * undefined, which stands where only another series has a moment.
 */
export function align(series) {
  const broken = series.map(([name, values]) => [name, withGaps(values)]);
  const moments = [...new Set(broken.flatMap(([, values]) => [...values.keys()]))];
  moments.sort((a, b) => a - b);
  return {
    moments,
    lines: broken.map(([name, values]) => [name, moments.map((moment) => values.get(moment))]),
  };
}

/** A null where two moments are further apart than they usually are. */
function withGaps(values) {
  const moments = [...values.keys()].sort((a, b) => a - b);
  const steps = moments.slice(1).map((moment, place) => moment - moments[place]);
  const usual = [...steps].sort((a, b) => a - b)[steps.length >> 1];
  const gaps = steps.flatMap((step, place) =>
    step > 1.5 * usual ? [[moments[place] + step / 2, null]] : [],
  );
  return new Map([...values, ...gaps]);
}
