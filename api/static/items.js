// Shows the items of a job: the choice of items, and their sums.

import { countFinished, formatNumber, formatTokens, formatUsd } from "./format.js";
import { Item } from "./item.js";
import { Loading } from "./components.js";
import { Rows, ownMs } from "./rows.js";
import { html, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const FILTERS = {
  "": () => true,
  answered: (item) => item.error === null,
  failed: (item) => item.error !== null,
};

const ORDERS = {
  index: { title: "request order", compare: (a, b) => a.index - b.index },
  completion: { title: "completion order" },
  // The time in the queue is left out, because the last items of a job have always waited longest.
  slowest: { title: "slowest first", compare: (a, b) => ownMs(b) - ownMs(a) },
};

export function Items({ job, items, live }) {
  const [filter, setFilter] = useState("");
  const [order, setOrder] = useState("index");
  const [open, setOpen] = useState(null);
  const arranged = useRef({});
  // The items are filtered and sorted when new items have arrived, not at each scroll event.
  const key = `${items.version} ${filter} ${order}`;
  if (arranged.current.key !== key) arranged.current = { key, ...arrange(items.list, filter, order) };
  const { rows, codes, sums, scales } = arranged.current;
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
          ${Object.entries(ORDERS).map(([name, { title }]) => html`<option value=${name}>${title}</option>`)}
        </select>
      </label>
      <span role="status">${formatNumber(rows.length)} shown, ${formatNumber(items.list.length)} of ${formatNumber(job.total_requests)} finished</span>
      <span>${describeSums(sums)}</span>
      <span class="legend">
        <span><i class="swatch queued"></i>queued</span><span><i class="swatch retried"></i>retrying</span>
        <span><i class="swatch called"></i>call</span><span><i class="swatch failed"></i>failed call</span>
      </span>
    </div>
    ${rows.length
      ? html`<${Rows} rows=${rows} choice=${`${filter} ${order}`} scales=${scales} onOpen=${setOpen} />`
      : html`<${NoRows} job=${job} items=${items} live=${live} />`}
    ${open && html`<${Item} job=${job} item=${open} onClose=${() => setOpen(null)} />`}
  `;
}

function NoRows({ job, items, live }) {
  if (items.list.length) return html`<p class="empty">No requests match.</p>`;
  if (countFinished(job)) return html`<${Loading} what="the results" live=${live} />`;
  return html`<p class="empty">No request has finished yet.</p>`;
}

function arrange(list, filter, order) {
  const counts = new Map();
  for (const { error_code: code } of list) if (code) counts.set(code, (counts.get(code) ?? 0) + 1);
  const rows = list.filter(FILTERS[filter] ?? ((item) => item.error_code === filter));
  const scales = {
    waited: rows.reduce((longest, item) => Math.max(longest, item.queued_ms - item.retried_ms), 1),
    own: ownScale(rows),
  };
  if (ORDERS[order].compare) rows.sort(ORDERS[order].compare);
  return { rows, codes: [...counts].sort((a, b) => b[1] - a[1]), sums: addUp(list), scales };
}

/** Returns the time that a full bar stands for. A few very slow items do not make all other bars invisible: their own
 *  bars are cut. */
function ownScale(rows) {
  const times = Float64Array.from(rows, ownMs).sort();
  const [usual, longest] = [times[Math.ceil(0.95 * (times.length - 1))] ?? 0, times.at(-1) ?? 0];
  return Math.max(1, Math.min(3 * usual, longest));
}

function addUp(list) {
  const sums = { prompt_tokens: 0, completion_tokens: 0, cost_usd: null };
  for (const item of list) {
    sums.prompt_tokens += item.prompt_tokens;
    sums.completion_tokens += item.completion_tokens;
    if (item.cost_usd !== null) sums.cost_usd += item.cost_usd;
  }
  return sums;
}

const describeSums = (sums) =>
  [
    ...(sums.prompt_tokens + sums.completion_tokens ? [`Tokens: ${formatTokens(sums)}`] : []),
    ...(sums.cost_usd === null ? [] : [`Cost: ${formatUsd(sums.cost_usd)}`]),
  ].join(". ");
