// Every alarm of the stage: what it means, and what to do about it.

import { announce, h, icon, status } from "./dom.js";
import { get } from "./api.js";
import { ago, count, moment } from "./format.js";
import { empty, load } from "./states.js";

const STATES = {
  ALARM: ["critical", "In ALARM"],
  INSUFFICIENT_DATA: ["unknown", "No data to judge"],
  OK: ["ok", "OK"],
};

export function view({ signal, parameters }) {
  const heading = h("h1", {}, "Alarms");
  const box = h("div", {});
  const start = async () => {
    const answer = await load(box, {
      what: "the alarms",
      ask: () => get("alarms", {}, signal),
      show: ({ alarms }) => (alarms.length ? groups(alarms, parameters.get("name")) : nothing()),
    });
    if (!answer) return;
    const ringing = answer.alarms.filter((alarm) => alarm.state === "ALARM").length;
    announce(`${count(ringing, "alarm")} in ALARM of ${answer.alarms.length}`);
    const badge = document.getElementById("alarm-count");
    badge.hidden = !ringing;
    badge.textContent = String(ringing);
  };
  const refresh = h("button", { type: "button", class: "quiet", onclick: start }, "Refresh");
  return {
    heading,
    content: [h("div", { class: "title" }, heading, refresh), box],
    start,
    update: () => {},
  };
}

function nothing() {
  return empty(
    "This stage has no alarms",
    "Deploy infra/observability.yaml beside it: docs/deploy.md has the command.",
  );
}

function groups(alarms, name) {
  return Object.entries(STATES)
    .map(([state, [sign, word]]) => [sign, word, alarms.filter((alarm) => alarm.state === state)])
    .filter(([, , found]) => found.length)
    .map(([sign, word, found]) =>
      h(
        "section",
        { class: "group", "aria-label": word },
        h("h2", {}, icon(sign), `${word}`, h("span", { class: "dim" }, ` ${found.length}`)),
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
      h("time", { datetime: alarm.since }, moment(alarm.since)),
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
        h("dt", {}, "Means"),
        h("dd", {}, alarm.meaning || "–"),
        h("dt", {}, "Do"),
        h("dd", {}, alarm.action || "–"),
        h("dt", {}, "CloudWatch says"),
        h("dd", {}, alarm.reason || "nothing yet"),
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
