"""Figures of the notebooks: every ``plot_x(data, *, ax)`` draws into one Axes and returns it.

Nothing here sets a style, a title or a file: titles state findings, which are the notebooks'. Text
is 9 pt or more at the width that :func:`figure` gives, so that a figure can be read at 700 px.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import CenteredNorm, Colormap, ListedColormap, LogNorm, Normalize
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullFormatter,
)

from fr_lib.errors import InputError, say
from fr_lib.gate import LIFT_FLOOR
from fr_lib.schema import encoder_index
from fr_lib.tables import ARM_NAMES, shipped_first

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

WIDTH_IN = 7.2
DPI = 100
SMALL = 9.0  # smallest font size, pt
MAX_PANELS = 24
COUNTED_SOURCES = 20  # a coverage map of more has no room for counts

# Hue tells the coding standard (blue h264, red to yellow hevc, green av1, purple vvc), marker the
# maker (circle software, square NVIDIA, triangle AMD, diamond Intel, plus Apple). Colours are
# from Okabe-Ito and Paul Tol. Those that share a marker stay apart under every kind of colour
# blindness (tests/test_plots.py); where two others are close, the marker tells them apart.
PALETTE: Mapping[str, tuple[str, str]] = {
    "libx264": ("#0072B2", "o"),
    "libaom-av1": ("#225555", "o"),
    "libx265": ("#D55E00", "o"),
    "h264_nvenc": ("#222255", "s"),
    "hevc_nvenc": ("#FDB366", "s"),
    "av1_nvenc": ("#117733", "s"),
    "h264_amf": ("#332288", "^"),
    "hevc_amf": ("#662506", "^"),
    "av1_amf": ("#999933", "^"),
    "h264_qsv": ("#33BBEE", "D"),
    "hevc_qsv": ("#EE99AA", "D"),
    "av1_qsv": ("#BBCC33", "D"),
    "libvvenc": ("#C2A5CF", "o"),
    "libsvtav1": ("#009E73", "o"),
    "h264_videotoolbox": ("#004488", "P"),
    "hevc_videotoolbox": ("#993404", "P"),
}
# Of the three, the arm that ships is the darkest.
ARM_STYLE: Mapping[str, tuple[str, str]] = {
    "v1": ("#888888", "o"),
    "v2": ("#DDAA33", "s"),
    "v3": ("#004488", "D"),
}

_INK = "#333333"
_ALERT = "#BB5566"
_GRID = "#DDDDDD"
_FAINT = "#888888"
_CORRELATIONS = ("plcc", "srocc")
# On an axis of 1 - PLCC, a PLCC of 1 has no place; it is drawn here.
_LEAST_LOSS = 1e-8
_BIN = 10  # VMAF points


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


# --- parts that several figures share -------------------------------------------------------------


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
        labelspacing=0.3,  # sixteen entries fit beside half a figure
    )


def _encoders(table: pd.DataFrame) -> list[str]:
    """Return the encoders with rows, in the vocabulary's order."""
    return sorted(table["encoder"].unique(), key=encoder_index)


def _short(names: Sequence[str], limit: int = 26) -> list[str]:
    """Shorten long names: what all share at either end goes first, then each one's middle.

    Names that then look alike get a number.
    """
    if max(map(len, names), default=0) <= limit:
        return list(names)
    if len(names) > 1:
        head = _shared(names)
        tail = _shared([name[head:][::-1] for name in names])
        names = [
            "…" * (head > 0) + name[head : len(name) - tail] + "…" * (tail > 0) for name in names
        ]
    short = [_cut(name, limit) for name in names]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})"
        for i, name in enumerate(short)
    ]


def _shared(names: Sequence[str]) -> int:
    """Return how many leading characters all names share."""
    together = zip(*names, strict=False)
    differ = (i for i, letters in enumerate(together) if len(set(letters)) > 1)
    return next(differ, min(map(len, names)))


def _cut(name: str, limit: int) -> str:
    if len(name) <= limit:
        return name
    tail = limit // 2
    return f"{name[: limit - tail - 1]}…{name[-tail:]}"


