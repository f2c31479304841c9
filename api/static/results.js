// Reads the finished items of a job while the job runs, without their answers.

import { abortWhenHidden, lines, request, untilVisible } from "./api.js";
import { useEffect, useState } from "./vendor/htm-preact-3.1.1.js";

const RETRY_MS = 1000;
const REDRAW_MS = 200;

/** Returns {list, version}. `list` has the job's finished items in the order in which they finished. It is always the
 *  same array: `version` changes when the array has more items. */
export function useItems(id) {
  const [shown, setShown] = useState({ list: [], version: 0 });
  useEffect(() => {
    const abort = new AbortController();
    const list = [];
    let timer = null;
    const show = () => {
      timer ??= setTimeout(() => {
        timer = null;
        setShown(({ version }) => ({ list, version: version + 1 }));
      }, REDRAW_MS);
    };
    const follow = async () => {
      while (!abort.signal.aborted) {
        await untilVisible();
        const tab = abortWhenHidden();
        const signal = AbortSignal.any([abort.signal, tab.signal]);
        try {
          const query = new URLSearchParams({ order: "completion", content: "false", after: list.length });
          const response = await request(`jobs/${encodeURIComponent(id)}/results?${query}`, { signal });
          for await (const batch of lines(response)) {
            list.push(...batch);
            show();
          }
          return;
        } catch (error) {
          if (abort.signal.aborted || error.status === 404 || error.status === 401) return;
          await new Promise((done) => setTimeout(done, RETRY_MS));
        } finally {
          tab.abort();
        }
      }
    };
    follow();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [id]);
  return shown;
}
