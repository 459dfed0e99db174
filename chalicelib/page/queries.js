// Named queries: which there are, their parameters, and the answer as a chart or a table.

import { announce, h, link } from "./dom.js";
import { get, isLeft, post } from "./api.js";
import { bytes, count, duration } from "./format.js";
import { empty, failure, load } from "./states.js";
import { chartOf, tableOf } from "./answers.js";

const PAGE = 500;
const PACES = [300, 500, 1000, 2000]; // milliseconds between looks
const KINDS = { integer: { type: "number", step: "1" }, number: { type: "number", step: "any" } };
const HINTS = { metric_type: ["cpu", "memory", "disk", "network"] };

export function view(context) {
  const { parts, parameters, signal, title } = context;
  const [name] = parts;
  const heading = h("h1", {}, name ? `Query ${name}` : "Queries");
  const box = h("div", {});
  if (name) title(name);

  const start = () =>
    load(box, {
      what: "the named queries",
      ask: () => get("queries", {}, signal),
      show: ({ queries }) => {
        if (!queries.length)
          return empty(
            "There are no named queries",
            "They are deployed with infra/queries.yaml: docs/deploy.md has the command.",
          );
        if (!name) return catalog(queries);
        const query = queries.find((each) => each.name === name);
        return query
          ? asking(query, context)
          : empty(
              "There is no such query",
              `None is called ${name}.`,
              h("p", {}, h("a", { href: link("queries") }, "All queries")),
            );
      },
    }).then(
      (answer) =>
        answer &&
        announce(name ? `Query ${name}` : count(answer.queries.length, "query", "queries")),
    );

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
                "Asked of the whole history, in Athena. The same ones as python -m infra query --list.",
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

function asking(query, { parameters, signal, keep }) {
  const result = h("div", { class: "result" });
  const state = { as: parameters.get("as") ?? "", y: parameters.get("y") ?? "" };
  const fields = query.parameters.map((each) => field(each, parameters.get(`p.${each.name}`)));
  const button = h("button", { type: "submit", class: "primary" }, "Ask");
  const given = () => Object.fromEntries(fields.map(({ name, input }) => [name, input.value]));
  const place = (id) =>
    link("queries", [query.name], {
      ...Object.fromEntries(Object.entries(given()).map(([key, value]) => [`p.${key}`, value])),
      ...state,
      id,
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
  let answered = null;

  const change = (parts) => {
    Object.assign(state, parts);
    keep(place(answered));
  };

  async function ask(id) {
    button.disabled = true;
    result.setAttribute("aria-busy", "true");
    try {
      const identity =
        id ??
        (await post("queries", { name: query.name, parameters: typed(query, given()) }, signal)).id;
      answered = identity;
      change({});
      const answer = await awaited(identity, result, signal);
      result.replaceChildren(...shown(answer, { state, change, signal }));
      announce(
        answer.state === "SUCCEEDED"
          ? `Answered: ${count(answer.rows.length, "row")}${answer.cursor ? " and more" : ""}`
          : "The query failed",
      );
    } catch (error) {
      if (isLeft(error)) return;
      if (!("status" in error)) console.error(error);
      result.replaceChildren(failure("the answer", error, () => ask()));
    } finally {
      button.disabled = false;
      result.removeAttribute("aria-busy");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  if (parameters.get("id")) ask(parameters.get("id"));
  return [form, result];
}

function field({ name, type, default: preset }, asked) {
  const id = `p-${name}`;
  const hints =
    HINTS[name] &&
    h(
      "datalist",
      { id: `${id}-list` },
      HINTS[name].map((value) => h("option", { value })),
    );
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
    input,
    row: h("p", {}, h("label", { for: id }, name.replaceAll("_", " ")), input, hints, like),
  };
}

/** Values as JSON has them; what is left empty takes its default. */
function typed(query, given) {
  return Object.fromEntries(
    query.parameters
      .filter(({ name }) => given[name] !== "")
      .map(({ name, type }) => [
        name,
        type in KINDS && Number.isFinite(Number(given[name])) ? Number(given[name]) : given[name],
      ]),
  );
}

/** Look until the query has ended. */
async function awaited(id, result, signal) {
  const began = Date.now();
  for (let looks = 0; ; looks += 1) {
    const answer = await get(`queries/${encodeURIComponent(id)}`, { limit: PAGE }, signal);
    if (answer.state !== "QUEUED" && answer.state !== "RUNNING") return answer;
    result.replaceChildren(
      h(
        "p",
        { class: "panel waits" },
        `${answer.state === "QUEUED" ? "Waiting for Athena" : "Athena is at it"}: ${duration(Math.round((Date.now() - began) / 1000))}`,
      ),
    );
    await pause(PACES[Math.min(looks, PACES.length - 1)], signal);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("left", "AbortError"));
    });
  });
}

