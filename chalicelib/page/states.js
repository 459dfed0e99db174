// Loading, failing, being empty: the same everywhere.

import { announce, h, icon, rest, rests } from "./dom.js";
import { explain, isLeft } from "./api.js";

const turns = new WeakMap();
const FLICKER = 180; // milliseconds without a word; a quick answer shows no placeholder

/**
 * Fill a box with what `ask` brings: a placeholder meanwhile, an explanation and Retry if it fails.
 * Gives what was asked for, or undefined if it failed or the view was left. A `show` that gives
 * undefined has changed what is there. With `keeps`, what was shown stays under the explanation.
 */
export async function load(box, { what, ask, show, rows = 4, retry, keeps = false }) {
  const turn = {};
  turns.set(box, turn); // an answer that comes after a newer question is not shown
  box.setAttribute("aria-busy", "true");
  const waiting = setTimeout(() => {
    if (box.childElementCount) return; // what was shown stays until there is something newer
    box.replaceChildren(skeleton(rows));
    announce(`Loading ${what}`);
  }, FLICKER);
  try {
    const answer = await ask();
    if (turns.get(box) !== turn) return undefined;
    const shown = await show(answer);
    if (turns.get(box) !== turn) return undefined;
    clearTimeout(waiting);
    if (shown !== undefined) box.replaceChildren(...[shown].flat().filter(Boolean));
    else clear(box, ".trouble");
    return answer;
  } catch (error) {
    if (isLeft(error) || turns.get(box) !== turn) return undefined;
    clearTimeout(waiting);
    if (!("status" in error)) console.error(error);
    const again = retry ?? (() => load(box, { what, ask, show, rows, keeps }));
    clear(box, keeps ? ".trouble, .skeleton" : "*");
    box.prepend(failure(what, error, again));
    return undefined;
  } finally {
    clearTimeout(waiting);
    if (turns.get(box) === turn) box.removeAttribute("aria-busy");
  }
}

function clear(box, what) {
  for (const child of [...box.children]) if (child.matches(what)) child.remove();
}

export function failure(what, error, again) {
  const { title, advice } = explain(what.charAt(0).toUpperCase() + what.slice(1), error);
  const retry = async () => {
    const button = box.querySelector("button");
    if (rests(button)) return;
    announce("Trying again");
    rest(button, true);
    await again();
    // The button is gone, and the focus must not be lost with it.
    if (document.activeElement === document.body)
      (document.querySelector(".trouble button") ?? document.querySelector("h1")).focus();
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
