// Chart panels of a host's history: heading, summary, canvas, legend, keyboard control and table.

import { h, icon } from "./dom.js";
import { duration, measure, toShortTime, toDateTime } from "./format.js";
import { lineSample, timeChart } from "./plot.js";

const DIRECTIONS = { bytes_sent: "Sent", bytes_received: "Received" };

/** Panel with the chart of a metric type. */
export async function chartPanel(type, title, host, { parameters, replaceUrl }) {
  const history = host.history[type];
  const names = Object.keys(history.measurements);
  const box = h("div", { class: "plot-box" });
  const show = async (name) => {
    const lines =
      type === "network"
        ? names.map((each) => [DIRECTIONS[each] ?? each, history.measurements[each]])
        : [[title, history.measurements[name]]];
    box.replaceChildren(...(await renderChart(title, lines, history, host)));
  };
  const requested = `percent:${parameters.get("disk")}`;
  const name = type === "disk" && names.includes(requested) ? requested : names[0];
  const heading = h("h2", {}, title);
  const section = h(
    "section",
    { class: "panel figure", "aria-label": `${title} history` },
    h(
      "div",
      { class: "figure-head" },
      heading,
      fileSystemSelect(type, names, name, { show, replaceUrl }),
    ),
    box,
  );
  await show(name);
  return section;
}

/** Select of the file system, or null if the host has only one. */
function fileSystemSelect(type, names, selected, { show, replaceUrl }) {
  if (type !== "disk" || names.length < 2) return null;
  const select = h(
    "select",
    {
      "aria-label": "File system",
      onchange: () => {
        replaceUrl({ disk: select.value.replace(/^percent:?/, "") });
        show(select.value);
      },
    },
    names.map((each) =>
      h(
        "option",
        { value: each, selected: each === selected },
        each === "percent" ? "All file systems" : each.replace("percent:", ""),
      ),
    ),
  );
  return select;
}

async function renderChart(title, lines, history, host) {
  const { timestamps } = history;
  const summary = describe(lines, timestamps);
  const readout = h("p", { class: "readout" }, legend(lines, null, timestamps));
  const canvas = h("div", {
    class: "plot",
    tabindex: "0",
    role: "img",
    "aria-label": `${title}. ${summary} Use the left and right arrow keys to read single windows; the table below lists all windows.`,
  });
  const onSelect = (index) => readout.replaceChildren(...legend(lines, index, timestamps));
  const plot = await timeChart(canvas, {
    lines,
    timestamps,
    step: host.window_seconds,
    onSelect,
    from: host.from,
    to: host.to,
  });
  // Announce values only in the focused chart: a pointer moves the cursor of all four charts.
  canvas.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  canvas.addEventListener("blur", () => readout.removeAttribute("aria-live"));
  canvas.addEventListener("keydown", (event) =>
    moveCursor(event, plot, timestamps.length, onSelect),
  );
  return [h("p", { class: "sub" }, summary), canvas, readout, tableDetails(title, lines, history)];
}

function moveCursor(event, plot, length, onSelect) {
  const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (event.key === "Escape") {
    plot.selected = null;
    onSelect(null);
    plot.moveTo(null);
    return;
  }
  if (!(event.key in moves)) return;
  event.preventDefault();
  const from = plot.selected ?? (event.key === "ArrowRight" ? -1 : length);
  plot.selected = Math.min(Math.max(from + moves[event.key], 0), length - 1);
  plot.moveTo(plot.selected);
  onSelect(plot.selected);
}

/** Text summary of a chart. */
function describe(lines, timestamps) {
  return lines
    .map(([name, columns]) => {
      const averages = columns.avg.filter((value) => value !== null);
      if (!averages.length) return `${name}: no data.`;
      const maxima = columns.max.map((value, index) => value ?? columns.avg[index]);
      const peak = maxima.reduce(
        (best, value, index) =>
          value !== null && (best < 0 || value > maxima[best]) ? index : best,
        -1,
      );
      const mean = averages.reduce((sum, value) => sum + value, 0) / averages.length;
      const breachSeconds = columns.thresholds
        ? columns.breach_seconds.reduce((sum, value) => sum + (value ?? 0), 0)
        : 0;
      const aboveText = breachSeconds
        ? ` Above ${measure(columns.thresholds.critical, columns.unit)} for ${duration(breachSeconds)} in total.`
        : "";
      const prefix = lines.length > 1 ? `${name}: average` : "Average";
      return `${prefix} ${measure(mean, columns.unit)}, maximum ${measure(maxima[peak], columns.unit)} on ${toDateTime(timestamps[peak])}.${aboveText}`;
    })
    .join(" ");
}

/** Legend of the lines; with an index, the values of that window. */
function legend(lines, index, timestamps) {
  const parts = [];
  if (index !== null) parts.push(h("b", {}, toDateTime(timestamps[index])));
  lines.forEach(([name, columns], number) => {
    const multiple = lines.length > 1;
    const value = (statistic) =>
      index === null ? "" : ` ${measure(columns[statistic][index], columns.unit)}`;
    parts.push(
      h(
        "span",
        { class: `key line k${number}` },
        lineSample(number),
        `${multiple ? name : "Average"}${value("avg")}`,
      ),
    );
    if (columns.min.some((each, at) => each !== null && each !== columns.max[at])) {
      parts.push(
        h(
          "span",
          { class: `key band k${number}` },
          index === null
            ? multiple
              ? `${name}, minimum to maximum`
              : "Minimum to maximum"
            : `${measure(columns.min[index], columns.unit)} to ${measure(columns.max[index], columns.unit)}`,
        ),
      );
    }
    if (columns.thresholds && index === null) {
      parts.push(
        h(
          "span",
          { class: "key dash warning" },
          `Warning ${measure(columns.thresholds.warning, columns.unit)}`,
        ),
      );
      parts.push(
        h(
          "span",
          { class: "key dash critical" },
          `Critical ${measure(columns.thresholds.critical, columns.unit)}`,
        ),
      );
    }
    if (index !== null && columns.breach_seconds[index])
      parts.push(
        h("span", {}, icon("critical"), ` ${duration(columns.breach_seconds[index])} in breach`),
      );
  });
  return parts;
}

function tableDetails(title, lines, history) {
  const details = h("details", { class: "more" }, h("summary", {}, `${title} as a table`));
  details.addEventListener(
    "toggle",
    () =>
      details.open &&
      details.childElementCount === 1 &&
      details.append(historyTable(title, lines, history)),
  );
  return details;
}

function historyTable(title, lines, { timestamps, status }) {
  const multiple = lines.length > 1;
  const head = lines.flatMap(([name]) =>
    ["average", "minimum", "maximum", "95th percentile"].map((statistic) =>
      multiple ? `${name}, ${statistic}` : statistic,
    ),
  );
  const indexes = timestamps.map((_, index) => index).reverse();
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, newest first` },
    h(
      "table",
      { class: "data" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Window ended"),
          head.map((title) => h("th", { scope: "col", class: "number" }, title)),
          h("th", { scope: "col" }, "Status"),
        ),
      ),
      h(
        "tbody",
        {},
        indexes.map((index) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, toShortTime(timestamps[index])),
            lines.flatMap(([, columns]) =>
              ["avg", "min", "max", "p95"].map((name) =>
                h("td", { class: "number" }, measure(columns[name][index], columns.unit)),
              ),
            ),
            h("td", {}, status[index] ?? "–"),
          ),
        ),
      ),
    ),
  );
}
