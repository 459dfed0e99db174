// The fleet at a glance: worst first, what is missing and what alarms said on top.

import { announce, h, hostLink, hush, icon, link } from "./dom.js";
import { get, isLeft } from "./api.js";
import { ago, count, moment } from "./format.js";
import { empty, failure, load } from "./states.js";
import { ORDERS, TYPES, line, text } from "./hosts.js";

const STATUSES = ["critical", "missing", "warning", "ok"];
const FIRST = 40; // rows before the browser may paint
const MORE = 120; // rows in each further step
const NAMED = 8; // missing hosts by name
const MINUTE = 60_000;

export function view(context) {
  const { signal, keep } = context;
  const heading = h("h1", {}, "Fleet");
  const when = h("p", { class: "sub" });
  const top = h("div", { class: "notices" });
  const box = h("div", {});
  const refresh = h(
    "button",
    { type: "button", class: "quiet", onclick: () => start(true) },
    "Refresh",
  );
  let shown = null; // {fleet, list}
  const tellTime = () => when.replaceChildren(...(shown ? since(shown.fleet) : []));
  const minutes = setInterval(tellTime, MINUTE);
  document.addEventListener("visibilitychange", tellTime, { signal });
  signal.addEventListener("abort", () => clearInterval(minutes));

  async function start(again = false) {
    const [fleet, trouble] = await Promise.all([
      load(box, {
        what: "the fleet",
        rows: 8,
        keeps: true, // with its time on top
        retry: () => start(true),
        ask: () => get("hosts", {}, signal, { fresh: again }),
        show: (fleet) => {
          const list = shown?.list.isThere() ? shown.list : table(context.parameters, keep);
          const isNew = list !== shown?.list;
          shown = { fleet, list };
          tellTime();
          replace(top, "absent", absent(fleet.hosts));
          if (!fleet.hosts.length) return nothing();
          list.fill(fleet.hosts);
          return isNew ? list.content : undefined; // what somebody types in stays
        },
      }),
      alarms(top, signal),
    ]);
    if (!fleet) return; // one explanation is enough
    replace(top, "trouble", trouble && failure("the alarms", trouble, () => start(true)));
    announce(`${again ? "Refreshed: " : ""}${summary(fleet.hosts)}`);
    await shown.list.filled();
  }

  return {
    heading,
    content: [h("div", { class: "title" }, h("div", {}, heading, when), refresh), top, box],
    start,
  };
}

function since({ window_end: end, windows }) {
  if (!end) return [];
  const time = h("time", { datetime: end }, moment(end));
  const step = windows.length > 1 ? new Date(windows[1]) - new Date(windows[0]) : 0;
  const late = step && Date.now() - new Date(end) > 2.5 * step;
  return [
    "Newest window ended ",
    time,
    ` (${ago(end)})`,
    ...(late
      ? [
          h(
            "strong",
            { class: "late" },
            icon("warning"),
            "Nothing newer: see whether the pipeline runs.",
          ),
        ]
      : []),
  ];
}

function nothing() {
  return empty(
    "No host has reported yet",
    "The clock fires every three hours. A run started by hand brings the first records in seconds; hosts that nobody can reach push theirs with “python -m infra agent”.",
    h("p", {}, h("a", { class: "button", href: link("runs") }, "Go to runs to start one")),
  );
}

function tally(hosts) {
  const found = Object.fromEntries(STATUSES.map((each) => [each, 0]));
  for (const host of hosts) found[host.status] += 1;
  return found;
}

function summary(hosts) {
  if (!hosts.length) return "No host has reported yet";
  const found = tally(hosts);
  return `${count(hosts.length, "host")}: ${STATUSES.map((each) => `${found[each]} ${each}`).join(", ")}`;
}

// --- Alarms and missing hosts --------------------------------------------------------------------

/** Put a notice in the place of the one of its kind. */
function replace(top, kind, notice) {
  for (const old of top.querySelectorAll(`.${kind}`)) old.remove();
  if (notice) top.append(notice);
}

/** Show which alarms are in ALARM; the error if that cannot be told. */
async function alarms(top, signal) {
  const badge = document.getElementById("alarm-count");
  try {
    const answer = await get("alarms", {}, signal);
    const ringing = answer.alarms.filter((alarm) => alarm.state === "ALARM");
    badge.hidden = !ringing.length;
    badge.replaceChildren(String(ringing.length), hush(" in ALARM"));
    replace(top, "ringing", ringing.length ? ringingBox(ringing) : null);
    return null;
  } catch (error) {
    return isLeft(error) ? null : error;
  }
}

function ringingBox(ringing) {
  return h(
    "section",
    { class: "panel notice ringing", "aria-label": "Alarms" },
    h("h2", {}, icon("critical"), `${count(ringing.length, "alarm")} in ALARM`),
    h(
      "ul",
      {},
      ringing.map((alarm) =>
        h(
          "li",
          {},
          h("a", { href: link("alarms", [], { name: alarm.name }) }, alarm.title),
          alarm.since && h("span", { class: "dim" }, ` since ${moment(alarm.since)}`),
        ),
      ),
    ),
  );
}

