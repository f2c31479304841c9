// Components that several views use.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { finishedItems, isUnfinished, number, percent } from "./format.js";

export const Loading = ({ what }) => html`<p class="loading" role="status">Loading ${what}…</p>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export function Problem({ error, retry }) {
  return html`
    <div class="card problem" role="alert">
      <p>${error.message}</p>
      ${retry && html`<button onClick=${retry}>Try again</button>`}
    </div>
  `;
}

export function Notices({ notices }) {
  if (!notices.length) return html`<p class="fine">All healthy</p>`;
  return html`
    <ul class="notices" aria-label="Notices">
      ${notices.map(
        ({ severity, text }) => html`<li class=${severity}><strong>${severity}</strong> ${text}</li>`,
      )}
    </ul>
  `;
}

export function Progress({ job }) {
  const done = finishedItems(job);
  const label = `${number(done)} of ${number(job.total_requests)} done, ${number(job.failed)} failed`;
  return html`
    <div class="progress" role="progressbar" aria-label=${label} aria-valuemin="0"
      aria-valuemax=${job.total_requests} aria-valuenow=${done}>
      <span class="ok" style=${{ width: `${(100 * job.successful) / job.total_requests}%` }}></span>
      <span class="bad" style=${{ width: `${(100 * job.failed) / job.total_requests}%` }}></span>
      <span class="now" style=${{ width: `${(100 * job.running) / job.total_requests}%` }}></span>
    </div>
    <span class="percent">${percent(done, job.total_requests)} %</span>
  `;
}

export const Status = ({ job }) =>
  html`<span class="status ${isUnfinished(job) ? "going" : job.failed ? "bad" : "ok"}">${job.status.replaceAll("_", " ")}${job.status === "completed" && job.failed > 0 && `, ${number(job.failed)} failed`}</span>`;

/** A button that asks for confirmation before it calls `act`, which returns a promise. `yes` and `no` are the labels
 *  of the answers. */
export function Confirmed({ label, question, yes, no, act, kind = "" }) {
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
    <button class=${kind} onClick=${() => {
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

/** Calls `load`, which returns a promise, and calls it again whenever `key` changes. Returns {value, error, reload};
 *  the last value is kept when a later call fails. */
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
