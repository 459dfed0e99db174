// Parameters of a named query: form fields, values, and suggestions when nothing matches.

import { h } from "./dom.js";

const NUMBER_INPUTS = {
  integer: { type: "number", step: "1" },
  number: { type: "number", step: "any" },
};
// Suggested measurements of each metric type, the default first (docs/sources.md).
const MEASUREMENTS = {
  cpu: ["utilization", "load_average", "load_average_5m", "load_average_15m"],
  memory: ["percent", "used", "available", "swap_percent"],
  disk: ["percent", "percent:/", "used", "free", "ebs_read_bytes", "ebs_write_bytes"],
  network: ["bytes_received_rate", "bytes_sent_rate", "bytes_received", "bytes_sent"],
};
const SUGGESTIONS = { metric_type: Object.keys(MEASUREMENTS), measurement: MEASUREMENTS.cpu };
// Suggested changes when a query returns no rows, by parameter.
const ALTERNATIVES = {
  days: "more days",
  resource: "other hosts",
  metric_type: "another metric type",
  measurement: "another measurement",
  label: "another label",
  below_percent: "a higher percentage",
};

/** Form field of a parameter, with the requested value or the default. */
export function field({ name, type, default: defaultValue }, requested) {
  const id = `p-${name}`;
  const datalist = SUGGESTIONS[name] && h("datalist", { id: `${id}-list` });
  const suggest = (values) =>
    datalist.replaceChildren(...values.map((value) => h("option", { value })));
  if (datalist) suggest(SUGGESTIONS[name]);
  const input = h("input", {
    id,
    name,
    value: requested ?? defaultValue ?? "",
    required: defaultValue === null,
    autocomplete: "off",
    ...(NUMBER_INPUTS[type] ?? { type: "text" }),
    list: datalist ? `${id}-list` : null,
  });
  const hint = defaultValue === "%" ? h("small", { class: "dim" }, "% matches any text") : null;
  return {
    name,
    defaultValue,
    input,
    suggest,
    row: h("p", {}, h("label", { for: id }, name.replaceAll("_", " ")), input, datalist, hint),
  };
}

/** When the metric type changes, replace the previous type's default measurement by the new one. */
export function linkMeasurement(fields) {
  const [type, measurement] = ["metric_type", "measurement"].map((name) =>
    fields.find((each) => each.name === name),
  );
  if (!type || !measurement) return;
  let previous = MEASUREMENTS[type.defaultValue];
  const update = () => {
    const current = MEASUREMENTS[type.input.value];
    if (!current) return;
    if (measurement.input.value === previous?.[0]) measurement.input.value = current[0];
    previous = current;
    measurement.suggest(current);
  };
  update(); // the URL may set the metric type without a measurement
  type.input.addEventListener("input", update);
}

/** Parameter values with defaults for empty fields. */
export const withDefaults = (query, values) =>
  Object.fromEntries(
    query.parameters.map(({ name, default: defaultValue }) => [
      name,
      values[name] || (defaultValue ?? ""),
    ]),
  );

/** Parameter values as JSON types; empty values are left out. */
export function toJson(query, values) {
  return Object.fromEntries(
    query.parameters
      .filter(({ name }) => values[name] !== "")
      .map(({ name, type }) => [
        name,
        type in NUMBER_INPUTS && Number.isFinite(Number(values[name]))
          ? Number(values[name])
          : values[name],
      ]),
  );
}

/** The parameters of the shown result. */
export function parameterList(values) {
  const items = Object.entries(values).map(([name, value]) =>
    h("span", {}, `${name.replaceAll("_", " ")} `, h("b", {}, value)),
  );
  return items.length ? h("p", { class: "sub query-parameters" }, items) : "";
}

/** Message for a query without rows, with suggested changes. */
export function noRowsMessage({ parameters }) {
  const names = parameters.map(({ name }) => name);
  // More days make idle hosts fewer, not more.
  const relevant = names.includes("below_percent")
    ? names.filter((name) => name !== "days")
    : names;
  const alternatives = relevant.map((name) => ALTERNATIVES[name]).filter(Boolean);
  const text = new Intl.ListFormat("en-GB", { type: "disjunction" }).format(alternatives);
  return text ? `Try ${text}.` : "No rows match these parameters.";
}
