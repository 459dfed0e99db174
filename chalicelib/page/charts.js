// Charts of a host's history: what is around the canvas, for eyes, keyboards and screen readers.

import { h, icon } from "./dom.js";
import { duration, measure, moment, toDated } from "./format.js";
import { sample, timeChart } from "./plot.js";

const WAYS = { bytes_sent: "Sent", bytes_received: "Received" };

/** A metric type's chart with its words, its readout and its table. */
export async function figure(type, title, host, { parameters, keep }) {
  const history = host.history[type];
  const names = Object.keys(history.measurements);
  const box = h("div", { class: "plot-box" });
  const show = async (name) => {
    const lines =
      type === "network"
        ? names.map((each) => [WAYS[each] ?? each, history.measurements[each]])
        : [[title, history.measurements[name]]];
    box.replaceChildren(...(await drawn(title, lines, history, host)));
  };
  const asked = `percent:${parameters.get("disk")}`;
  const name = type === "disk" && names.includes(asked) ? asked : names[0];
  const heading = h("h2", {}, title);
  const section = h(
    "section",
    { class: "panel figure", "aria-label": `${title} history` },
    h("div", { class: "figure-head" }, heading, choice(type, names, name, show, keep)),
    box,
  );
  await show(name);
  return section;
}

/** Which file system, where there are several. */
function choice(type, names, chosen, show, keep) {
  if (type !== "disk" || names.length < 2) return null;
  const select = h(
    "select",
    {
      "aria-label": "File system",
      onchange: () => {
        keep({ disk: select.value.replace(/^percent:?/, "") });
        show(select.value);
      },
    },
    names.map((each) =>
      h(
        "option",
        { value: each, selected: each === chosen },
        each === "percent" ? "All together" : each.replace("percent:", ""),
      ),
    ),
  );
  return select;
}

async function drawn(title, lines, history, host) {
  const { timestamps } = history;
  const summary = describe(lines, timestamps);
  const readout = h("p", { class: "readout" }, legend(lines, null, timestamps));
  const canvas = h("div", {
    class: "plot",
    tabindex: "0",
    role: "img",
    "aria-label": `${title}. ${summary} Left and right arrow keys read single windows; the table below has all of them.`,
  });
  const tell = (place) => readout.replaceChildren(...legend(lines, place, timestamps));
  const plot = await timeChart(canvas, {
    lines,
    timestamps,
    step: host.window_seconds,
    tell,
    from: host.from,
    to: host.to,
  });
  // Read out what keys choose; all four charts follow a pointer, and would speak together.
  canvas.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  canvas.addEventListener("blur", () => readout.removeAttribute("aria-live"));
  canvas.addEventListener("keydown", (event) => byKey(event, plot, timestamps.length, tell));
  return [h("p", { class: "sub" }, summary), canvas, readout, asTable(title, lines, history)];
}

function byKey(event, plot, length, tell) {
  const moves = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (event.key === "Escape") {
    plot.at = null;
    tell(null);
    plot.mark(null);
    return;
  }
  if (!(event.key in moves)) return;
  event.preventDefault();
  const from = plot.at ?? (event.key === "ArrowRight" ? -1 : length);
  plot.at = Math.min(Math.max(from + moves[event.key], 0), length - 1);
  plot.mark(plot.at);
  tell(plot.at);
}

/** What a chart shows, in a sentence or two. */
function describe(lines, timestamps) {
  return lines
    .map(([name, columns]) => {
      const averages = columns.avg.filter((value) => value !== null);
      if (!averages.length) return `${name}: no value is known.`;
      const highs = columns.max.map((value, place) => value ?? columns.avg[place]);
      const top = highs.reduce(
        (best, value, place) =>
          value !== null && (best < 0 || value > highs[best]) ? place : best,
        -1,
      );
      const mean = averages.reduce((sum, value) => sum + value, 0) / averages.length;
      const breach = columns.thresholds
        ? columns.breach_seconds.reduce((sum, value) => sum + (value ?? 0), 0)
        : 0;
      const over = breach
        ? ` Above ${measure(columns.thresholds.critical, columns.unit)} for ${duration(breach)} in all.`
        : "";
      const who = lines.length > 1 ? `${name}: on` : "On";
      return `${who} average ${measure(mean, columns.unit)}, highest ${measure(highs[top], columns.unit)} on ${toDated(timestamps[top])}.${over}`;
    })
    .join(" ");
}

/** The legend; with a place, that window's values. */
function legend(lines, place, timestamps) {
  const parts = [];
  if (place !== null) parts.push(h("b", {}, toDated(timestamps[place])));
  lines.forEach(([name, columns], number) => {
    const many = lines.length > 1;
    const value = (statistic) =>
      place === null ? "" : ` ${measure(columns[statistic][place], columns.unit)}`;
    parts.push(
      h(
        "span",
        { class: `key line k${number}` },
        sample(number),
        `${many ? name : "Average"}${value("avg")}`,
      ),
    );
    if (columns.min.some((each, at) => each !== null && each !== columns.max[at])) {
      parts.push(
        h(
          "span",
          { class: `key band k${number}` },
          place === null
            ? many
              ? `${name}, lowest to highest`
              : "Lowest to highest"
            : `${measure(columns.min[place], columns.unit)} to ${measure(columns.max[place], columns.unit)}`,
        ),
      );
    }
    if (columns.thresholds && place === null) {
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
    if (place !== null && columns.breach_seconds[place])
      parts.push(
        h("span", {}, icon("critical"), ` ${duration(columns.breach_seconds[place])} in breach`),
      );
  });
  return parts;
}

function asTable(title, lines, history) {
  const details = h("details", { class: "more" }, h("summary", {}, `${title} as a table`));
  details.addEventListener(
    "toggle",
    () =>
      details.open &&
      details.childElementCount === 1 &&
      details.append(rowsOf(title, lines, history)),
  );
  return details;
}

function rowsOf(title, lines, { timestamps, status }) {
  const many = lines.length > 1;
  const head = lines.flatMap(([name]) =>
    ["average", "lowest", "highest", "95th percentile"].map((word) =>
      many ? `${name}, ${word}` : word,
    ),
  );
  const places = timestamps.map((_, place) => place).reverse();
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
          head.map((word) => h("th", { scope: "col", class: "number" }, word)),
          h("th", { scope: "col" }, "Status"),
        ),
      ),
      h(
        "tbody",
        {},
        places.map((place) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, moment(timestamps[place])),
            lines.flatMap(([, columns]) =>
              ["avg", "min", "max", "p95"].map((name) =>
                h("td", { class: "number" }, measure(columns[name][place], columns.unit)),
              ),
            ),
            h("td", {}, status[place] ?? "–"),
          ),
        ),
      ),
    ),
  );
}
