// Defines the components that several views use.

import { TROUBLE, isStale } from "./live.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { countFinished, floorPercent, formatNumber, isUnfinished } from "./format.js";

/** Shows that `what` is being loaded or, if the connection is lost, what must happen before it can be loaded. */
export function Loading({ what, live = {} }) {
  if (!isStale(live)) return html`<p class="loading" role="status">Loading ${what}…</p>`;
  const condition = live.connection === TROUBLE ? "Redis is available" : "the server responds";
  return html`<p class="empty" role="status">Cannot load ${what} now. This appears by itself when ${condition} again.</p>`;
}

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export function Problem({ error, retry }) {
  return html`
    <div class="card problem" role="alert">
      <p>${error.message}</p>
      ${retry && html`<button onClick=${retry}>Try again</button>`}
    </div>
  `;
}

/** Lists the notices. Shows the text `none` if there are no notices. */
export function Notices({ notices, none = "All healthy" }) {
  if (!notices.length) return html`<p class="fine">${none}</p>`;
  return html`
    <ul class="notices" aria-label="Notices">
      ${notices.map(
        ({ severity, text }) => html`<li class=${severity}><strong>${severity}</strong> ${text}</li>`,
      )}
    </ul>
  `;
}

export function Progress({ job }) {
  const finished = countFinished(job);
  const label = `${formatNumber(finished)} of ${formatNumber(job.total_requests)} finished, ${formatNumber(job.failed)} failed`;
  return html`
    <div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0"
      aria-valuemax=${job.total_requests} aria-valuenow=${finished}>
      <span class="ok" style=${{ width: `${(100 * job.successful) / job.total_requests}%` }}></span>
      <span class="bad" style=${{ width: `${(100 * job.failed) / job.total_requests}%` }}></span>
      <span class="now" style=${{ width: `${(100 * job.running) / job.total_requests}%` }}></span>
    </div>
    <span class="percent">${floorPercent(finished, job.total_requests)} %</span>
  `;
}

export const Status = ({ job }) =>
  html`<span class="status ${isUnfinished(job) ? "going" : job.failed ? "bad" : "ok"}">${job.status.replaceAll("_", " ")}${job.status === "completed" && job.failed > 0 && `, ${formatNumber(job.failed)} failed`}</span>`;

/** Shows a button that asks `question` before it calls `act`, which returns a promise. `yes` and `no` are the labels of
 *  the two answers. A button of the kind `danger` is red only in the question, because red attracts attention. */
export function ConfirmButton({ label, question, yes, no, act, kind = "" }) {
  const dialog = useRef(null);
  const [problem, setProblem] = useState(null);
  const confirm = async (event) => {
    event.preventDefault();
    try {
      await act();
      dialog.current.close();
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`
    <button class=${kind && `quiet ${kind}`} onClick=${() => {
      setProblem(null);
      dialog.current.showModal();
    }}>${label}</button>
    <dialog ref=${dialog} aria-label=${label}>
      <form onSubmit=${confirm}>
        <p>${question}</p>
        ${problem && html`<p class="problem" role="alert">${problem}</p>`}
        <div class="actions">
          <button type="button" class="quiet" onClick=${() => dialog.current.close()}>${no}</button>
          <button class=${kind}>${yes}</button>
        </div>
      </form>
    </dialog>
  `;
}

/** Calls `load`, which returns a promise, and calls it again whenever `key` changes. Returns {value, error, reload}. If
 *  a later call fails, `value` keeps the value of the last successful call. */
export function useLoaded(load, key) {
  const [state, setState] = useState({ value: null, error: null });
  const [count, setCount] = useState(0);
  useEffect(() => {
    let current = true;
    load().then(
      (value) => current && setState({ value, error: null }),
      (error) => current && setState((before) => ({ ...before, error })),
    );
    return () => {
      current = false;
    };
  }, [key, count]);
  return { ...state, reload: () => setCount(count + 1) };
}
