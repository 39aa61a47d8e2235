"""Figures of a corpus: coverage, ladders, scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.ticker import (
    MaxNLocator,
    MultipleLocator,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
from fr_lib.report.plots.style import (
    _FAINT,
    _INK,
    COUNTED_SOURCES,
    PALETTE,
    SMALL,
    UPRIGHT,
    _bar,
    _describe,
    _encoders,
    _frame,
    _heatmap,
    _label,
    _legend,
    _list_rows,
    _part_of,
    _write_cells,
)


def plot_coverage(coverage: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw rows per source and slot; a cell without rows is white with a dot.

    Parameters
    ----------
    coverage : DataFrame of int
        One row per source, one column per slot: :meth:`fr_lib.corpus.load.Corpus.coverage`.
    ax : Axes

    Returns
    -------
    Axes
        Counts stand in the cells of up to 20 sources; above that a colour bar tells them. The name
        of a slot without any row is grey.
    """
    counts = coverage.to_numpy()
    cells = _heatmap(
        ax,
        np.ma.masked_equal(counts, 0),
        _part_of("Blues", 0.2, 0.85),
        Normalize(0, max(counts.max(), 1)),
    )
    _label(ax, "encoder slot (grey: no rows)", "")
    ax.set_xticks(range(counts.shape[1]), coverage.columns, **UPRIGHT)
    for label, total in zip(ax.get_xticklabels(), counts.sum(axis=0), strict=True):
        label.set_color(_INK if total else _FAINT)
    _list_rows(ax, list(coverage.index), "source")
    _describe(ax, _covered(coverage))
    if len(counts) <= COUNTED_SOURCES:
        texts = {(r, c): _count(counts[r, c]) for r, c in np.argwhere(counts).tolist()}
        _write_cells(ax, cells, texts)
    else:
        _bar(cells, ax, "rows")
    return ax


def _covered(coverage: pd.DataFrame) -> str:
    counts = coverage.to_numpy()
    what = (
        f"Heatmap of rows: {counts.shape[0]} sources down, {counts.shape[1]} encoder slots across."
    )
    if not counts.any():
        return f"{what} All cells are empty."
    totals = coverage.sum()
    named = ", ".join(f"{name} {total:,}" for name, total in totals[totals > 0].items())
    filled = counts[counts > 0]
    return (
        f"{what} Rows per slot: {named}; {int((totals == 0).sum())} slots are empty. A cell with "
        f"rows holds {filled.min():,} to {filled.max():,}."
    )


def _count(n_rows: int) -> str:
    """Four characters at most: what fits into a cell of as many slots."""
    if n_rows < 1000:
        return str(n_rows)
    return f"{n_rows / 1000:.1f}k" if n_rows < 9950 else f"{n_rows / 1000:.0f}k"


def plot_ladders(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw mean VMAF over the quality value: a line per encoder, its band the range over sources.

    Parameters
    ----------
    table : DataFrame
        ``src encoder quality vmaf``, as in :class:`fr_lib.corpus.load.Corpus`. Every source weighs
        the same, whatever its number of rows.
    ax : Axes

    Returns
    -------
    Axes
    """
    per_source = table.groupby(["encoder", "quality", "src"])["vmaf"].mean()
    said = []
    for encoder in _encoders(table):
        colour, marker = PALETTE[encoder]
        steps = per_source[encoder].groupby("quality").agg(["mean", "min", "max"])
        ax.fill_between(steps.index, steps["min"], steps["max"], color=colour, alpha=0.1, lw=0)
        ax.plot(
            steps.index,
            steps["mean"],
            color=colour,
            marker=marker,
            markersize=4.5,
            linewidth=1.6,
            label=encoder,
        )
        first, last = steps["mean"].iloc[[0, -1]]
        low, high = steps.index[[0, -1]]
        said.append(f"{encoder} from {first:.1f} at {low:g} to {last:.1f} at {high:g}")
    _describe(ax, f"Lines of mean VMAF over the quality value: {'; '.join(said)}.")
    higher = any(encoder.endswith("_videotoolbox") for encoder in _encoders(table))
    note = "\nvideotoolbox: higher is better, all others: lower" if higher else ""
    _frame(
        ax,
        f"quality value (crf / qp / cq, encoder's own scale){note}",
        "mean VMAF (points)",
    )
    ax.set_ylim(-2, 102)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(ax, "mean of sources\n(band: lowest to highest)")
    return ax


def plot_vmaf_histogram(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw how many rows lie in each 5 points of VMAF, stacked by encoder.

    Parameters
    ----------
    table : DataFrame
        ``encoder vmaf``.
    ax : Axes

    Returns
    -------
    Axes
        The shares of rows at exactly 0 and exactly 100 are written above the ends.
    """
    encoders = _encoders(table)
    ax.hist(
        [table.loc[table["encoder"] == encoder, "vmaf"] for encoder in encoders],
        bins=np.arange(0, 101, 5),
        stacked=True,
        color=[PALETTE[encoder][0] for encoder in encoders],
        edgecolor="white",
        linewidth=0.4,
        label=encoders,
    )
    _frame(ax, "VMAF (points)", "rows per 5 VMAF points")
    ax.grid(False, axis="x")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, ax.dataLim.y1 * 1.18)
    ax.xaxis.set_major_locator(MultipleLocator(10))
    for end, x, side in ((0.0, 0.01, "left"), (100.0, 0.99, "right")):
        share = (table["vmaf"] == end).mean()
        words = f"exactly {end:.0f}: {share:.1%} of rows"
        ax.text(x, 0.98, words, transform=ax.transAxes, ha=side, va="top", fontsize=SMALL)
    quartiles = " / ".join(f"{value:.1f}" for value in table["vmaf"].quantile([0.25, 0.5, 0.75]))
    ends = [f"{(table['vmaf'] == end).mean():.1%} at exactly {end}" for end in (0, 100)]
    _describe(
        ax,
        f"Histogram of VMAF, stacked by encoder: {len(table):,} rows, quartiles {quartiles}, "
        f"{' and '.join(ends)}.",
    )
    _legend(ax)
    return ax
