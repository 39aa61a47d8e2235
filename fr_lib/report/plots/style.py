"""What all figures share: size, colours, axes, lists of names, heatmaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Colormap, ListedColormap, Normalize

from fr_lib.errors import NOT_FINITE
from fr_lib.report.drawings import HEAT
from fr_lib.report.names import labels
from fr_lib.schema import encoder_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure


WIDTH_IN = 7.2
DPI = 100
SMALL = 9.0  # smallest font size, pt
MAX_PANELS = 24
COUNTED_SOURCES = 20  # a coverage map of more has no room for counts
# Hue tells the coding standard (blue h264, red to yellow hevc, green av1, purple vvc), marker the
# maker of the chip (square NVIDIA, triangle AMD, diamond Intel, plus Apple); software has a marker
# for each, as a figure may show nothing else. Colours are from Okabe-Ito and Paul Tol. Those of one
# maker stay apart under every kind of colour blindness (tests/test_plots.py); where two others are
# close, the marker tells them apart.
PALETTE: Mapping[str, tuple[str, str]] = {
    "libx264": ("#0072B2", "o"),
    "libaom-av1": ("#225555", "X"),
    "libx265": ("#D55E00", "v"),
    "h264_nvenc": ("#222255", "s"),
    "hevc_nvenc": ("#FDB366", "s"),
    "av1_nvenc": ("#117733", "s"),
    "h264_amf": ("#332288", "^"),
    "hevc_amf": ("#662506", "^"),
    "av1_amf": ("#999933", "^"),
    "h264_qsv": ("#33BBEE", "D"),
    "hevc_qsv": ("#EE99AA", "D"),
    "av1_qsv": ("#BBCC33", "D"),
    "libvvenc": ("#C2A5CF", "*"),
    "libsvtav1": ("#009E73", "<"),
    "h264_videotoolbox": ("#004488", "P"),
    "hevc_videotoolbox": ("#993404", "P"),
}
# Names under an axis that end at it, whatever the font.
UPRIGHT = {"rotation": 90, "ha": "right", "va": "center", "rotation_mode": "anchor"}
_SHADES = 48  # a scale of more would be kept as pixels
_INK = "#333333"
_ALERT = "#BB5566"
_GRID = "#DDDDDD"
_FAINT = "#888888"
_CORRELATIONS = ("plcc", "srocc")
# On an axis of 1 - PLCC, a PLCC of 1 has no place; it is drawn here.
_LEAST_LOSS = 1e-8


def figure(rows: int = 1, cols: int = 1, height: float = 3.4) -> tuple[Figure, Any]:
    """Return a figure of the one width that all notebooks use, and its axes.

    Parameters
    ----------
    rows, cols : int
        Panels.
    height : float
        Of the whole figure, in inches.

    Returns
    -------
    Figure
        7.2 in wide, 100 dpi, constrained layout. pyplot knows it, so a notebook shows it when the
        cell ends.
    Axes or array of Axes
        As ``pyplot.subplots`` gives them.
    """
    import matplotlib.pyplot as plt

    return plt.subplots(rows, cols, figsize=(WIDTH_IN, height), dpi=DPI, layout="constrained")


def rows_height(count: int) -> float:
    """Return the height in inches, 2.6..16, of a figure that lists `count` sources.

    Examples
    --------
    >>> rows_height(12)
    4.4
    """
    return float(np.clip(round(1.76 + 0.22 * count, 2), 2.6, 16.0))


def _describe(drawn: Axes | Figure, words: str) -> None:
    """Say what is seen, for those who cannot see it: ``RunDir.save_figure`` keeps it."""
    drawn.set_label(words)


def _label(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=SMALL + 0.5)
    ax.set_ylabel(y, fontsize=SMALL + 0.5)
    ax.tick_params(labelsize=SMALL)


def _frame(ax: Axes, x: str, y: str) -> None:
    _label(ax, x, y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(color=_GRID, linewidth=0.6)


def _legend(ax: Axes, title: str | None = None) -> None:
    """Put the legend beside the axes, where it hides no data and leaves room for a title."""
    ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=SMALL,
        title=title,
        title_fontsize=SMALL,
        alignment="left",
        frameon=False,
        borderaxespad=0.2,
        handlelength=1.6,
        labelspacing=0.3,  # all slots fit beside half a figure
    )


def _encoders(table: pd.DataFrame) -> list[str]:
    """Return the encoders with rows, in the vocabulary's order."""
    return sorted(table["encoder"].unique(), key=encoder_index)


