// Says which deployments of a lane (the provider, or one of its models) are paused or do not work.

import { formatAgo, formatClock, formatDuration } from "./format.js";
import { html } from "./vendor/htm-preact-3.1.1.js";

const SHOWN = 5;

const isProbing = ({ state }) => state === "probing";

/** Returns the lane's deployments, without those whose state follows from the state of the whole provider: see
 *  shared/monitoring/account_state.py. */
function withoutCovered(lane) {
  const all = findBlocking(lane);
  if (!all) return lane.deployments;
  if (isProbing(all)) return [all];
  const end = Date.parse(all.next_call_at);
  return lane.deployments.filter((one) => one === all || isProbing(one) || Date.parse(one.next_call_at) > end);
}

/** Lists the deployments of a lane that are not healthy. `at` is null if the lane may have changed since the overview. */
export function Deployments({ lane, at }) {
  const shown = withoutCovered(lane);
  const found = [...shown.filter(isProbing), ...shown.filter((one) => !isProbing(one))];
  if (!found.length) return null;
  const hidden = found.length - SHOWN;
  return html`
    <ul class="deployments" aria-label="Not healthy: ${lane.name}">
      ${found.slice(0, SHOWN).map((one) => html`<li key=${one.name} class=${isProbing(one) ? "down" : "paused"}>${describe(one, lane, at)}</li>`)}
      ${hidden > 0 && html`<li class="dim">and ${hidden} more</li>`}
    </ul>
  `;
}

/** Returns the deployment that stands for the whole provider, if the provider is paused or does not work; otherwise
 *  undefined. */
export const findBlocking = (lane) => lane.deployments.find(({ name }) => name === lane.name);

function describe(one, lane, at) {
  const isModel = one.name.startsWith(`${lane.name}/`); // a second key has names like openai#2/MODEL
  const name = one.name === lane.name ? "All models" : isModel ? one.name.slice(lane.name.length + 1) : one.name;
  const leftS = at && Math.round((Date.parse(one.next_call_at) - Date.parse(at)) / 1000);
  const clock = formatClock(one.next_call_at);
  const left = leftS > 0 ? formatDuration(leftS) : null;
  const because = `${lane.name} ${one.because}`;
  if (!isProbing(one)) {
    const state = leftS === null || left ? `paused until ${clock}${left ? ` (for another ${left})` : ""}` : "resuming";
    return html`<b>${name}</b> ${state}: ${because}.`;
  }
  const due = lane.queued + lane.deferred ? "now" : "with the next request";
  const next = one.is_probing
    ? "A call that finds out whether the provider works again is running."
    : `Next call: ${left ? `${clock} (in ${left})` : leftS === null ? clock : due}.`;
  const since = at ? `${formatClock(one.since)} (${formatAgo(one.since, at)})` : formatClock(one.since);
  return html`<b>${name}</b> not working since ${since}: ${because}. ${next}`;
}
