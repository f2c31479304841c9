// Sends every request of the page to the API, with the API key if the user has entered one. The key is kept in this tab
// only.

const KEY = "orchestrator-api-key";
export const HIDDEN = "hidden"; // the reason of the signal when `abortWhenHidden` has aborted a stream

export const getKey = () => sessionStorage.getItem(KEY);
export const setKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

export class HttpError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const describe = (detail) =>
  Array.isArray(detail)
    ? detail.map((error) => `${error.loc.slice(1).join(" ")}: ${error.msg}`).join("; ")
    : String(detail);

/** Returns a successful response. `path` has no leading slash: it is relative to the page, so that the page also works
 *  behind a proxy that serves it under a path prefix. Throws HttpError for an error status, and TypeError if the server
 *  cannot be reached. */
export async function request(path, options = {}) {
  const key = getKey();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new HttpError(response.status, describe(body.detail ?? response.statusText));
  }
  return response;
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** Waits until the tab is visible. */
export const untilVisible = async () => {
  while (document.hidden)
    await new Promise((change) => document.addEventListener("visibilitychange", change, { once: true }));
};

/** Returns an AbortController that aborts a stream when the tab is hidden. A browser opens at most six connections to a
 *  host, and all tabs share them: a hidden tab must not keep a connection. */
export function abortWhenHidden() {
  const controller = new AbortController();
  const { signal } = controller;
  document.addEventListener("visibilitychange", () => document.hidden && controller.abort(HIDDEN), { signal });
  return controller;
}

async function* chunks(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function* split(response, separator) {
  let rest = "";
  for await (const chunk of chunks(response)) {
    const parts = (rest + chunk).split(separator);
    rest = parts.pop();
    yield* parts;
  }
}

/** Yields the objects of an NDJSON response: one array per chunk that arrives. Skips empty lines, which only show that
 *  the API is alive. */
export async function* lines(response) {
  let rest = "";
  for await (const chunk of chunks(response)) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    const found = parts.filter(Boolean).map((line) => JSON.parse(line));
    if (found.length) yield found;
  }
}

/** Yields server-sent events as {name, data}, and comments as {name: null}. The browser's EventSource is not used,
 *  because it cannot send an API key. */
export async function* events(response) {
  for await (const block of split(response, "\n\n")) {
    const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    yield { name: fields.event ?? null, data: fields.data ? JSON.parse(fields.data) : null };
  }
}
