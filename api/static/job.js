// Shows one job: its progress, what it is waiting for, why requests failed, and the actions on it.

import { getJson, request } from "./api.js";
import { NONE, countFinished, formatElapsed, formatMs, formatNumber, formatRoute, formatTime, isUnfinished } from "./format.js";
import { Items } from "./items.js";
import { CONNECTED, isStale } from "./live.js";
import { ConfirmButton, Loading, Problem, Progress, Status } from "./components.js";
import { useItems } from "./results.js";
import { WhyUnfinished } from "./why_running.js";
import { html, useEffect, useMemo, useState } from "./vendor/htm-preact-3.1.1.js";

const MAX_CAUSES = 5;

export function JobView({ id, live }) {
  const [job, setJob] = useState(null);
  const [error, setError] = useState(null);
  const loadJob = () =>
    getJson(`jobs/${encodeURIComponent(id)}`).then(
      (loaded) => {
        setJob(loaded);
        setError(null);
      },
      setError,
    );
  const unknown = error?.status === 404;
  // The overview stream contains the newest jobs. An older job is loaded again at each event, that is once a second,
  // until the job has ended.
  const streamed = live.jobs?.find((candidate) => candidate.job_id === id);
  const refreshKey = streamed || unknown || (job && !isUnfinished(job)) ? "static" : live.overview?.at;
  useEffect(() => {
    loadJob();
  }, [refreshKey, live.connection]);
  useEffect(() => {
    if (streamed) setJob(streamed);
  }, [streamed]);

  const items = useItems(id);
  const back = html`<p><a href="#/jobs">All jobs</a></p>`;
  if (!job) {
    return html`${back}<h1>Job</h1>
      ${error && (unknown || !isStale(live))
        ? html`<${Problem} error=${error} retry=${unknown ? null : loadJob} />`
        : html`<${Loading} what="the job" live=${live} />`}`;
  }
  return html`
    ${back}
    <div class="head">
      <h1>Job <code>${id}</code></h1>
      <${Status} job=${job} />
    </div>
    ${error && live.connection === CONNECTED && html`<${Problem} error=${error} retry=${loadJob} />`}
    ${isUnfinished(job) && html`<${WhyUnfinished} job=${job} items=${items} live=${live} />`}
    <section class="card" aria-label="Progress">
      <div class="wide"><${Progress} job=${job} /></div>
      <dl>
        <div><dt>Requests</dt><dd>${formatNumber(job.total_requests)}</dd></div>
        <div><dt>Answered</dt><dd>${formatNumber(job.successful)}</dd></div>
        <div><dt>Failed</dt><dd>${formatNumber(job.failed - job.cancelled)}</dd></div>
        ${job.cancelled > 0 && html`<div><dt>Cancelled</dt><dd>${formatNumber(job.cancelled)}</dd></div>`}
        <div><dt>Running</dt><dd>${formatNumber(job.running)}</dd></div>
        <div><dt>Queued</dt><dd>${formatNumber(job.queued)}</dd></div>
        <div><dt>Accepted</dt><dd>${formatTime(job.accepted_at)}</dd></div>
        <${Elapsed} job=${job} at=${live.overview?.at} />
        ${job.owner && html`<div><dt>Owner</dt><dd>${job.owner}</dd></div>`}
        ${job.deadline_at && html`<div><dt>Deadline</dt><dd>${formatTime(job.deadline_at)}</dd></div>`}
        ${job.webhook && html`<div><dt>Webhook</dt><dd>${job.webhook.status.replace("_", " ")}</dd></div>`}
        ${job.retry_of && html`<div><dt>Retry of job</dt><dd><a href="#/jobs/${job.retry_of}">${shortId(job.retry_of)}</a></dd></div>`}
        ${job.retried_as && html`<div><dt>Retried in job</dt><dd><a href="#/jobs/${job.retried_as}">${shortId(job.retried_as)}</a></dd></div>`}
      </dl>
      <div class="actions"><${Actions} job=${job} onDone=${loadJob} /></div>
    </section>
    ${job.failed > 0 && html`<${Failures} items=${items} />`}
    <h2>Requests</h2>
    <${Items} job=${job} items=${items} live=${live} />
  `;
}

const shortId = (id) => `${id.slice(0, 8)}…`;

function Elapsed({ job, at }) {
  if (!isUnfinished(job)) return html`<div><dt>Duration</dt><dd>${formatMs(job.total_latency_ms)}</dd></div>`;
  const label = job.status === "queued" ? "Queued for" : "Running for";
  return html`<div><dt>${label}</dt><dd>${at ? formatElapsed(job.accepted_at, at) : NONE}</dd></div>`;
}

/** Shows the most frequent causes of failed items, the most frequent first. */
function Failures({ items }) {
  // The causes are counted when new items have arrived, not each time the page is drawn.
  const mostFrequent = useMemo(() => causes(items.list), [items.version]);
  if (!mostFrequent.length) return null;
  return html`
    <h2>Why requests failed</h2>
    <ul class="notices" aria-label="Why requests failed">
      ${mostFrequent.map(
        ({ item, count }) => html`
          <li class="error"><strong>${formatNumber(count)}</strong> failed: ${formatRoute(item)}, ${item.error_code.replaceAll("_", " ")} (for example: “${item.error}”)</li>
        `,
      )}
    </ul>
  `;
}

function causes(list) {
  const groups = new Map();
  for (const item of list) {
    if (!item.error) continue;
    const key = `${formatRoute(item)} ${item.error_code}`;
    if (!groups.has(key)) groups.set(key, { item, count: 0 });
    groups.get(key).count += 1;
  }
  return [...groups.values()].sort((a, b) => b.count - a.count).slice(0, MAX_CAUSES);
}

function Actions({ job, onDone }) {
  const cancel = async () => {
    await request(`jobs/${job.job_id}`, { method: "DELETE" });
    await onDone();
  };
  const retry = async () => {
    const newJob = await getJson(`jobs/${job.job_id}/retry`, { method: "POST" });
    location.hash = `#/jobs/${newJob.job_id}`;
  };
  const unfinished = formatNumber(job.total_requests - countFinished(job));
  const failed = formatNumber(job.failed);
  return html`
    <${Download} job=${job} />
    ${isUnfinished(job) &&
    html`<${ConfirmButton} label="Cancel the job" kind="danger" yes="Cancel job" no="Do not cancel" act=${cancel}
      question="Unfinished requests: ${unfinished}. They will be cancelled, and their running calls will be stopped." />`}
    ${!isUnfinished(job) && job.failed > 0 && !job.retried_as &&
    html`<${ConfirmButton} label="Retry the failed requests" yes="Retry ${failed}" no="Do not retry" act=${retry}
      question="Failed requests: ${failed}. They will be sent again as a new job." />`}
  `;
}

function Download({ job }) {
  const [state, setState] = useState("");
  const download = async () => {
    setState("loading…");
    try {
      const blob = await (await request(`jobs/${job.job_id}/results?follow=false`)).blob();
      const url = URL.createObjectURL(blob);
      Object.assign(document.createElement("a"), { href: url, download: `${job.job_id}.ndjson` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
      setState("");
    } catch (error) {
      setState(error.message);
    }
  };
  return html`<button class="quiet" onClick=${download}>Download results</button><span role="status">${state}</span>`;
}
