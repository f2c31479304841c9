export const number = (value) => (value ?? 0).toLocaleString("en");

export const rate = (value) => (value < 10 ? value.toFixed(1) : number(Math.round(value)));

export const ms = (value) => {
  if (value === null || value === undefined) return "none";
  return value < 10_000 ? `${number(Math.round(value))} ms` : span(value / 1000);
};

/** Most answers cost a fraction of a cent. */
export const usd = (value) => {
  const digits = value < 0.1 ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return `$${value.toLocaleString("en", digits)}`;
};

export const span = (seconds) => {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60)];
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
};

export const since = (iso, at) => span((Date.parse(at) - Date.parse(iso)) / 1000);

export const clock = (iso) => new Date(iso).toLocaleTimeString("en-GB");

export const moment = (iso) => new Date(iso).toLocaleString("en-GB");

export const percent = (part, whole) => (whole ? Math.floor((100 * part) / whole) : 0);

export const ended = (job) => job.successful + job.failed;

export const goesOn = (job) => job.finished_at === null;
