"""Draws the README's picture: a comparison of the three systems, and the effect of more workers."""

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.comparison import Comparison
from benchmarks.measured_values import rounded
from benchmarks.scaling import Scaled

COLOURS = {"a": "#9aa5b1", "b": "#c7923e", "c": "#1f7a8c"}
LABELS = {"a": "semaphore", "b": "stock arq", "c": "this project"}
PANELS = (
    ("batch", "batch of 100,\nprovider answers at once", "ms"),
    ("slow batch", "batch of 100,\nprovider takes 200 ms", "ms"),
    ("cpu", "CPU per request,\nall processes", "ms"),
    ("wall", "1,000 calls, limit 10:\nwall time ÷ ideal", "×"),
)


def draw(comparison: Comparison, scaled: list[Scaled], path: Path) -> None:
    plt.rcParams.update({"svg.hashsalt": "benchmarks", "font.size": 9, "svg.fonttype": "none"})
    figure, axes = plt.subplots(1, 5, figsize=(12, 3.2), width_ratios=[1, 1, 1, 1, 1.4])
    figure.patch.set_facecolor("white")
    for axis, (name, title, unit) in zip(axes, PANELS, strict=False):
        values = {system: comparison.sample(system, name).median for system in LABELS}
        bars = axis.bar(list(LABELS.values()), list(values.values()), color=list(COLOURS.values()))
        axis.bar_label(bars, [f"{rounded(value)} {unit}" for value in values.values()], fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_yticks([])
        axis.margins(y=0.15)
        axis.tick_params(axis="x", labelsize=7, rotation=20)
    _scaling(axes[-1], scaled)
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _scaling(axis: Axes, scaled: list[Scaled]) -> None:
    workers = [str(run.workers) for run in scaled]
    for values, label, colour in (
        ([run.commands_per_item for run in scaled], "Redis commands per item", COLOURS["b"]),
        ([run.wall_to_ideal for run in scaled], "wall time ÷ ideal", COLOURS["c"]),
    ):
        axis.plot(workers, values, marker="o", color=colour, label=label)
        for worker, value in zip(workers, values, strict=True):
            axis.annotate(
                f"{value:.2f}", (worker, value), (0, 5), textcoords="offset points", fontsize=7
            )
    axis.set_title("the same work for more workers", fontsize=9)
    axis.set_xlabel("workers")
    axis.set_ylim(0, None)
    axis.margins(y=0.3)
    axis.set_yticks([])
    axis.legend(fontsize=7, frameon=False)