def _list_rows(ax: Axes, names: Sequence[str], what: str) -> None:
    """Name the rows 0, 1, .. from the top, or every k-th where there is no room for all."""
    inches = ax.get_window_extent().height / ax.get_figure(root=True).dpi
    step = max(1, math.ceil(0.14 * len(names) / inches))
    ax.set_yticks(range(0, len(names), step), _short(names)[::step])
    ax.set_ylim(len(names) - 0.5, -0.5)
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
            s=7,
            color=colour,
            marker=marker,
            alpha=0.55,
            linewidths=0,
            label=encoder,
            zorder=2,
        )
    missing = int((~np.isfinite(y)).sum())
    if missing:
        words = f"{missing:,} of {len(y):,} not finite"
        ax.text(0.03, 0.97, words, transform=ax.transAxes, va="top", fontsize=SMALL, color=_ALERT)


def _solid_markers(legend: Any) -> None:
    """Points are small and faint so that dense clouds show; their legend need not be."""
    for handle in legend.legend_handles:
        handle.set_alpha(1.0)
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([30])


def _part_of(name: str, low: float, high: float) -> Colormap:
    """Cut a colour map: its palest shades read as empty cells, its darkest hide the text."""
    return ListedColormap(colormaps[name](np.linspace(low, high, 256)))


def _heatmap(ax: Axes, values: np.ma.MaskedArray, cmap: Colormap, norm: Normalize) -> AxesImage:
    """Draw cells with white gaps; a masked one stays white and gets a dot."""
    image = ax.imshow(values, aspect="auto", cmap=cmap, norm=norm, interpolation="nearest")
    height, width = values.shape
    gap = 1.2 if height <= 60 else 0.3
    ax.hlines(np.arange(height - 1) + 0.5, -0.5, width - 0.5, color="white", linewidth=gap)
    ax.vlines(np.arange(width - 1) + 0.5, -0.5, height - 0.5, color="white", linewidth=gap)
    rows, columns = np.nonzero(np.ma.getmaskarray(values))
    ax.plot(columns, rows, linestyle="none", marker=".", color=_FAINT, markersize=2.5)
    return image


def _write_cells(ax: Axes, image: AxesImage, texts: Mapping[tuple[int, int], str]) -> None:
    shades = image.to_rgba(image.get_array())
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


# --- the corpus -----------------------------------------------------------------------------------


