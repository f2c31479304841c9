// Shows the answer of an item as text.

import { formatNumber } from "./format.js";
import { html } from "./vendor/htm-preact-3.1.1.js";

const MAX_CHARACTERS = 50_000; // an answer may be megabytes of numbers, which would block the browser

export function Answer({ item }) {
  const text = describeAnswer(item);
  return html`
    <pre tabindex="0">${text.slice(0, MAX_CHARACTERS)}</pre>
    ${text.length > MAX_CHARACTERS &&
    html`<p class="dim">These are the first ${formatNumber(MAX_CHARACTERS)} of ${formatNumber(text.length)} characters. The results that you can download have the whole answer.</p>`}
  `;
}

/** Returns the answer's text. If the answer has no text, returns its choices, its tool calls, or the body that the
 *  provider sent. */
function describeAnswer({ content, choices, message, body }) {
  if (choices?.length > 1) return choices.map(describeChoice).join("\n\n");
  if (content) return content;
  if (message) return describeMessage(message);
  return body === undefined || body === null ? "" : toJson(body);
}

const describeChoice = (choice, index) => `Choice ${index + 1}:\n${choice.message ? describeMessage(choice.message) : toJson(choice)}`;

function describeMessage(message) {
  if (typeof message.content === "string" && message.content) return message.content;
  const parts = [message.refusal && `Refused: ${message.refusal}`, ...(message.tool_calls ?? []).map(describeToolCall)];
  return parts.filter(Boolean).join("\n") || toJson(message);
}

function describeToolCall(call) {
  const { name, arguments: given } = call.function ?? {};
  if (!name) return toJson(call);
  return `${name}(${typeof given === "string" ? given : toJson(given ?? {})})`;
}

const toJson = (value) => JSON.stringify(value, null, 2);
