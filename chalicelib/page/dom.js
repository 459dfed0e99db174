// DOM helpers.

/** Create an element. `on…` attributes are listeners; `data` is a map of data attributes. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.flat().filter((each) => each !== null && each !== undefined && each !== false),
  );
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Icon of a status. Each status has a different shape, for readers who cannot see its colour. */
export function icon(name) {
  return svg(
    "svg",
    { class: `icon ${name}`, "aria-hidden": "true" },
    svg("use", { href: `#i-${name}` }),
  );
}

/** Text for screen readers only. */
export function visuallyHidden(text) {
  return h("span", { class: "visually-hidden" }, text);
}

/** Icon and label of a status. */
export function status(name, label = name) {
  return h("span", { class: `status ${name}` }, icon(name), label);
}

/** Disable a button without `disabled`, which would drop the keyboard focus. */
export function setDisabled(button, disabled) {
  if (disabled) button.setAttribute("aria-disabled", "true");
  else button.removeAttribute("aria-disabled");
}

export const isDisabled = (button) => button.hasAttribute("aria-disabled");

const live = document.getElementById("live");

/** Announce a text to screen readers. */
export function announce(text) {
  live.textContent = text;
}

/** URL fragment of a view: `link("host", ["web-1"], {range: "7d"})`. */
export function link(view, parts = [], parameters = {}) {
  const path = [view, ...parts].filter(Boolean).map(encodeURIComponent).join("/");
  const query = new URLSearchParams(
    Object.entries(parameters).filter(
      ([, value]) => value !== "" && value !== null && value !== undefined,
    ),
  ).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** Link to a host. With account and region, the API needs no search. */
export function hostLink(host, parameters = {}) {
  return link("host", [host.resource_id], {
    account: host.account_id,
    region: host.region,
    ...parameters,
  });
}
