// Runs view: the newest runs with a timeline of their branches, and a button to start a run.

import { announce, h, icon, isDisabled, setDisabled, status } from "./dom.js";
import { explain, get, isAborted, post } from "./api.js";
import { ago, count, duration, toShortTime, toExactClock } from "./format.js";
import { empty, failure, load } from "./states.js";
import { TYPES } from "./host_rows.js";

const SIGNS = { SUCCEEDED: "ok", RUNNING: "running", PENDING_REDRIVE: "running" };
const LABELS = {
  SUCCEEDED: "succeeded",
  RUNNING: "running",
  FAILED: "failed",
  TIMED_OUT: "timed out",
  ABORTED: "aborted",
  PENDING_REDRIVE: "pending redrive",
};
const TITLES = Object.fromEntries(TYPES);
const POLL_INTERVAL = 2_000; // milliseconds; doubled after each failed poll
const MAX_FAILED_POLLS = 4;
const LIST_TIMEOUT = 15_000; // milliseconds until a started run must appear in the list

export function view({ signal }) {
  const heading = h("h1", {}, "Runs");
  const box = h("div", {});
  const message = h("p", { class: "message", role: "status" });
  const button = h("button", { type: "button", class: "primary", onclick: startRun }, "Run now");
  const pollError = h("div", {});
  let timer = 0;
  let isListed = false;
  let failedPolls = 0; // in a row
  let startedRun = null; // {name, listedBy} of the run started here, until it has ended
  signal.addEventListener("abort", () => clearTimeout(timer));

  const fetchData = () => get("runs", {}, signal);
  const render = ({ runs }) => (runs.length ? runList(runs) : noRuns());

  async function start() {
    const response = await load(box, { subject: "the runs", retry: start, fetchData, render });
    if (!response) return;
    isListed = true;
    const [newest] = response.runs;
    announce(
      newest
        ? `${count(response.runs.length, "run")}; status of the newest: ${LABELS[newest.status]}`
        : "No runs yet",
    );
    pollNext(response.runs);
  }

  /** Update the list without a placeholder. */
  async function poll() {
    clearTimeout(timer);
    if (!isListed) return start();
    try {
      const response = await fetchData();
      failedPolls = 0;
      pollError.replaceChildren();
      box.replaceChildren(render(response));
      return pollNext(response.runs);
    } catch (error) {
      return isAborted(error) ? undefined : pollFailed(error);
    }
  }

  function pollFailed(error) {
    failedPolls += 1;
    if (failedPolls < MAX_FAILED_POLLS) {
      const text = "The last update failed; retrying.";
      if (failedPolls === 1) announce(text);
      pollError.replaceChildren(h("p", { class: "message" }, status("warning", text)));
      timer = setTimeout(poll, POLL_INTERVAL * 2 ** failedPolls);
      return;
    }
    setDisabled(button, false);
    const again = () => {
      failedPolls = 0;
      return poll();
    };
    pollError.replaceChildren(failure("the runs", error, again));
  }

  /** Schedule the next poll while a run is in progress. */
  function pollNext(runs) {
    const run = startedRun && runs.find((each) => each.name === startedRun.name);
    const inProgress = runs.some((each) => SIGNS[each.status] === "running");
    if (run && SIGNS[run.status] !== "running") {
      message.replaceChildren(
        status(
          SIGNS[run.status] ?? "critical",
          `The run ${LABELS[run.status]} after ${duration(run.seconds)}.`,
        ),
      );
      startedRun = null;
    }
    const isUnlisted = startedRun && !run && Date.now() < startedRun.listedBy;
    setDisabled(button, inProgress || isUnlisted);
    if (inProgress || isUnlisted) timer = setTimeout(poll, POLL_INTERVAL);
  }

  async function startRun() {
    if (isDisabled(button)) return;
    setDisabled(button, true);
    failedPolls = 0;
    message.replaceChildren("Starting a run …");
    try {
      const { name } = await post("runs", null, signal);
      startedRun = { name, listedBy: Date.now() + LIST_TIMEOUT };
      message.replaceChildren(status("running", "Run started. The list updates automatically."));
      await poll();
    } catch (error) {
      if (isAborted(error)) return;
      setDisabled(button, false);
      const { title, advice } =
        error.status === 409
          ? { title: "A run is in progress", advice: "The list updates automatically." }
          : explain("The run", error);
      message.replaceChildren(status("warning", `${title}. ${advice}`));
      if (error.status === 409) await poll();
    }
  }

  return {
    heading,
    content: [
      h(
        "div",
        { class: "title" },
        h(
          "div",
          {},
          heading,
          h("p", { class: "sub" }, "A run starts every three hours, or on demand."),
        ),
        button,
      ),
      message,
      pollError,
      box,
    ],
    start,
    update: () => {},
  };
}

