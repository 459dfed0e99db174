// Which view is shown: the part of the address after #, so that each view can be linked to.

import { announce, h } from "./dom.js";

const VIEWS = {
  "": ["Fleet", "fleet", () => import("./fleet.js")],
  host: ["Host", "fleet", () => import("./host.js")],
  alarms: ["Alarms", "alarms", () => import("./alarms.js")],
  runs: ["Runs", "runs", () => import("./runs.js")],
  queries: ["Queries", "queries", () => import("./queries.js")],
};

const main = document.getElementById("main");
let leaving = new AbortController();
let shown = null; // {path, update}

function place() {
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

/** Show the view of the address; a view that only has new parameters updates itself. */
async function show({ first = false } = {}) {
  const { path, name, parts, parameters } = place();
  if (!first && shown?.path === path && shown.update) {
    shown.update(parameters);
    return;
  }
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [title, section, module] = VIEWS[name] ?? [null, "", null];
  mark(section);
  shown = { path };
  if (!module) return missing();
  const loaded = await module().catch(() => null);
  if (signal.aborted) return undefined;
  if (!loaded) return unreachable();
  const context = {
    parts,
    parameters,
    signal,
    title: (text) => (document.title = `${text} · Infrastructure monitoring`),
    /** Keep state in the address without a new entry in the browser's history. */
    keep: (href) => {
      history.replaceState(null, "", href);
      shown.path = place().path;
      context.parameters = place().parameters;
    },
  };
  context.title(title);
  const { heading, content, update, start } = loaded.view(context);
  shown.update = update;
  heading.tabIndex = -1;
  main.replaceChildren(...content);
  if (!first) {
    window.scrollTo(0, 0);
    heading.focus({ preventScroll: true });
  }
  start?.();
  return undefined;
}

function mark(section) {
  for (const each of document.querySelectorAll("nav a[data-view]")) {
    if (each.dataset.view === section) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}

function missing() {
  const heading = h("h1", { tabindex: "-1" }, "There is no such page");
  main.replaceChildren(heading, h("p", {}, h("a", { href: "#/" }, "Go to the fleet")));
  announce("There is no such page");
  heading.focus();
}

/** The rest of the page comes from the API's own address. */
function unreachable() {
  const heading = h("h1", { tabindex: "-1" }, "The API does not answer");
  const text = `Check that “chalice local” still runs at ${location.host}.`;
  const button = h("button", { type: "button", onclick: () => location.reload() }, "Retry");
  main.replaceChildren(heading, h("p", {}, text), h("p", {}, button));
  announce(heading.textContent);
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  main.focus();
});
window.addEventListener("hashchange", () => show());
show({ first: true });
