// The last hour, drawn; and the same in words for who cannot see it.

import uPlot from "./vendor/uplot-1.6.32.js";
import { html, useEffect, useRef } from "./vendor/htm-preact-3.1.1.js";
import { ms, number, rate } from "./format.js";

const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4"];
const HEIGHT = 170;
const HOUR_S = 3600;
const LEAST_S = 600;

const CHARTS = [
  { title: "Calls per second", of: (point) => point.calls_per_s, format: rate, gap: 0 },
  { title: "In flight", of: (point) => point.in_flight, format: number, gap: 0 },
  { title: "Queued", of: (point) => point.queued, format: number, gap: 0 },
  { title: "Latency, p95", of: (point) => point.p95_ms, format: ms, gap: null },
  { title: "Errors per second", of: (point, step) => sum(point.errors) / step, format: rate, gap: 0 },
];

const sum = (counts) => Object.values(counts).reduce((total, count) => total + count, 0);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** `history`: the answer, and `asked`: when. */
export function Charts({ history }) {
  const lanes = [...new Set(history.points.flatMap((point) => Object.keys(point.lanes)))];
  if (!lanes.length) return html`<p class="empty">Nothing has run in the last hour.</p>`;
  const steps = evenSteps(history);
  return html`
    <div class="charts">
      ${CHARTS.map(
        (chart) => html`<${Chart} key=${chart.title} chart=${chart} steps=${steps} lanes=${lanes} step=${history.step_s} />`,
      )}
    </div>
  `;
}

/** Every step since something happened, up to an hour, and ten minutes at least. One that is not over has too low
 *  a rate: it is drawn only if there is no other. */
function evenSteps({ step_s: step, points, asked }) {
  const byTime = new Map(points.map((point) => [Date.parse(point.at) / 1000, point.lanes]));
  const over = Math.floor(Date.parse(asked) / 1000 / step) * step - step;
  const last = Math.min(...byTime.keys()) > over ? Math.max(...byTime.keys()) : over;
  const first = Math.max(last - HOUR_S + step, Math.min(...byTime.keys(), last - LEAST_S));
  const steps = [];
  for (let at = first; at <= last; at += step) steps.push([at, byTime.get(at)]);
  return steps;
}

function Chart({ chart, steps, lanes, step }) {
  const place = useRef(null);
  const plot = useRef(null);
  const series = lanes.map((lane) =>
    steps.map(([, there]) => (there?.[lane] ? (chart.of(there[lane], step) ?? chart.gap) : chart.gap)),
  );
  const data = [steps.map(([at]) => at), ...series];
  const shape = lanes.join(" ");

  useEffect(() => {
    const element = place.current;
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

  const words = lanes.map((lane, index) => {
    const values = series[index].filter((value) => value !== null);
    const now = values.length ? chart.format(values.at(-1)) : "none";
    return `${lane} ${now}, at most ${values.length ? chart.format(Math.max(...values)) : "none"}`;
  });
  return html`
    <figure class="card">
      <figcaption>
        ${chart.title}
        <span class="legend">${lanes.map(
          (lane, index) => html`<span><i class="swatch s${index % COLOURS.length}"></i>${lane}</span>`,
        )}</span>
      </figcaption>
      <div ref=${place} role="img" aria-label="${chart.title} in the last hour: ${words.join("; ")}"></div>
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
