// Explains why a queued or running job has not ended.

import { findBlocking } from "./deployments.js";
import { countFinished, formatDuration, formatElapsed, formatNumber, formatRate } from "./format.js";
import { isStale } from "./live.js";
import { Loading, Notices } from "./components.js";
import { html, useMemo } from "./vendor/htm-preact-3.1.1.js";

const SPEED_S = 30; // time over which a job's speed is measured

export function WhyUnfinished({ job, items, live }) {
  const { overview } = live;
  const current = overview && !isStale(live);
  const reasons = useMemo(() => (current ? explain(job, items.list, overview) : []), [job, items.version, overview, current]);
  const elapsed = current ? ` in ${formatElapsed(job.accepted_at, overview.at)}` : "";
  const retrying = job.retrying ? `, ${formatNumber(job.retrying)} of them for a retry` : "";
  return html`
    <h2>What this job is waiting for</h2>
    <p>${formatNumber(countFinished(job))} of ${formatNumber(job.total_requests)} requests have finished${elapsed}. Running: ${formatNumber(job.running)}. Queued: ${formatNumber(job.queued)}${retrying}.</p>
    ${current
      ? html`<${Notices} notices=${reasons} none="No problem is known. Requests that wait will run when slots are free." />`
      : html`<${Loading} what="the reasons" live=${live} />`}
  `;
}

/** Returns the notices of the overview that concern this job, and then notices about the job itself. `items` are the
 *  job's finished items. */
function explain(job, items, overview) {
  const used = new Set(Object.keys(unfinishedByLane(job, items)));
  const lanes = overview.lanes.filter(({ name }) => used.has(name));
  // No request to a model that is paused or does not work has finished, so the finished items do not name the model.
  const unhealthy = new Set(lanes.flatMap((lane) => lane.deployments.map(({ name }) => name.toLowerCase())));
  const isWaitedFor = (lane, model) => job.queued > 0 && unhealthy.has(`${lane}/${model}`.toLowerCase());
  const models = new Set(items.map(({ model }) => model.toLowerCase()));
  // Notices of the severity `info` describe how long the queue of all jobs is. This job's requests may run long before
  // that queue is empty, because owners and jobs share a lane.
  const shared = overview.notices.filter(
    ({ severity, lane, model }) =>
      lane === null ||
      (severity !== "info" && used.has(lane) && (!model || !items.length || models.has(model.toLowerCase()) || isWaitedFor(lane, model))),
  );
  return [...shared, ...describeSlots(job, lanes), ...describeSpeed(job, items, lanes, overview.at)];
}

/** Returns the number of unfinished requests by lane, for the lanes that have unfinished requests. */
function unfinishedByLane(job, items) {
  const left = { ...job.providers };
  for (const { provider } of items) left[provider] -= 1;
  return Object.fromEntries(Object.entries(left).filter(([, count]) => count > 0));
}

function describeSlots(job, lanes) {
  const full = lanes.filter((lane) => !findBlocking(lane) && lane.limit !== null && lane.in_flight >= lane.limit);
  if (job.queued <= job.retrying) return [];
  return full.map(({ name, limit }) => {
    const own = lanes.length === 1 ? `, ${formatNumber(Math.min(job.running, limit))} of them by this job` : "";
    return { severity: "info", text: `${name}: all ${formatNumber(limit)} slots are in use${own}.` };
  });
}

/** Returns a notice about the job's speed and its remaining time, if requests have finished recently. */
function describeSpeed(job, items, lanes, at) {
  if (!job.started_at || lanes.some((lane) => lane.paused_until || findBlocking(lane))) return [];
  const now = Date.parse(at);
  const seconds = Math.min(SPEED_S, (now - Date.parse(job.started_at)) / 1000);
  let first = items.length;
  while (first > 0 && Date.parse(items[first - 1].timestamp) > now - 1000 * seconds) first -= 1;
  const perSecond = (items.length - first) / seconds;
  if (seconds < 1 || !perSecond) return [];
  const left = formatDuration((job.total_requests - countFinished(job)) / perSecond);
  return [{ severity: "info", text: `This job's speed is ${formatRate(perSecond)} requests per second: the rest takes about ${left}.` }];
}
