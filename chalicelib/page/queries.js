// Named queries: which there are, their parameters, and the answer as a chart or a table.

import { announce, h, link, rest, rests } from "./dom.js";
import { get, isLeft, post } from "./api.js";
import { bytes, count, duration } from "./format.js";
import { empty, failure, load } from "./states.js";
import { chartOf, tableOf } from "./answers.js";
import { adviceOn, field, filled, follow, told, typed } from "./parameters.js";
import { isNumber, subject } from "./series.js";

const PAGE = 500;
const PACES = [300, 500, 1000, 2000]; // milliseconds between looks

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
    }).then((answer) => {
      if (!answer) return undefined;
      announce(name ? `Query ${name}` : count(answer.queries.length, "query", "queries"));
      return context.answering;
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

function asking(query, context) {
  const { parameters, signal, keep } = context;
  const result = h("div", { class: "result" });
  const state = { as: parameters.get("as") ?? "", y: parameters.get("y") ?? "" };
  const fields = query.parameters.map((each) => field(each, parameters.get(`p.${each.name}`)));
  const button = h("button", { type: "submit", class: "primary" }, "Ask");
  const given = () => Object.fromEntries(fields.map(({ name, input }) => [name, input.value]));
  // What the answer that is shown was asked with, whatever the fields say by now.
  let answered = { id: null, values: {} };
  const place = () =>
    link("queries", [query.name], {
      ...Object.fromEntries(
        Object.entries(answered.values).map(([key, value]) => [`p.${key}`, value]),
      ),
      ...state,
      id: answered.id,
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
  follow(fields);

  const change = (parts) => {
    Object.assign(state, parts);
    keep(place());
  };

  async function ask(known) {
    if (rests(button)) return;
    rest(button, true);
    result.setAttribute("aria-busy", "true");
    let asked = known;
    try {
      asked ??= await begun(query, given(), signal);
      answered = asked;
      change({});
      const answer = await awaited(asked.id, result, signal);
      result.replaceChildren(
        told(asked.values),
        ...shown(answer, { query, state, change, signal }),
      );
      announce(
        answer.state === "SUCCEEDED"
          ? `Answered: ${count(answer.rows.length, "row")}${answer.cursor ? " and more" : ""}`
          : "The query failed",
      );
    } catch (error) {
      if (isLeft(error)) return;
      if (!("status" in error)) console.error(error);
      const gone = error.status === 404; // Athena's rows are deleted some day: ask anew
      result.replaceChildren(failure("the answer", error, () => ask(gone ? undefined : asked)));
    } finally {
      rest(button, false);
      result.removeAttribute("aria-busy");
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  if (parameters.get("id"))
    context.answering = ask({ id: parameters.get("id"), values: filled(query, given()) });
  return [form, result];
}

async function begun(query, given, signal) {
  const values = filled(query, given);
  const body = { name: query.name, parameters: typed(query, values) };
  return { id: (await post("queries", body, signal)).id, values };
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

function shown(answer, { query, state, change, signal }) {
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
    h("span", {}, rowsOf(answer)),
    h("span", {}, `took ${duration(answer.seconds)}`),
    h("span", {}, `${bytes(answer.bytes_scanned)} read`),
  );
  if (!answer.rows.length) return [facts, empty("No rows", adviceOn(query))];
  const body = h("div", {});
  const buttons = ["chart", "table"].map((as) =>
    h(
      "button",
      { type: "button", data: { as }, onclick: () => pick({ as }) },
      as === "chart" ? "Chart" : "Table",
    ),
  );
  const numbers = answer.columns.filter(isNumber);
  const column = h(
    "select",
    { id: "y", onchange: () => pick({ y: column.value }) },
    numbers.map(({ name }) => h("option", { value: name }, name)),
  );
  const columnBox = h("p", {}, h("label", { for: "y" }, "Show"), column);
  const more = moreOf(answer, signal, (mayFocus) => {
    facts.firstChild.textContent = rowsOf(answer);
    announce(facts.firstChild.textContent);
    const { scrollTop } = body.querySelector(".scroll") ?? {};
    pick({});
    const table = body.querySelector(".scroll");
    if (table) table.scrollTop = scrollTop;
    const pressed = buttons.find((each) => each.getAttribute("aria-pressed") === "true");
    // The last page takes the button away.
    if (mayFocus) (answer.cursor ? more.querySelector("button") : (table ?? pressed)).focus();
  });

  function pick(parts) {
    change(parts);
    const as = !numbers.length ? "table" : state.as || "chart";
    column.value = numbers.some((each) => each.name === state.y)
      ? state.y
      : (subject(numbers)?.name ?? "");
    for (const each of buttons) each.setAttribute("aria-pressed", String(each.dataset.as === as));
    columnBox.hidden = as === "table";
    body.replaceChildren(as === "chart" ? chartOf(answer, column.value) : tableOf(answer));
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
    more,
  ];
}

const rowsOf = ({ rows, cursor }) => `${count(rows.length, "row")}${cursor ? " so far" : ""}`;

/** A button for the next rows of an answer that goes on, and what went wrong with it. */
function moreOf(answer, signal, tell) {
  const button = h("button", { type: "button", onclick: next }, `Load the next ${PAGE} rows`);
  const trouble = h("div", {});
  const box = h("div", { class: "next", hidden: !answer.cursor }, h("p", {}, button), trouble);
  async function next() {
    if (rests(button)) return;
    rest(button, true);
    try {
      const page = await get(
        `queries/${encodeURIComponent(answer.id)}`,
        { limit: PAGE, cursor: answer.cursor },
        signal,
      );
      const mayFocus = box.contains(document.activeElement);
      answer.rows.push(...page.rows);
      answer.cursor = page.cursor;
      trouble.replaceChildren();
      box.hidden = !answer.cursor;
      tell(mayFocus);
    } catch (error) {
      if (isLeft(error)) return;
      trouble.replaceChildren(failure("the next rows", error, next));
    } finally {
      rest(button, false);
    }
  }
  return box;
}
