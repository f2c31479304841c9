// Formats numbers, times and parts of a job for all views.

export const NONE = "–";

export const formatNumber = (value) => (value ?? 0).toLocaleString("en");

export const formatRate = (value) => (value < 10 ? value.toFixed(1) : formatNumber(Math.round(value)));

export const formatMs = (value) => {
  if (value === null || value === undefined) return NONE;
  return value < 10_000 ? `${formatNumber(Math.round(value))} ms` : formatDuration(value / 1000);
};

/** Formats an amount. Small amounts have three digits, because most answers cost a fraction of a cent. */
export const formatUsd = (value) => {
  const digits = value < 0.1 ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `$${value.toLocaleString("en", digits)}`;
};

export const formatDuration = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
};

export const formatElapsed = (iso, at) => formatDuration((Date.parse(at) - Date.parse(iso)) / 1000);

export const formatClock = (iso) => new Date(iso).toLocaleTimeString("en-GB");

/** Returns the local time in the form 2026-01-31 12:34:56, which is unambiguous in every country. */
export const formatTime = (iso) => new Date(iso).toLocaleString("sv-SE");

/** Returns how long before `at`, the present time, the time `iso` was. Returns the time itself if `at` is null, because
 *  the last overview is old or missing and the age would be wrong. */
export const formatAgo = (iso, at) => (at ? `${formatElapsed(iso, at)} ago` : `at ${formatTime(iso)}`);

export const floorPercent = (part, whole) => (whole ? Math.floor((100 * part) / whole) : 0);

export const formatRoute = ({ provider, model }) => `${provider}/${model}`;

export const formatTokens = (item) => `${formatNumber(item.prompt_tokens)} in / ${formatNumber(item.completion_tokens)} out`;

export const countFinished = (job) => job.successful + job.failed;

export const isUnfinished = (job) => job.finished_at === null;
