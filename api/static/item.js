// Shows one item of a job in a dialog.

import { Answer } from "./answer.js";
import { getJson } from "./api.js";
import { formatMs, formatRoute, formatTime, formatTokens, formatUsd } from "./format.js";
import { Loading, Problem } from "./components.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

export function Item({ job, item, onClose }) {
  const dialog = useRef(null);
  const [answered, setAnswered] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    dialog.current.showModal();
    const query = new URLSearchParams({ after: item.index, limit: 1, follow: "false" });
    getJson(`jobs/${job.job_id}/results?${query}`).then(setAnswered, setError);
  }, []);
  return html`
    <dialog ref=${dialog} class="item" onClose=${onClose} aria-label="Request ${item.index}">
      <h2>Request ${item.index}${item.request_id && html` <code>${item.request_id}</code>`}</h2>
      <dl>
        <div class="full"><dt>Model</dt><dd>${formatRoute(item)}</dd></div>
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
      ${!item.error && (answered ? html`<${Answer} item=${answered} />` : !error && html`<${Loading} what="the answer" />`)}
      <form method="dialog" class="actions"><button>Close</button></form>
    </dialog>
  `;
}
