// Formatting of numbers, units and times.

const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const ONE_DECIMAL = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
const oneDecimal = new Intl.NumberFormat("en", ONE_DECIMAL);
// Rounded down: a value just below a threshold must not be shown at the threshold.
const flooredDecimal = new Intl.NumberFormat("en", { ...ONE_DECIMAL, roundingMode: "floor" });
const fixed = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const twoDecimals = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const THIN = "\u202f"; // narrow no-break space
const SCALES = ["B", "kB", "MB", "GB", "TB", "PB"];

export const NONE = "–";

export function count(value, noun, plural = `${noun}s`) {
  return `${integer.format(value)} ${value === 1 ? noun : plural}`;
}

/** Format a value with its unit. */
export function measure(value, unit) {
  if (value === null || value === undefined) return NONE;
  switch (unit) {
    case "percent":
      return `${Number.isInteger(value) ? integer.format(value) : flooredDecimal.format(value)}${THIN}%`;
    case "bytes":
      return bytes(value);
    case "bytes_per_second":
      return `${bytes(value)}/s`;
    case "seconds":
      return duration(value);
    default:
      return twoDecimals.format(value);
  }
}

export function bytes(value) {
  let scale = 0;
  while (Math.abs(value) >= 999.5 && scale < SCALES.length - 1) {
    value /= 1000;
    scale += 1;
  }
  const text = scale && Math.abs(value) < 10 ? oneDecimal.format(value) : integer.format(value);
  return `${text}${THIN}${SCALES[scale]}`;
}

/** 0.92 s, 48 s, 3 min 20 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${fixed.format(seconds)}${THIN}s`;
  if (seconds < 60) return `${integer.format(seconds)}${THIN}s`;
  const [size, big, small, unit] =
    seconds < 3600
      ? [60, "min", "s", 1]
      : seconds < 86400
        ? [3600, "h", "min", 60]
        : [86400, "d", "h", 3600];
  const amount = Math.floor(seconds / size);
  const rest = Math.floor((seconds % size) / unit);
  return `${amount}${THIN}${big}${rest ? ` ${rest}${THIN}${small}` : ""}`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const exact = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const utcDay = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  timeZone: "UTC",
});
const dated = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  hour: "2-digit",
  minute: "2-digit",
});

/** A time in the reader's time zone; the date is left out if it is today. */
export function toShortTime(value) {
  const date = new Date(value);
  return date.toDateString() === new Date().toDateString()
    ? clock.format(date)
    : dated.format(date);
}

export const toClock = (value) => clock.format(new Date(value));
export const toExactClock = (value) => exact.format(new Date(value));
export const toDay = (value) => day.format(new Date(value));
export const toDateTime = (value) => dated.format(new Date(value));
/** A day in UTC; the reader's local day may differ. */
export const toUtcDay = (value) => utcDay.format(new Date(value));

/** Age of a time, in a single unit. */
export function ago(value) {
  const seconds = (Date.now() - new Date(value).getTime()) / 1000;
  if (seconds < 60) return "just now";
  const [size, unit] =
    seconds < 3600 ? [60, "min"] : seconds < 2 * 86400 ? [3600, "h"] : [86400, "d"];
  return `${Math.floor(seconds / size)}${THIN}${unit} ago`;
}
