// Queries view: the list of named queries, their parameters, and results as a chart or a table.

import { announce, h, isDisabled, link, setDisabled } from "./dom.js";
import { get, isAborted, post } from "./api.js";
import { bytes, count, duration } from "./format.js";
import { empty, failure, load } from "./states.js";
import { defaultColumn, isNumber } from "./chart_series.js";
import {
  field,
  linkMeasurement,
  noRowsMessage,
  parameterList,
  toJson,
  withDefaults,
} from "./parameters.js";
import { resultChart, resultTable } from "./results.js";

const PAGE_SIZE = 500; // rows
const POLL_INTERVALS = [300, 500, 1000, 2000]; // milliseconds; the last one repeats

export function view(context) {
  const { parts, signal, setTitle } = context;
  const [name] = parts;
  const heading = h("h1", {}, name ? `Query ${name}` : "Queries");
  const box = h("div", {});
  if (name) setTitle(name);

  const start = () =>
    load(box, {
      subject: "the named queries",
      fetchData: () => get("queries", {}, signal),
      render: ({ queries }) => {
        if (!queries.length)
          return empty(
            "No named queries",
            "Deploy infra/queries.yaml to create them; see docs/deploy.md.",
          );
        if (!name) return catalog(queries);
        const query = queries.find((each) => each.name === name);
        return query
          ? queryForm(query, context)
          : empty(
              "Query not found",
              `There is no query named ${name}.`,
              h("p", {}, h("a", { href: link("queries") }, "All queries")),
            );
      },
    }).then((response) => {
      if (!response) return undefined;
      announce(name ? `Query ${name}` : count(response.queries.length, "query", "queries"));
      return context.initialResult;
    });

  return {
    heading,
    content: [
      name
        ? h(
            "nav",
            { "aria-label": "Breadcrumb", class: "crumbs" },
            h("a", { href: link("queries") }, "Queries"),
          )
        : "",
      h(
        "div",
        { class: "title" },
        h(
          "div",
          {},
          heading,
          name
            ? ""
            : h(
                "p",
                { class: "sub" },
                "Named queries run in Athena over the whole history. “python -m infra query --list” lists them too.",
              ),
        ),
      ),
      box,
    ],
    start,
    update: name ? null : () => {},
  };
}

function catalog(queries) {
  return h(
    "ul",
    { class: "catalog" },
    queries.map((query) =>
      h(
        "li",
        { class: "panel" },
        h("a", { href: link("queries", [query.name]) }, query.name),
        h("p", {}, query.description),
      ),
    ),
  );
}

// --- One query -----------------------------------------------------------------------------------

function queryForm(query, context) {
  const { parameters, signal, replaceUrl } = context;
  const output = h("div", { class: "result" });
  const state = { as: parameters.get("as") ?? "", y: parameters.get("y") ?? "" };
  const fields = query.parameters.map((each) => field(each, parameters.get(`p.${each.name}`)));
  const button = h("button", { type: "submit", class: "primary" }, "Run query");
  const fieldValues = () =>
    Object.fromEntries(fields.map(({ name, input }) => [name, input.value]));
  // The query of the shown result; the form fields may have changed since.
  let shown = { id: null, values: {} };
  const url = () =>
    link("queries", [query.name], {
      ...Object.fromEntries(
        Object.entries(shown.values).map(([key, value]) => [`p.${key}`, value]),
      ),
      ...state,
      id: shown.id,
    });
  const form = h(
    "form",
    { class: "panel form", novalidate: false },
    h("p", {}, query.description),
    h(
      "div",
      { class: "fields" },
      fields.map((each) => each.row),
    ),
    h("p", {}, button),
  );
  linkMeasurement(fields);

  const change = (changes) => {
    Object.assign(state, changes);
    replaceUrl(url());
  };

  /** Run the query and show its result; `previous` is a query that was started before. */
  async function run(previous) {
    if (isDisabled(button)) return;
    setDisabled(button, true);
    output.setAttribute("aria-busy", "true");
    let started = previous;
    try {
      started ??= await startQuery(query, fieldValues(), signal);
      shown = started;
      change({});
      const result = await waitForResult(started.id, output, signal);
      output.replaceChildren(
        parameterList(started.values),
        ...resultPanels(result, { query, state, change, signal }),
      );
      announce(
        result.state === "SUCCEEDED"
          ? `Query finished: ${count(result.rows.length, "row")}${result.cursor ? " and more" : ""}`
          : "The query failed",
      );
    } catch (error) {
      if (isAborted(error)) return;
      if (!("status" in error)) console.error(error);
      const hasExpired = error.status === 404; // results expire; run the query again
      output.replaceChildren(
        failure("the result", error, () => run(hasExpired ? undefined : started)),
      );
    } finally {
      setDisabled(button, false);
      output.removeAttribute("aria-busy");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  if (parameters.get("id"))
    context.initialResult = run({
      id: parameters.get("id"),
      values: withDefaults(query, fieldValues()),
    });
  return [form, output];
}

async function startQuery(query, fieldValues, signal) {
  const values = withDefaults(query, fieldValues);
  const body = { name: query.name, parameters: toJson(query, values) };
  return { id: (await post("queries", body, signal)).id, values };
}

/** Poll until the query has ended; show its progress in `output`. */
async function waitForResult(id, output, signal) {
  const start = Date.now();
  for (let polls = 0; ; polls += 1) {
    const result = await get(`queries/${encodeURIComponent(id)}`, { limit: PAGE_SIZE }, signal);
    if (result.state !== "QUEUED" && result.state !== "RUNNING") return result;
    output.replaceChildren(
      h(
        "p",
        { class: "panel waiting" },
        `${result.state === "QUEUED" ? "Queued in Athena" : "Running in Athena"}: ${duration(Math.round((Date.now() - start) / 1000))}`,
      ),
    );
    await pause(POLL_INTERVALS[Math.min(polls, POLL_INTERVALS.length - 1)], signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("the user left the view", "AbortError"));
    });
  });
}

