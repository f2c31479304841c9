// Sends one prompt to several models and shows the answers side by side as they arrive.

import { Answer as AnswerText } from "./answer.js";
import { events, getJson, request } from "./api.js";
import { formatMs, formatRoute, formatTokens, formatUsd } from "./format.js";
import { WEBHOOK_LANE } from "./overview.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const MAX_MODELS = 6;

// The states of an answer:
const WAITING = "waiting";
const ANSWERED = "answered";
const STOPPED = "stopped";
const LATER = "later"; // the API has stopped waiting; the job continues
const STOP = "stop"; // the reason of the signal when the user has stopped the requests

/** Cancels the job of a request, if the job is known. Returns a sentence that says what happens to the request. */
async function cancel(job) {
  if (!job) return "The API cancels the request if it was accepted.";
  try {
    await request(`jobs/${job}`, { method: "DELETE" });
    return "The request is cancelled.";
  } catch (error) {
    return `The request could not be cancelled: ${error.message}`;
  }
}

export function TryView({ live }) {
  const [named, setNamed] = useState(null);
  const [targets, setTargets] = useState([{ provider: "", model: "" }]);
  const [answers, setAnswers] = useState(null);
  const [problem, setProblem] = useState(null);
  const [sending, setSending] = useState(false);
  const abort = useRef(null);
  useEffect(() => {
    getJson("openapi.json").then((schema) => setNamed(schema.components.schemas.LLMRequest.properties.provider.enum), setProblem);
    return () => abort.current?.abort();
  }, []);
  // If the API's schema names no providers, because the API takes any provider, the page offers the providers in use.
  const providers = named ?? (live.overview?.lanes ?? []).map(({ name }) => name).filter((name) => name !== WEBHOOK_LANE);

  const change = (index, fields) =>
    setTargets(targets.map((target, i) => (i === index ? { ...target, ...fields } : target)));

  /** Sets `fields` in each answer that has not arrived. */
  const changeWaiting = (fields) =>
    setAnswers((before) => before?.map((answer) => (answer.state === WAITING ? { ...answer, ...fields } : answer)));

  const send = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const messages = [
      ...(form.get("system").trim() ? [{ role: "system", content: form.get("system") }] : []),
      { role: "user", content: form.get("prompt") },
    ];
    const chosen = targets.map(({ provider, model }) => ({ provider: provider || providers[0], model }));
    const requests = chosen.map((target) => ({
      ...target,
      messages,
      temperature: Number(form.get("temperature")),
      max_tokens: Number(form.get("max_tokens")),
    }));
    setProblem(null);
    setSending(true);
    setAnswers(chosen.map((target) => ({ ...target, state: WAITING })));
    abort.current = new AbortController();
    const { signal } = abort.current;
    let job = null;
    try {
      const response = await request("batch", {
        method: "POST",
        body: JSON.stringify({ requests }),
        headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
        signal,
      });
      job = response.headers.get("Location")?.split("/").pop();
      for await (const { name, data } of events(response)) {
        if (name === "item")
          setAnswers((before) => before.map((answer, i) => (i === data.index ? { ...data, state: ANSWERED } : answer)));
        if (name === "status") changeWaiting({ state: LATER, job: data.job_id });
      }
    } catch (error) {
      if (!signal.aborted) setProblem(error);
      if (error.status) setAnswers(null); // the API rejected the batch
      else changeWaiting({ state: STOPPED, note: signal.reason === STOP ? await cancel(job) : "" });
    }
    setSending(false);
  };

  return html`
    <h1>Try it</h1>
    <form class="card try" onSubmit=${send}>
      <fieldset>
        <legend>Models</legend>
        ${targets.map(
          (target, index) => html`
            <div class="target" key=${index}>
              <select aria-label="Provider ${index + 1}" value=${target.provider || providers[0]}
                onChange=${(event) => change(index, { provider: event.target.value })}>
                ${providers.map((name) => html`<option value=${name}>${name}</option>`)}
              </select>
              <input aria-label="Model ${index + 1}" value=${target.model} required maxlength="256"
                placeholder="model name at the provider" onInput=${(event) => change(index, { model: event.target.value })} />
              ${targets.length > 1 &&
              html`<button type="button" class="quiet" aria-label="Remove model ${index + 1}"
                onClick=${() => setTargets(targets.filter((_, i) => i !== index))}>Remove</button>`}
            </div>
          `,
        )}
        ${targets.length < MAX_MODELS &&
        html`<button type="button" class="quiet"
          onClick=${() => setTargets([...targets, { provider: "", model: "" }])}>Add a model</button>`}
      </fieldset>
      <label for="system">System message (optional)</label>
      <textarea id="system" name="system" rows="2"></textarea>
      <label for="prompt">Prompt</label>
      <textarea id="prompt" name="prompt" rows="4" required></textarea>
      <div class="target">
        <label>Temperature <input name="temperature" type="number" min="0" max="2" step="0.1" value="0.7" required /></label>
        <label>Max tokens <input name="max_tokens" type="number" min="1" max="32000" value="1000" required /></label>
      </div>
      ${problem && html`<p class="problem" role="alert">${problem.message}</p>`}
      <div class="actions">
        ${sending && html`<button type="button" class="quiet danger" onClick=${() => abort.current.abort(STOP)}>Stop</button>`}
        <button disabled=${sending || !providers.length}>${sending ? "Waiting…" : "Send"}</button>
      </div>
    </form>
    <div aria-live="polite">
      ${answers && html`<div class="answers">${answers.map((answer, i) => html`<${Answer} key=${i} answer=${answer} />`)}</div>`}
    </div>
  `;
}

function Answer({ answer }) {
  return html`
    <section class="card" aria-label=${formatRoute(answer)}>
      <h2>${formatRoute(answer)}</h2>
      ${answer.state === WAITING && html`<p class="loading">Waiting for the answer…</p>`}
      ${answer.state === STOPPED && html`<p class="problem">Stopped. ${answer.note}</p>`}
      ${answer.state === LATER && html`<p>No answer yet: <a href="#/jobs/${answer.job}">the job continues</a>.</p>`}
      ${answer.state === ANSWERED &&
      html`
        ${answer.error ? html`<p class="problem">${answer.error_code}: ${answer.error}</p>` : html`<${AnswerText} item=${answer} />`}
        <p class="dim">${listFacts(answer).join(" · ")}</p>
      `}
    </section>
  `;
}

const listFacts = (answer) => [
  formatMs(answer.latency_ms),
  `${formatMs(answer.queued_ms)} queued`,
  formatTokens(answer),
  ...(answer.cost_usd === null ? [] : [formatUsd(answer.cost_usd)]),
  `${answer.attempts} ${answer.attempts === 1 ? "call" : "calls"}`,
  ...(answer.finish_reason ? [answer.finish_reason] : []),
];
