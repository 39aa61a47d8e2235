"""Figures of held-out sources: predictions, residuals, correlations, lift."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MultipleLocator,
)

from fr_lib.arms import ARMS, SHIPPED_ARM
from fr_lib.errors import NOT_FINITE, InputError, say, text
from fr_lib.evaluate import LIFT_FLOOR
from fr_lib.report.names import labels, shown
from fr_lib.schema import VMAF_BIN, encoder_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from fr_lib.report.plots.style import (
    _ALERT,
    _CORRELATIONS,
    _FAINT,
    _INK,
    _LEAST_LOSS,
    MAX_PANELS,
    SMALL,
    WIDTH_IN,
    _describe,
    _frame,
    _label,
    _legend,
    _list_rows,
    _of_arm,
    _scatter,
    _solid_markers,
    figure,
)


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
    error = (rows[f"pred_{arm}"] - rows["vmaf"]).abs().max()
    _describe(
        ax,
        f"Predicted against true VMAF of {len(rows):,} rows; the largest distance to the diagonal "
        f"is {text(error, '.2f', NOT_FINITE)} points.",
    )
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
    chosen = own.sort_values("rmse", ascending=False, na_position="first").head(MAX_PANELS)
    chosen = chosen if len(own) > MAX_PANELS else own
    cols = min(len(chosen), 3 if len(chosen) <= 15 else 4)
    rows = math.ceil(len(chosen) / cols)
    side = (WIDTH_IN - 0.8) / max(cols, 2) - 0.1
    fig, axes = figure(rows, cols, height=0.9 + rows * (side + 0.3))
    panels = np.atleast_1d(axes).ravel()
    names = labels(chosen["held_out"].tolist(), limit=24 if cols <= 3 else 18)
    for i, (name, fold) in enumerate(zip(names, chosen.itertuples(), strict=True)):
        _predicted(_held_out(oof, fold.held_out), arm, panels[i], _fold_note(fold))
        panels[i].set_title(name, fontsize=SMALL)
        first, last = i % cols == 0, i + cols >= len(chosen)
        _label(panels[i], "VMAF (points)" * last, f"predicted by {arm}\n(VMAF points)" * first)
        panels[i].tick_params(labelbottom=last, labelleft=first)
    for panel in panels[len(chosen) :]:
        panel.remove()
    if len(own) > len(chosen):
        words = f"The {len(chosen)} of {len(own)} sources with the largest RMSE"
        fig.suptitle(words, fontsize=SMALL + 1)
    _shared_legend(fig, panels[: len(chosen)])
    _describe(
        fig,
        f"{len(chosen)} panels, one per held-out source, each with predicted against true VMAF: "
        f"{_range_of(own, 'rmse', '.3f', 'RMSE')}.",
    )
    return fig


def _range_of(folds: pd.DataFrame, metric: str, form: str, name: str) -> str:
    """Return the least and the greatest value of a metric, with their sources, in words."""
    known = folds[np.isfinite(folds[metric].astype(float))].sort_values(metric)
    if known.empty:
        return f"no {name} is finite"
    ends = [
        f"{fold[metric]:{form}} ({shown(fold['held_out'])})"
        for _, fold in known.iloc[[0, -1]].iterrows()
    ]
    return f"{name} from {ends[0]} to {ends[1]}"


def _held_out(oof: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = oof[oof["src"] == name]
    if rows.empty:
        raise InputError(
            say("fold grid", f"no rows of {name!r}", "the sources of the rows", "use their folds")
        )
    return rows


def _fold_note(fold: Any) -> str:
    # Many sources agree in more digits than a panel has room for: what is missing to 1 does not.
    missing, rmse = text(1 - fold.plcc, ".0e", NOT_FINITE), text(fold.rmse, ".3f", NOT_FINITE)
    return f"1-PLCC {missing}\nRMSE {rmse}"


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
    edges = np.arange(0, 101, VMAF_BIN)
    _describe(ax, _off_by(residual, arm))
    low, median, high = _per_bin(oof["vmaf"].to_numpy(), residual, len(edges) - 1)
    # White edges keep the lines legible on the points they lie on.
    halo = [withStroke(linewidth=3.5, foreground="white")]
    line = {"edges": edges, "baseline": None, "color": "black", "zorder": 4, "path_effects": halo}
    ax.stairs(median, linewidth=1.8, label=f"median per {VMAF_BIN} points", **line)
    ax.stairs(high, linewidth=1.3, linestyle=(0, (4, 1.5)), label="5 % and 95 %", **line)
    ax.stairs(low, linewidth=1.3, linestyle=(0, (4, 1.5)), **line)
    ax.axhline(0, color=_INK, linewidth=0.8, zorder=1)
    _frame(ax, "VMAF (points)", f"residual of {arm}: predicted - VMAF\n(VMAF points)")
    ax.set_xlim(-2, 102)
    ax.xaxis.set_major_locator(MultipleLocator(VMAF_BIN))
    _legend(ax)
    _solid_markers(ax.get_legend())
    return ax


def _off_by(residual: np.ndarray, arm: str) -> str:
    finite = residual[np.isfinite(residual)]
    if not len(finite):
        return f"Residuals of {arm} over VMAF: none of {len(residual):,} is finite."
    low, median, high = np.quantile(finite, [0.05, 0.5, 0.95])
    return (
        f"Residuals of {arm} over VMAF, {len(finite):,} rows: median {median:+.3f}, 90 % between "
        f"{low:+.2f} and {high:+.2f}, all between {finite.min():+.2f} and {finite.max():+.2f}."
    )


def _per_bin(vmaf: np.ndarray, residual: np.ndarray, bins: int) -> np.ndarray:
    """Return the 5, 50 and 95 % quantiles of the finite residuals per bin; NaN where none lies."""
    quantiles = np.full((3, bins), np.nan)
    at = np.clip(vmaf // VMAF_BIN, 0, bins - 1)
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
    arms = [arm for arm in ARMS if (folds["arm"] == arm).any()]
    values = pd.DataFrame({arm: _of_arm(folds, arm).set_index("held_out")[metric] for arm in arms})
    correlation = metric in _CORRELATIONS
    # From here on, more is worse.
    loss = (1 - values).clip(lower=_LEAST_LOSS) if correlation else values
    leading = SHIPPED_ARM if SHIPPED_ARM in arms else arms[-1]
    loss = loss.sort_values(leading, ascending=False, na_position="first")
    worse_edge = 0.0 if correlation else 1.0
    for arm, shift in zip(arms, np.linspace(-0.2, 0.2, len(arms) + 2)[1:-1], strict=True):
        colour, marker = ARMS[arm].colour, ARMS[arm].marker
        at = np.arange(len(loss)) + shift
        style = {"color": colour, "linestyle": "none", "zorder": 3}
        ax.plot(loss[arm], at, marker=marker, markersize=5, label=ARMS[arm].label, **style)
        _mark_not_finite(ax, at[loss[arm].isna()], worse_edge, colour)
    _write_not_finite(ax, np.flatnonzero(loss.isna().any(axis=1)), worse_edge)
    if limit is not None:
        words = f"{limit_label or 'gate'} {limit:g}"
        ax.axvline(1 - limit if correlation else limit, color=_ALERT, ls="--", label=words)
    _describe(ax, _each_source(folds, metric, arms, limit))
    name = f"{metric.upper()} of the held-out source"
    _frame(ax, name + (" (right is better)" if correlation else " (VMAF points)"), "")
    _list_rows(ax, list(loss.index), "held-out source")
    drawn = np.append(loss.to_numpy().ravel(), () if limit is None else 1 - limit)
    _correlation_axis(ax, drawn) if correlation else ax.set_xlim(left=0)
    _legend(ax)
    return ax


def _each_source(folds: pd.DataFrame, metric: str, arms: Sequence[str], limit: float | None) -> str:
    form = ".7f" if metric in _CORRELATIONS else ".3f"
    said = "; ".join(
        _range_of(_of_arm(folds, arm), metric, form, ARMS[arm].label) for arm in reversed(arms)
    )
    count = folds["held_out"].nunique()
    words = f"{metric.upper()} of {count} held-out sources, a row each, the worst on top: {said}."
    return words + ("" if limit is None else f" The dashed line is at {limit:g}.")


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
            NOT_FINITE,
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
        As :func:`fr_lib.evaluate.loso.paired_difference` gives it.
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
    values = np.array([*per_source, _or_nan(difference["mean"])])
    rows = np.arange(len(values))
    colour, marker = ARMS[arm].colour, ARMS[arm].marker
    ax.axvline(0, color=_INK, linewidth=0.8)
    ax.plot(values[:-1], rows[:-1], "o", color=colour, markersize=4.5)
    ends = [_or_nan(difference["low"]), _or_nan(difference["high"])]
    ax.plot(ends, [rows[-1]] * 2, color="black", linewidth=2)
    ax.plot(values[-1:], rows[-1:], marker, color="black", markersize=6.5)
    ax.axhline(rows[-1] - 0.5, color=_FAINT, linewidth=0.6)
    _mark_not_finite(ax, rows[~np.isfinite(values)], 0.0 if correlation else 1.0, colour)
    unit = "right is better" if correlation else "VMAF points; left is better"
    _frame(ax, f"{metric.upper()} of {arm} minus {difference['baseline']} ({unit})", "")
    _list_rows(ax, list(per_source.index), "held-out source", last=["mean, 95 % interval"])
    if metric == "plcc":
        _mark_floor(ax)
    form = "+.6f" if correlation else "+.3f"
    _write_margin(ax, values, form)
    _describe(ax, _lifted(difference, form, correlation))
    return ax


def _lifted(difference: Mapping[str, Any], form: str, correlation: bool) -> str:
    mean, low, high = (text(difference[k], form, NOT_FINITE) for k in ("mean", "low", "high"))
    per_source = pd.Series(difference["per_source"], dtype=float)
    better = int(((per_source > 0) if correlation else (per_source < 0)).sum())
    ends = [text(value, form, NOT_FINITE) for value in (per_source.min(), per_source.max())]
    arm = difference["arm"]
    return (
        f"{difference['metric'].upper()} of {arm} minus {difference['baseline']}, a dot per "
        f"held-out source from {ends[0]} to {ends[1]}: {arm} is better in {better} of "
        f"{len(per_source)}. Mean {mean}, 95 % interval {low} to {high}."
    )


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
            text(values[row], form, NOT_FINITE),
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=SMALL,
        )
