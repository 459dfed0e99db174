// Alarms view: every alarm of the stage, with its meaning and the action to take.

import { announce, h, icon, status } from "./dom.js";
import { get } from "./api.js";
import { ago, count, toShortTime } from "./format.js";
import { empty, load } from "./states.js";

const STATES = {
  ALARM: ["critical", "In ALARM"],
  INSUFFICIENT_DATA: ["unknown", "Insufficient data"],
  OK: ["ok", "OK"],
};

export function view({ signal, parameters }) {
  const heading = h("h1", {}, "Alarms");
  const box = h("div", {});
  const start = async () => {
    const response = await load(box, {
      subject: "the alarms",
      fetchData: () => get("alarms", {}, signal),
      render: ({ alarms }) => (alarms.length ? groups(alarms, parameters.get("name")) : noAlarms()),
    });
    if (!response) return;
    const active = response.alarms.filter((alarm) => alarm.state === "ALARM").length;
    announce(`${active} of ${count(response.alarms.length, "alarm")} in ALARM`);
    const badge = document.getElementById("alarm-count");
    badge.hidden = !active;
    badge.textContent = String(active);
  };
  const refresh = h("button", { type: "button", class: "quiet", onclick: start }, "Refresh");
  return {
    heading,
    content: [h("div", { class: "title" }, heading, refresh), box],
    start,
    update: () => {},
  };
}

function noAlarms() {
  return empty(
    "This stage has no alarms",
    "Deploy infra/observability.yaml for this stage; see docs/deploy.md.",
  );
}

function groups(alarms, name) {
  return Object.entries(STATES)
    .map(([state, [sign, label]]) => [sign, label, alarms.filter((alarm) => alarm.state === state)])
    .filter(([, , found]) => found.length)
    .map(([sign, label, found]) =>
      h(
        "section",
        { class: "group", "aria-label": label },
        h("h2", {}, icon(sign), label, h("span", { class: "dim" }, ` ${found.length}`)),
        h(
          "ul",
          { class: "alarms" },
          found.map((alarm) => item(alarm, sign, alarm.state === "ALARM" || alarm.name === name)),
        ),
      ),
    );
}

function item(alarm, sign, open) {
  const since =
    alarm.since &&
    h(
      "span",
      { class: "dim" },
      "since ",
      h("time", { datetime: alarm.since }, toShortTime(alarm.since)),
      ` (${ago(alarm.since)})`,
    );
  return h(
    "li",
    { class: "panel" },
    h(
      "details",
      { open },
      h(
        "summary",
        {},
        h("span", { class: "alarm-title" }, status(sign, alarm.title)),
        h("span", { class: "tag" }, alarm.severity),
        since,
      ),
      h(
        "dl",
        {},
        h("dt", {}, "Meaning"),
        h("dd", {}, alarm.meaning || "–"),
        h("dt", {}, "Action"),
        h("dd", {}, alarm.action || "–"),
        h("dt", {}, "CloudWatch reason"),
        h("dd", {}, alarm.reason || "–"),
        h("dt", {}, "Runbook"),
        h(
          "dd",
          {},
          /^https?:\/\//.test(alarm.runbook)
            ? h("a", { href: alarm.runbook }, alarm.runbook)
            : h("code", {}, alarm.runbook),
        ),
        h("dt", {}, "Name"),
        h("dd", {}, h("code", {}, alarm.name)),
      ),
    ),
  );
}
