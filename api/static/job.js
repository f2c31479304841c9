// One job: its progress, why it's still running, why requests failed, and what can be done about it.

import { getJson, request } from "./api.js";
import { NONE, finishedItems, isUnfinished, moment, ms, number, route, since } from "./format.js";
import { Items, useItems } from "./items.js";
import { CONNECTED } from "./live.js";
import { Confirmed, Loading, Notices, Problem, Progress, Status } from "./parts.js";
import { html, useEffect, useMemo, useState } from "./vendor/htm-preact-3.1.1.js";

const MAX_CAUSES = 5;

export function JobView({ id, live }) {
  const [job, setJob] = useState(null);
  const [error, setError] = useState(null);
  const load = () =>
    getJson(`/jobs/${encodeURIComponent(id)}`).then(
      (loaded) => {
        setJob(loaded);
        setError(null);
      },
      setError,
    );
  const unknown = error?.status === 404;
  // The stream brings the newest jobs. An older one is loaded at each event, once a second.
  const newest = live.jobs?.find((one) => one.job_id === id);
  const tick = newest || unknown || (job && !isUnfinished(job)) ? "known" : live.overview?.at;
  useEffect(() => {
    load();
  }, [tick, live.connection]);
  useEffect(() => {
    if (newest) setJob(newest);
  }, [newest]);

  const items = useItems(id);
  const back = html`<p><a href="#/jobs">All jobs</a></p>`;
  if (!job) {
    return html`${back}<h1>Job</h1>
      ${error ? html`<${Problem} error=${error} retry=${unknown ? null : load} />` : html`<${Loading} what="the job" />`}`;
  }
  const notices = (live.overview?.notices ?? []).filter(({ lane }) => lane === null || lane in job.providers);
  return html`
    ${back}
    <div class="head">
      <h1>Job <code>${id}</code></h1>
      <${Status} job=${job} />
    </div>
    ${error && live.connection === CONNECTED && html`<${Problem} error=${error} retry=${load} />`}
    ${isUnfinished(job) && html`<h2>Why it's still running</h2><${Why} job=${job} notices=${notices} at=${live.overview?.at} />`}
    <section class="card" aria-label="Progress">
      <div class="wide"><${Progress} job=${job} /></div>
      <dl>
        <div><dt>Requests</dt><dd>${number(job.total_requests)}</dd></div>
        <div><dt>Answered</dt><dd>${number(job.successful)}</dd></div>
        <div><dt>Failed</dt><dd>${number(job.failed)}</dd></div>
        <div><dt>In flight</dt><dd>${number(job.running)}</dd></div>
        <div><dt>Waiting</dt><dd>${number(job.queued)}</dd></div>
        <div><dt>Accepted</dt><dd>${moment(job.accepted_at)}</dd></div>
        <${Elapsed} job=${job} at=${live.overview?.at} />
        ${job.owner && html`<div><dt>Owner</dt><dd>${job.owner}</dd></div>`}
        ${job.deadline_at && html`<div><dt>Deadline</dt><dd>${moment(job.deadline_at)}</dd></div>`}
        ${job.webhook && html`<div><dt>Webhook</dt><dd>${job.webhook.status.replace("_", " ")}</dd></div>`}
        ${job.retry_of && html`<div><dt>Retry of</dt><dd><a href="#/jobs/${job.retry_of}">${short(job.retry_of)}</a></dd></div>`}
        ${job.retried_as && html`<div><dt>Retried as</dt><dd><a href="#/jobs/${job.retried_as}">${short(job.retried_as)}</a></dd></div>`}
      </dl>
      <div class="actions"><${Actions} job=${job} onDone=${load} /></div>
    </section>
    ${job.failed > 0 && html`<${Failures} items=${items} />`}
    <h2>Items</h2>
    <${Items} job=${job} items=${items} />
  `;
}

const short = (id) => `${id.slice(0, 8)}…`;

function Elapsed({ job, at }) {
  if (!isUnfinished(job)) return html`<div><dt>Took</dt><dd>${ms(job.total_latency_ms)}</dd></div>`;
  const label = job.status === "queued" ? "Queued for" : "Running for";
  return html`<div><dt>${label}</dt><dd>${at ? since(job.accepted_at, at) : NONE}</dd></div>`;
}

function Why({ job, notices, at }) {
  const left = job.total_requests - finishedItems(job);
  const after = at ? ` after ${since(job.accepted_at, at)}` : "";
  return html`
    <p>${number(left)} of ${number(job.total_requests)} left${after}: ${number(job.running)} in flight, ${number(job.queued)} waiting.</p>
    <${Notices} notices=${notices} />
  `;
}

/** Groups the failed items by cause, the most frequent first. */
function Failures({ items }) {
  // Computed when items have arrived, not each time the page is drawn.
  const mostFrequent = useMemo(() => causes(items.list), [items.version]);
  if (!mostFrequent.length) return null;
  return html`
    <h2>Why requests failed</h2>
    <ul class="notices" aria-label="Why requests failed">
      ${mostFrequent.map(
        ({ item, count }) => html`
          <li class="error"><strong>${number(count)}</strong> failed: ${route(item)}, ${item.error_code.replaceAll("_", " ")} (e.g. “${item.error}”)</li>
        `,
      )}
    </ul>
  `;
}

function causes(list) {
  const groups = new Map();
  for (const item of list) {
    if (!item.error) continue;
    const key = `${route(item)} ${item.error_code}`;
    if (!groups.has(key)) groups.set(key, { item, count: 0 });
    groups.get(key).count += 1;
  }
  return [...groups.values()].sort((a, b) => b.count - a.count).slice(0, MAX_CAUSES);
}

function Actions({ job, onDone }) {
  const cancel = async () => {
    await request(`/jobs/${job.job_id}`, { method: "DELETE" });
    await onDone();
  };
  const retry = async () => {
    const made = await getJson(`/jobs/${job.job_id}/retry`, { method: "POST" });
    location.hash = `#/jobs/${made.job_id}`;
  };
  const left = number(job.total_requests - finishedItems(job));
  const failed = number(job.failed);
  return html`
    ${isUnfinished(job) &&
    html`<${Confirmed} label="Cancel the job" kind="danger" yes="Cancel job" no="Keep running" act=${cancel}
      question="Unfinished requests: ${left}. They will be cancelled, and calls in flight will be stopped." />`}
    ${!isUnfinished(job) && job.failed > 0 && !job.retried_as &&
    html`<${Confirmed} label="Retry the failed requests" yes="Retry ${failed}" no="Keep as is" act=${retry}
      question="Failed requests: ${failed}. They will be sent again as a new job." />`}
    <${Download} job=${job} />
  `;
}

function Download({ job }) {
  const [state, setState] = useState("");
  const download = async () => {
    setState("loading…");
    try {
      const blob = await (await request(`/jobs/${job.job_id}/results?follow=false`)).blob();
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
