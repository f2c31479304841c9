// Draws the charts of the last hour. Each has its current and highest values as text for screen readers.

import uPlot from "./vendor/uplot-1.6.32.js";
import { html, useEffect, useRef } from "./vendor/htm-preact-3.1.1.js";
import { NONE, formatMs, formatNumber, formatRate } from "./format.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4"];
const HEIGHT = 170;
const HOUR_S = 3600;
const SHORTEST_S = 600;

// `gap` is the value of a step in which the lane had no calls; null interrupts the line.
const CHARTS = [
  { title: "Calls per second", value: (point) => point.calls_per_s, format: formatRate, gap: 0 },
  { title: "Calls in flight", value: (point) => point.in_flight, format: formatNumber, gap: 0 },
  { title: "Requests queued", value: (point) => point.queued, format: formatNumber, gap: 0 },
  { title: "Latency of calls (p95)", value: (point) => point.p95_ms, format: formatMs, gap: null },
  { title: "Errors per second", value: (point, step) => sum(point.errors) / step, format: formatRate, gap: 0 },
];

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Draws one chart per figure. `history` is the response of /history, plus `readAt`: the time at which it was read. */
export function Charts({ history }) {
  const lanes = [...new Set(history.points.flatMap((point) => Object.keys(point.lanes)))];
  if (!lanes.length) return html`<p class="empty">No request has run in the last hour.</p>`;
  const steps = evenSteps(history);
  return html`
    <div class="charts">
      ${CHARTS.map(
        (chart) => html`<${Chart} key=${chart.title} chart=${chart} steps=${steps} lanes=${lanes} step=${history.step_s} />`,
      )}
    </div>
  `;
}

/** Returns [start, lanes] of every step since the first call: at least ten minutes and at most an hour. It leaves out
 *  the current step, whose rate is still too low, unless there is no other step. */
function evenSteps({ step_s: step, points, readAt }) {
  const byTime = new Map(points.map((point) => [Date.parse(point.at) / 1000, point.lanes]));
  const complete = Math.floor(Date.parse(readAt) / 1000 / step) * step - step;
  const last = Math.min(...byTime.keys()) > complete ? Math.max(...byTime.keys()) : complete;
  const first = Math.max(last - HOUR_S + step, Math.min(...byTime.keys(), last - SHORTEST_S));
  const steps = [];
  for (let at = first; at <= last; at += step) steps.push([at, byTime.get(at)]);
  return steps;
}

function Chart({ chart, steps, lanes, step }) {
  const container = useRef(null);
  const plot = useRef(null);
  const series = lanes.map((lane) =>
    steps.map(([, points]) => (points?.[lane] ? (chart.value(points[lane], step) ?? chart.gap) : chart.gap)),
  );
  const data = [steps.map(([at]) => at), ...series];
  const shape = lanes.join(" ");

  useEffect(() => {
    const element = container.current;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(chart, lanes, element.clientWidth), data, element);
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

  useEffect(() => plot.current?.setData(data), [steps]);

  const descriptions = lanes.map((lane, index) => {
    const values = series[index].filter((value) => value !== null);
    const now = values.length ? chart.format(values.at(-1)) : NONE;
    return `${lane} now ${now}, peak ${values.length ? chart.format(Math.max(...values)) : NONE}`;
  });
  return html`
    <figure class="card">
      <figcaption>
        ${chart.title}
        <span class="legend">${lanes.map(
          (lane, index) => html`<span><i class="swatch s${index % COLOURS.length}"></i>${lane}</span>`,
        )}</span>
      </figcaption>
      <div ref=${container} role="img" aria-label="${chart.title} in the last hour: ${descriptions.join("; ")}"></div>
    </figure>
  `;
}

function options(chart, lanes, width) {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false },
    scales: { y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.1] } },
    axes: [
      { ...axis, size: 28, values: "{HH}:{mm}" },
      { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => chart.format(tick)) },
    ],
    series: [
      {},
      ...lanes.map((_, index) => ({ stroke: colour(COLOURS[index % COLOURS.length]), width: 1.5, points: { show: true, size: 3 } })),
    ],
  };
}