def _list_rows(ax: Axes, names: Sequence[str], what: str, last: Sequence[str] = ()) -> None:
    """Name the rows 0, 1, .. from the top, or every k-th where there is no room for all.

    `last` are words of ours for rows below those of the names.
    """
    shown = [*labels(names), *last]
    inches = ax.get_window_extent().height / ax.get_figure(root=True).dpi
    step = max(1, math.ceil(0.14 * len(shown) / inches))
    ax.set_yticks(range(0, len(shown), step), shown[::step])
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.set_ylabel(what + f" (one in {step} named)" * (step > 1), fontsize=SMALL + 0.5)


def _of_arm(folds: pd.DataFrame, arm: str) -> pd.DataFrame:
    """Return the folds of one arm; of the first seed, where there are several."""
    folds = folds[folds["arm"] == arm]
    return folds[folds["seed"] == folds["seed"].iloc[0]] if "seed" in folds else folds


def _scatter(ax: Axes, rows: pd.DataFrame, y: np.ndarray) -> None:
    """Draw `y` against VMAF, one collection per encoder; say how many cannot be drawn."""
    for encoder in _encoders(rows):
        colour, marker = PALETTE[encoder]
        own = (rows["encoder"] == encoder).to_numpy()
        ax.scatter(
            rows["vmaf"].to_numpy()[own],
            y[own],
            s=9,
            color=colour,
            marker=marker,
            alpha=0.55,
            linewidths=0,
            label=encoder,
            zorder=2,
        )
    missing = int((~np.isfinite(y)).sum())
    if missing:
        words = f"{missing:,} of {len(y):,} {NOT_FINITE}"
        ax.text(0.03, 0.97, words, transform=ax.transAxes, va="top", fontsize=SMALL, color=_ALERT)


def _solid_markers(legend: Any) -> None:
    """Points are small and faint so that dense clouds show; their legend need not be."""
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30])


def _part_of(name: str, low: float, high: float) -> Colormap:
    """Cut a colour map: its palest shades read as empty cells, its darkest hide the text."""
    return ListedColormap(colormaps[name](np.linspace(low, high, _SHADES)))


def _heatmap(ax: Axes, values: np.ma.MaskedArray, cmap: Colormap, norm: Normalize) -> QuadMesh:
    """Draw cells with white gaps; a masked one stays white and gets a dot."""
    height, width = values.shape
    edges = np.arange(width + 1) - 0.5, np.arange(height + 1) - 0.5
    gap = 1.2 if height <= 60 else 0.3
    cells = ax.pcolormesh(
        *edges, values, cmap=cmap, norm=norm, edgecolors="white", linewidth=gap, gid=HEAT
    )
    ax.set_ylim(height - 0.5, -0.5)
    rows, columns = np.nonzero(np.ma.getmaskarray(values))
    ax.plot(columns, rows, linestyle="none", marker=".", color=_FAINT, markersize=2.5)
    return cells


def _bar(cells: QuadMesh, axes: Any, unit: str) -> Axes:
    """Draw the scale of a heatmap beside its axes, and return it."""
    bar = cells.get_figure(root=True).colorbar(cells, ax=axes)
    bar.solids.set_gid(HEAT)
    bar.set_label(unit, fontsize=SMALL + 0.5)
    bar.ax.tick_params(labelsize=SMALL, which="both")
    return bar.ax


def _write_cells(ax: Axes, cells: QuadMesh, texts: Mapping[tuple[int, int], str]) -> None:
    shades = cells.to_rgba(cells.get_array())
    for (row, column), text in texts.items():
        light = shades[row, column, :3] @ (0.299, 0.587, 0.114)
        ax.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            fontsize=SMALL,
            color="white" if light < 0.55 else "black",
        )
