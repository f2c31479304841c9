// Lists your jobs, the newest first.

import { getJson } from "./api.js";
import { formatAgo, formatNumber, isUnfinished } from "./format.js";
import { isStale } from "./live.js";
import { Empty, Loading, Problem, Progress, Status, useLoaded } from "./components.js";
import { html, useState } from "./vendor/htm-preact-3.1.1.js";

const STATES = ["queued", "running", "completed", "cancelled", "deadline_exceeded"];
const PAGE = 20;

export function JobsView({ live }) {
  const [state, setState] = useState("");
  const [cursors, setCursors] = useState([null]);
  const cursor = cursors.at(-1);
  const newest = !state && cursor === null;
  // The overview stream contains the newest jobs. Other pages of the list are loaded again when these jobs change.
  const streamedState = newest ? null : JSON.stringify((live.jobs ?? []).map((job) => [job.job_id, job.status, job.failed]));
  const loaded = useLoaded(async () => {
    const query = new URLSearchParams({ limit: PAGE, ...(state && { status: state }), ...(cursor && { cursor }) });
    return getJson(`jobs?${query}`);
  }, `${state} ${cursor} ${live.connection} ${streamedState}`);

  const jobs = newest ? (live.jobs ?? loaded.value?.jobs) : loaded.value?.jobs;
  return html`
    <div class="head">
      <h1>Jobs</h1>
      <label>Status
        <select value=${state} onChange=${(event) => {
          setState(event.target.value);
          setCursors([null]);
        }}>
          <option value="">all</option>
          ${STATES.map((name) => html`<option value=${name}>${name.replaceAll("_", " ")}</option>`)}
        </select>
      </label>
    </div>
    ${loaded.error && !isStale(live) && html`<${Problem} error=${loaded.error} retry=${loaded.reload} />`}
    ${!jobs && (!loaded.error || isStale(live)) && html`<${Loading} what="your jobs" live=${live} />`}
    ${jobs && html`<${Table} jobs=${jobs} at=${isStale(live) ? null : live.overview?.at} filtered=${Boolean(state)} />`}
    <div class="actions">
      ${cursors.length > 1 && html`<button class="quiet" onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>`}
      ${loaded.value?.next_cursor &&
      html`<button class="quiet" onClick=${() => setCursors([...cursors, loaded.value.next_cursor])}>Older</button>`}
    </div>
  `;
}

function Table({ jobs, at, filtered }) {
  if (!jobs.length)
    return filtered
      ? html`<${Empty}>No jobs with this status.</>`
      : html`<${Empty}>No jobs yet. Send a batch from <a href="#/try">Try it</a>, or with <code>orchestrator submit FILE</code>.</>`;
  const owners = jobs.some((job) => job.owner);
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label="Jobs">
      <table>
        <thead>
          <tr><th>Job</th><th>Status</th><th>Progress</th><th>Requests</th><th>Failed</th><th>Providers</th>
            ${owners && html`<th>Owner</th>`}<th>Accepted or ended</th></tr>
        </thead>
        <tbody>
          ${jobs.map(
            (job) => html`
              <tr key=${job.job_id}>
                <td class="id"><a href="#/jobs/${job.job_id}" title=${job.job_id}><code>${job.job_id}</code></a></td>
                <td><${Status} job=${job} /></td>
                <td class="wide"><${Progress} job=${job} /></td>
                <td class="number">${formatNumber(job.total_requests)}</td>
                <td class="number">${formatNumber(job.failed)}</td>
                <td class="wrap">${Object.keys(job.providers).join(", ")}</td>
                ${owners && html`<td>${job.owner}</td>`}
                <td>${isUnfinished(job) ? `accepted ${formatAgo(job.accepted_at, at)}` : `ended ${formatAgo(job.finished_at, at)}`}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}
