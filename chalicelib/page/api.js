// HTTP client of the API, and error messages for its failures.

const TIMEOUT = 35_000; // milliseconds; the Lambda function itself times out after 30 s

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status; // 0 without a response
  }
}

export const get = (path, parameters, signal, { fresh = false } = {}) =>
  request(path + queryString(parameters), { signal, cache: fresh ? "reload" : "default" });

export const post = (path, body, signal) =>
  request(path, {
    signal,
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });

function queryString(parameters = {}) {
  const present = Object.entries(parameters).filter(
    ([, value]) => value !== null && value !== undefined && value !== "",
  );
  return present.length ? `?${new URLSearchParams(present)}` : "";
}

async function request(path, { signal, ...options }) {
  const timeout = AbortSignal.timeout(TIMEOUT);
  let response;
  let text;
  try {
    response = await fetch(path, {
      ...options,
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    text = await response.text();
  } catch {
    if (signal?.aborted) throw signal.reason;
    throw new ApiError(0, timeout.aborted ? "no response within 35 seconds" : "connection failed");
  }
  const body = parseJson(text);
  if (!response.ok)
    throw new ApiError(response.status, body?.Message ?? body?.message ?? response.statusText);
  if (body === undefined) throw new ApiError(response.status, "the response is not JSON");
  return body;
}

/** The parsed text, or undefined if it is not JSON. */
function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whether a request was aborted because the user left the view. */
export const isAborted = (error) => error.name === "AbortError";

/** Title and advice of an error message; `subject` names the data, such as "The fleet". */
export function explain(subject, error) {
  const detail = error.message ? ` ${capitalize(error.message)}.`.replace(/\.\.$/, ".") : "";
  switch (true) {
    case !(error instanceof ApiError):
      return {
        title: `${subject} could not be shown`,
        advice: `Error in this page:${detail} Reload the page. If the error persists, report it.`,
      };
    case error.status === 0:
      return {
        title: "The API is not responding",
        advice: `Request to ${location.host}:${detail.toLowerCase()} Check that “chalice local” is still running there, then retry.`,
      };
    case error.status < 300:
      return {
        title: "The API response cannot be read",
        advice: `Unexpected response from ${location.host}:${detail.toLowerCase()} Check which server is running there, then retry.`,
      };
    case error.status === 403:
      return {
        title: `${subject}: access denied`,
        advice: `${detail.trim()} For a deployed stage, run “chalice local --stage prod” with your AWS credentials.`,
      };
    case error.status === 503:
      return {
        title: `${subject} could not be read`,
        advice: `The API is running, but a service that it depends on is not responding.${detail} Local cloud: check that it is running (make up). AWS: check that your credentials are still valid.`,
      };
    case error.status >= 500:
      return {
        title: `${subject} could not be read`,
        advice: `Internal API error.${detail} See the API log for details.`,
      };
    case error.status === 404:
      return { title: "Not found", advice: detail.trim() };
    default:
      return { title: `${subject}: request rejected`, advice: detail.trim() };
  }
}

const capitalize = (text) => text.charAt(0).toUpperCase() + text.slice(1);
