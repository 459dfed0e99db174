// Rows of the host table: content, small charts, search text and sort orders.

import { h, hostLink, icon, svg, visuallyHidden } from "./dom.js";
import { NONE, measure, toShortTime } from "./format.js";
import { draw, drawWhenVisible } from "./sparklines.js";

export const TYPES = [
  ["cpu", "CPU"],
  ["memory", "Memory"],
  ["disk", "Disk"],
  ["network", "Network"],
];

/** The value to show: the one compared with the thresholds, else the previous window's average. */
const shownValue = (snapshot) => snapshot?.p95 ?? snapshot?.last ?? snapshot?.avg ?? null;
const sortValue = (row, type) => shownValue(row.host.measurements[type]) ?? -1;

/** Sort orders besides the default, the order of the API response. */
export const ORDERS = {
  name: (a, b) => a.host.resource_id.localeCompare(b.host.resource_id, "en", { numeric: true }),
  ...Object.fromEntries(
    TYPES.map(([type]) => [type, (a, b) => sortValue(b, type) - sortValue(a, type)]),
  ),
};

/** Text that the filter searches, in lower case. */
export function searchText(host) {
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

export function hostRow(host) {
  const draws = [];
  const cells = TYPES.map(([type, label]) =>
    metricCell(host.measurements[type], { label, host, draws }),
  );
  const { name, ...others } = host.labels;
  const labels = [name, ...Object.values(others)].filter(Boolean).slice(0, 3).join(" · ");
  const row = h(
    "tr",
    { role: "row", class: host.status },
    h(
      "th",
      { role: "rowheader", scope: "row" },
      icon(host.status),
      h(
        "span",
        { class: "name" },
        h("a", { href: hostLink(host) }, host.resource_id),
        visuallyHidden(`, ${host.status}`),
        h(
          "small",
          {},
          host.status === "missing"
            ? `last seen ${toShortTime(host.last_seen)}`
            : labels || host.region,
        ),
      ),
    ),
    cells,
  );
  drawWhenVisible(row, draws);
  return row;
}

/** Cell of a metric type: a small chart of the averages and the current value. */
function metricCell(snapshot, { label, host, draws }) {
  if (!snapshot)
    return h(
      "td",
      { role: "cell", class: "none" },
      h("span", { class: "label" }, label),
      h("span", { class: "value" }, NONE, visuallyHidden("not measured")),
    );
  const chart = svg("svg", { class: "spark" });
  draws.push(() => draw(chart, snapshot.series, snapshot.unit));
  // The row's first cell already marks a missing host.
  const hideStatus = snapshot.status === "ok" || host.status === "missing";
  return h(
    "td",
    { role: "cell", class: snapshot.status, title: tooltip(snapshot) },
    h("span", { class: "label" }, label),
    chart,
    h(
      "span",
      { class: "value" },
      hideStatus ? null : icon(snapshot.status),
      measure(shownValue(snapshot), snapshot.unit),
      hideStatus ? null : visuallyHidden(` ${snapshot.status}`),
    ),
  );
}

function tooltip(snapshot) {
  const parts = [
    ["last", snapshot.last],
    ["average", snapshot.avg],
    ["95th percentile", snapshot.p95],
    ["highest", snapshot.max],
  ];
  return parts
    .filter(([, value]) => value !== null)
    .map(([label, value]) => `${label} ${measure(value, snapshot.unit)}`)
    .join("\n");
}
