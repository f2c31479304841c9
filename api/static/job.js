// One job: its progress, why it's still running, why requests failed, and each of its items.

import { abortWhenHidden, getJson, lines, request, untilVisible } from "./api.js";
import { NONE, finishedItems, isUnfinished, moment, ms, number, route, since, tokens, usd } from "./format.js";
import { Confirmed, Loading, Notices, Problem, Progress, Status } from "./parts.js";
import { CONNECTED } from "./live.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const ROW_PX = 34;
const EXTRA_ROWS = 8; // above and below the visible ones
const MAX_CAUSES = 5;
const RETRY_MS = 1000;
const REDRAW_MS = 200;

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

/** Returns all finished items in the order in which they finished, without their answers, and follows the stream of new
 *  ones. `version` changes when `list` has grown. */
function useItems(id) {
  const [shown, setShown] = useState({ list: [], version: 0 });
  useEffect(() => {
    const abort = new AbortController();
    const list = [];
    let timer = null;
    const show = () => {
      timer ??= setTimeout(() => {
        timer = null;
        setShown(({ version }) => ({ list, version: version + 1 }));
      }, REDRAW_MS);
    };
    const follow = async () => {
      while (!abort.signal.aborted) {
        await untilVisible();
        const tab = abortWhenHidden();
        const signal = AbortSignal.any([abort.signal, tab.signal]);
        try {
          const query = new URLSearchParams({ order: "completion", content: "false", after: list.length });
          const response = await request(`/jobs/${encodeURIComponent(id)}/results?${query}`, { signal });
          for await (const batch of lines(response)) {
            list.push(...batch);
            show();
          }
          return;
        } catch (error) {
          if (abort.signal.aborted || error.status === 404 || error.status === 401) return;
          await new Promise((done) => setTimeout(done, RETRY_MS));
        } finally {
          tab.abort();
        }
      }
    };
    follow();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id]);
  return shown;
}

function Items({ job, items }) {
  const [filter, setFilter] = useState("");
  const [order, setOrder] = useState("index");
  const [open, setOpen] = useState(null);
  const arranged = useRef({});
  // Filtered and sorted when items have arrived, not at each scroll.
  const key = `${items.version} ${filter} ${order}`;
  if (arranged.current.key !== key) arranged.current = { key, ...arrange(items.list, filter, order) };
  const { rows, codes, longest } = arranged.current;
  return html`
    <div class="filters">
      <label>Show
        <select value=${filter} onChange=${(event) => setFilter(event.target.value)}>
          <option value="">all finished</option>
          <option value="answered">answered</option>
          <option value="failed">failed</option>
          ${codes.map(([code, count]) => html`<option value=${code}>${code} (${number(count)})</option>`)}
        </select>
      </label>
      <label>Order
        <select value=${order} onChange=${(event) => setOrder(event.target.value)}>
          <option value="index">request order</option>
          <option value="completion">completion order</option>
          <option value="slowest">slowest first</option>
        </select>
      </label>
      <span role="status">${number(rows.length)} shown, ${number(items.list.length)} of ${number(job.total_requests)} done</span>
      <span class="legend">
        <span><i class="swatch queued"></i>queued</span><span><i class="swatch retried"></i>retrying</span>
        <span><i class="swatch called"></i>call</span><span><i class="swatch failed"></i>failed call</span>
      </span>
    </div>
    ${rows.length === 0
      ? html`<p class="empty">${items.list.length ? "No items match." : "No item has finished yet."}</p>`
      : html`<${Rows} rows=${rows} choice=${`${filter} ${order}`} longest=${longest} onOpen=${setOpen} />`}
    ${open && html`<${Item} job=${job} item=${open} onClose=${() => setOpen(null)} />`}
  `;
}

function arrange(list, filter, order) {
  const counts = new Map();
  let longest = 1;
  for (const item of list) {
    if (item.error_code) counts.set(item.error_code, (counts.get(item.error_code) ?? 0) + 1);
    longest = Math.max(longest, item.queued_ms + item.latency_ms);
  }
  const keep = {
    "": () => true,
    answered: (item) => item.error === null,
    failed: (item) => item.error !== null,
  }[filter] ?? ((item) => item.error_code === filter);
  const rows = list.filter(keep);
  if (order === "index") rows.sort((a, b) => a.index - b.index);
  if (order === "slowest") rows.sort((a, b) => b.queued_ms + b.latency_ms - a.queued_ms - a.latency_ms);
  return { rows, codes: [...counts].sort((a, b) => b[1] - a[1]), longest };
}

