// Keeps the state that all views share: the latest event of the overview stream, and the state of the connection.

import { HIDDEN, abortWhenHidden, events, getKey, request, setKey, untilVisible } from "./api.js";

const SILENCE_MS = 3500; // limit of the time without an event; the API sends an event each second
const RETRY_MS = 1000;
const UNKNOWN_KEY = "Unknown API key.";

export const LOADING = "loading";
export const CONNECTED = "connected";
export const TROUBLE = "trouble";
export const DISCONNECTED = "disconnected";
export const SIGNED_OUT = "signed-out";

/** Returns whether the page shows figures that may no longer be true. */
export const isStale = ({ connection }) => connection === TROUBLE || connection === DISCONNECTED;

export class Live {
  constructor(onChange) {
    this.state = { connection: LOADING, overview: null, jobs: null, detail: "" };
    this._onChange = onChange;
    this._follow();
  }

  signIn(key) {
    if (!/^[\x20-\x7e]+$/.test(key)) return this._set({ detail: UNKNOWN_KEY }); // an HTTP header cannot contain such a key
    setKey(key);
    this._set({ connection: LOADING, detail: "" });
  }

  signOut() {
    setKey(null);
    this._abort?.abort();
    this._set({ connection: SIGNED_OUT, detail: "", overview: null, jobs: null });
  }

  _set(change) {
    this.state = { ...this.state, ...change };
    this._onChange(this.state);
  }

  async _follow() {
    for (;;) {
      if (this.state.connection !== SIGNED_OUT) await this._readStream();
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  async _readStream() {
    await untilVisible();
    this._abort = abortWhenHidden();
    const { signal } = this._abort;
    let timer;
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this._abort.abort(), SILENCE_MS);
    };
    try {
      restartTimer();
      const response = await request("overview/events", { signal });
      for await (const { name, data } of events(response)) {
        restartTimer();
        if (name === "live") this._set({ connection: CONNECTED, detail: "", ...data });
        if (name === "trouble") this._set({ connection: TROUBLE, detail: data.detail });
      }
      this._lost("the server closed the connection");
    } catch (error) {
      if (signal.reason === HIDDEN) return;
      if (error.status === 401) {
        const detail = getKey() ? UNKNOWN_KEY : "";
        setKey(null);
        this._set({ connection: SIGNED_OUT, detail });
      } else {
        this._lost(error.status ? error.message : "the server does not respond");
      }
    } finally {
      clearTimeout(timer);
      this._abort.abort();
    }
  }

  _lost(detail) {
    if (this.state.connection !== SIGNED_OUT) this._set({ connection: DISCONNECTED, detail });
  }
}