/** The hosts that are missing, by name. */
function absent(all) {
  const hosts = all.filter((host) => host.status === "missing");
  if (!hosts.length) return null;
  const names = hosts
    .slice(0, NAMED)
    .map((host) =>
      h(
        "li",
        {},
        h("a", { href: hostLink(host) }, host.resource_id),
        h("span", { class: "dim" }, ` last seen ${moment(host.last_seen)}`),
      ),
    );
  return h(
    "section",
    { class: "panel notice absent", "aria-label": "Missing hosts" },
    h(
      "h2",
      {},
      icon("missing"),
      `${count(hosts.length, "host")} sent nothing in the newest window`,
    ),
    h(
      "ul",
      {},
      names,
      (hosts.length > NAMED &&
        h(
          "li",
          {},
          h("a", { href: link("", [], { status: "missing" }) }, `and ${hosts.length - NAMED} more`),
        )) ||
        null,
    ),
  );
}

// --- The table ---------------------------------------------------------------------------------

/** The list of hosts with what chooses from it: `fill` it as often as there is something new. */
function table(parameters, keep) {
  const state = {
    q: parameters.get("q") ?? "",
    status: STATUSES.includes(parameters.get("status")) ? parameters.get("status") : "",
    sort:
      TYPES.some(([type]) => type === parameters.get("sort")) || parameters.get("sort") === "name"
        ? parameters.get("sort")
        : "",
  };
  let rows = []; // {host, place, text, element}
  const body = h("tbody", { role: "rowgroup" });
  const shownCount = h("p", { class: "dim shown" });
  const noMatch = h(
    "p",
    { class: "panel empty", hidden: true },
    "No host matches. ",
    h("button", { type: "button", class: "link", onclick: clear }, "Show all"),
  );
  const tiles = STATUSES.map((each) =>
    h(
      "button",
      {
        type: "button",
        class: `tile ${each}`,
        "aria-pressed": "false",
        data: { status: each },
        onclick: () => change({ status: state.status === each ? "" : each }),
      },
      icon(each),
      h("b", {}),
      ` ${each}`,
    ),
  );
  const filter = h("input", {
    id: "filter",
    type: "search",
    placeholder: "name, label, region",
    autocomplete: "off",
    value: state.q,
    oninput: () => change({ q: filter.value }),
  });
  const sort = h(
    "select",
    { id: "sort", onchange: () => change({ sort: sort.value }) },
    [["", "Worst first"], ["name", "Name"], ...TYPES].map(([value, word]) =>
      h("option", { value, selected: value === state.sort }, word),
    ),
  );

  function clear() {
    filter.value = "";
    change({ q: "", status: "" });
    filter.focus();
  }

  let speaking = 0;
  function change(parts) {
    Object.assign(state, parts);
    keep(link("", [], state));
    if ("sort" in parts) arrange();
    apply();
    clearTimeout(speaking);
    speaking = setTimeout(() => announce(shownCount.textContent), 500);
  }

  function matches(row) {
    return (
      (!state.status || row.host.status === state.status) &&
      state.q
        .toLowerCase()
        .split(/\s+/)
        .every((word) => row.text.includes(word))
    );
  }

  function apply() {
    let shown = 0;
    for (const row of rows) {
      const good = matches(row);
      shown += good;
      if (row.element) row.element.hidden = !good;
    }
    for (const tile of tiles)
      tile.setAttribute("aria-pressed", String(tile.dataset.status === state.status));
    shownCount.textContent =
      shown === rows.length
        ? count(rows.length, "host")
        : `${shown} of ${count(rows.length, "host")}`;
    noMatch.hidden = shown > 0;
  }

  let building = 0;
  let whole = Promise.resolve();
  let done = null;
  function arrange() {
    const order = [...rows].sort(ORDERS[state.sort] ?? ((a, b) => a.place - b.place));
    cancelAnimationFrame(building);
    let at = 0;
    if (!done) whole = new Promise((resolve) => (done = resolve));
    const step = (most) => {
      const part = document.createDocumentFragment();
      for (const row of order.slice(at, at + most)) {
        row.element ??= line(row.host);
        row.element.hidden = !matches(row);
        part.append(row.element);
      }
      body.append(part);
      at += most;
      if (at < order.length) building = requestAnimationFrame(() => step(MORE));
      else done = done?.();
    };
    step(FIRST);
  }

  function fill(hosts) {
    const focused = document.activeElement;
    const href = body.contains(focused) ? CSS.escape(focused.getAttribute("href")) : "";
    const found = tally(hosts);
    for (const tile of tiles) {
      const number = tile.querySelector("b");
      number.textContent = String(found[tile.dataset.status]);
      number.classList.toggle("none", !found[tile.dataset.status]);
    }
    rows = hosts.map((host, place) => ({ host, place, text: text(host), element: null }));
    body.replaceChildren();
    arrange();
    apply();
    if (href) body.querySelector(`a[href="${href}"]`)?.focus({ preventScroll: true });
  }

  const content = [
    h("div", { class: "tiles", role: "group", "aria-label": "Show only hosts that are" }, tiles),
    h(
      "div",
      { class: "tools" },
      h("p", {}, h("label", { for: "filter" }, "Filter"), filter),
      h("p", {}, h("label", { for: "sort" }, "Sort"), sort),
      shownCount,
    ),
    h(
      "table",
      { class: "fleet", role: "table", "aria-label": "Hosts" },
      h(
        "thead",
        { role: "rowgroup" },
        h(
          "tr",
          { role: "row" },
          ["Host", ...TYPES.map(([, word]) => word)].map((word) =>
            h("th", { role: "columnheader", scope: "col" }, word),
          ),
        ),
      ),
      body,
    ),
    noMatch,
    h(
      "p",
      { class: "dim note" },
      "Lines are averages of the newest eight windows; values are the newest one’s 95th percentile, of the network its average.",
    ),
  ];
  return { content, fill, filled: () => whole, isThere: () => body.isConnected };
}
