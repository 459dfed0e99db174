// Loading, error and empty states, shared by all views.

import { announce, h, icon, isDisabled, setDisabled } from "./dom.js";
import { explain, isAborted } from "./api.js";

const latestLoads = new WeakMap(); // by box
const PLACEHOLDER_DELAY = 180; // milliseconds; avoids a flicker when the response is fast

/**
 * Fetch data and render it into a box: with a placeholder while loading, and an error message with
 * a Retry button on failure.
 *
 * Returns the fetched data, or undefined after a failure or if the user left the view.
 * `render` returns the new content, or undefined if it updated the box in place.
 * With `keepContent`, the previous content stays below an error message.
 */
export async function load(
  box,
  { subject, fetchData, render, rows = 4, retry, keepContent = false },
) {
  const thisLoad = {};
  latestLoads.set(box, thisLoad); // an older response must not replace a newer one
  const isOutdated = () => latestLoads.get(box) !== thisLoad;
  box.setAttribute("aria-busy", "true");
  const placeholderTimer = setTimeout(() => {
    if (box.childElementCount) return; // keep the previous content until the new one arrives
    box.replaceChildren(skeleton(rows));
    announce(`Loading ${subject}`);
  }, PLACEHOLDER_DELAY);
  try {
    const data = await fetchData();
    if (isOutdated()) return undefined;
    const content = await render(data);
    if (isOutdated()) return undefined;
    clearTimeout(placeholderTimer);
    if (content !== undefined) box.replaceChildren(...[content].flat().filter(Boolean));
    else removeChildren(box, ".error");
    return data;
  } catch (error) {
    if (isAborted(error) || isOutdated()) return undefined;
    clearTimeout(placeholderTimer);
    if (!("status" in error)) console.error(error);
    const again = retry ?? (() => load(box, { subject, fetchData, render, rows, keepContent }));
    removeChildren(box, keepContent ? ".error, .skeleton" : "*");
    box.prepend(failure(subject, error, again));
    return undefined;
  } finally {
    clearTimeout(placeholderTimer);
    if (!isOutdated()) box.removeAttribute("aria-busy");
  }
}

function removeChildren(box, selector) {
  for (const child of [...box.children]) if (child.matches(selector)) child.remove();
}

/** Error message with a Retry button; `subject` names the data, such as "the fleet". */
export function failure(subject, error, again) {
  const { title, advice } = explain(subject.charAt(0).toUpperCase() + subject.slice(1), error);
  const retry = async () => {
    const button = box.querySelector("button");
    if (isDisabled(button)) return;
    announce("Retrying");
    setDisabled(button, true);
    await again();
    // The button was removed with the message; move the focus instead of losing it.
    if (document.activeElement === document.body)
      (document.querySelector(".error button") ?? document.querySelector("h1")).focus();
  };
  const box = h(
    "section",
    { class: "panel error", role: "alert" },
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
