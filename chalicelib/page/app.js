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

// Where one was in each entry of the browser's history, to come back to when its view is there.
const left = new Map();
let entry = null;
history.scrollRestoration = "manual";

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
  const back = turnTo();
  const { path, name, parts, parameters } = place();
  if (!first && shown?.path === path && shown.update) {
    shown.update(parameters);
    return;
  }
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const known = Object.hasOwn(VIEWS, name) && (name !== "host" || parts[0]);
  const [title, section, module] = known ? VIEWS[name] : [null, "", null];
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
    title: entitle,
    /** Keep state in the address without a new entry in the browser's history. */
    keep: (href) => {
      history.replaceState(history.state, "", href);
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
  const started = start?.();
  if (!back) return undefined;
  await started;
  if (!signal.aborted) comeBack(back, heading);
  return undefined;
}

/** Note where one leaves an entry of the history; where one was in the one that is entered. */
function turnTo() {
  if (entry !== null) left.set(entry, whereabouts());
  if (!history.state) history.replaceState(Date.now(), "");
  entry = history.state;
  return left.get(entry);
}

function whereabouts() {
  const focused = document.activeElement;
  const selector = !main.contains(focused)
    ? null
    : focused.id
      ? `[id="${CSS.escape(focused.id)}"]`
      : focused.matches("a[href]")
        ? `a[href="${CSS.escape(focused.getAttribute("href"))}"]`
        : null;
  const place = selector ? [...main.querySelectorAll(selector)].indexOf(focused) : -1;
  return { top: window.scrollY, selector, place };
}

/** To where one was, unless one has gone on meanwhile. */
function comeBack({ top, selector, place }, heading) {
  if (window.scrollY === 0) window.scrollTo(0, top);
  if (document.activeElement === heading && place >= 0)
    main.querySelectorAll(selector)[place]?.focus({ preventScroll: true });
}

function entitle(text) {
  document.title = `${text} · Infrastructure monitoring`;
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
  entitle(heading.textContent);
  announce(heading.textContent);
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
