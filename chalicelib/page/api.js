// The API, and what went wrong with it in words.

const PATIENCE = 35_000; // milliseconds; the function itself gives up after 30 s

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path, parameters, signal, { fresh = false } = {}) =>
  ask(path + query(parameters), { signal, cache: fresh ? "reload" : "default" });

export const post = (path, body, signal) =>
  ask(path, {
    signal,
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });

function query(parameters = {}) {
  const given = Object.entries(parameters).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function ask(path, { signal, ...options }) {
  const patience = AbortSignal.timeout(PATIENCE);
  let response;
  let text;
  try {
    response = await fetch(path, {
      ...options,
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    text = await response.text();
  } catch {
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(
      0,
      patience.aborted ? "it did not answer within 35 seconds" : "it cannot be reached",
    );
  }
  const answer = parsed(text);
  if (!response.ok)
    throw new ApiError(response.status, answer?.Message ?? answer?.message ?? response.statusText);
  if (answer === undefined) throw new ApiError(response.status, "it is no JSON");
  return answer;
}

/** What JSON says; undefined if the text is none. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether a request was given up because the view was left. */
export const isLeft = (error) => error.name === "AbortError";

/** What happened and what to do, for people. */
export function explain(what, error) {
  const said = error.message ? ` ${capital(error.message)}.`.replace(/\.\.$/, ".") : "";
  switch (true) {
    case !(error instanceof ApiError):
      return {
        title: `${what} could not be shown`,
        advice: `This page has a fault:${said} Reload it; if it stays, report it.`,
      };
    case error.status === 0:
      return {
        title: "The API does not answer",
        advice: `It is asked at ${location.host}:${said.toLowerCase()} Check that “chalice local” still runs there, then retry.`,
      };
    case error.status < 300:
      return {
        title: "The API’s answer cannot be read",
        advice: `What ${location.host} answers is not the API’s:${said.toLowerCase()} Check what runs there, then retry.`,
      };
    case error.status === 403:
      return {
        title: `${what}: not allowed`,
        advice: `${said.trim()} Over what is deployed, use “chalice local --stage prod” with your own credentials.`,
      };
    case error.status === 503:
      return {
        title: `${what} could not be read`,
        advice: `The API runs, but what it asks does not answer.${said} On this machine: is the local cloud up (make up)? On AWS: are the credentials still good?`,
      };
    case error.status >= 500:
      return {
        title: `${what} could not be read`,
        advice: `A fault of the API.${said} Its log has more.`,
      };
    case error.status === 404:
      return { title: "Not found", advice: said.trim() };
    default:
      return { title: `${what}: the API refused`, advice: said.trim() };
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
