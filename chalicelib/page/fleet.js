// Fleet view: active alarms and missing hosts at the top, then all hosts, worst first.

import { announce, h, hostLink, icon, link, visuallyHidden } from "./dom.js";
import { get, isAborted } from "./api.js";
import { ago, count, toShortTime } from "./format.js";
import { empty, failure, load } from "./states.js";
import { ORDERS, TYPES, hostRow, searchText } from "./host_rows.js";

const STATUSES = ["critical", "missing", "warning", "ok"];
const FIRST_ROWS = 40; // rendered before the first paint
const ROWS_PER_FRAME = 120; // rendered in each animation frame after that
const MAX_MISSING_NAMES = 8;
const MINUTE = 60_000; // milliseconds

export function view(context) {
  const { signal, replaceUrl } = context;
  const heading = h("h1", {}, "Fleet");
  const windowAge = h("p", { class: "sub" });
  const notices = h("div", { class: "notices" });
  const box = h("div", {});
  const refresh = h(
    "button",
    { type: "button", class: "quiet", onclick: () => start(true) },
    "Refresh",
  );
  let shown = null; // {fleet, list}
  const updateAge = () => windowAge.replaceChildren(...(shown ? describeAge(shown.fleet) : []));
  const timer = setInterval(updateAge, MINUTE);
  document.addEventListener("visibilitychange", updateAge, { signal });
  signal.addEventListener("abort", () => clearInterval(timer));

  async function start(refreshing = false) {
    const [fleet, alarmsError] = await Promise.all([
      load(box, {
        subject: "the fleet",
        rows: 8,
        keepContent: true, // its age stays visible at the top
        retry: () => start(true),
        fetchData: () => get("hosts", {}, signal, { fresh: refreshing }),
        render: (fleet) => {
          const list = shown?.list.isConnected()
            ? shown.list
            : hostList(context.parameters, replaceUrl);
          const isNew = list !== shown?.list;
          shown = { fleet, list };
          updateAge();
          replaceNotice(notices, "missing-hosts", missingHosts(fleet.hosts));
          if (!fleet.hosts.length) return noHosts();
          list.fill(fleet.hosts);
          return isNew ? list.content : undefined; // keep a focused filter field in place
        },
      }),
      showActiveAlarms(notices, signal),
    ]);
    if (!fleet) return; // one error message is enough
    const message = alarmsError && failure("the alarms", alarmsError, () => start(true));
    replaceNotice(notices, "error", message);
    announce(`${refreshing ? "Refreshed: " : ""}${summary(fleet.hosts)}`);
    await shown.list.rendered();
  }

  return {
    heading,
    content: [
      h("div", { class: "title" }, h("div", {}, heading, windowAge), refresh),
      notices,
      box,
    ],
    start,
  };
}

function describeAge({ window_end: end, windows }) {
  if (!end) return [];
  const time = h("time", { datetime: end }, toShortTime(end));
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
            "No newer window. Check whether runs succeed.",
          ),
        ]
      : []),
  ];
}

function noHosts() {
  return empty(
    "No host has reported yet",
    "A run starts every three hours. To collect the first records now, start a run manually. Hosts behind a firewall push their metrics with “python -m infra agent”.",
    h("p", {}, h("a", { class: "button", href: link("runs") }, "Go to Runs")),
  );
}

function countByStatus(hosts) {
  const counts = Object.fromEntries(STATUSES.map((each) => [each, 0]));
  for (const host of hosts) counts[host.status] += 1;
  return counts;
}

function summary(hosts) {
  if (!hosts.length) return "No host has reported yet";
  const counts = countByStatus(hosts);
  return `${count(hosts.length, "host")}: ${STATUSES.map((each) => `${counts[each]} ${each}`).join(", ")}`;
}

// --- Alarms and missing hosts --------------------------------------------------------------------

/** Replace the notice that has the class `kind`; null removes it. */
function replaceNotice(notices, kind, notice) {
  for (const old of notices.querySelectorAll(`.${kind}`)) old.remove();
  if (notice) notices.append(notice);
}

/** Show the alarms in ALARM. Returns the error if the alarms cannot be read, else null. */
async function showActiveAlarms(notices, signal) {
  const badge = document.getElementById("alarm-count");
  try {
    const response = await get("alarms", {}, signal);
    const active = response.alarms.filter((alarm) => alarm.state === "ALARM");
    badge.hidden = !active.length;
    badge.replaceChildren(String(active.length), visuallyHidden(" in ALARM"));
    replaceNotice(notices, "in-alarm", active.length ? activeAlarms(active) : null);
    return null;
  } catch (error) {
    return isAborted(error) ? null : error;
  }
}

function activeAlarms(alarms) {
  return h(
    "section",
    { class: "panel notice in-alarm", "aria-label": "Alarms" },
    h("h2", {}, icon("critical"), `${count(alarms.length, "alarm")} in ALARM`),
    h(
      "ul",
      {},
      alarms.map((alarm) =>
        h(
          "li",
          {},
          h("a", { href: link("alarms", [], { name: alarm.name }) }, alarm.title),
          alarm.since && h("span", { class: "dim" }, ` since ${toShortTime(alarm.since)}`),
        ),
      ),
    ),
  );
}

