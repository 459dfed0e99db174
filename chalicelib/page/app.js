// Router: the URL fragment selects the view, so that every view can be linked to.

import { announce, h } from "./dom.js";

const VIEWS = {
  "": ["Fleet", "fleet", () => import("./fleet.js")],
  host: ["Host", "fleet", () => import("./host.js")],
  alarms: ["Alarms", "alarms", () => import("./alarms.js")],
  runs: ["Runs", "runs", () => import("./runs.js")],
  queries: ["Queries", "queries", () => import("./queries.js")],
};

const main = document.getElementById("main");
let viewAbort = new AbortController(); // aborts the requests of the current view
let current = null; // {path, update}

// Scroll position and focus by history entry, restored once the view has loaded again.
const savedPositions = new Map();
let historyEntry = null;
history.scrollRestoration = "manual";

function currentRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").map(decode);
  return { path, name, parts, parameters: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Show the view in the URL. If only its parameters changed, update the current view. */
async function show({ first = false } = {}) {
  const position = enterHistoryEntry();
  const { path, name, parts, parameters } = currentRoute();
  if (!first && current?.path === path && current.update) {
    current.update(parameters);
    return;
  }
  viewAbort.abort();
  viewAbort = new AbortController();
  const { signal } = viewAbort;
  const isKnown = Object.hasOwn(VIEWS, name) && (name !== "host" || parts[0]);
  const [title, section, module] = isKnown ? VIEWS[name] : [null, "", null];
  markSection(section);
  current = { path };
  if (!module) return showNotFound();
  const loaded = await module().catch(() => null);
  if (signal.aborted) return undefined;
  if (!loaded) return showUnreachable();
  const context = {
    parts,
    parameters,
    signal,
    setTitle,
    /** Store view state in the URL without adding a history entry. */
    replaceUrl: (href) => {
      history.replaceState(history.state, "", href);
      current.path = currentRoute().path;
      context.parameters = currentRoute().parameters;
    },
  };
  setTitle(title);
  const { heading, content, update, start } = loaded.view(context);
  current.update = update;
  heading.tabIndex = -1;
  main.replaceChildren(...content);
  if (!first) {
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
  const started = start?.();
  if (!position) return undefined;
  await started;
  if (!signal.aborted) restorePosition(position, heading);
  return undefined;
}

/** Save the position in the previous history entry; return the saved one of the new entry. */
function enterHistoryEntry() {
  if (historyEntry !== null) savedPositions.set(historyEntry, currentPosition());
  if (!history.state) history.replaceState(Date.now(), "");
  historyEntry = history.state;
  return savedPositions.get(historyEntry);
}

function currentPosition() {
  const focused = document.activeElement;
  const selector = !main.contains(focused)
    ? null
    : focused.id
      ? `[id="${CSS.escape(focused.id)}"]`
      : focused.matches("a[href]")
        ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]`
        : null;
  const index = selector ? [...main.querySelectorAll(selector)].indexOf(focused) : -1;
  return { top: window.scrollY, selector, index };
}

/** Restore scroll position and focus, unless the user has moved on meanwhile. */
function restorePosition({ top, selector, index }, heading) {
  if (window.scrollY === 0) window.scrollTo(0, top);
  if (document.activeElement === heading && index >= 0)
    main.querySelectorAll(selector)[index]?.focus({ preventScroll: true });
}

function setTitle(text) {
  document.title = `${text} · Infrastructure monitoring`;
}

function markSection(section) {
  for (const tab of document.querySelectorAll("nav a[data-view]")) {
    if (tab.dataset.view === section) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

function showNotFound() {
  const heading = h("h1", { tabindex: "-1" }, "Page not found");
  main.replaceChildren(heading, h("p", {}, h("a", { href: "#/" }, "Back to the fleet")));
  setTitle(heading.textContent);
  announce(heading.textContent);
  heading.focus();
}

/** Views are loaded from the API's host, so a view that does not load means no API. */
function showUnreachable() {
  const heading = h("h1", { tabindex: "-1" }, "The API is not responding");
  const text = `Check that “chalice local” is still running at ${location.host}.`;
  const button = h("button", { type: "button", onclick: () => location.reload() }, "Retry");
  main.replaceChildren(heading, h("p", {}, text), h("p", {}, button));
  announce(heading.textContent);
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment selects the view
  main.focus();
});
window.addEventListener("hashchange", () => show());
show({ first: true });
