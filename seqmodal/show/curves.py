"""What was learned, as pictures: the loss over a run, and how samples compare with the data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WARM, COOL, INK, FAINT, LINE = "#e25834", "#54688a", "#343842", "#80848c", "#dededa"
TRAIN, VALID, DATA, SAMPLE = WARM, COOL, COOL, WARM


def loss_curve(rows: Iterable[Mapping[str, Any]], path: str | Path, title: str | None = None) -> Path:
    """Draw training and validation loss against the step as PNG and return its path.

    rows: what metrics.csv holds, in any order: `step` and, where measured, `train_loss` and `valid_loss` (nats per
    token) and `seconds`. Numbers may be strings; an absent, empty or non-finite value is left out.
    """
    table = [dict(row) for row in rows]
    train, valid = _series(table, "train_loss"), _series(table, "valid_loss")
    figure, axes = _figure(8.0, 4.4)
    last_step = max(train[0].max(initial=0), valid[0].max(initial=0), 1)
    ends: list[tuple[float, float, str]] = []  # last step, last loss, colour
    if len(train[0]):
        smooth = _smoothed(train[1])
        axes.plot(*train, color=TRAIN, linewidth=0.8, alpha=0.35)
        axes.plot(train[0], smooth, color=TRAIN, linewidth=1.8, label="training", **_dot(train))
        ends.append((float(train[0][-1]), float(smooth[-1]), TRAIN))
    if len(valid[0]):
        axes.plot(*valid, color=VALID, linewidth=1.8, marker="o", markersize=3.5, label="validation")
        ends.append((float(valid[0][-1]), float(valid[1][-1]), VALID))
    _label_ends(axes, ends)
    axes.set_xlim(0, last_step * 1.1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    seconds = _series(table, "seconds")[1]
    parts = [title or "Loss", _duration(seconds.max()) if len(seconds) else "", _best(valid)]
    axes.set_title("   ".join(part for part in parts if part), loc="left", fontsize=11, color=INK)
    if ends:
        axes.legend(frameon=False, loc="upper right", labelcolor=INK)
        _focus(axes, np.concatenate([train[1], valid[1]]))
    else:
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center", color=FAINT)
    return _save(figure, path)


def distributions(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], path: str | Path, title: str | None = None
) -> Path:
    """Histograms of each statistic, samples over data, as PNG. pairs: name -> (sample values, data values)."""
    columns = min(3, max(1, len(pairs)))
    height = max(1, math.ceil(len(pairs) / columns))
    figure, grid = _grid(height, columns)
    for axes in grid[len(pairs) :]:
        axes.set_axis_off()
    for axes, (name, (samples, data)) in zip(grid, pairs.items(), strict=False):
        sample_values, data_values = _finite(samples), _finite(data)
        both = np.concatenate([sample_values, data_values])
        edges = np.histogram_bin_edges(both, bins=24) if len(both) else np.array([0.0, 1.0])
        for values, color, label in ((data_values, DATA, "data"), (sample_values, SAMPLE, "samples")):
            if len(values):
                shares = np.histogram(values, edges)[0] / len(values)
                axes.stairs(shares, edges, fill=True, color=color, alpha=0.35)
                axes.stairs(shares, edges, color=color, linewidth=1.2, label=label)
                axes.axvline(float(np.mean(values)), color=color, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_title(name, loc="left", fontsize=10, color=INK)
        axes.set_yticks([])
    if pairs and grid[0].get_legend_handles_labels()[1]:
        grid[0].legend(frameon=False, fontsize=8, labelcolor=INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return _save(figure, path)


def _series(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and finite values of one column, by step."""
    pairs = []
    for row in rows:
        if row.get(name) not in (None, "") and row.get("step") not in (None, ""):
            step, value = float(row["step"]), float(row[name])
            if math.isfinite(value):
                pairs.append((step, value))
    pairs.sort(key=lambda pair: pair[0])
    array = np.array(pairs, np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A mean over a twentieth of the run to each side; at the steep start as little to the left as to the right."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    left = np.minimum(len(values) // 20, index)
    right = np.minimum(left, index[::-1])
    return (sums[index + right + 1] - sums[index - left]) / (left + right + 1)


def _label_ends(axes: Axes, ends: list[tuple[float, float, str]]) -> None:
    """The last value of each curve beside it; labels that would overlap move apart."""
    offsets = [0.0, 0.0]
    if len(ends) == 2:
        offsets = [6.0, -6.0] if ends[0][1] >= ends[1][1] else [-6.0, 6.0]
    for (step, value, color), offset in zip(ends, offsets, strict=False):
        axes.annotate(
            f"{value:.3f}",
            (step, value),
            xytext=(6, offset),
            textcoords="offset points",
            va="center",
            color=color,
            fontsize=9,
            fontweight="bold",
        )


def _dot(series: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """A line of one point shows only as a marker."""
    return {"marker": "o", "markersize": 3.5} if len(series[0]) == 1 else {}


def _best(valid: tuple[np.ndarray, np.ndarray]) -> str:
    if not len(valid[0]):
        return ""
    at = int(valid[1].argmin())
    return f"best validation {valid[1][at]:.3f} at step {int(valid[0][at]):,}"


def _focus(axes: Axes, values: np.ndarray) -> None:
    """Keep one wild value from flattening the curve."""
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    room = max((high - low) * 0.06, 0.05)
    axes.set_ylim(low - room, high + room)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _finite(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of its own, outside pyplot: no window system, no global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    axes = figure.add_subplot()
    _style(axes)
    axes.grid(True, color=LINE, linewidth=0.6)
    return figure, axes


def _grid(height: int, columns: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * columns, 2.1 * height + 0.4), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    grid = list(np.ravel(figure.subplots(height, columns, squeeze=False)))
    for axes in grid:
        _style(axes)
    return figure, grid


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=FAINT, labelsize=8, length=3)
    axes.xaxis.label.set_color(FAINT)
    axes.yaxis.label.set_color(FAINT)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: str | Path) -> Path:
    figure.savefig(path, format="png")  # Figure.savefig draws with Agg
    return Path(path)
