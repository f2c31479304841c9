// The only way to the API: with the key, if there is one, which stays in this tab.

const KEY = "orchestrator-api-key";
export const HIDDEN = "hidden"; // why a stream was aborted

export const getKey = () => sessionStorage.getItem(KEY);
export const setKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const describe = (detail) =>
  Array.isArray(detail)
    ? detail.map((error) => `${error.loc.slice(1).join(" ")}: ${error.msg}`).join("; ")
    : String(detail);

/** A response that is a success. Throws Refused, or TypeError where nothing answers. */
export async function request(path, options = {}) {
  const key = getKey();
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, describe(body.detail ?? response.statusText));
  }
  return response;
}

export const getJson = async (path, options) => (await request(path, options)).json();

/** Resolves when the tab is seen. */
export const seen = async () => {
  while (document.hidden)
    await new Promise((change) => document.addEventListener("visibilitychange", change, { once: true }));
};

/** For a stream: aborted when the tab is hidden. A browser has six connections for a host, which all its tabs share. */
export function whileSeen() {
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

/** The objects of an NDJSON answer, in arrays as they come. */
export async function* lines(response) {
  let rest = "";
  for await (const chunk of chunks(response)) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop();
    if (parts.length) yield parts.map((line) => JSON.parse(line));
  }
}

/** Server-sent events: {name, data}. Comments are {name: null}. EventSource cannot send a key. */
export async function* events(response) {
  for await (const block of split(response, "\n\n")) {
    const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    yield { name: fields.event ?? null, data: fields.data ? JSON.parse(fields.data) : null };
  }
}
