// One host: its history by window, four charts above each other.

import { announce, h, link, status } from "./dom.js";
import { get } from "./api.js";
import { ago, count, duration, measure, moment } from "./format.js";
import { empty, load } from "./states.js";
import { figure } from "./charts.js";

const RANGES = [
  ["24h", "24 h", 1],
  ["7d", "7 d", 7],
  ["30d", "30 d", 30],
  ["90d", "90 d", 90],
];
const DAY = 86_400_000;
const TITLES = { cpu: "CPU", memory: "Memory", disk: "Disk", network: "Network" };

export function view(context) {
  const { parts, signal, title, keep } = context;
  const [name] = parts;
  let { parameters } = context;
  const heading = h("h1", {}, name);
  const facts = h("div", { class: "facts" });
  const box = h("div", {});
  const picker = h("div", { class: "range", role: "group", "aria-label": "Range" });
  title(name);

  const range = () => RANGES.find(([key]) => key === parameters.get("range")) ?? RANGES[1];
  const place = (changes) =>
    link("host", [name], { ...Object.fromEntries(parameters), ...changes });

  function start() {
    const [key, , days] = range();
    picker.replaceChildren(
      ...RANGES.map(([each, word]) =>
        h(
          "a",
          { href: place({ range: each }), "aria-current": each === key ? "true" : null },
          word,
        ),
      ),
    );
    const to = new Date();
    return load(box, {
      what: `the history of ${name}`,
      rows: 4,
      retry: start,
      ask: () =>
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
      show: async (host) => {
        facts.replaceChildren(...told(host));
        const charts = await figures(host, { parameters, keep: (changes) => keep(place(changes)) });
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
      const focused = document.activeElement?.textContent;
      const inPicker = picker.contains(document.activeElement);
      parameters = changed;
      const loading = start();
      if (inPicker) [...picker.children].find((each) => each.textContent === focused)?.focus();
      await loading;
    },
  };
}

const iso = (date) => date.toISOString().replace(/\.\d+Z/, "Z");

function told(host) {
  const labels = Object.entries(host.labels).map(([key, value]) =>
    h("li", {}, h("span", { class: "dim" }, `${key} `), value),
  );
  return [
    h(
      "p",
      { class: "sub" },
      status(host.status),
      host.status === "missing" && h("span", {}, "sent nothing in the newest window"),
      h(
        "span",
        {},
        "last seen ",
        h("time", { datetime: host.last_seen }, moment(host.last_seen)),
        ` (${ago(host.last_seen)})`,
      ),
      h("span", {}, host.region),
      h("span", {}, `account ${host.account_id}`),
    ),
    labels.length ? h("ul", { class: "labels", "aria-label": "Labels" }, labels) : "",
  ];
}

async function figures(host, state) {
  const found = Object.entries(TITLES).filter(([type]) => host.history[type].timestamps.length);
  if (!found.length)
    return empty(
      "Nothing in this range",
      "Choose a longer one, or see whether the host still reports.",
    );
  const drawable = ([type]) => Object.keys(host.history[type].measurements).length > 0;
  const charts = await Promise.all(
    found.filter(drawable).map(([type, word]) => figure(type, word, host, state)),
  );
  const others = found
    .filter((each) => !drawable(each))
    .map(([type, word]) => undrawn(type, word, host));
  return [h("div", { class: "charts" }, charts, others), latest(host)];
}

/** In the place of a chart: what is measured is nothing that a chart shows. */
function undrawn(type, title, host) {
  const fromAgent = host.latest[type]?.source === "cloudwatch" && ["memory", "disk"].includes(type);
  return h(
    "section",
    { class: "panel undrawn", "aria-label": `${title} history` },
    h("h2", {}, title),
    h(
      "p",
      { class: "sub" },
      "Nothing that can be drawn is measured; what is measured is in the table below.",
      fromAgent && " How full it is, an instance tells with the CloudWatch agent.",
    ),
  );
}

/** All that was measured, chart or not. */
function latest(host) {
  const rows = Object.entries(host.latest).flatMap(([type, record]) =>
    Object.entries(record.measurements).map(([name, each]) => [TITLES[type] ?? type, name, each]),
  );
  const head = ["Type", "Measurement", "Last", "Average", "Lowest", "Highest", "Time in breach"];
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
            head.map((word, place) =>
              h("th", { scope: "col", class: place > 1 ? "number" : null }, word),
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
