// Loading, failing, being empty: the same everywhere.

import { announce, h, icon } from "./dom.js";
import { explain, isLeft } from "./api.js";

const FLICKER = 180; // milliseconds without a word; a quick answer shows no placeholder

/**
 * Fill a box with what `ask` brings: a placeholder meanwhile, an explanation and Retry if it fails.
 * Gives what was asked for, or undefined if it failed or the view was left.
 */
export async function load(box, { what, ask, show, rows = 4, retry }) {
  box.setAttribute("aria-busy", "true");
  const waiting = setTimeout(() => {
    if (box.childElementCount) return; // what was shown stays until there is something newer
    box.replaceChildren(skeleton(rows));
    announce(`Loading ${what}`);
  }, FLICKER);
  try {
    const answer = await ask();
    clearTimeout(waiting);
    box.replaceChildren(...[await show(answer)].flat().filter(Boolean));
    return answer;
  } catch (error) {
    clearTimeout(waiting);
    if (isLeft(error)) return undefined;
    if (!("status" in error)) console.error(error);
    const again = retry ?? (() => load(box, { what, ask, show, rows }));
    box.replaceChildren(failure(what, error, again));
    return undefined;
  } finally {
    box.removeAttribute("aria-busy");
  }
}

export function failure(what, error, again) {
  const { title, advice } = explain(what.charAt(0).toUpperCase() + what.slice(1), error);
  const retry = async () => {
    announce("Trying again");
    box.querySelector("button").disabled = true;
    await again();
  };
  const box = h(
    "section",
    { class: "panel trouble", role: "alert" },
    h("h2", {}, icon("critical"), title),
    h("p", {}, advice),
    again && h("p", {}, h("button", { type: "button", onclick: retry }, "Retry")),
  );
  return box;
}

export function empty(title, text, ...actions) {
  return h("section", { class: "panel empty" }, h("h2", {}, title), h("p", {}, text), ...actions);
}

function skeleton(rows) {
  return h(
    "div",
    { class: "skeleton", "aria-hidden": "true" },
    Array.from({ length: rows }, () => h("div")),
  );
}