def plot_coverage(coverage: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw rows per source and slot; a cell without rows is white with a dot.

    Parameters
    ----------
    coverage : DataFrame of int
        One row per source, one column per slot, as :meth:`fr_lib.corpus.Corpus.coverage` gives it.
    ax : Axes

    Returns
    -------
    Axes
        Counts stand in the cells of up to 20 sources; above that a colour bar tells them. The name
        of a slot without any row is grey.
    """
    counts = coverage.to_numpy()
    image = _heatmap(
        ax,
        np.ma.masked_equal(counts, 0),
        _part_of("Blues", 0.2, 0.85),
        Normalize(0, max(counts.max(), 1)),
    )
    _label(ax, "encoder slot (grey: no rows)", "")
    ax.set_xticks(range(counts.shape[1]), coverage.columns, rotation=90)
    for label, total in zip(ax.get_xticklabels(), counts.sum(axis=0), strict=True):
        label.set_color(_INK if total else _FAINT)
    _list_rows(ax, list(coverage.index), "source")
    if len(counts) <= COUNTED_SOURCES:
        cells = {(r, c): _count(counts[r, c]) for r, c in np.argwhere(counts).tolist()}
        _write_cells(ax, image, cells)
        return ax
    bar = ax.get_figure().colorbar(image, ax=ax)
    bar.set_label("rows", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return ax


def _count(n_rows: int) -> str:
    """Four characters at most: what fits into a cell of sixteen."""
    if n_rows < 1000:
        return str(n_rows)
    return f"{n_rows / 1000:.1f}k" if n_rows < 9950 else f"{n_rows / 1000:.0f}k"


def plot_ladders(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw mean VMAF over the quality value: a line per encoder, its band the range over sources.

    Parameters
    ----------
    table : DataFrame
        ``src encoder quality vmaf``, as in :class:`fr_lib.corpus.Corpus`. Every source weighs the
        same, whatever its number of rows.
    ax : Axes

    Returns
    -------
    Axes
    """
    per_source = table.groupby(["encoder", "quality", "src"])["vmaf"].mean()
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
    _legend(ax)
    return ax


# --- held-out sources -----------------------------------------------------------------------------


def plot_predicted(rows: pd.DataFrame, arm: str, *, ax: Axes, note: str = "") -> Axes:
    """Draw predicted against true VMAF of one held-out source.

    Parameters
    ----------
    rows : DataFrame
        ``encoder vmaf pred_<arm>`` of one source.
    arm : str
    ax : Axes
    note : str
        Written in the corner, such as the fold's PLCC and RMSE.

    Returns
    -------
    Axes
        0..100 on both axes, with the line where both agree.
    """
    _predicted(rows, arm, ax, note)
    _label(ax, "VMAF (points)", f"predicted by {arm} (VMAF points)")
    _legend(ax)
    _solid_markers(ax.get_legend())
    return ax


def _predicted(rows: pd.DataFrame, arm: str, ax: Axes, note: str) -> None:
    _frame(ax, "", "")
    ax.plot([0, 100], [0, 100], color=_INK, linewidth=0.8, zorder=1)
    _scatter(ax, rows, rows[f"pred_{arm}"].to_numpy(dtype=float))
    ax.set(xlim=(-2, 102), ylim=(-2, 102))
    ax.set_box_aspect(1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MultipleLocator(25))
    ax.text(0.97, 0.04, note, transform=ax.transAxes, ha="right", va="bottom", fontsize=SMALL)


def fold_grid(oof: pd.DataFrame, folds: pd.DataFrame, arm: str) -> Figure:
    """Return a figure with predicted against true VMAF of every fold.

    Parameters
    ----------
    oof : DataFrame
        Out-of-fold rows: ``src encoder vmaf pred_<arm>``.
    folds : DataFrame
        ``arm held_out plcc rmse``, and `seed` if there are several; `oof` is of the first one.
    arm : str

    Returns
    -------
    Figure
        Panels in the order of `folds`, with PLCC and RMSE in VMAF points. Of more than 24 folds,
        the 24 with the largest RMSE (one that is not finite counts as largest), as its title says.

    Raises
    ------
    InputError
        If a fold has no rows in `oof`.
    """
    own = _of_arm(folds, arm)
    shown = own.sort_values("rmse", ascending=False, na_position="first").head(MAX_PANELS)
    shown = shown if len(own) > MAX_PANELS else own
    cols = min(len(shown), 3 if len(shown) <= 15 else 4)
    rows = math.ceil(len(shown) / cols)
    side = (WIDTH_IN - 0.8) / max(cols, 2) - 0.1
    fig, axes = figure(rows, cols, height=0.9 + rows * (side + 0.3))
    panels = np.atleast_1d(axes).ravel()
    names = _short(shown["held_out"].tolist(), limit=24 if cols <= 3 else 18)
    for i, (name, fold) in enumerate(zip(names, shown.itertuples(), strict=True)):
        _predicted(_held_out(oof, fold.held_out), arm, panels[i], _fold_note(fold))
        panels[i].set_title(name, fontsize=SMALL)
        first, last = i % cols == 0, i + cols >= len(shown)
        _label(panels[i], "VMAF (points)" * last, f"predicted by {arm}\n(VMAF points)" * first)
        panels[i].tick_params(labelbottom=last, labelleft=first)
    for panel in panels[len(shown) :]:
        panel.remove()
    if len(own) > len(shown):
        words = f"The {len(shown)} of {len(own)} sources with the largest RMSE"
        fig.suptitle(words, fontsize=SMALL + 1)
    _shared_legend(fig, panels[: len(shown)])
    return fig


def _held_out(oof: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = oof[oof["src"] == name]
    if rows.empty:
        raise InputError(
            say("fold grid", f"no rows of {name!r}", "the sources of the rows", "use their folds")
        )
    return rows


def _fold_note(fold: Any) -> str:
    plcc = f"{fold.plcc:.5f}" if math.isfinite(fold.plcc) else "not finite"
    rmse = f"{fold.rmse:.3f}" if math.isfinite(fold.rmse) else "not finite"
    return f"PLCC {plcc}\nRMSE {rmse}"


def _shared_legend(fig: Figure, panels: Sequence[Axes]) -> None:
    found: dict[str, Any] = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    order = sorted(found, key=encoder_index)
    legend = fig.legend(
        [found[name] for name in order],
        order,
        loc="outside lower center",
        ncols=min(len(order), 5),
        fontsize=SMALL,
        frameon=False,
        handletextpad=0.2,
    )
    _solid_markers(legend)


def plot_residuals(oof: pd.DataFrame, arm: str, *, ax: Axes) -> Axes:
    """Draw predicted - VMAF against VMAF, with the median and 5..95 % band of each 10 points.

    Parameters
    ----------
    oof : DataFrame
        Out-of-fold rows: ``encoder vmaf pred_<arm>``.
    arm : str
    ax : Axes

    Returns
    -------
    Axes
    """
    residual = (oof[f"pred_{arm}"] - oof["vmaf"]).to_numpy(dtype=float)
    _scatter(ax, oof, residual)
    edges = np.arange(0, 101, _BIN)
    low, median, high = _per_bin(oof["vmaf"].to_numpy(), residual, len(edges) - 1)
    # White edges keep the lines legible on the points they lie on.
    halo = [withStroke(linewidth=3.5, foreground="white")]
    line = {"edges": edges, "baseline": None, "color": "black", "zorder": 4, "path_effects": halo}
    ax.stairs(median, linewidth=1.8, label=f"median per {_BIN} points", **line)
    ax.stairs(high, linewidth=1.3, linestyle=(0, (4, 1.5)), label="5 % and 95 %", **line)
    ax.stairs(low, linewidth=1.3, linestyle=(0, (4, 1.5)), **line)
    ax.axhline(0, color=_INK, linewidth=0.8, zorder=1)
    _frame(ax, "VMAF (points)", f"residual of {arm}: predicted - VMAF\n(VMAF points)")
    ax.set_xlim(-2, 102)
    ax.xaxis.set_major_locator(MultipleLocator(_BIN))
    _legend(ax)
    _solid_markers(ax.get_legend())
    return ax


def _per_bin(vmaf: np.ndarray, residual: np.ndarray, bins: int) -> np.ndarray:
    """Return the 5, 50 and 95 % quantiles of the finite residuals per bin; NaN where none lies."""
    quantiles = np.full((3, bins), np.nan)
    at = np.clip(vmaf // _BIN, 0, bins - 1)
    for k in range(bins):
        own = residual[(at == k) & np.isfinite(residual)]
        if len(own):
            quantiles[:, k] = np.quantile(own, [0.05, 0.5, 0.95])
    return quantiles


def plot_per_source(
    folds: pd.DataFrame,
    metric: str,
    *,
    ax: Axes,
    limit: float | None = None,
    limit_label: str | None = None,
) -> Axes:
    """Draw one metric of every held-out source and arm, the worst source on top.

    Parameters
    ----------
    folds : DataFrame
        ``arm held_out <metric>``, and `seed` if there are several: the first one is drawn.
    metric : {"plcc", "srocc", "rmse"}
        Correlations are drawn on a logarithmic axis of 1 - value, whose ticks give the value:
        0.999 and 0.9999 lie as far apart as 0.9 and 0.99.
    ax : Axes
    limit : float, optional
        In units of the metric: a line at the gate's limit.
    limit_label : str, optional

    Returns
    -------
    Axes
        Sources are sorted by the shipped arm. A value that is not finite is a cross at the worse
        edge.
    """
    # evaluate brings torch, which a notebook without a network need not wait for.
    from fr_lib.evaluate import SHIPPED_ARM

    arms = [arm for arm in ARM_STYLE if (folds["arm"] == arm).any()]
    values = pd.DataFrame({arm: _of_arm(folds, arm).set_index("held_out")[metric] for arm in arms})
    correlation = metric in _CORRELATIONS
    # From here on, more is worse.
    loss = (1 - values).clip(lower=_LEAST_LOSS) if correlation else values
    leading = SHIPPED_ARM if SHIPPED_ARM in arms else arms[-1]
    loss = loss.sort_values(leading, ascending=False, na_position="first")
    worse_edge = 0.0 if correlation else 1.0
    for arm, shift in zip(arms, np.linspace(-0.2, 0.2, len(arms) + 2)[1:-1], strict=True):
        colour, marker = ARM_STYLE[arm]
        at = np.arange(len(loss)) + shift
        style = {"color": colour, "linestyle": "none", "zorder": 3}
        ax.plot(loss[arm], at, marker=marker, markersize=5, label=ARM_NAMES[arm], **style)
        _mark_not_finite(ax, at[loss[arm].isna()], worse_edge, colour)
    _write_not_finite(ax, np.flatnonzero(loss.isna().any(axis=1)), worse_edge)
    if limit is not None:
        words = f"{limit_label or 'gate'} {limit:g}"
        ax.axvline(1 - limit if correlation else limit, color=_ALERT, ls="--", label=words)
    name = f"{metric.upper()} of the held-out source"
    _frame(ax, name + (" (right is better)" if correlation else " (VMAF points)"), "")
    _list_rows(ax, list(loss.index), "held-out source")
    drawn = np.append(loss.to_numpy().ravel(), () if limit is None else 1 - limit)
    _correlation_axis(ax, drawn) if correlation else ax.set_xlim(left=0)
    _legend(ax)
    return ax


def _mark_not_finite(ax: Axes, rows: np.ndarray, edge: float, colour: str) -> None:
    """Draw crosses at one edge of the axes: a missing value must not look like a good one."""
    if not len(rows):
        return  # constrained layout would make room for a line without points
    ax.plot(
        np.full(len(rows), edge),
        rows,
        linestyle="none",
        marker="X",
        markersize=7,
        color=colour,
        transform=ax.get_yaxis_transform(),
        clip_on=False,
        zorder=4,
    )


def _write_not_finite(ax: Axes, rows: np.ndarray, edge: float) -> None:
    for row in rows:
        ax.text(
            abs(edge - 0.03),
            row,
            "not finite",
            transform=ax.get_yaxis_transform(),
            ha="left" if edge == 0 else "right",
            va="center",
            fontsize=SMALL,
            color=_ALERT,
        )


def _correlation_axis(ax: Axes, loss: np.ndarray) -> None:
    """Scale the axis by the logarithm of 1 - value, over whole decades, good to the right."""
    finite = np.log10(loss[np.isfinite(loss)])
    low, high = (finite.min(), finite.max()) if len(finite) else (-1.0, 0.0)
    best, worst = math.floor(low - 0.05), max(math.ceil(high + 0.05), math.floor(low) + 1)
    # Limits first: scaling itself to equal values, matplotlib may warn.
    ax.set_xlim(10.0**worst if worst <= 0 else 2.2, 10.0**best)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(numticks=7))
    ax.xaxis.set_major_formatter(FuncFormatter(_correlation_of))
    ax.minorticks_off()


def _correlation_of(loss: float, _: int = 0) -> str:
    return f"{1 - loss:.{max(0, -math.floor(math.log10(loss) + 1e-9))}f}"


def plot_lift(difference: Mapping[str, Any], *, ax: Axes) -> Axes:
    """Draw the paired difference of two arms per source, and their mean with its interval.

    Parameters
    ----------
    difference : mapping
        As :func:`fr_lib.evaluate.paired_difference` gives it.
    ax : Axes

    Returns
    -------
    Axes
        The source that loses most is on top, the mean at the bottom, the numbers in the right
        margin. For PLCC there is a line at ADR-0235's floor for the mean.
    """
    metric, arm = difference["metric"], difference["arm"]
    correlation = metric in _CORRELATIONS
    per_source = pd.Series(difference["per_source"], dtype=float)
    per_source = per_source.sort_values(ascending=correlation, na_position="first")
    names = [*_short(list(per_source.index)), "mean, 95 % interval"]
    values = np.array([*per_source, _or_nan(difference["mean"])])
    rows = np.arange(len(names))
    colour, marker = ARM_STYLE[arm]
    ax.axvline(0, color=_INK, linewidth=0.8)
    ax.plot(values[:-1], rows[:-1], "o", color=colour, markersize=4.5)
    ends = [_or_nan(difference["low"]), _or_nan(difference["high"])]
    ax.plot(ends, [rows[-1]] * 2, color="black", linewidth=2)
    ax.plot(values[-1:], rows[-1:], marker, color="black", markersize=6.5)
    ax.axhline(rows[-1] - 0.5, color=_FAINT, linewidth=0.6)
    _mark_not_finite(ax, rows[~np.isfinite(values)], 0.0 if correlation else 1.0, colour)
    unit = "right is better" if correlation else "VMAF points; left is better"
    _frame(ax, f"{metric.upper()} of {arm} minus {difference['baseline']} ({unit})", "")
    _list_rows(ax, names, "held-out source")
    if metric == "plcc":
        _mark_floor(ax)
    _write_margin(ax, values, "+.6f" if correlation else "+.3f")
    return ax


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _mark_floor(ax: Axes) -> None:
    ax.axvline(LIFT_FLOOR, color=_ALERT, linestyle="--")
    ax.annotate(
        f"floor for the mean: {LIFT_FLOOR:+g}",
        (LIFT_FLOOR, 0.5),
        xycoords=ax.get_xaxis_transform(),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="center",
        fontsize=SMALL,
        color=_ALERT,
    )


def _write_margin(ax: Axes, values: np.ndarray, form: str) -> None:
    """Write the numbers of the named rows to the right of the axes."""
    for row in {*ax.get_yticks().astype(int).tolist(), len(values) - 1}:
        ax.text(
            1.025,
            row,
            format(values[row], form) if math.isfinite(values[row]) else "not finite",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=SMALL,
        )


# --- other codecs, other recipes ------------------------------------------------------------------


def plot_transfer(
    matrix: pd.DataFrame, *, ax: Axes, unit: str, centre: float | None = None
) -> Axes:
    """Draw a figure per pair of trained-on and scored-on codec, with its number.

    Parameters
    ----------
    matrix : DataFrame of float
        Rows: trained on; columns: scored on. NaN where nothing was scored.
    ax : Axes
    unit : str
        What the colour bar says, such as "RMSE (VMAF points)".
    centre : float, optional
        The good value of a figure with a sign, such as 0 for a bias: colours then part to both
        sides of it. Without it they follow the logarithm, as an RMSE spans decades.

    Returns
    -------
    Axes
    """
    values = np.ma.masked_invalid(matrix.to_numpy(dtype=float))
    cmap, norm, shown = _colours(values, centre)
    image = _heatmap(ax, shown, cmap, norm)
    narrow = matrix.shape[1] > 8
    cells = {
        (r, c): _two_digits(values[r, c], narrow, signed=centre is not None)
        for r, c in np.argwhere(~np.ma.getmaskarray(values)).tolist()
    }
    _write_cells(ax, image, cells)
    _label(ax, "scored on", "trained on")
    ax.set_xticks(range(matrix.shape[1]), matrix.columns, rotation=90 if narrow else 20)
    if not narrow:
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    ax.set_yticks(range(matrix.shape[0]), matrix.index)
    bar = ax.get_figure().colorbar(image, ax=ax)
    bar.ax.tick_params(labelsize=SMALL, which="both")
    if centre is None:
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label(unit, fontsize=SMALL + 0.5)
    return ax


def _colours(
    values: np.ma.MaskedArray, centre: float | None
) -> tuple[Colormap, Normalize, np.ma.MaskedArray]:
    if centre is not None:
        reach = np.abs(values.compressed() - centre).max(initial=0.0) or 1.0
        return colormaps["PuOr"], CenteredNorm(centre, reach), values
    positive = values.compressed()[values.compressed() > 0]
    low = positive.min(initial=positive.max(initial=1.0))
    high = max(positive.max(initial=1.0), 2 * low)
    # A figure of exactly zero takes the colour of the smallest one.
    return _part_of("YlOrBr", 0.05, 0.85), LogNorm(low, high), np.ma.maximum(values, low)


def _two_digits(value: float, narrow: bool, signed: bool) -> str:
    """Write about two significant digits; in narrow cells without sign or zero in front."""
    digits = 0 if abs(value) >= 9.95 else 1 if abs(value) >= 0.995 else 2
    if not narrow:
        return f"{value:{'+' if signed else ''}.{digits}f}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def plot_ablation(table: pd.DataFrame, *, ax: Axes) -> Axes:
    """Draw one RMSE per variant with its interval; the first row is what the others are held to.

    Parameters
    ----------
    table : DataFrame
        ``name rmse low high``, in VMAF points, one row per variant, from the top.
    ax : Axes

    Returns
    -------
    Axes
        The axis is logarithmic where the largest RMSE is over ten times the smallest.
    """
    # evaluate brings torch, which a notebook without a network need not wait for.
    from fr_lib.evaluate import SHIPPED_ARM

    rmse = table["rmse"].to_numpy(dtype=float)
    rows = np.arange(len(table))
    colour, _ = ARM_STYLE[SHIPPED_ARM]
    ax.axvline(rmse[0], color=colour, linewidth=1, linestyle="--")
    ax.hlines(rows, table["low"], table["high"], color=_INK, linewidth=1.6)
    ax.plot(rmse[:1], rows[:1], "D", color=colour, markersize=6.5)
    ax.plot(rmse[1:], rows[1:], "o", color=_INK, markersize=5.5)
    _mark_not_finite(ax, rows[~np.isfinite(rmse)], 1.0, _INK)
    words = "RMSE (VMAF points; bar: 95 % interval; dashed: first row)"
    _frame(ax, words, "")
    _list_rows(ax, table["name"].tolist(), "")
    if np.nanmax(rmse) > 10 * np.nanmin(rmse):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xlim(left=0)
    _write_margin(ax, rmse, ".3f")
    return ax


# What ships is the darkest; its blind network, which answers for unseen codecs, comes beside it.
_OUTSIDE_STYLE = ("#004488", "D"), ("#888888", "o"), ("#DDAA33", "s"), ("#BB5566", "^")


def plot_outside(facts: Mapping[str, Any], groups: str, *, ax: Axes) -> Axes:
    """Draw the RMSE on the stress set per family of distortion or range of VMAF, per recipe.

    Parameters
    ----------
    facts : mapping
        What :func:`fr_lib.outside.outside` returns.
    groups : {"kinds", "bins", "widths"}
    ax : Axes

    Returns
    -------
    Axes
        One line of markers per group: codec-aware of every recipe, codec-blind of the shipped one;
        the axis is logarithmic.
    """
    shipped = facts["shipped"]
    series = [
        (shipped, "v3", f"{shipped}, codec-aware (ships)"),
        (shipped, "v1", f"{shipped}, codec-blind"),
    ]
    series += [(name, "v3", f"{name}, codec-aware") for name in shipped_first(facts)[1:]]
    names = [g["name"] for g in facts["recipes"][shipped]["arms"]["v3"]["stress"][groups]]
    for (recipe, arm, label), (colour, marker) in zip(series, _OUTSIDE_STYLE, strict=False):
        found = facts["recipes"][recipe]["arms"][arm]["stress"][groups]
        ax.plot(
            # Where it is not finite there is no mark.
            [math.nan if g["rmse"] is None else max(g["rmse"], 1e-4) for g in found],
            range(len(names)),
            marker,
            color=colour,
            label=label,
            markersize=6,
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    _frame(ax, "RMSE over slots and quality values (VMAF points)", "")
    form = {"bins": lambda n: f"VMAF {n} to {n + _BIN}", "widths": lambda n: f"{n} pixels wide"}
    shown = [form.get(groups, str)(n) for n in names]
    _list_rows(ax, shown, "")
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        fontsize=SMALL,
        frameon=False,
    )
    return ax


def ladder_grid(ladders: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw true and predicted VMAF over quality, one panel per encoder, mean over sources.

    Parameters
    ----------
    ladders : sequence of mapping
        ``answer seen src encoder quality vmaf predicted``, as :func:`fr_lib.transfer.transfer`
        gives them.

    Returns
    -------
    Figure
        Black: VMAF. Blue: ours, solid where the codec was in training, dashed where it was not.
        Orange: the reference recipe for an unseen codec.
    """
    table = pd.DataFrame(ladders)
    encoders = _encoders(table)
    # One panel more than encoders: the legend has it.
    rows = len(encoders) // 3 + 1
    fig, axes = figure(rows=rows, cols=3, height=2.7 * rows)
    panels = np.atleast_1d(axes).ravel()
    lines = (
        ("ours", True, "#0072B2", "-", "ours, codec seen"),
        ("ours", False, "#56B4E9", "--", "ours, codec unseen"),
        ("reference", False, "#D55E00", ":", "reference recipe, codec unseen"),
    )
    for ax, encoder in zip(panels, encoders, strict=False):
        own = table[table["encoder"] == encoder]
        truth = own.groupby("quality")["vmaf"].mean()
        ax.plot(truth.index, truth, color="black", linewidth=2.5, alpha=0.6, label="VMAF")
        for answer, seen, colour, style, name in lines:
            chosen = own[(own["answer"] == answer) & (own["seen"] == seen)]
            mean = chosen.groupby("quality")["predicted"].mean()
            ax.plot(mean.index, mean, color=colour, linestyle=style, label=name, linewidth=1.8)
        ax.set_title(encoder, fontsize=SMALL)
        _frame(ax, "", "")
        ax.set_ylim(-5, 105)
    for ax in panels[len(encoders) :]:
        ax.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(encoders)].legend(handles, labels, loc="center", fontsize=SMALL, frameon=False)
    fig.supxlabel("quality value (encoder's own scale)", fontsize=SMALL + 1)
    fig.supylabel("mean VMAF (points)", fontsize=SMALL + 1)
    return fig
