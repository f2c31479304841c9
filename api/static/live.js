// The state all views share: what the stream of the overview says, and whether it says anything.

import { HIDDEN, events, getKey, request, seen, setKey, whileSeen } from "./api.js";

const SILENCE_MS = 3500; // events come each second
const RETRY_MS = 1000;
const UNKNOWN_KEY = "That key is not known here.";

export const LOADING = "loading";
export const CONNECTED = "connected";
export const TROUBLE = "trouble";
export const DISCONNECTED = "disconnected";
export const LOCKED = "locked";

export class Live {
  constructor(onChange) {
    this.state = { connection: LOADING, overview: null, jobs: null, detail: "" };
    this._onChange = onChange;
    this._follow();
  }

  unlock(key) {
    if (!/^[\x20-\x7e]+$/.test(key)) return this._set({ detail: UNKNOWN_KEY }); // no header could have it
    setKey(key);
    this._set({ connection: LOADING, detail: "" });
  }

  lock() {
    setKey(null);
    this._abort?.abort();
    this._set({ connection: LOCKED, detail: "", overview: null, jobs: null });
  }

  _set(change) {
    this.state = { ...this.state, ...change };
    this._onChange(this.state);
  }

  async _follow() {
    for (;;) {
      if (this.state.connection !== LOCKED) await this._once();
      await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }

  async _once() {
    await seen();
    this._abort = whileSeen();
    const { signal } = this._abort;
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this._abort.abort(), SILENCE_MS);
    };
    try {
      heard();
      const response = await request("/overview/events", { signal });
      for await (const { name, data } of events(response)) {
        heard();
        if (name === "live") this._set({ connection: CONNECTED, detail: "", ...data });
        if (name === "trouble") this._set({ connection: TROUBLE, detail: data.detail });
      }
      this._lost("the server has closed the connection");
    } catch (error) {
      if (signal.reason === HIDDEN) return;
      if (error.status === 401) {
        const detail = getKey() ? UNKNOWN_KEY : "";
        setKey(null);
        this._set({ connection: LOCKED, detail });
      } else {
        this._lost(error.status ? error.message : "the server does not answer");
      }
    } finally {
      clearTimeout(timer);
      this._abort.abort();
    }
  }

  _lost(detail) {
    if (this.state.connection !== LOCKED) this._set({ connection: DISCONNECTED, detail });
  }
}
