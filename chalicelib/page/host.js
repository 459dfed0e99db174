// Host view: the history of one host as a chart for each metric type.

import { announce, h, link, status } from "./dom.js";
import { get } from "./api.js";
import { ago, count, duration, measure, toShortTime } from "./format.js";
import { empty, load } from "./states.js";
import { chartPanel } from "./charts.js";
import { TYPES } from "./host_rows.js";

const RANGES = [
  ["24h", "24 h", 1],
  ["7d", "7 d", 7],
  ["30d", "30 d", 30],
  ["90d", "90 d", 90],
];
const DAY = 86_400_000;
const TITLES = Object.fromEntries(TYPES);

export function view(context) {
  const { parts, signal, setTitle, replaceUrl } = context;
  const [name] = parts;
  let { parameters } = context;
  const heading = h("h1", {}, name);
  const facts = h("div", { class: "facts" });
  const box = h("div", {});
  const picker = h("div", { class: "range", role: "group", "aria-label": "Range" });
  setTitle(name);

  const range = () => RANGES.find(([key]) => key === parameters.get("range")) ?? RANGES[1];
  const urlWith = (changes) =>
    link("host", [name], { ...Object.fromEntries(parameters), ...changes });

  function start() {
    const [key, , days] = range();
    picker.replaceChildren(
      ...RANGES.map(([each, label]) =>
        h(
          "a",
          { href: urlWith({ range: each }), "aria-current": each === key ? "true" : null },
          label,
        ),
      ),
    );
    const to = new Date();
    return load(box, {
      subject: `the history of ${name}`,
      rows: 4,
      retry: start,
      fetchData: () =>
        get(
          `hosts/${encodeURIComponent(name)}`,
          {
            from: iso(new Date(to - days * DAY)),
            to: iso(to),
            account_id: parameters.get("account"),
            region: parameters.get("region"),
          },
          signal,
        ),
      render: async (host) => {
        facts.replaceChildren(...hostFacts(host));
        const charts = await chartPanels(host, {
          parameters,
          replaceUrl: (changes) => replaceUrl(urlWith(changes)),
        });
        announce(`${name}, ${host.status}, ${range()[1]}`);
        return charts;
      },
    });
  }

  return {
    heading,
    content: [
      h("nav", { "aria-label": "Breadcrumb", class: "crumbs" }, h("a", { href: "#/" }, "Fleet")),
      h("div", { class: "title" }, h("div", {}, heading, facts), picker),
      box,
    ],
    start,
    update: async (changed) => {
      const focusedLabel = document.activeElement?.textContent;
      const inPicker = picker.contains(document.activeElement);
      parameters = changed;
      const loading = start();
      if (inPicker) [...picker.children].find((each) => each.textContent === focusedLabel)?.focus();
      await loading;
    },
  };
}

const iso = (date) => date.toISOString().replace(/\.\d+Z/, "Z");

function hostFacts(host) {
  const labels = Object.entries(host.labels).map(([key, value]) =>
    h("li", {}, h("span", { class: "dim" }, `${key} `), value),
  );
  return [
    h(
      "p",
      { class: "sub" },
      status(host.status),
      host.status === "missing" && h("span", {}, "no data in the newest window"),
      h(
        "span",
        {},
        "last seen ",
        h("time", { datetime: host.last_seen }, toShortTime(host.last_seen)),
        ` (${ago(host.last_seen)})`,
      ),
      h("span", {}, host.region),
      h("span", {}, `account ${host.account_id}`),
    ),
    labels.length ? h("ul", { class: "labels", "aria-label": "Labels" }, labels) : "",
  ];
}

async function chartPanels(host, state) {
  const present = Object.entries(TITLES).filter(([type]) => host.history[type].timestamps.length);
  if (!present.length)
    return empty(
      "No data in this range",
      "Choose a longer range, or check whether the host still reports.",
    );
  const hasChart = ([type]) => Object.keys(host.history[type].measurements).length > 0;
  const charts = await Promise.all(
    present.filter(hasChart).map(([type, label]) => chartPanel(type, label, host, state)),
  );
  const others = present
    .filter((each) => !hasChart(each))
    .map(([type, label]) => panelWithoutChart(type, label, host));
  return [h("div", { class: "charts" }, charts, others), newestMeasurements(host)];
}

/** Panel of a metric type whose measurements have no chart. */
function panelWithoutChart(type, title, host) {
  const needsAgent =
    host.latest[type]?.source === "cloudwatch" && ["memory", "disk"].includes(type);
  return h(
    "section",
    { class: "panel no-chart", "aria-label": `${title} history` },
    h("h2", {}, title),
    h(
      "p",
      { class: "sub" },
      "These measurements have no chart; the table below lists them.",
      needsAgent && " An instance reports usage only with the CloudWatch agent.",
    ),
  );
}

/** All measurements of the newest window, with or without a chart. */
function newestMeasurements(host) {
  const rows = Object.entries(host.latest).flatMap(([type, record]) =>
    Object.entries(record.measurements).map(([name, each]) => [TITLES[type] ?? type, name, each]),
  );
  const head = ["Type", "Measurement", "Last", "Average", "Minimum", "Maximum", "Time in breach"];
  return h(
    "details",
    { class: "panel more" },
    h("summary", {}, `All ${count(rows.length, "measurement")} of the newest window`),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "All measurements" },
      h(
        "table",
        { class: "data" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            head.map((title, column) =>
              h("th", { scope: "col", class: column > 1 ? "number" : null }, title),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          rows.map(([type, name, each]) =>
            h(
              "tr",
              {},
              h("td", {}, type),
              h("th", { scope: "row" }, name),
              [each.last, each.avg, each.min, each.max].map((value) =>
                h("td", { class: "number" }, measure(value, each.unit)),
              ),
              h(
                "td",
                { class: "number" },
                each.breach_seconds === undefined ? "–" : duration(each.breach_seconds),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}
