// Shows the overview: notices, the lane of each provider, the workers, and charts of the last hour.

import { getJson } from "./api.js";
import { Charts } from "./charts.js";
import { Deployments } from "./deployments.js";
import { NONE, formatAgo, formatDuration, formatMs, formatNumber, formatRate, formatTime } from "./format.js";
import { isStale } from "./live.js";
import { Empty, Loading, Notices, Problem, useLoaded } from "./components.js";
import { html } from "./vendor/htm-preact-3.1.1.js";

const HISTORY_EVERY_MS = 10_000; // the length of a step of the history
const HISTORY_DELAY_MS = 2500; // time after the start of a step in which workers report the number of queued requests
const LATENCY = "Latency of the calls in the last minute";
export const WEBHOOK_LANE = "webhooks"; // this lane is shown only while it is in use
const MAX_IDLE_CARDS = 6; // if there are more lanes, the idle lanes have no cards

export function OverviewView({ live }) {
  const { overview } = live;
  const step = overview ? Math.floor((Date.parse(overview.at) - HISTORY_DELAY_MS) / HISTORY_EVERY_MS) : null;
  const history = useLoaded(async () => step && { ...(await getJson("history")), readAt: overview.at }, step);
  if (!overview) return html`<h1>Overview</h1><${Loading} what="the overview" live=${live} />`;
  const at = isStale(live) ? null : overview.at;
  const lanes = overview.lanes.filter((lane) => lane.name !== WEBHOOK_LANE || !isIdle(lane));
  const idle = lanes.length > MAX_IDLE_CARDS ? lanes.filter(isIdle) : [];
  const shown = lanes.filter((lane) => !idle.includes(lane));
  return html`
    <h1>Overview</h1>
    ${at && html`<${Notices} notices=${overview.notices} />`}
    <h2>Providers</h2>
    <div class="lanes">
      ${shown.map((lane) => html`<${Lane} key=${lane.name} lane=${lane} at=${at} />`)}
    </div>
    ${idle.length > 0 && html`<p class="dim">Idle: ${idle.map(({ name }) => name).join(", ")}.</p>`}
    <h2>Workers</h2>
    <${Workers} workers=${overview.workers} at=${at} />
    <h2>Last hour</h2>
    ${history.error && at && html`<${Problem} error=${history.error} retry=${history.reload} />`}
    ${history.value
      ? html`<${Charts} history=${history.value} overview=${overview} at=${at} />`
      : !(history.error && at) && html`<${Loading} what="the last hour" live=${live} />`}
  `;
}

const isIdle = (lane) => !lane.deployments.length && lane.in_flight + lane.queued + lane.deferred + lane.last_minute.calls === 0;

/** Shows a lane as a card. `at` is null if the lane may have changed since the overview. */
function Lane({ lane, at }) {
  const { last_minute: last } = lane;
  const errors = Object.entries(last.errors);
  const share = lane.limit ? Math.min(100, (100 * lane.in_flight) / lane.limit) : 0;
  return html`
    <section class="card lane" aria-label=${lane.name}>
      <h3>${lane.name}</h3>
      <${Deployments} lane=${lane} at=${at} />
      <p class="big">${formatNumber(lane.in_flight)} <small>of ${lane.limit === null ? "?" : formatNumber(lane.limit)} calls running</small></p>
      <div class="meter" aria-hidden="true"><span style=${{ width: `${share}%` }}></span></div>
      <dl>
        <div><dt>Queued</dt><dd>${formatNumber(lane.queued)}</dd></div>
        <div><dt>Retrying</dt><dd>${formatNumber(lane.deferred)}</dd></div>
        <div><dt>Oldest queued</dt><dd>${lane.oldest_waiting_s === null ? NONE : formatDuration(lane.oldest_waiting_s)}</dd></div>
        <div><dt>Calls</dt><dd>${formatRate(last.calls_per_s)}/s</dd></div>
        <div title=${LATENCY}><dt>p50</dt><dd>${formatMs(last.p50_ms)}</dd></div>
        <div title=${LATENCY}><dt>p95</dt><dd>${formatMs(last.p95_ms)}</dd></div>
        <div title=${LATENCY}><dt>p99</dt><dd>${formatMs(last.p99_ms)}</dd></div>
      </dl>
      ${errors.length > 0 &&
      html`<p class="errors">Errors in the last minute:
        ${errors.map(([code, count]) => html` <span class="tag bad">${code} ${formatNumber(count)}</span>`)}</p>`}
    </section>
  `;
}

const WORKER_COLOURS = { alive: "ok", silent: "warn", lost: "bad" };

/** Shows the workers as a table. `at` is null if the workers may have changed since the overview. */
function Workers({ workers, at }) {
  if (!workers.length) return html`<${Empty}>No workers yet. Start one with: <code>python -m worker</code></>`;
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Workers">
      <table>
        <thead><tr><th>Worker</th><th>State</th><th>Running</th><th>Started</th><th>Last seen</th></tr></thead>
        <tbody>
          ${workers.map(
            (worker) => html`
              <tr key=${worker.worker_id}>
                <td><code>${worker.worker_id}</code></td>
                <td>${at
                  ? html`<span class="tag ${WORKER_COLOURS[worker.state]}">${worker.state}</span>`
                  : html`<span class="tag">unknown</span>`}</td>
                <td class="wrap">${describeCalls(worker, at)}</td>
                <td>${formatTime(worker.started_at)}</td>
                <td>${formatAgo(worker.seen_at, at)}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

const describeCalls = ({ running, state }, at) => {
  const calls = Object.entries(running).filter(([, count]) => count);
  if (!calls.length) return NONE;
  return (state === "lost" || !at ? "was running: " : "") + calls.map(([lane, count]) => `${lane} ${formatNumber(count)}`).join(", ");
};