function noRuns() {
  return empty("No runs yet", "Choose “Run now” to start the first run; it takes seconds.");
}

function runList(runs) {
  return h("ol", { class: "runs" }, runs.map(item));
}

function item(run) {
  const sign = SIGNS[run.status] ?? "critical";
  const scale = scaleOf(run);
  return h(
    "li",
    { class: "panel run" },
    h(
      "h2",
      {},
      status(sign, LABELS[run.status] ?? run.status),
      h("time", { datetime: run.start }, toShortTime(run.start)),
      h("span", { class: "dim" }, ago(run.start)),
    ),
    h(
      "p",
      { class: "sub" },
      h("span", {}, run.seconds === null ? "in progress" : `took ${duration(run.seconds)}`),
      h("span", {}, count(run.records, "record")),
      h("span", {}, `${run.reporting} of ${count(run.expected, "host")} reported`),
    ),
    run.error && h("p", { class: "reason" }, icon("critical"), run.error),
    run.missing_count > 0 &&
      h(
        "p",
        { class: "reason" },
        icon("missing"),
        `Missing: ${run.missing.join(", ")}${run.missing_count > run.missing.length ? ` and ${run.missing_count - run.missing.length} more` : ""}`,
      ),
    h(
      "ul",
      { class: "branches", "aria-label": `Branches, scale ${duration(scale)}` },
      run.branches.map((branch) => branchItem(branch, run, scale)),
    ),
  );
}

/** Length of the time scale of a run's bars, in seconds. */
function scaleOf(run) {
  const ends = run.branches.map((branch) => offset(branch, run) + (branch.seconds ?? 0));
  const elapsed = run.seconds === null ? (Date.now() - Date.parse(run.start)) / 1000 : 0;
  return Math.max(...ends, elapsed, run.seconds ?? 0, 0.1);
}

// Start times are whole seconds, so a branch can appear to start before its run.
const offset = (branch, run) =>
  Math.max((Date.parse(branch.start) - Date.parse(run.start)) / 1000, 0);

function branchItem(branch, run, scale) {
  const sign = SIGNS[branch.status] ?? "critical";
  const from = Math.min(offset(branch, run), scale);
  const seconds = branch.seconds ?? scale - from;
  const bar = h("span", { class: `span ${sign}` });
  bar.style.marginLeft = `${(100 * from) / scale}%`;
  bar.style.width = `${Math.max((100 * Math.min(seconds, scale - from)) / scale, 0.6)}%`;
  return h(
    "li",
    {},
    h("span", { class: "branch" }, icon(sign), TITLES[branch.metric_type]),
    h(
      "span",
      {
        class: "track",
        title: `${TITLES[branch.metric_type]} from ${toExactClock(branch.start)}`,
        "aria-hidden": "true",
      },
      bar,
    ),
    h(
      "span",
      { class: "duration" },
      branch.seconds === null ? LABELS[branch.status] : duration(branch.seconds),
      h("span", { class: "dim" }, ` ${count(branch.records, "record")}`),
    ),
    branch.error && h("p", { class: "reason" }, branch.error),
  );
}
