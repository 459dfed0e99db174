// The newest runs with their branches in time, and a button to start one.

import { announce, h, icon, rest, rests, status } from "./dom.js";
import { explain, get, isLeft, post } from "./api.js";
import { ago, count, duration, moment, toExactClock } from "./format.js";
import { empty, failure, load } from "./states.js";

const SIGNS = { SUCCEEDED: "ok", RUNNING: "running", PENDING_REDRIVE: "running" };
const WORDS = {
  SUCCEEDED: "succeeded",
  RUNNING: "running",
  FAILED: "failed",
  TIMED_OUT: "timed out",
  ABORTED: "stopped",
  PENDING_REDRIVE: "waits to start again",
};
const TYPES = { cpu: "CPU", memory: "Memory", disk: "Disk", network: "Network" };
const PACE = 2_000; // milliseconds between two looks at a run under way
const TRIES = 4; // looks that fail before the page gives up, each after twice the time
const PATIENCE = 15_000; // until a started run should be listed

export function view({ signal }) {
  const heading = h("h1", {}, "Runs");
  const box = h("div", {});
  const said = h("p", { class: "said", role: "status" });
  const button = h("button", { type: "button", class: "primary", onclick: run }, "Run now");
  const trouble = h("div", {});
  let timer = 0;
  let listed = false;
  let failed = 0; // looks, one after the other
  let awaited = null; // {name, until} of a run that was started here
  signal.addEventListener("abort", () => clearTimeout(timer));

  const ask = () => get("runs", {}, signal);
  const show = ({ runs }) => (runs.length ? list(runs) : nothing());

  async function start() {
    const answer = await load(box, { what: "the runs", retry: start, ask, show });
    if (!answer) return;
    listed = true;
    announce(
      `${count(answer.runs.length, "run")}; the newest ${answer.runs.length ? WORDS[answer.runs[0].status] : "is still to come"}`,
    );
    next(answer.runs);
  }

  /** Look once more, quietly: what is listed stays until there is something newer. */
  async function look() {
    clearTimeout(timer);
    if (!listed) return start();
    try {
      const answer = await ask();
      failed = 0;
      trouble.replaceChildren();
      box.replaceChildren(show(answer));
      return next(answer.runs);
    } catch (error) {
      return isLeft(error) ? undefined : after(error);
    }
  }

  function after(error) {
    failed += 1;
    if (failed < TRIES) {
      const word = "The last look failed; trying again.";
      if (failed === 1) announce(word);
      trouble.replaceChildren(h("p", { class: "said" }, status("warning", word)));
      timer = setTimeout(look, PACE * 2 ** failed);
      return;
    }
    rest(button, false);
    const again = () => {
      failed = 0;
      return look();
    };
    trouble.replaceChildren(failure("the runs", error, again));
  }

  /** Look again while something goes on; people's focus is in nothing that is replaced. */
  function next(runs) {
    const mine = awaited && runs.find((each) => each.name === awaited.name);
    const under = runs.some((each) => SIGNS[each.status] === "running");
    if (mine && SIGNS[mine.status] !== "running") {
      said.replaceChildren(
        status(
          SIGNS[mine.status] ?? "critical",
          `The run ${WORDS[mine.status]} after ${duration(mine.seconds)}.`,
        ),
      );
      awaited = null;
    }
    const waits = awaited && !mine && Date.now() < awaited.until;
    rest(button, under || waits);
    if (under || waits) timer = setTimeout(look, PACE);
  }

  async function run() {
    if (rests(button)) return;
    rest(button, true);
    failed = 0;
    said.replaceChildren("Starting a run …");
    try {
      const { name } = await post("runs", null, signal);
      awaited = { name, until: Date.now() + PATIENCE };
      said.replaceChildren(status("running", "Started; this list follows it."));
      await look();
    } catch (error) {
      if (isLeft(error)) return;
      rest(button, false);
      const { title, advice } =
        error.status === 409
          ? { title: "A run is under way", advice: "This list follows it." }
          : explain("The run", error);
      said.replaceChildren(status("warning", `${title}. ${advice}`));
      if (error.status === 409) await look();
    }
  }

  return {
    heading,
    content: [
      h(
        "div",
        { class: "title" },
        h("div", {}, heading, h("p", { class: "sub" }, "Every three hours, or now.")),
        button,
      ),
      said,
      trouble,
      box,
    ],
    start,
    update: () => {},
  };
}

function nothing() {
  return empty("There has been no run yet", "“Run now” starts the first one; it takes seconds.");
}

function list(runs) {
  return h("ol", { class: "runs" }, runs.map(item));
}

function item(run) {
  const sign = SIGNS[run.status] ?? "critical";
  const length = lengthOf(run);
  return h(
    "li",
    { class: "panel run" },
    h(
      "h2",
      {},
      status(sign, WORDS[run.status] ?? run.status),
      h("time", { datetime: run.start }, moment(run.start)),
      h("span", { class: "dim" }, ago(run.start)),
    ),
    h(
      "p",
      { class: "sub" },
      h("span", {}, run.seconds === null ? "under way" : `took ${duration(run.seconds)}`),
      h("span", {}, count(run.records, "record")),
      h("span", {}, `${run.reporting} of ${count(run.expected, "host")} reported`),
    ),
    run.error && h("p", { class: "why" }, icon("critical"), run.error),
    run.missing_count > 0 &&
      h(
        "p",
        { class: "why" },
        icon("missing"),
        `Missing: ${run.missing.join(", ")}${run.missing_count > run.missing.length ? ` and ${run.missing_count - run.missing.length} more` : ""}`,
      ),
    h(
      "ul",
      { class: "branches", "aria-label": `Branches, on a scale of ${duration(length)}` },
      run.branches.map((branch) => bar(branch, run, length)),
    ),
  );
}

/** How long the scale of a run's bars is, in seconds. */
function lengthOf(run) {
  const ends = run.branches.map((branch) => offset(branch, run) + (branch.seconds ?? 0));
  const open = run.seconds === null ? (Date.now() - Date.parse(run.start)) / 1000 : 0;
  return Math.max(...ends, open, run.seconds ?? 0, 0.1);
}

// Starts are told in whole seconds, so a branch may seem to begin before its run.
const offset = (branch, run) =>
  Math.max((Date.parse(branch.start) - Date.parse(run.start)) / 1000, 0);

function bar(branch, run, length) {
  const sign = SIGNS[branch.status] ?? "critical";
  const from = Math.min(offset(branch, run), length);
  const seconds = branch.seconds ?? length - from;
  const span = h("span", { class: `span ${sign}` });
  span.style.marginLeft = `${(100 * from) / length}%`;
  span.style.width = `${Math.max((100 * Math.min(seconds, length - from)) / length, 0.6)}%`;
  return h(
    "li",
    {},
    h("span", { class: "branch" }, icon(sign), TYPES[branch.metric_type]),
    h(
      "span",
      {
        class: "track",
        title: `${TYPES[branch.metric_type]} from ${toExactClock(branch.start)}`,
        "aria-hidden": "true",
      },
      span,
    ),
    h(
      "span",
      { class: "took" },
      branch.seconds === null ? WORDS[branch.status] : duration(branch.seconds),
      h("span", { class: "dim" }, ` ${count(branch.records, "record")}`),
    ),
    branch.error && h("p", { class: "why" }, branch.error),
  );
}
