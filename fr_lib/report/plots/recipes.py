"""Figures that set codecs and recipes side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm, Colormap, LogNorm, Normalize
from matplotlib.ticker import (
    FuncFormatter,
    NullFormatter,
    NullLocator,
)

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.errors import NOT_FINITE, text
from fr_lib.evaluate import MAP
from fr_lib.report.tables import shipped_first
from fr_lib.schema import VMAF_BIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
from fr_lib.report.plots.folds import _mark_not_finite, _write_margin
from fr_lib.report.plots.style import (
    _ALERT,
    _INK,
    SMALL,
    UPRIGHT,
    _bar,
    _describe,
    _encoders,
    _frame,
    _heatmap,
    _label,
    _list_rows,
    _part_of,
    _write_cells,
    figure,
)


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
    cmap, norm = _colours(_finite(matrix), centre)
    cells = _pairs(ax, matrix, cmap, norm, signed=centre is not None)
    _pairs_bar(cells, ax, unit, plain=centre is None)
    _describe(ax, f"Heatmap of {unit}, trained on down, scored on across: {_extremes(matrix)}.")
    return ax


def transfer_grid(matrices: Mapping[str, pd.DataFrame], unit: str) -> Figure:
    """Draw several answers' figures per pair of codecs, a panel each, all on one scale.

    Parameters
    ----------
    matrices : mapping of str to DataFrame of float
        By the name of the answer, each as in :func:`plot_transfer`, positive.
    unit : str
        What the colour bar says.

    Returns
    -------
    Figure
        Panels stand side by side, or one upon the other where there are many codecs.
    """
    codecs = len(next(iter(matrices.values())))
    beside = codecs <= _WIDE
    rows, cols = (1, len(matrices)) if beside else (len(matrices), 1)
    fig, axes = figure(rows, cols, height=3.6 if beside else rows * (1.4 + 0.26 * codecs))
    panels = np.atleast_1d(axes)
    cmap, norm = _colours(np.ma.concatenate([_finite(m) for m in matrices.values()]), None)
    for i, (ax, (name, matrix)) in enumerate(zip(panels, matrices.items(), strict=True)):
        cells = _pairs(ax, matrix, cmap, norm, signed=False)
        ax.set_title(name, fontsize=SMALL + 1)
        if beside and i:
            ax.tick_params(labelleft=False)
            ax.set_ylabel("")
    _pairs_bar(cells, list(panels), unit, plain=True)
    said = "; ".join(f"{name}: {_extremes(matrix)}" for name, matrix in matrices.items())
    _describe(fig, f"Heatmaps of {unit} on one scale, trained on down, scored on across. {said}.")
    return fig


# Codecs across whose names and figures have room.
_WIDE = 8


def _finite(matrix: pd.DataFrame) -> np.ma.MaskedArray:
    return np.ma.masked_invalid(matrix.to_numpy(dtype=float))


def _extremes(matrix: pd.DataFrame) -> str:
    """Return the codecs seen and unseen in training with the least and greatest figure."""
    values = _finite(matrix)
    seen = np.ma.masked_array(values, mask=~np.eye(*values.shape, dtype=bool)).compressed()
    unseen = np.ma.masked_array(values, mask=np.eye(*values.shape, dtype=bool)).compressed()
    said = [
        f"{name} {found.min():.2f} to {found.max():.2f}"
        for name, found in (("seen", seen), ("unseen", unseen))
        if len(found)
    ]
    return ", ".join(said) or "nothing is finite"


def _pairs(
    ax: Axes, matrix: pd.DataFrame, cmap: Colormap, norm: Normalize, signed: bool
) -> QuadMesh:
    values = _finite(matrix)
    # On a logarithmic scale, a figure of exactly zero takes the colour of the smallest one.
    shades = np.ma.maximum(values, norm.vmin) if isinstance(norm, LogNorm) else values
    cells = _heatmap(ax, shades, cmap, norm)
    narrow = matrix.shape[1] > _WIDE
    texts = {
        (r, c): _two_digits(values[r, c], narrow, signed)
        for r, c in np.argwhere(~np.ma.getmaskarray(values)).tolist()
    }
    _write_cells(ax, cells, texts)
    _label(ax, "scored on", "trained on")
    slanted = {"rotation": 20, "ha": "right", "rotation_mode": "anchor"}
    ax.set_xticks(range(matrix.shape[1]), matrix.columns, **(UPRIGHT if narrow else slanted))
    ax.set_yticks(range(matrix.shape[0]), matrix.index)
    return cells


def _pairs_bar(cells: QuadMesh, axes: Any, unit: str, plain: bool) -> None:
    bar = _bar(cells, axes, unit)
    if plain:
        bar.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        bar.yaxis.set_minor_formatter(NullFormatter())


def _colours(values: np.ma.MaskedArray, centre: float | None) -> tuple[Colormap, Normalize]:
    if centre is not None:
        reach = np.abs(values.compressed() - centre).max(initial=0.0) or 1.0
        return _part_of("PuOr", 0.0, 1.0), CenteredNorm(centre, reach)
    positive = values.compressed()[values.compressed() > 0]
    low = positive.min(initial=positive.max(initial=1.0))
    high = max(positive.max(initial=1.0), 2 * low)
    return _part_of("YlOrBr", 0.05, 0.85), LogNorm(low, high)


def _two_digits(value: float, narrow: bool, signed: bool) -> str:
    """Write about two significant digits; in narrow cells without sign or zero in front."""
    size = abs(value)
    digits = sum(size < limit for limit in (9.95, 0.995))
    if not narrow:
        digits += sum(0 < size < limit for limit in (0.0995, 0.00995))
        return f"{value:{'+' if signed else ''}.{digits}f}"
    short = f"{value:.{digits}f}"
    return short.replace("0.", ".", 1) if size < 0.995 else short


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
    rmse = table["rmse"].to_numpy(dtype=float)
    rows = np.arange(len(table))
    colour = ARMS[SHIPPED_ARM].colour
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
    _describe(ax, _priced(table))
    return ax


def _priced(table: pd.DataFrame) -> str:
    first, known = table.iloc[0], table.dropna(subset="rmse").sort_values("rmse")
    words = f"Mean RMSE of {len(table)} variants, a row each with its 95 % interval"
    if known.empty:
        return f"{words}: none is finite."
    low, high = known.iloc[0], known.iloc[-1]
    own = text(first["rmse"], ".3f", NOT_FINITE)
    return (
        f"{words}: the first, {first['name']}, {own}; lowest {low['rmse']:.3f} ({low['name']}), "
        f"highest {high['rmse']:.3f} ({high['name']})."
    )


def another_grid(facts: Mapping[str, Any]) -> Figure:
    """Draw the RMSE of every predictor of another teacher's scores, one panel per teacher.

    Parameters
    ----------
    facts : mapping
        What :func:`fr_lib.evaluate.another.run_another` returns.

    Returns
    -------
    Figure
        Bars are 95 % intervals over sources; the dashed line is the map of the v0.6.1 score.
    """
    teachers = list(facts["teachers"].values())
    fig, axes = figure(rows=len(teachers), height=3.1 * len(teachers) + 0.3)
    for ax, teacher in zip(np.atleast_1d(axes), teachers, strict=True):
        table = pd.DataFrame(teacher["predictors"])
        for arm, label in ((ARMS[BLIND_ARM], "codec-blind"), (ARMS[SHIPPED_ARM], "codec-aware")):
            own = table[table["sees_codec"] == (not arm.blind)]
            ax.hlines(own.index, own["low"], own["high"], color=arm.colour, linewidth=1.6)
            ax.plot(own["rmse"], own.index, arm.marker, color=arm.colour, label=label, markersize=6)
        mapped = table.loc[table["name"] == MAP, "rmse"].item()
        ax.axvline(mapped, color=_INK, linewidth=1, linestyle="--", label="isotonic map")
        _frame(ax, "RMSE (VMAF points; bar: 95 % interval)", "")
        _list_rows(ax, [], "", last=table["name"].tolist())
        ax.set_xlim(left=0)
        ax.set_title(teacher["title"], fontsize=SMALL + 0.5)
        _write_margin(ax, table["rmse"].to_numpy(dtype=float), ".2f")
    handles, names = np.atleast_1d(axes)[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside upper center", ncols=3, fontsize=SMALL, frameon=False)
    _describe(fig, " ".join(_rivals(teacher) for teacher in teachers))
    return fig


def _rivals(teacher: Mapping[str, Any]) -> str:
    said = ", ".join(f"{row['name']} {row['rmse']:.2f}" for row in teacher["predictors"])
    return f"RMSE of every predictor of {teacher['title']}, from the top: {said}."


# What ships has the style of its arms, other recipes these.
_OTHER_STYLES = ("#DDAA33", "s"), (_ALERT, "^")


def plot_outside(facts: Mapping[str, Any], groups: str, *, ax: Axes) -> Axes:
    """Draw the RMSE on the stress set per family of distortion or range of VMAF, per recipe.

    Parameters
    ----------
    facts : mapping
        What :func:`fr_lib.evaluate.outside.measure_outside` returns.
    groups : {"kinds", "bins", "widths"}
    ax : Axes

    Returns
    -------
    Axes
        One line of markers per group: codec-aware of every recipe, codec-blind of the shipped one;
        the axis is logarithmic.
    """
    shipped, aware, blind = facts["shipped"], ARMS[SHIPPED_ARM], ARMS[BLIND_ARM]
    series = [
        (shipped, aware, f"{shipped}, {aware.sight} (ships)"),
        (shipped, blind, f"{shipped}, {blind.sight}"),
    ]
    series += [(name, aware, f"{name}, {aware.sight}") for name in shipped_first(facts)[1:]]
    styles = [(arm.colour, arm.marker) for arm in (aware, blind)] + [*_OTHER_STYLES]
    names = [g["name"] for g in facts["recipes"][shipped]["arms"][aware.name]["stress"][groups]]
    for (recipe, arm, label), (colour, marker) in zip(series, styles, strict=False):
        found = facts["recipes"][recipe]["arms"][arm.name]["stress"][groups]
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
    form = {"bins": lambda n: f"VMAF {n} to {n + VMAF_BIN}", "widths": lambda n: f"{n} pixels wide"}
    shown = [form.get(groups, str)(n) for n in names]
    _list_rows(ax, shown, "")
    ships = facts["recipes"][shipped]["arms"][aware.name]["stress"][groups]
    said = (f"{n} {text(g['rmse'], '.3f', NOT_FINITE)}" for n, g in zip(shown, ships, strict=True))
    _describe(
        ax,
        f"RMSE on the stress set of {len(series)} networks, logarithmic axis. The network that "
        f"ships, from the top: {', '.join(said)}.",
    )
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        fontsize=SMALL,
        frameon=False,
    )
    return ax


def ladder_grid(ladders: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw predicted minus true VMAF over quality, one panel per encoder, mean over sources.

    Parameters
    ----------
    ladders : sequence of mapping
        ``answer seen src encoder quality vmaf predicted``: see
        :func:`fr_lib.evaluate.transfer.run_transfer`.

    Returns
    -------
    Figure
        Blue: ours, solid where the codec was in training, dashed where it was not. Orange: the
        reference recipe for an unseen codec. All panels share one axis of differences, which is
        linear as far as ours go and logarithmic beyond: errors of either kind show.
    """
    table = pd.DataFrame(ladders)
    table["error"] = table["predicted"] - table["vmaf"]
    encoders = _encoders(table)
    # One panel more than encoders: the legend has it.
    rows = len(encoders) // 3 + 1
    fig, axes = figure(rows=rows, cols=3, height=2.7 * rows)
    panels = np.atleast_1d(axes).ravel()
    lines = (
        ("ours", True, "#0072B2", "o-", "ours, codec seen"),
        ("ours", False, "#56B4E9", "s--", "ours, codec unseen"),
        ("reference", False, "#D55E00", "^:", "reference recipe, codec unseen"),
    )
    keys = ["answer", "seen", "encoder", "quality"]
    means = table.groupby(keys)["error"].mean().reset_index()
    sizes = means["error"].abs()
    step, reach = _linear_part(sizes[means["answer"] == "ours"].max()), 1.3 * max(1.0, sizes.max())
    for ax, encoder in zip(panels, encoders, strict=False):
        ax.axhline(0, color=_INK, linewidth=0.8)
        for answer, seen, colour, style, name in lines:
            own = means[(means["answer"] == answer) & (means["seen"] == seen)]
            own = own[own["encoder"] == encoder]
            drawn = {"color": colour, "label": name, "linewidth": 1.6, "markersize": 4}
            ax.plot(own["quality"], own["error"], style, **drawn)
        ax.set_title(encoder, fontsize=SMALL)
        _frame(ax, "", "")
        ax.set_yscale("symlog", linthresh=step, linscale=1.0)
        ax.set_ylim(-reach, reach)
        steps = [tick for tick in (step, 10 * step, 100 * step, 1000 * step) if tick < reach]
        ax.set_yticks([*(-tick for tick in reversed(steps)), 0, *steps])
        ax.yaxis.set_major_formatter(FuncFormatter(_signed))
        ax.yaxis.set_minor_locator(NullLocator())
    for ax in panels[len(encoders) :]:
        ax.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    panels[len(encoders)].legend(handles, labels, loc="center", fontsize=SMALL, frameon=False)
    fig.supxlabel("quality value (encoder's own scale)", fontsize=SMALL + 1)
    fig.supylabel("mean of predicted - VMAF (points)", fontsize=SMALL + 1)
    worst = means.assign(error=means["error"].abs()).groupby(["answer", "seen"])["error"].max()
    said = ", ".join(
        f"{name} {worst[answer, seen]:.2f}"
        for answer, seen, *_, name in lines
        if (answer, seen) in worst
    )
    _describe(
        fig,
        f"Predicted minus true VMAF along the quality ladder, a panel for each of "
        f"{len(encoders)} encoders. Farthest from zero: {said} points.",
    )
    return fig


def _linear_part(largest: float) -> float:
    """Return the power of ten, 0.01 to 1 VMAF points, that holds an error."""
    return 10.0 ** math.ceil(math.log10(min(max(largest, 0.01), 1.0)))


def _signed(value: float, _: int = 0) -> str:
    return f"{value:+g}" if value else "0"