/** Notice that names the missing hosts. */
function missingHosts(all) {
  const hosts = all.filter((host) => host.status === "missing");
  if (!hosts.length) return null;
  const unnamed = hosts.length - MAX_MISSING_NAMES;
  const names = hosts
    .slice(0, MAX_MISSING_NAMES)
    .map((host) =>
      h(
        "li",
        {},
        h("a", { href: hostLink(host) }, host.resource_id),
        h("span", { class: "dim" }, ` last seen ${toShortTime(host.last_seen)}`),
      ),
    );
  return h(
    "section",
    { class: "panel notice missing-hosts", "aria-label": "Missing hosts" },
    h(
      "h2",
      {},
      icon("missing"),
      `${count(hosts.length, "host")} without data in the newest window`,
    ),
    h(
      "ul",
      {},
      names,
      unnamed > 0 &&
        h("li", {}, h("a", { href: link("", [], { status: "missing" }) }, `and ${unnamed} more`)),
    ),
  );
}

// --- The table ---------------------------------------------------------------------------------

/** The host table with its filters. `fill` replaces the hosts and keeps the filters. */
function hostList(parameters, replaceUrl) {
  const state = {
    q: parameters.get("q") ?? "",
    status: STATUSES.includes(parameters.get("status")) ? parameters.get("status") : "",
    sort:
      TYPES.some(([type]) => type === parameters.get("sort")) || parameters.get("sort") === "name"
        ? parameters.get("sort")
        : "",
  };
  let rows = []; // {host, rank, text, element}; rank is the position in the API response
  const body = h("tbody", { role: "rowgroup" });
  const hostCount = h("p", { class: "dim shown" });
  const noMatch = h(
    "p",
    { class: "panel empty", hidden: true },
    "No hosts match. ",
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
    [["", "Worst first"], ["name", "Name"], ...TYPES].map(([value, label]) =>
      h("option", { value, selected: value === state.sort }, label),
    ),
  );

  function clear() {
    filter.value = "";
    change({ q: "", status: "" });
    filter.focus();
  }

  let announcement = 0;
  function change(changes) {
    Object.assign(state, changes);
    replaceUrl(link("", [], state));
    if ("sort" in changes) renderRows();
    applyFilters();
    clearTimeout(announcement);
    announcement = setTimeout(() => announce(hostCount.textContent), 500);
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

  function applyFilters() {
    let shown = 0;
    for (const row of rows) {
      const isMatch = matches(row);
      shown += isMatch;
      if (row.element) row.element.hidden = !isMatch;
    }
    for (const tile of tiles)
      tile.setAttribute("aria-pressed", String(tile.dataset.status === state.status));
    hostCount.textContent =
      shown === rows.length
        ? count(rows.length, "host")
        : `${shown} of ${count(rows.length, "host")}`;
    noMatch.hidden = shown > 0;
  }

  let frame = 0;
  let allRendered = Promise.resolve();
  let resolveRendered = null; // null unless rendering is in progress
  function renderRows() {
    const sorted = [...rows].sort(ORDERS[state.sort] ?? ((a, b) => a.rank - b.rank));
    cancelAnimationFrame(frame);
    let start = 0;
    if (!resolveRendered) allRendered = new Promise((resolve) => (resolveRendered = resolve));
    const renderBatch = (size) => {
      const batch = document.createDocumentFragment();
      for (const row of sorted.slice(start, start + size)) {
        row.element ??= hostRow(row.host);
        row.element.hidden = !matches(row);
        batch.append(row.element);
      }
      body.append(batch);
      start += size;
      if (start < sorted.length) frame = requestAnimationFrame(() => renderBatch(ROWS_PER_FRAME));
      else resolveRendered = resolveRendered?.();
    };
    renderBatch(FIRST_ROWS);
  }

  function fill(hosts) {
    const focused = document.activeElement;
    const href = body.contains(focused) ? CSS.escape(focused.getAttribute("href")) : "";
    const counts = countByStatus(hosts);
    for (const tile of tiles) {
      const number = tile.querySelector("b");
      number.textContent = String(counts[tile.dataset.status]);
      number.classList.toggle("none", !counts[tile.dataset.status]);
    }
    rows = hosts.map((host, rank) => ({ host, rank, text: searchText(host), element: null }));
    body.replaceChildren();
    renderRows();
    applyFilters();
    if (href) body.querySelector(`a[href="${href}"]`)?.focus({ preventScroll: true });
  }

  const content = [
    h("div", { class: "tiles", role: "group", "aria-label": "Show hosts with status" }, tiles),
    h(
      "div",
      { class: "tools" },
      h("p", {}, h("label", { for: "filter" }, "Filter"), filter),
      h("p", {}, h("label", { for: "sort" }, "Sort"), sort),
      hostCount,
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
          ["Host", ...TYPES.map(([, label]) => label)].map((label) =>
            h("th", { role: "columnheader", scope: "col" }, label),
          ),
        ),
      ),
      body,
    ),
    noMatch,
    h(
      "p",
      { class: "dim note" },
      "Small charts show averages of the newest eight windows. Values are the 95th percentile of the newest window; network values are averages.",
    ),
  ];
  return { content, fill, rendered: () => allRendered, isConnected: () => body.isConnected };
}
