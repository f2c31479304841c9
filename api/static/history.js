// Brings the history of the last hour into the form that charts need.

const HOUR_S = 3600;
const SHORTEST_S = 600;

/** Returns {groups, steps}.
 *
 *  `groups` lists the lines of a chart as {name, names}: one line per lane that was in use. If there are more such
 *  lanes than `maxGroups`, the last line combines the lanes with the fewest calls.
 *  `steps` has two lists of [start in s, lanes]. `complete` has the steps whose time has passed. `started` also has the
 *  current step, if it is in the history. Both lists begin with the first step that has values, but at least ten
 *  minutes and at most an hour ago. */
export function alignHistory(history, overview, maxGroups) {
  return { groups: groupLanes(history, overview, maxGroups), steps: evenSteps(history) };
}

function groupLanes({ points }, { lanes }, maxGroups) {
  const calls = new Map(); // calls by lane, in the order of the cards
  for (const lane of lanes) if (lane.in_flight + lane.queued + lane.deferred + lane.last_minute.calls) calls.set(lane.name, 0);
  for (const point of points)
    for (const [name, { calls: count = 0 }] of Object.entries(point.lanes)) calls.set(name, (calls.get(name) ?? 0) + count);
  const names = [...calls.keys()];
  const single = (name) => ({ name, names: [name] });
  if (names.length <= maxGroups) return names.map(single);
  const busiest = new Set(names.toSorted((a, b) => calls.get(b) - calls.get(a)).slice(0, maxGroups - 1));
  const others = names.filter((name) => !busiest.has(name));
  return [...names.filter((name) => busiest.has(name)).map(single), { name: `${others.length} others`, names: others }];
}

function evenSteps({ step_s: step, points, readAt }) {
  const byTime = new Map(points.map((point) => [Date.parse(point.at) / 1000, point.lanes]));
  const current = Math.floor(Date.parse(readAt) / 1000 / step) * step;
  const last = current - step;
  const first = Math.max(last - HOUR_S + step, Math.min(...byTime.keys(), last - SHORTEST_S));
  const complete = [];
  for (let at = first; at <= last; at += step) complete.push([at, byTime.get(at)]);
  return { complete, started: byTime.has(current) ? [...complete, [current, byTime.get(current)]] : complete };
}
