// What runs, what waits, what fails and why, per provider, now and over the last hour.

import { getJson } from "./api.js";
import { Charts } from "./charts.js";
import { clock, moment, ms, number, rate, since, span } from "./format.js";
import { Empty, Loading, Notices, Problem, useAsked } from "./parts.js";
import { html } from "./vendor/htm-preact-3.1.1.js";

const HISTORY_EVERY_MS = 10_000;

export function OverviewView({ live }) {
  const { overview } = live;
  const step = overview ? Math.floor(Date.parse(overview.at) / HISTORY_EVERY_MS) : null;
  const history = useAsked(async () => step && { ...(await getJson("/history")), asked: overview.at }, step);
  if (!overview) return html`<h1>Overview</h1><${Loading} what="the overview" />`;
  return html`
    <h1>Overview</h1>
    <${Notices} notices=${overview.notices} />
    <h2>Providers</h2>
    <div class="lanes">
      ${overview.lanes.filter(isUsed).map((lane) => html`<${Lane} key=${lane.name} lane=${lane} at=${overview.at} />`)}
    </div>
    <h2>Workers</h2>
    <${Workers} workers=${overview.workers} at=${overview.at} />
    <h2>The last hour</h2>
    ${history.error && html`<${Problem} error=${history.error} again=${history.again} />`}
    ${history.value ? html`<${Charts} history=${history.value} />` : html`<${Loading} what="the last hour" />`}
  `;
}

const isUsed = (lane) => lane.name !== "webhooks" || lane.in_flight + lane.queued + lane.deferred + lane.last_minute.calls > 0;

function Lane({ lane, at }) {
  const { last_minute: last } = lane;
  const errors = Object.entries(last.errors);
  const share = lane.limit ? Math.min(100, (100 * lane.in_flight) / lane.limit) : 0;
  return html`
    <section class="card lane" aria-label=${lane.name}>
      <h3>${lane.name}</h3>
      ${lane.paused_until &&
      html`<p class="paused">Paused until ${clock(lane.paused_until)} (${span((Date.parse(lane.paused_until) - Date.parse(at)) / 1000)} left): it ${lane.paused_because}</p>`}
      <p class="big">${number(lane.in_flight)} <small>of ${lane.limit === null ? "?" : number(lane.limit)} in flight</small></p>
      <div class="meter" aria-hidden="true"><span style=${{ width: `${share}%` }}></span></div>
      <dl>
        <div><dt>Queued</dt><dd>${number(lane.queued)}</dd></div>
        <div><dt>To be retried</dt><dd>${number(lane.deferred)}</dd></div>
        <div><dt>Oldest waits</dt><dd>${lane.oldest_waiting_s === null ? "none" : span(lane.oldest_waiting_s)}</dd></div>
        <div><dt>Calls</dt><dd>${rate(last.calls_per_s)}/s</dd></div>
        <div><dt>p50</dt><dd>${ms(last.p50_ms)}</dd></div>
        <div><dt>p95</dt><dd>${ms(last.p95_ms)}</dd></div>
        <div><dt>p99</dt><dd>${ms(last.p99_ms)}</dd></div>
      </dl>
      ${errors.length > 0 &&
      html`<p class="errors">Errors in the last minute:
        ${errors.map(([code, count]) => html` <span class="tag bad">${code} ${number(count)}</span>`)}</p>`}
    </section>
  `;
}

const WORKER = { alive: "ok", silent: "warn", lost: "bad" };

function Workers({ workers, at }) {
  if (!workers.length) return html`<${Empty}>No worker has been seen. Start one: <code>python -m worker</code></>`;
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Workers">
      <table>
        <thead><tr><th>Worker</th><th>State</th><th>Runs</th><th>Since</th><th>Last heartbeat</th></tr></thead>
        <tbody>
          ${workers.map(
            (worker) => html`
              <tr key=${worker.worker_id}>
                <td><code>${worker.worker_id}</code></td>
                <td><span class="tag ${WORKER[worker.state]}">${worker.state}</span></td>
                <td>${runs(worker)}</td>
                <td>${moment(worker.started_at)}</td>
                <td>${since(worker.seen_at, at)} ago</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

const runs = ({ running, state }) => {
  const calls = Object.entries(running).filter(([, count]) => count);
  if (!calls.length) return "nothing";
  return (state === "lost" ? "ran " : "") + calls.map(([lane, count]) => `${lane} ${number(count)}`).join(", ");
};