function shown(answer, { state, change, signal }) {
  if (answer.state !== "SUCCEEDED") {
    return [
      h(
        "section",
        { class: "panel trouble", role: "alert" },
        h("h2", {}, answer.state === "CANCELLED" ? "The query was stopped" : "The query failed"),
        h("p", {}, answer.reason ?? "Athena gave no reason."),
      ),
    ];
  }
  const facts = h(
    "p",
    { class: "sub facts" },
    h("span", {}, `${count(answer.rows.length, "row")}${answer.cursor ? " so far" : ""}`),
    h("span", {}, `took ${duration(answer.seconds)}`),
    h("span", {}, `${bytes(answer.bytes_scanned)} read`),
  );
  if (!answer.rows.length)
    return [
      facts,
      empty("No rows", "Nothing matches in this time. Ask for more days, or for other hosts."),
    ];
  const body = h("div", {});
  const buttons = ["chart", "table"].map((as) =>
    h(
      "button",
      { type: "button", data: { as }, onclick: () => pick({ as }) },
      as === "chart" ? "Chart" : "Table",
    ),
  );
  const numbers = answer.columns.filter((each) =>
    /^(tinyint|smallint|integer|int|bigint|double|float|real|decimal)/.test(each.type),
  );
  const column = h(
    "select",
    { id: "y", onchange: () => pick({ y: column.value }) },
    numbers.map(({ name }) => h("option", { value: name }, name)),
  );
  const columnBox = h("p", {}, h("label", { for: "y" }, "Show"), column);
  const preferred = numbers.find((each) => each.type === "double") ?? numbers[0];

  async function pick(parts) {
    change(parts);
    const as = !numbers.length ? "table" : state.as || "chart";
    column.value = numbers.some((each) => each.name === state.y)
      ? state.y
      : (preferred?.name ?? "");
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.as === as));
    columnBox.hidden = as === "table";
    body.replaceChildren(as === "chart" ? await chartOf(answer, column.value) : tableOf(answer));
    body.append(more());
  }

  function more() {
    if (!answer.cursor) return "";
    const button = h("button", { type: "button", onclick: next }, `Load the next ${PAGE} rows`);
    async function next() {
      button.disabled = true;
      try {
        const page = await get(
          `queries/${encodeURIComponent(answer.id)}`,
          { limit: PAGE, cursor: answer.cursor },
          signal,
        );
        answer.rows.push(...page.rows);
        answer.cursor = page.cursor;
        facts.firstChild.textContent = `${count(answer.rows.length, "row")}${answer.cursor ? " so far" : ""}`;
        announce(facts.firstChild.textContent);
        await pick({});
      } catch (error) {
        if (!isLeft(error)) body.append(failure("the next rows", error, next));
      }
    }
    return h("p", {}, button);
  }

  pick({});
  return [
    h(
      "div",
      { class: "tools" },
      facts,
      numbers.length
        ? h("div", { class: "segmented", role: "group", "aria-label": "Shown as" }, buttons)
        : "",
      numbers.length ? columnBox : "",
    ),
    body,
  ];
}
