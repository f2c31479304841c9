// Shows the frame of the page: the navigation, the state of the connection, and the form to sign in.

import { getKey } from "./api.js";
import { formatClock } from "./format.js";
import { JobView } from "./job.js";
import { JobsView } from "./jobs.js";
import { CONNECTED, DISCONNECTED, LOADING, SIGNED_OUT, Live, TROUBLE, isStale } from "./live.js";
import { OverviewView } from "./overview.js";
import { TryView } from "./try.js";
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";

const VIEWS = [
  { path: "", title: "Overview", view: OverviewView },
  { path: "jobs", title: "Jobs", view: JobsView },
  { path: "try", title: "Try it", view: TryView },
];

const CONNECTION_LABELS = {
  [LOADING]: "connecting",
  [CONNECTED]: "live",
  [TROUBLE]: "Redis unavailable",
  [DISCONNECTED]: "disconnected",
  [SIGNED_OUT]: "signed out",
};

const VERSION = document.querySelector("meta[name=version]").content;

const currentPath = () => location.hash.replace(/^#\/?/, "");

function App() {
  const [path, setPath] = useState(currentPath());
  const [state, setState] = useState({ connection: LOADING });
  const live = useRef(null);
  const main = useRef(null);

  useEffect(() => {
    live.current = new Live(setState);
    const navigate = () => {
      setPath(currentPath());
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    addEventListener("hashchange", navigate);
    return () => removeEventListener("hashchange", navigate);
  }, []);

  const [section, id] = path.split("/");
  const current = VIEWS.find((view) => view.path === section) ?? VIEWS[0];
  const title = id ? "Job" : current.title;
  useEffect(() => {
    document.title = `${title} · LLM batch orchestrator`;
  }, [title]);

  return html`
    <a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      main.current?.focus();
    }}>Skip to content</a>
    <header>
      <span class="brand"><img src="static/icon.svg" alt="" width="24" height="24" />Orchestrator <small>${VERSION}</small></span>
      <nav aria-label="Views">
        ${VIEWS.map(
          ({ path: to, title: name }) => html`
            <a href="#/${to}" aria-current=${to === current.path ? "page" : undefined}>${name}</a>
          `,
        )}
        <a href="docs">API docs</a>
      </nav>
      <span class="connection ${state.connection}" role="status">${CONNECTION_LABELS[state.connection]}</span>
      ${getKey() && html`<button class="quiet" onClick=${() => live.current.signOut()}>Sign out</button>`}
    </header>
    <main id="main" tabindex="-1" ref=${main}>
      <${Banner} state=${state} />
      ${state.connection === SIGNED_OUT
        ? html`<${KeyForm} detail=${state.detail} onKey=${(key) => live.current.signIn(key)} />`
        : html`<div class=${isStale(state) ? "stale" : ""}>
            ${id ? html`<${JobView} key=${id} id=${id} live=${state} />` : html`<${current.view} live=${state} />`}
          </div>`}
    </main>
  `;
}

function Banner({ state }) {
  const age = state.overview ? ` Figures are from ${formatClock(state.overview.at)}.` : "";
  const detail = state.detail?.replace(/\.$/, "");
  const text = {
    [DISCONNECTED]: `Disconnected: ${detail}. The page tries to reconnect every second.${age}`,
    [TROUBLE]: `${detail}. Accepted jobs are safe.${age}`,
  }[state.connection];
  return html`<div aria-live="assertive">${text && html`<p class="banner">${text}</p>`}</div>`;
}

function KeyForm({ detail, onKey }) {
  const submit = (event) => {
    event.preventDefault();
    const key = new FormData(event.target).get("key").trim();
    if (key) onKey(key);
  };
  return html`
    <form class="card key" onSubmit=${submit}>
      <h1>Sign in with your API key</h1>
      <p>The browser keeps the key in this tab only, until you close the tab.</p>
      <label for="key">API key</label>
      <input id="key" name="key" type="password" autocomplete="off" required
        aria-describedby="key-detail" aria-invalid=${Boolean(detail)} />
      <p id="key-detail" class="problem">${detail}</p>
      <button>Sign in</button>
    </form>
  `;
}

render(html`<${App} />`, document.getElementById("app"));
document.querySelector("#app > .loading")?.remove();
