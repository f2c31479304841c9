// Shows the items of a job: a table with a bar for the time of each item, and a dialog for the item that the user opens.

import { abortWhenHidden, getJson, lines, request, untilVisible } from "./api.js";
import { formatMs, formatNumber, formatRoute, formatTime, formatTokens, formatUsd } from "./format.js";
import { Loading, Problem } from "./parts.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const ROW_PX = 34;
const EXTRA_ROWS = 8; // number of rows that are rendered above the visible rows, and again below them
const RETRY_MS = 1000;
const REDRAW_MS = 200;

/** Returns {list, version}. `list` has the job's finished items without their answers, in the order in which they
 *  finished. It grows when more items finish; then `version` changes. */
export function useItems(id) {
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

export function Items({ job, items }) {
  const [filter, setFilter] = useState("");
  const [order, setOrder] = useState("index");
  const [open, setOpen] = useState(null);
  const arranged = useRef({});
  // The items are filtered and sorted when new items have arrived, not at each scroll event.
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
          ${codes.map(([code, count]) => html`<option value=${code}>${code} (${formatNumber(count)})</option>`)}
        </select>
      </label>
      <label>Order
        <select value=${order} onChange=${(event) => setOrder(event.target.value)}>
          <option value="index">request order</option>
          <option value="completion">completion order</option>
          <option value="slowest">slowest first</option>
        </select>
      </label>
      <span role="status">${formatNumber(rows.length)} shown, ${formatNumber(items.list.length)} of ${formatNumber(job.total_requests)} finished</span>
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

/** Renders only the visible rows, because a job may have 100,000 items. */
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
  // If there are fewer rows than before, the spacer above them must not keep the box scrolled beyond the last row.
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
          (item, offset) => html`<${Row} key=${item.index} item=${item} row=${first + offset + 2} longest=${longest} onOpen=${onOpen} />`,
        )}
        <div style=${{ height: `${(rows.length - first - visible.length) * ROW_PX}px` }} role="presentation"></div>
      </div>
    </div>
  `;
}

function Row({ item, row, longest, onOpen }) {
  const part = (value) => `${(100 * value) / longest}%`;
  const waited = item.queued_ms - item.retried_ms;
  const description = `queued ${formatMs(waited)}, retrying ${formatMs(item.retried_ms)}, call ${formatMs(item.latency_ms)}`;
  return html`
    <div class="row" role="row" aria-rowindex=${row}>
      <span role="cell"><button class="link" onClick=${() => onOpen(item)} aria-label="Item ${item.index}">${item.index}</button></span>
      <span role="cell" title=${formatRoute(item)}>${formatRoute(item)}</span>
      <span role="cell"><span class="tag ${item.error ? "bad" : "ok"}">${item.error_code ?? "answered"}</span></span>
      <span role="cell">${item.attempts}</span>
      <span role="cell" class="waterfall" title=${description}>
        <i class="queued" style=${{ width: part(waited) }}></i><i class="retried" style=${{ width: part(item.retried_ms) }}></i><i
          class=${item.error ? "failed" : "called"} style=${{ width: part(item.latency_ms) }}></i>
        <span class="hidden">${description}</span>
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
        <div><dt>Model</dt><dd>${formatRoute(item)}</dd></div>
        <div><dt>Finished</dt><dd>${formatTime(item.timestamp)}</dd></div>
        <div><dt>Queued</dt><dd>${formatMs(item.queued_ms - item.retried_ms)}</dd></div>
        <div><dt>Retrying</dt><dd>${formatMs(item.retried_ms)}</dd></div>
        <div><dt>Call time</dt><dd>${formatMs(item.latency_ms)}</dd></div>
        <div><dt>Calls</dt><dd>${item.attempts}</dd></div>
        <div><dt>Tokens</dt><dd>${formatTokens(item)}</dd></div>
        ${item.cost_usd !== null && html`<div><dt>Cost</dt><dd>${formatUsd(item.cost_usd)}</dd></div>`}
      </dl>
      ${item.error && html`<p class="problem">${item.error}</p>`}
      ${error && html`<${Problem} error=${error} />`}
      ${!item.error && (answered ? html`<pre tabindex="0">${answered.content}</pre>` : !error && html`<${Loading} what="the answer" />`)}
      <form method="dialog" class="actions"><button>Close</button></form>
    </dialog>
  `;
}