function resultPanels(result, { query, state, change, signal }) {
  if (result.state !== "SUCCEEDED") {
    return [
      h(
        "section",
        { class: "panel error", role: "alert" },
        h("h2", {}, result.state === "CANCELLED" ? "The query was cancelled" : "The query failed"),
        h("p", {}, result.reason ?? "Athena gave no reason."),
      ),
    ];
  }
  const facts = h(
    "p",
    { class: "sub facts" },
    h("span", {}, rowCount(result)),
    h("span", {}, `took ${duration(result.seconds)}`),
    h("span", {}, `${bytes(result.bytes_scanned)} scanned`),
  );
  if (!result.rows.length) return [facts, empty("No rows", noRowsMessage(query))];
  const body = h("div", {});
  const buttons = ["chart", "table"].map((as) =>
    h(
      "button",
      { type: "button", data: { as }, onclick: () => update({ as }) },
      as === "chart" ? "Chart" : "Table",
    ),
  );
  const numbers = result.columns.filter(isNumber);
  const column = h(
    "select",
    { id: "y", onchange: () => update({ y: column.value }) },
    numbers.map(({ name }) => h("option", { value: name }, name)),
  );
  const columnBox = h("p", {}, h("label", { for: "y" }, "Show"), column);
  const more = nextRows(result, signal, (moveFocus) => {
    facts.firstChild.textContent = rowCount(result);
    announce(facts.firstChild.textContent);
    const { scrollTop } = body.querySelector(".scroll") ?? {};
    update({});
    const table = body.querySelector(".scroll");
    if (table) table.scrollTop = scrollTop;
    const pressed = buttons.find((each) => each.getAttribute("aria-pressed") === "true");
    // After the last page the button is hidden, so the focus moves to the result.
    if (moveFocus) (result.cursor ? more.querySelector("button") : (table ?? pressed)).focus();
  });

  function update(changes) {
    change(changes);
    const as = !numbers.length ? "table" : state.as || "chart";
    column.value = numbers.some((each) => each.name === state.y)
      ? state.y
      : (defaultColumn(numbers)?.name ?? "");
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.as === as));
    columnBox.hidden = as === "table";
    body.replaceChildren(as === "chart" ? resultChart(result, column.value) : resultTable(result));
  }

  update({});
  return [
    h(
      "div",
      { class: "tools" },
      facts,
      numbers.length
        ? h("div", { class: "segmented", role: "group", "aria-label": "View as" }, buttons)
        : "",
      numbers.length ? columnBox : "",
    ),
    body,
    more,
  ];
}

const rowCount = ({ rows, cursor }) => `${count(rows.length, "row")}${cursor ? " so far" : ""}`;

/** Button that loads the next rows, with an error message below it if that fails. */
function nextRows(result, signal, onLoaded) {
  const button = h(
    "button",
    { type: "button", onclick: loadNext },
    `Load the next ${PAGE_SIZE} rows`,
  );
  const message = h("div", {});
  const box = h("div", { class: "next", hidden: !result.cursor }, h("p", {}, button), message);
  async function loadNext() {
    if (isDisabled(button)) return;
    setDisabled(button, true);
    try {
      const page = await get(
        `queries/${encodeURIComponent(result.id)}`,
        { limit: PAGE_SIZE, cursor: result.cursor },
        signal,
      );
      const moveFocus = box.contains(document.activeElement);
      result.rows.push(...page.rows);
      result.cursor = page.cursor;
      message.replaceChildren();
      box.hidden = !result.cursor;
      onLoaded(moveFocus);
    } catch (error) {
      if (isAborted(error)) return;
      message.replaceChildren(failure("the next rows", error, loadNext));
    } finally {
      setDisabled(button, false);
    }
  }
  return box;
}
