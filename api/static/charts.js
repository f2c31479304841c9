// Draws the charts of the last hour. Each chart has its current and highest values as text for screen readers.

import uPlot from "./vendor/uplot-1.6.32.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact-3.1.1.js";
import { NONE, formatClock, formatMs, formatNumber, formatRate } from "./format.js";
import { alignHistory } from "./history.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6", "--series-7"];
const HEIGHT = 170;
const POINTER = uPlot.sync("last hour"); // shows the same moment in all charts

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Lists the charts. `point` returns the value of a lane in a step of the history, and `now` returns the lane's value
 *  in the overview. `gap` is the value if the lane had no calls; null interrupts the line. `level` is true for a number
 *  that is counted at the start of a step; other values are for the whole step. `combine` merges the values of several
 *  lanes. */
const CHARTS = [
  { title: "Calls per second", point: (at) => at.calls_per_s, now: (lane) => lane.last_minute.calls_per_s, format: formatRate, gap: 0, combine: sum },
  { title: "Running calls", point: (at) => at.in_flight, now: (lane) => lane.in_flight, format: formatNumber, gap: 0, combine: sum, level: true },
  { title: "Requests queued", point: (at) => at.queued, now: (lane) => lane.queued, format: formatNumber, gap: 0, combine: sum, level: true },
  {
    title: "Latency of calls (p95)",
    point: (at) => at.p95_ms,
    now: (lane) => (lane.last_minute.calls_per_s ? lane.last_minute.p95_ms : null),
    format: formatMs,
    gap: null,
    combine: (values) => Math.max(...values),
  },
  { title: "Errors per second", point: (at) => at.errors_per_s, now: (lane) => lane.last_minute.errors_per_s, format: formatRate, gap: 0, combine: sum },
];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Draws the charts. `history` is the response of /history, plus `readAt`: the time at which the history was read. The
 *  charts end with the values of the overview, so that they agree with the cards. `at` is null if the values of the
 *  overview may no longer be true. */
export function Charts({ history, overview, at }) {
  const { groups, steps } = alignHistory(history, overview, COLOURS.length);
  if (!groups.length) return html`<p class="empty">No request has run in the last hour.</p>`;
  return html`
    <div class="charts">
      ${CHARTS.map((chart) => html`<${Chart} key=${chart.title} chart=${chart} groups=${groups} steps=${steps} overview=${overview} at=${at} />`)}
    </div>
  `;
}

/** Returns [times in s, values of the first group, values of the second group, …]. */
function readChart(chart, groups, steps, overview) {
  const shown = chart.level ? steps.started : steps.complete;
  const combine = (values) => {
    const known = values.filter((value) => value !== null && value !== undefined);
    return known.length ? chart.combine(known) : chart.gap;
  };
  const lanes = new Map(overview.lanes.map((lane) => [lane.name, lane]));
  const now = (name) => (lanes.has(name) ? chart.now(lanes.get(name)) : null);
  return [
    [...shown.map(([at]) => at), Date.parse(overview.at) / 1000],
    ...groups.map(({ names }) => [
      ...shown.map(([, points]) => combine(names.map((name) => points?.[name] && chart.point(points[name])))),
      combine(names.map(now)),
    ]),
  ];
}

function Chart({ chart, groups, steps, overview, at }) {
  const container = useRef(null);
  const plot = useRef(null);
  const [pointedAt, setPointedAt] = useState(null);
  const data = readChart(chart, groups, steps, overview);
  const [times, ...series] = data;
  const names = groups.map(({ name }) => name);
  const shape = names.join(" ");

  useEffect(() => {
    const element = container.current;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(chart, names, element.clientWidth, setPointedAt), data, element);
    };
    draw();
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", draw);
    const resizing = new ResizeObserver(() => plot.current.setSize({ width: element.clientWidth, height: HEIGHT }));
    resizing.observe(element);
    return () => {
      dark.removeEventListener("change", draw);
      resizing.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => plot.current?.setData(data), [steps, overview]);

  const end = at ? "now" : formatClock(overview.at);
  const format = (value) => (value === null || value === undefined ? NONE : chart.format(value));
  const descriptions = names.map((name, index) => {
    const values = series[index].filter((value) => value !== null);
    return `${name} ${end} ${format(series[index].at(-1))}, peak ${values.length ? format(Math.max(...values)) : NONE}`;
  });
  const shown = pointedAt === null ? times.length - 1 : Math.min(pointedAt, times.length - 1);
  return html`
    <figure class="card">
      <figcaption>
        <span>${chart.title} <small class="moment">${pointedAt === null ? end : formatClock(times[shown] * 1000)}</small></span>
        <span class="legend">${names.map(
          (name, index) => html`<span><i class="swatch s${index}"></i>${name} <b>${format(series[index][shown])}</b></span>`,
        )}</span>
      </figcaption>
      <div ref=${container} role="img" aria-label="${chart.title} in the last hour: ${descriptions.join("; ")}"></div>
    </figure>
  `;
}

/** Returns uPlot's options for a chart. uPlot calls `onPoint` with the index of the values at the mouse pointer, and
 *  with null when the pointer has left. */
function options(chart, names, width, onPoint) {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, sync: { key: POINTER.key } },
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.left < 0 ? null : (cursor.idx ?? null))] },
    scales: { y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
    axes: [
      { ...axis, size: 28, values: "{HH}:{mm}" },
      { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => chart.format(tick)) },
    ],
    series: [
      {},
      ...names.map((_, index) => ({ stroke: colour(COLOURS[index]), width: 1.5, points: { show: true, size: 3 } })),
    ],
  };
}
