// A host's row in the fleet: its text, its small charts, its place.

import { h, hostLink, hush, icon, svg } from "./dom.js";
import { NONE, measure, moment } from "./format.js";
import { draw, whenSeen } from "./spark.js";

export const TYPES = [
  ["cpu", "CPU"],
  ["memory", "Memory"],
  ["disk", "Disk"],
  ["network", "Network"],
];

/** What is judged and shown; of a window that is not there, the average of the one before. */
const level = (glance) => glance?.p95 ?? glance?.last ?? glance?.avg ?? null;
const rank = (row, type) => level(row.host.measurements[type]) ?? -1;

/** How rows may be sorted, but for the order that the API gives. */
export const ORDERS = {
  name: (a, b) => a.host.resource_id.localeCompare(b.host.resource_id, "en", { numeric: true }),
  ...Object.fromEntries(TYPES.map(([type]) => [type, (a, b) => rank(b, type) - rank(a, type)])),
};

/** What a filter looks in. */
export function text(host) {
  return [
    host.resource_id,
    host.account_id,
    host.region,
    host.status,
    ...Object.values(host.labels),
  ]
    .join(" ")
    .toLowerCase();
}

export function line(host) {
  const draws = [];
  const cells = TYPES.map(([type, word]) => cell(host.measurements[type], { word, host, draws }));
  const { name, ...others } = host.labels;
  const told = [name, ...Object.values(others)].filter(Boolean).slice(0, 3).join(" · ");
  const row = h(
    "tr",
    { role: "row", class: host.status },
    h(
      "th",
      { role: "rowheader", scope: "row" },
      icon(host.status),
      h(
        "span",
        { class: "who" },
        h("a", { href: hostLink(host) }, host.resource_id),
        hush(`, ${host.status}`),
        h(
          "small",
          {},
          host.status === "missing" ? `last seen ${moment(host.last_seen)}` : told || host.region,
        ),
      ),
    ),
    cells,
  );
  whenSeen(row, draws);
  return row;
}

/** A metric type: a small chart of the average, and the value that is judged. */
function cell(glance, { word, host, draws }) {
  if (!glance)
    return h(
      "td",
      { role: "cell", class: "none" },
      h("span", { class: "label" }, word),
      h("span", { class: "value" }, NONE, hush("not measured")),
    );
  const chart = svg("svg", { class: "spark" });
  draws.push(() => draw(chart, glance.series, glance.unit));
  // That the whole host is missing is said once.
  const told = glance.status === "ok" || host.status === "missing";
  return h(
    "td",
    { role: "cell", class: glance.status, title: titleOf(glance) },
    h("span", { class: "label" }, word),
    chart,
    h(
      "span",
      { class: "value" },
      told ? null : icon(glance.status),
      measure(level(glance), glance.unit),
      told ? null : hush(` ${glance.status}`),
    ),
  );
}

function titleOf(glance) {
  const parts = [
    ["last", glance.last],
    ["average", glance.avg],
    ["95th percentile", glance.p95],
    ["highest", glance.max],
  ];
  return parts
    .filter(([, value]) => value !== null)
    .map(([word, value]) => `${word} ${measure(value, glance.unit)}`)
    .join("\n");
}
