export const NONE = "–";

export const number = (value) => (value ?? 0).toLocaleString("en");

export const rate = (value) => (value < 10 ? value.toFixed(1) : number(Math.round(value)));

export const ms = (value) => {
  if (value === null || value === undefined) return NONE;
  return value < 10_000 ? `${number(Math.round(value))} ms` : duration(value / 1000);
};

/** Most answers cost a fraction of a cent, so small amounts are shown with three digits. */
export const usd = (value) => {
  const digits = value < 0.1 ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `$${value.toLocaleString("en", digits)}`;
};

export const duration = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
};

export const since = (iso, at) => duration((Date.parse(at) - Date.parse(iso)) / 1000);

export const clock = (iso) => new Date(iso).toLocaleTimeString("en-GB");

/** Local time, written as 2026-01-31 12:34:56, which is unambiguous in every country. */
export const moment = (iso) => new Date(iso).toLocaleString("sv-SE");

export const percent = (part, whole) => (whole ? Math.floor((100 * part) / whole) : 0);

export const route = ({ provider, model }) => `${provider}/${model}`;

export const tokens = (item) => `${number(item.prompt_tokens)} in / ${number(item.completion_tokens)} out`;

export const finishedItems = (job) => job.successful + job.failed;

export const isUnfinished = (job) => job.finished_at === null;
