// Elements without a library.

/** An element: attributes by name (`on…` are listeners, `data` a map), then its children. */
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

/** A shape of its own for each status, so that colour is never the only sign. */
export function icon(name) {
  return svg(
    "svg",
    { class: `icon ${name}`, "aria-hidden": "true" },
    svg("use", { href: `#i-${name}` }),
  );
}

/** Text for screen readers only. */
export function hush(text) {
  return h("span", { class: "hush" }, text);
}

/** The shape and the word of a status. */
export function status(name, word = name) {
  return h("span", { class: `status ${name}` }, icon(name), word);
}

/** A button that waits keeps the focus, which a disabled one would lose. */
export function rest(button, resting) {
  if (resting) button.setAttribute("aria-disabled", "true");
  else button.removeAttribute("aria-disabled");
}

export const rests = (button) => button.hasAttribute("aria-disabled");

const live = document.getElementById("live");

/** Tell screen readers, and nobody else. */
export function announce(text) {
  live.textContent = text;
}

/** A place in the page as an address: `link("host", ["web-1"], {range: "7d"})`. */
export function link(view, parts = [], parameters = {}) {
  const path = [view, ...parts].filter(Boolean).map(encodeURIComponent).join("/");
  const query = new URLSearchParams(
    Object.entries(parameters).filter(
      ([, value]) => value !== "" && value !== null && value !== undefined,
    ),
  ).toString();
  return `#/${path}${query ? `?${query}` : ""}`;
}

/** The page of a host; account and region save the API the search. */
export function hostLink(host, parameters = {}) {
  return link("host", [host.resource_id], {
    account: host.account_id,
    region: host.region,
    ...parameters,
  });
}
