// The parameters of a named query: their fields, their values, and what else could be asked.

import { h } from "./dom.js";

const KINDS = { integer: { type: "number", step: "1" }, number: { type: "number", step: "any" } };
// What sources measure of each type, its default first (docs/sources.md); there may be others.
const MEASUREMENTS = {
  cpu: ["utilization", "load_average", "load_average_5m", "load_average_15m"],
  memory: ["percent", "used", "available", "swap_percent"],
  disk: ["percent", "percent:/", "used", "free", "ebs_read_bytes", "ebs_write_bytes"],
  network: ["bytes_received_rate", "bytes_sent_rate", "bytes_received", "bytes_sent"],
};
const HINTS = { metric_type: Object.keys(MEASUREMENTS), measurement: MEASUREMENTS.cpu };
// What else could be asked where there are no rows, by the parameter that says it.
const OTHERS = {
  days: "more days",
  resource: "other hosts",
  metric_type: "another metric type",
  measurement: "another measurement",
  label: "another label",
  below_percent: "a higher percentage",
};

/** A field for a parameter, with what was asked before or its default. */
export function field({ name, type, default: preset }, asked) {
  const id = `p-${name}`;
  const hints = HINTS[name] && h("datalist", { id: `${id}-list` });
  const hint = (values) => hints.replaceChildren(...values.map((value) => h("option", { value })));
  if (hints) hint(HINTS[name]);
  const input = h("input", {
    id,
    name,
    value: asked ?? preset ?? "",
    required: preset === null,
    autocomplete: "off",
    ...(KINDS[type] ?? { type: "text" }),
    list: hints ? `${id}-list` : null,
  });
  const like = preset === "%" ? h("small", { class: "dim" }, "% stands for anything") : null;
  return {
    name,
    preset,
    input,
    hint,
    row: h("p", {}, h("label", { for: id }, name.replaceAll("_", " ")), input, hints, like),
  };
}

/** Another metric type has other measurements: its default takes the place of the one before. */
export function follow(fields) {
  const [type, measurement] = ["metric_type", "measurement"].map((name) =>
    fields.find((each) => each.name === name),
  );
  if (!type || !measurement) return;
  const known = () => MEASUREMENTS[type.input.value];
  let before = MEASUREMENTS[type.preset]; // an address may name the type only
  const change = () => {
    if (!known()) return;
    if (measurement.input.value === before?.[0]) measurement.input.value = known()[0];
    before = known();
    measurement.hint(before);
  };
  change();
  type.input.addEventListener("input", change);
}

/** The values that are meant: what is left empty takes its default. */
export const filled = (query, given) =>
  Object.fromEntries(
    query.parameters.map(({ name, default: preset }) => [name, given[name] || (preset ?? "")]),
  );

/** Values as JSON has them. */
export function typed(query, given) {
  return Object.fromEntries(
    query.parameters
      .filter(({ name }) => given[name] !== "")
      .map(({ name, type }) => [
        name,
        type in KINDS && Number.isFinite(Number(given[name])) ? Number(given[name]) : given[name],
      ]),
  );
}

/** What was asked. */
export function told(values) {
  const words = Object.entries(values).map(([name, value]) =>
    h("span", {}, `${name.replaceAll("_", " ")} `, h("b", {}, value)),
  );
  return words.length ? h("p", { class: "sub asked" }, words) : "";
}

/** What could be asked instead, where nothing was found. */
export function adviceOn({ parameters }) {
  const names = parameters.map(({ name }) => name);
  // The more days, the fewer hosts are idle on all of them.
  const found = names.includes("below_percent") ? names.filter((name) => name !== "days") : names;
  const others = found.map((name) => OTHERS[name]).filter(Boolean);
  const words = new Intl.ListFormat("en-GB", { type: "disjunction" }).format(others);
  return `Nothing matches.${words && ` Ask for ${words}.`}`;
}