/** Renders only the visible rows, because a job may have 100,000. */
function Rows({ rows, choice, longest, onOpen }) {
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(480);
  const box = useRef(null);
  useEffect(() => setHeight(box.current.clientHeight), []);
  useLayoutEffect(() => {
    box.current.scrollTop = 0;
    setTop(0);
  }, [choice]);
  const count = Math.ceil(height / ROW_PX) + 2 * EXTRA_ROWS;
  // With fewer rows than before, the spacer above them must not keep the box scrolled beyond the last one.
  const first = Math.max(0, Math.min(Math.floor(top / ROW_PX) - EXTRA_ROWS, rows.length - count));
  const visible = rows.slice(first, first + count);
  return html`
    <div class="items" role="table" aria-label="Items" aria-rowcount=${rows.length + 1}>
      <div role="rowgroup">
        <div class="row heading" role="row" aria-rowindex="1">
          ${["#", "Model", "Outcome", "Calls", "Time since acceptance: queued, retrying, call"].map(
            (name) => html`<span role="columnheader">${name}</span>`,
          )}
        </div>
      </div>
      <div class="rows" role="rowgroup" ref=${box} tabindex="0" aria-label="Items, scrollable"
        onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
        <div style=${{ height: `${first * ROW_PX}px` }} role="presentation"></div>
        ${visible.map(
          (item, offset) => html`<${Row} key=${item.index} item=${item} number=${first + offset + 2} longest=${longest} onOpen=${onOpen} />`,
        )}
        <div style=${{ height: `${(rows.length - first - visible.length) * ROW_PX}px` }} role="presentation"></div>
      </div>
    </div>
  `;
}

function Row({ item, number: row, longest, onOpen }) {
  const part = (value) => `${(100 * value) / longest}%`;
  const waited = item.queued_ms - item.retried_ms;
  const words = `queued ${ms(waited)}, retrying ${ms(item.retried_ms)}, call ${ms(item.latency_ms)}`;
  return html`
    <div class="row" role="row" aria-rowindex=${row}>
      <span role="cell"><button class="link" onClick=${() => onOpen(item)} aria-label="Item ${item.index}">${item.index}</button></span>
      <span role="cell" title=${route(item)}>${route(item)}</span>
      <span role="cell"><span class="tag ${item.error ? "bad" : "ok"}">${item.error_code ?? "answered"}</span></span>
      <span role="cell">${item.attempts}</span>
      <span role="cell" class="waterfall" title=${words}>
        <i class="queued" style=${{ width: part(waited) }}></i><i class="retried" style=${{ width: part(item.retried_ms) }}></i><i
          class=${item.error ? "failed" : "called"} style=${{ width: part(item.latency_ms) }}></i>
        <span class="hidden">${words}</span>
      </span>
    </div>
  `;
}

function Item({ job, item, onClose }) {
  const dialog = useRef(null);
  const [answered, setAnswered] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    dialog.current.showModal();
    const query = new URLSearchParams({ after: item.index, limit: 1, follow: "false" });
    getJson(`/jobs/${job.job_id}/results?${query}`).then(setAnswered, setError);
  }, []);
  return html`
    <dialog ref=${dialog} class="item" onClose=${onClose} aria-label="Item ${item.index}">
      <h2>Item ${item.index}${item.request_id && html` <code>${item.request_id}</code>`}</h2>
      <dl>
        <div><dt>Model</dt><dd>${route(item)}</dd></div>
        <div><dt>Finished</dt><dd>${moment(item.timestamp)}</dd></div>
        <div><dt>Queued</dt><dd>${ms(item.queued_ms - item.retried_ms)}</dd></div>
        <div><dt>Retrying</dt><dd>${ms(item.retried_ms)}</dd></div>
        <div><dt>Call</dt><dd>${ms(item.latency_ms)}</dd></div>
        <div><dt>Calls</dt><dd>${item.attempts}</dd></div>
        <div><dt>Tokens</dt><dd>${tokens(item)}</dd></div>
        ${item.cost_usd !== null && html`<div><dt>Cost</dt><dd>${usd(item.cost_usd)}</dd></div>`}
      </dl>
      ${item.error && html`<p class="problem">${item.error}</p>`}
      ${error && html`<${Problem} error=${error} />`}
      ${!item.error && (answered ? html`<pre tabindex="0">${answered.content}</pre>` : !error && html`<${Loading} what="the answer" />`)}
      <form method="dialog" class="actions"><button>Close</button></form>
    </dialog>
  `;
}
