// Shows the table of a job's items. Only the visible rows are in the page, because a job may have 100,000 items.

import { NONE, formatMs, formatRoute, formatTokens, formatUsd } from "./format.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const EXTRA_ROWS = 8; // number of rows that are rendered above the visible rows, and again below them
const COLUMNS = ["Request", "Model", "Outcome", "Calls", "Tokens", "Cost", "Queued", "Retrying and call"];

/** Returns the time in ms from the start of an item's first call to the item's end. */
export const ownMs = (item) => item.retried_ms + item.latency_ms;

/** Shows the table. `choice` names the filter and the order; the table scrolls to the top when it changes. `scales` has
 *  the times that full bars stand for, in ms: `waited` is the time in the queue, `own` the time after the queue. */
export function Rows({ rows, choice, scales, onOpen }) {
  const [top, setTop] = useState(0);
  const [{ height, rowPx }, setSizes] = useState({ height: 480, rowPx: 34 });
  const box = useRef(null);
  const heading = useRef(null);
  useLayoutEffect(() => {
    // The style sheet decides how high a row is: on a narrow screen a row has several lines.
    const measure = () => setSizes({ height: box.current.clientHeight, rowPx: heading.current.offsetHeight });
    const resizing = new ResizeObserver(measure);
    resizing.observe(box.current);
    resizing.observe(heading.current);
    measure();
    return () => resizing.disconnect();
  }, []);
  useLayoutEffect(() => {
    box.current.scrollTop = 0;
    setTop(0);
  }, [choice]);
  const count = Math.ceil(height / rowPx) + 2 * EXTRA_ROWS;
  // If there are fewer rows than before, the spacer above them must not keep the box scrolled beyond the last row.
  const first = Math.max(0, Math.min(Math.floor(top / rowPx) - EXTRA_ROWS, rows.length - count));
  const visible = rows.slice(first, first + count);
  return html`
    <div class="items" role="table" aria-label="Requests" aria-rowcount=${rows.length + 1}>
      <div role="rowgroup">
        <div class="row heading" role="row" aria-rowindex="1" ref=${heading}>
          ${COLUMNS.map((name) => html`<span role="columnheader">${name}</span>`)}
        </div>
      </div>
      <div class="rows" role="rowgroup" ref=${box} tabindex="0" aria-label="Requests, scrollable"
        onScroll=${(event) => setTop(event.currentTarget.scrollTop)}>
        <div style=${{ height: `${first * rowPx}px` }} role="presentation"></div>
        ${visible.map(
          (item, offset) => html`<${Row} key=${item.index} item=${item} row=${first + offset + 2} scales=${scales} onOpen=${onOpen} />`,
        )}
        <div style=${{ height: `${(rows.length - first - visible.length) * rowPx}px` }} role="presentation"></div>
      </div>
    </div>
  `;
}

function Row({ item, row, scales, onOpen }) {
  const id = item.request_id ?? String(item.index);
  const label = `Request ${item.index}${item.request_id ? ` ${item.request_id}` : ""}`;
  const waited = item.queued_ms - item.retried_ms;
  return html`
    <div class="row" role="row" aria-rowindex=${row}>
      <span role="cell" title=${label}><button class="link" onClick=${() => onOpen(item)} aria-label=${label}>${id}</button></span>
      <span role="cell" title=${formatRoute(item)}>${formatRoute(item)}</span>
      <span role="cell" title=${item.error ?? ""}>
        <span class="tag ${item.error ? "bad" : "ok"}">${item.error_code ?? "answered"}</span>${item.error && ` ${item.error}`}
      </span>
      <span role="cell">${item.attempts}</span>
      <span role="cell">${item.prompt_tokens + item.completion_tokens ? formatTokens(item) : NONE}</span>
      <span role="cell">${item.cost_usd === null ? NONE : formatUsd(item.cost_usd)}</span>
      <${Times} scale=${scales.waited} parts=${[["queued", waited]]} />
      <${Times} scale=${scales.own} parts=${[["retried", item.retried_ms], [item.error ? "failed" : "called", item.latency_ms]]} />
    </div>
  `;
}

const WORDS = { queued: "queued", retried: "retrying", called: "call", failed: "failed call" };

/** Shows times, each as a part of one bar, and their sum as a number. `parts` lists [name, time in ms]. */
function Times({ scale, parts }) {
  const total = parts.reduce((sum, [, ms]) => sum + ms, 0);
  const description = parts.map(([name, ms]) => `${WORDS[name]} ${formatMs(ms)}`).join(", ");
  return html`
    <span role="cell" class="times" title=${description}>
      <span class="bar ${total > scale ? "cut" : ""}">
        ${parts.map(([name, ms]) => html`<i class=${name} style=${{ width: `${(100 * ms) / Math.max(scale, total)}%` }}></i>`)}
      </span>
      <span class="ms" aria-hidden="true">${formatMs(total)}</span>
      <span class="hidden">${description}</span>
    </span>
  `;
}
