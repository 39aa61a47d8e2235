"""Plots: what is drawn, labelled and said, on figures that nobody shows."""

from __future__ import annotations

import itertools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from fr_lib.arms import ARMS
from fr_lib.corpus import synthetic_table
from fr_lib.errors import InputError
from fr_lib.evaluate import LIFT_FLOOR
from fr_lib.evaluate.loso import metrics, paired_difference
from fr_lib.report import plots
from fr_lib.schema import ADAPTERS, NEWEST_VOCAB

matplotlib.use("Agg")
TWO = ["libx264", "libsvtav1"]


@pytest.fixture
def ax():
    return Figure(figsize=(7.2, 4), layout="constrained").add_subplot()


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def made(encoders=TWO, sources=4, arms=("v1", "v2", "v3"), frames=6):
    """Return out-of-fold rows and their folds; the arms differ in their noise."""
    table = synthetic_table(encoders, [20, 30, 45], sources, frames, 0)
    table = table.rename(columns={"cq": "quality"})
    rng = np.random.default_rng(0)
    for arm, noise in zip(arms, (0.3, 0.5, 0.2), strict=True):
        table[f"pred_{arm}"] = (table["vmaf"] + rng.normal(0, noise, len(table))).clip(0, 100)
    folds = [
        {"seed": 0, "arm": arm, "held_out": src} | metrics(rows[f"pred_{arm}"], rows["vmaf"])
        for arm in arms
        for src, rows in table.groupby("src")
    ]
    return table, pd.DataFrame(folds)


def coverage(table):
    counts = pd.crosstab(table["src"], table["encoder"])
    return counts.reindex(columns=list(NEWEST_VOCAB), fill_value=0)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(of):
    return [text.get_text() for text in of.get_legend().get_texts()]


def y_names(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def drawn_points(ax):
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections])


def render(ax):
    """Let matplotlib draw everything: warnings are errors."""
    canvas = FigureCanvasAgg(ax.get_figure())
    canvas.draw()
    return canvas.get_renderer()


# --- palette --------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
TO_XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


def cie_lab(colour, sight):
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(TO_XYZ @ np.clip(SIGHT[sight] @ linear, 0, 1) / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def distance(a, b, sight):
    return np.linalg.norm(cie_lab(a, sight) - cie_lab(b, sight))


def test_palette_has_every_slot_once():
    assert list(plots.PALETTE) == list(NEWEST_VOCAB)
    assert len(set(plots.PALETTE.values())) == len(NEWEST_VOCAB)


def test_marker_tells_the_maker_and_each_encoder_in_software():
    markers = [(ADAPTERS[name].hardware, marker) for name, (_, marker) in plots.PALETTE.items()]
    software = [marker for maker, marker in markers if maker is None]
    hardware = {(maker, marker) for maker, marker in markers if maker}
    assert len(hardware) == 4
    assert len({*software, *(marker for _, marker in hardware)}) == len(software) + 4


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_one_maker_stay_apart(sight):
    # Tritanopia, one person in ten thousand, merges blues and greens.
    floor = 16 if sight == "tritanopia" else 25
    for (a, (one, _)), (b, (two, _)) in itertools.combinations(plots.PALETTE.items(), 2):
        if ADAPTERS[a].hardware == ADAPTERS[b].hardware:
            assert distance(one, two, sight) > floor, (a, b)


@pytest.mark.parametrize("sight", SIGHT)
def test_arms_stay_apart(sight):
    for one, two in itertools.combinations((arm.colour for arm in ARMS.values()), 2):
        assert distance(one, two, sight) > 25


# --- what is said of them -------------------------------------------------------------------------


def test_each_figure_says_what_is_seen():
    table, folds = made()
    drawn = {
        "coverage": lambda ax: plots.plot_coverage(coverage(table), ax=ax),
        "ladders": lambda ax: plots.plot_ladders(table, ax=ax),
        "histogram": lambda ax: plots.plot_vmaf_histogram(table, ax=ax),
        "residuals": lambda ax: plots.plot_residuals(table, "v3", ax=ax),
        "per_source": lambda ax: plots.plot_per_source(folds, "rmse", ax=ax, limit=1.5),
        "lift": lambda ax: plots.plot_lift(paired_difference(folds, "v3", "v1", "rmse"), ax=ax),
    }
    said = {name: draw(Figure().add_subplot()).get_label() for name, draw in drawn.items()}
    assert "libx264 72, libsvtav1 72; 14 slots are empty" in said["coverage"]
    means = table[table["encoder"] == "libx264"].groupby("quality")["vmaf"].mean()
    assert (
        f"libx264 from {means.iloc[0]:.1f} at 20 to {means.iloc[-1]:.1f} at 45" in said["ladders"]
    )
    assert f"median {(table['pred_v3'] - table['vmaf']).median():+.3f}" in said["residuals"]
    own = folds[folds["arm"] == "v3"].set_index("held_out")["rmse"]
    assert f"to {own.max():.3f} ({own.idxmax()})" in said["per_source"]
    assert "The dashed line is at 1.5." in said["per_source"]
    assert "v3 is better in 4 of 4" in said["lift"]
    assert "144 rows, quartiles" in said["histogram"]
    assert own.idxmin() in plots.fold_grid(table, folds, "v3").get_label()


@pytest.mark.parametrize("metric", ["plcc", "rmse"])
def test_what_is_not_finite_is_said_too(ax, metric):
    plots.plot_per_source(per_source({"a": np.nan, "b": np.nan}, metric=metric), metric, ax=ax)
    assert f"no {metric.upper()}" in ax.get_label() or "is finite" in ax.get_label()


# --- figures --------------------------------------------------------------------------------------


def test_figures_share_one_width():
    for shape in ((1, 1), (2, 1), (1, 3)):
        fig, axes = plots.figure(*shape, height=5)
        assert fig.get_size_inches().tolist() == [plots.WIDTH_IN, 5]
        assert np.size(axes) == shape[0] * shape[1]


@pytest.mark.parametrize(("count", "inches"), [(1, 2.6), (12, 4.4), (500, 16.0)])
def test_rows_height(count, inches):
    assert plots.rows_height(count) == inches


def test_no_global_state_changes(ax):
    before = dict(matplotlib.rcParams)
    table, folds = made()
    plots.plot_coverage(coverage(table), ax=ax)
    plots.fold_grid(table, folds, "v3")
    assert dict(matplotlib.rcParams) == before


def test_no_text_is_smaller_than_nine_points(ax):
    table, _ = made()
    plots.plot_residuals(table, "v3", ax=ax)
    render(ax)
    sizes = [t.get_size() for t in ax.findobj(matplotlib.text.Text) if t.get_text()]
    assert min(sizes) >= 9


# --- corpus ---------------------------------------------------------------------------------------


def test_coverage_counts_cells_and_greys_empty_slots(ax):
    table, _ = made()
    assert plots.plot_coverage(coverage(table), ax=ax) is ax
    render(ax)
    assert texts(ax) == ["18"] * 8
    assert ax.collections[0].get_array().mask.sum() == 4 * (len(NEWEST_VOCAB) - 2)
    dots = ax.lines[-1].get_xydata()
    assert len(dots) == 4 * (len(NEWEST_VOCAB) - 2)
    colours = {t.get_text(): t.get_color() for t in ax.get_xticklabels()}
    assert list(colours) == list(NEWEST_VOCAB)
    assert len({colours["libx264"], colours["libsvtav1"]}) == 1
    assert {colours[n] for n in NEWEST_VOCAB if n not in TWO} == {"#888888"}
    assert "grey: no rows" in ax.get_xlabel()


@pytest.mark.parametrize(("sources", "counted"), [(20, True), (21, False)])
def test_coverage_of_many_sources_has_a_bar_instead_of_counts(ax, sources, counted):
    table, _ = made(sources=sources)
    plots.plot_coverage(coverage(table), ax=ax)
    assert bool(texts(ax)) == counted
    assert len(ax.get_figure().axes) == (1 if counted else 2)


def test_coverage_of_two_hundred_sources_names_some(ax):
    table, _ = made(sources=200, frames=1)
    plots.plot_coverage(coverage(table), ax=ax)
    render(ax)
    assert 10 < len(y_names(ax)) < 60
    assert "named)" in ax.get_ylabel()
    assert ax.get_ylim() == (199.5, -0.5)


def test_coverage_without_any_row_draws(ax):
    table, _ = made()
    plots.plot_coverage(coverage(table) * 0, ax=ax)
    render(ax)
    assert texts(ax) == []


@pytest.mark.parametrize(
    ("rows", "text"),
    [(999, "999"), (1000, "1.0k"), (9949, "9.9k"), (9950, "10k"), (123456, "123k")],
)
def test_counts_fit_their_cell(ax, rows, text):
    plots.plot_coverage(pd.DataFrame([[rows, 0]], ["a"], ["libx264", "libx265"]), ax=ax)
    assert texts(ax) == [text]


def test_ladders_draw_the_mean_of_sources_and_their_range(ax):
    table = pd.DataFrame(
        {
            "src": ["a", "a", "a", "b", "a", "b"],
            "encoder": "libx264",
            "quality": [20, 20, 20, 20, 30, 30],
            "vmaf": [90.0, 90.0, 90.0, 80.0, 50.0, 40.0],
        }
    )
    plots.plot_ladders(table, ax=ax)
    # The mean of sources, not of rows: a has three times the rows of b.
    assert ax.lines[0].get_xydata().tolist() == [[20, 85], [30, 45]]
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == 40
    assert band[:, 1].max() == 90
    assert "encoder's own scale" in ax.get_xlabel()
    assert ax.get_ylabel() == "mean VMAF (points)"


def test_ladders_have_one_legend_entry_per_encoder_in_order(ax):
    table, _ = made(["libsvtav1", "libx264", "h264_nvenc"])
    plots.plot_ladders(table, ax=ax)
    render(ax)
    assert legend(ax) == ["libx264", "h264_nvenc", "libsvtav1"]
    styles = [(line.get_color(), line.get_marker()) for line in ax.lines]
    assert styles == [plots.PALETTE[name] for name in legend(ax)]


def test_ladders_say_which_scale_runs_the_other_way(ax):
    table, _ = made(["libx264", "hevc_videotoolbox"])
    plots.plot_ladders(table, ax=ax)
    assert "videotoolbox: higher is better" in ax.get_xlabel()


def test_an_encoder_outside_the_vocabulary_is_refused(ax):
    table, _ = made()
    with pytest.raises(InputError, match="libvpx-vp9"):
        plots.plot_ladders(table.assign(encoder="libvpx-vp9"), ax=ax)


@pytest.mark.parametrize("encoders", [["libx264"], TWO])
def test_histogram_holds_every_row(ax, encoders):
    table, _ = made(encoders)
    plots.plot_vmaf_histogram(table, ax=ax)
    render(ax)
    assert sum(patch.get_height() for patch in ax.patches) == len(table)
    assert len(ax.patches) == 20 * len(encoders)
    assert legend(ax) == encoders
    assert ax.get_xlabel() == "VMAF (points)"
    assert ax.get_ylabel() == "rows per 5 VMAF points"


def test_histogram_says_the_share_at_both_ends(ax):
    vmaf = [0.0] + [100.0] * 4 + [99.99, 0.01, 50.0]
    plots.plot_vmaf_histogram(pd.DataFrame({"encoder": "libx264", "vmaf": vmaf}), ax=ax)
    assert texts(ax) == ["exactly 0: 12.5% of rows", "exactly 100: 50.0% of rows"]


# --- held-out sources -----------------------------------------------------------------------------


def test_predicted_draws_every_row_on_fixed_axes(ax):
    table, _ = made()
    rows = table[table["src"] == table["src"].iloc[0]]
    plots.plot_predicted(rows, "v3", ax=ax, note="PLCC 0.99")
    render(ax)
    want = rows[["vmaf", "pred_v3"]].to_numpy()
    assert sorted(drawn_points(ax).tolist()) == sorted(want.tolist())
    assert ax.get_xlim() == ax.get_ylim() == (-2, 102)
    assert ax.lines[0].get_xydata().tolist() == [[0, 0], [100, 100]]
    assert texts(ax) == ["PLCC 0.99"]
    assert legend(ax) == TWO
    assert ax.get_ylabel() == "predicted by v3 (VMAF points)"
    assert {to_hex(c.get_facecolor()[0]) for c in ax.collections} == {
        plots.PALETTE[name][0].lower() for name in TWO
    }


def test_predictions_that_cannot_be_drawn_are_counted(ax):
    table, _ = made()
    rows = table[table["src"] == table["src"].iloc[0]].copy()
    rows.loc[rows["encoder"] == "libx264", "pred_v3"] = np.nan
    plots.plot_predicted(rows, "v3", ax=ax)
    render(ax)
    assert "18 of 36 not finite" in texts(ax)


def panels(fig):
    return [a for a in fig.axes if a.get_title()]


def test_fold_grid_has_a_panel_per_fold_and_one_legend():
    table, folds = made(sources=4)
    fig = plots.fold_grid(table, folds, "v3")
    fig.canvas.draw()
    own = folds[folds["arm"] == "v3"]
    assert [p.get_title() for p in panels(fig)] == own["held_out"].tolist()
    assert len(fig.axes) == 4
    assert [t.get_text() for t in fig.legends[0].get_texts()] == TWO
    assert all(p.get_legend() is None for p in fig.axes)
    plcc, rmse = own[["plcc", "rmse"]].iloc[0]
    assert f"1-PLCC {1 - plcc:.0e}\nRMSE {rmse:.3f}" in texts(fig.axes[0])
    assert fig.get_suptitle() == ""
    assert fig.get_figwidth() == plots.WIDTH_IN


def test_fold_grid_labels_its_outer_panels_only():
    table, folds = made(sources=4)
    fig = plots.fold_grid(table, folds, "v3")
    # Three columns, so the fourth panel stands alone and the two beside it are the last of theirs.
    assert [p.get_xlabel() for p in fig.axes] == ["", *["VMAF (points)"] * 3]
    assert [bool(p.get_ylabel()) for p in fig.axes] == [True, False, False, True]


@pytest.mark.parametrize("sources", [1, 2, 15, 16, 24])
def test_fold_grid_shows_all_of_up_to_24(sources):
    table, folds = made(sources=sources, frames=1)
    fig = plots.fold_grid(table, folds, "v3")
    assert len(panels(fig)) == sources
    columns = panels(fig)[0].get_subplotspec().get_gridspec().ncols
    assert columns == min(sources, 3 if sources <= 15 else 4)
    assert fig.get_suptitle() == ""


def test_fold_grid_shows_the_worst_24_of_more_and_says_so():
    table, folds = made(sources=26, frames=1)
    own = folds[folds["arm"] == "v3"].sort_values("rmse")
    best, undefined = own["held_out"].iloc[:2].tolist(), own["held_out"].iloc[2]
    folds.loc[folds["held_out"] == undefined, ["plcc", "rmse"]] = np.nan
    fig = plots.fold_grid(table, folds, "v3")
    titles = [p.get_title() for p in panels(fig)]
    assert len(titles) == 24
    shortened = [f"…{name.removeprefix('synthetic_')}" for name in (*best, undefined)]
    assert not set(shortened[:2]) & set(titles)
    assert titles[0] == shortened[2]
    assert texts(panels(fig)[0])[0] == "1-PLCC not finite\nRMSE not finite"
    assert fig.get_suptitle() == "The 24 of 26 sources with the largest RMSE"


def test_fold_grid_takes_the_first_seed():
    table, folds = made()
    fig = plots.fold_grid(table, pd.concat([folds, folds.assign(seed=1)]), "v3")
    assert len(panels(fig)) == 4


def test_fold_grid_refuses_folds_of_other_rows():
    table, folds = made()
    with pytest.raises(InputError, match="no rows of 'elsewhere'"):
        plots.fold_grid(table, folds.assign(held_out="elsewhere"), "v3")


def test_residuals_draw_every_row_and_the_quantiles_of_each_bin(ax):
    vmaf = np.array([5.0] * 101 + [95.0, 100.0])
    residual = np.array([*np.linspace(-1, 1, 101), 0.5, -0.5])
    rows = pd.DataFrame({"encoder": "libx265", "vmaf": vmaf, "pred_v1": vmaf + residual})
    plots.plot_residuals(rows, "v1", ax=ax)
    render(ax)
    assert np.sort(drawn_points(ax)[:, 1]) == pytest.approx(np.sort(residual))
    median, high, low = (patch.get_data().values for patch in ax.patches)
    assert (low[0], median[0], high[0]) == pytest.approx((-0.9, 0.0, 0.9), abs=1e-9)
    assert median[9] == pytest.approx(0.0)  # 100 belongs to the last bin
    assert np.isnan(median[1:9]).all()
    assert legend(ax) == ["libx265", "median per 10 points", "5 % and 95 %"]
    assert "predicted - VMAF" in ax.get_ylabel()
    assert "(VMAF points)" in ax.get_ylabel()


def test_residuals_that_are_not_finite_are_counted_and_leave_the_rest(ax):
    table, _ = made()
    table.loc[table.index[:7], "pred_v3"] = np.nan
    plots.plot_residuals(table, "v3", ax=ax)
    render(ax)
    assert texts(ax) == [f"7 of {len(table)} not finite"]


def per_source(values, arm="v3", metric="plcc"):
    return pd.DataFrame({"arm": arm, "held_out": list(values), metric: list(values.values())})


def test_per_source_puts_the_worst_on_top_and_the_arms_beside_each_other(ax):
    folds = pd.concat(
        [
            per_source({"a": 0.999, "b": 0.9, "c": 0.99}),
            per_source({"a": 0.99, "b": 0.99, "c": 0.99}, "v1"),
        ]
    )
    plots.plot_per_source(folds, "plcc", ax=ax, limit=0.85, limit_label="gate: worst source")
    render(ax)
    assert y_names(ax) == ["b", "c", "a"]
    v1, v3, gate = ax.lines
    assert v3.get_xdata() == pytest.approx([0.1, 0.01, 0.001])
    assert v1.get_xdata() == pytest.approx([0.01] * 3)
    assert gate.get_xdata() == pytest.approx([0.15, 0.15])
    assert legend(ax) == [ARMS["v1"].label, ARMS["v3"].label, "gate: worst source 0.85"]
    assert (v3.get_color(), v3.get_marker()) == (ARMS["v3"].colour, ARMS["v3"].marker)


def test_correlation_axis_reads_as_the_correlation(ax):
    plots.plot_per_source(per_source({"a": 0.99995, "b": 0.98}), "plcc", ax=ax, limit=0.95)
    render(ax)
    bad, good = ax.get_xlim()
    assert bad > 0.05 > 0.02 > 0.00005 > good
    labels = dict(zip(ax.get_xticks(), ax.get_xticklabels(), strict=True))
    shown = [text.get_text() for x, text in sorted(labels.items()) if 0.99 * good < x < 1.01 * bad]
    assert shown == ["0.99999", "0.9999", "0.999", "0.99", "0.9"]
    assert ax.get_xlabel() == "PLCC of the held-out source (right is better)"


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0, 0.95])
def test_any_correlation_has_its_place(ax, value):
    plots.plot_per_source(per_source({"a": value, "b": value}, metric="srocc"), "srocc", ax=ax)
    render(ax)
    bad, good = ax.get_xlim()
    assert good < ax.lines[0].get_xdata()[0] < bad


def test_rmse_axis_is_in_vmaf_points_from_zero_and_holds_the_limit(ax):
    folds = per_source({"a": 0.2, "b": 0.4}, metric="rmse")
    plots.plot_per_source(folds, "rmse", ax=ax, limit=1.5)
    render(ax)
    assert y_names(ax) == ["b", "a"]
    assert ax.get_xlim()[0] == 0
    assert ax.get_xlim()[1] > 1.5
    assert ax.get_xlabel() == "RMSE of the held-out source (VMAF points)"
    assert legend(ax)[-1] == "gate 1.5"


@pytest.mark.parametrize(("metric", "edge"), [("plcc", 0.0), ("rmse", 1.0)])
def test_a_fold_that_is_not_finite_is_on_top_at_the_worse_edge(ax, metric, edge):
    folds = per_source({"a": 0.9, "b": np.nan, "c": 0.5}, metric=metric)
    plots.plot_per_source(folds, metric, ax=ax)
    render(ax)
    assert y_names(ax)[0] == "b"
    cross = ax.lines[1]
    assert cross.get_marker() == "X"
    assert cross.get_xydata().tolist() == [[edge, 0.0]]
    assert texts(ax) == ["not finite"]


def test_folds_that_are_all_undefined_still_draw(ax):
    plots.plot_per_source(per_source({"a": np.nan, "b": np.nan}), "plcc", ax=ax)
    render(ax)
    assert texts(ax) == ["not finite"] * 2


def test_per_source_takes_the_first_seed(ax):
    _, folds = made()
    plots.plot_per_source(pd.concat([folds, folds.assign(seed=1)]), "rmse", ax=ax)
    assert [len(line.get_xdata()) for line in ax.lines] == [4, 4, 4]


def test_long_names_lose_what_they_share_and_stay_apart(ax):
    names = [f"netflix_public_{word}_3840x2160_60fps_HDR" for word in ("bridge", "canyon")]
    plots.plot_per_source(per_source(dict.fromkeys(names, 0.9)), "plcc", ax=ax)
    assert y_names(ax) == ["…bridge…", "…canyon…"]


def test_names_that_cannot_be_told_apart_when_cut_get_a_number(ax):
    names = [f"a{'b' * 30}{x}{'c' * 30}" for x in "xyz"] + ["short", "d" * 40]
    plots.plot_per_source(per_source(dict.fromkeys(names, 0.9)), "plcc", ax=ax)
    shown = y_names(ax)
    assert len(set(shown)) == 5
    assert max(map(len, shown)) <= 30


# --- lift -----------------------------------------------------------------------------------------


def test_lift_draws_sources_mean_interval_and_floor(ax):
    _, folds = made()
    difference = paired_difference(folds, "v3", "v1", "plcc")
    plots.plot_lift(difference, ax=ax)
    render(ax)
    points, interval, mean = (ax.lines[i] for i in (1, 2, 3))
    assert sorted(points.get_xdata()) == pytest.approx(sorted(difference["per_source"].values()))
    assert points.get_xdata()[0] == min(difference["per_source"].values())
    assert interval.get_xdata() == pytest.approx([difference["low"], difference["high"]])
    assert mean.get_xdata() == pytest.approx([difference["mean"]])
    assert LIFT_FLOOR in [line.get_xdata()[0] for line in ax.lines]
    assert "floor for the mean: +0.005" in texts(ax)
    assert f"{difference['mean']:+.6f}" in texts(ax)
    assert y_names(ax)[-1] == "mean, 95 % interval"
    assert ax.get_xlabel() == "PLCC of v3 minus v1 (right is better)"


def test_lift_in_rmse_has_no_floor_and_turns_round(ax):
    _, folds = made()
    difference = paired_difference(folds, "v3", "v2", "rmse")
    plots.plot_lift(difference, ax=ax)
    render(ax)
    assert ax.lines[1].get_xdata()[0] == max(difference["per_source"].values())
    assert not [t for t in texts(ax) if "floor" in t]
    assert ax.get_xlabel() == "RMSE of v3 minus v2 (VMAF points; left is better)"


@pytest.mark.parametrize("missing", [None, np.nan])
def test_lift_that_is_not_finite_says_so(ax, missing):
    difference = {
        "arm": "v3", "baseline": "v1", "metric": "plcc", "mean": missing, "low": missing,
        "high": missing, "per_source": {"a": missing, "b": 0.001},
    }  # fmt: skip
    plots.plot_lift(difference, ax=ax)
    render(ax)
    assert texts(ax).count("not finite") == 2
    assert y_names(ax)[0] == "a"


# --- transfer and ablation ------------------------------------------------------------------------


def test_transfer_writes_each_pair_and_leaves_the_unscored_empty(ax):
    matrix = pd.DataFrame([[np.nan, 0.214], [22.9, np.nan]], TWO, TWO)
    plots.plot_transfer(matrix, ax=ax, unit="RMSE (VMAF points)")
    render(ax)
    assert texts(ax) == ["0.21", "23"]
    assert ax.collections[0].get_array().mask.tolist() == [[True, False], [False, True]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("scored on", "trained on")
    assert y_names(ax) == TWO
    assert ax.get_figure().axes[1].get_ylabel() == "RMSE (VMAF points)"
    assert (ax.collections[0].norm.vmin, ax.collections[0].norm.vmax) == (0.214, 22.9)


def test_transfer_of_a_bias_parts_at_its_centre(ax):
    matrix = pd.DataFrame([[0.0, -22.5], [0.4, 1.0]], TWO, TWO)
    plots.plot_transfer(matrix, ax=ax, unit="bias (VMAF points)", centre=0)
    render(ax)
    assert texts(ax) == ["+0.00", "-22", "+0.40", "+1.0"]
    assert ax.collections[0].norm(0.0) == 0.5


def test_transfer_of_small_figures_keeps_two_digits(ax):
    plots.plot_transfer(pd.DataFrame([[0.0613, -0.0047]], ["libx264"], TWO), ax=ax, unit="u")
    assert texts(ax) == ["0.061", "-0.0047"]


@pytest.mark.parametrize(("codecs", "beside"), [(2, True), (16, False)])
def test_answers_stand_on_one_scale(codecs, beside):
    names = list(NEWEST_VOCAB[:codecs])
    rng = np.random.default_rng(0)
    ours = pd.DataFrame(rng.uniform(0.1, 0.4, (codecs, codecs)), names, names)
    fig = plots.transfer_grid({"ours": ours, "reference recipe": ours * 50}, "RMSE (VMAF points)")
    render(fig.axes[0])
    one, two, bar = fig.axes
    norms = {ax.collections[0].norm for ax in (one, two)}
    assert len(norms) == 1
    assert (norm := norms.pop()).vmin == ours.min().min()
    assert norm.vmax == ours.max().max() * 50
    assert [ax.get_title() for ax in (one, two)] == ["ours", "reference recipe"]
    assert bar.get_ylabel() == "RMSE (VMAF points)"
    assert (one.get_position().y0 == pytest.approx(two.get_position().y0)) == beside
    assert "one scale" in fig.get_label()


@pytest.mark.parametrize("value", [0.0, 0.3, np.nan])
@pytest.mark.parametrize("centre", [None, 0])
def test_transfer_of_equal_figures_draws(ax, value, centre):
    plots.plot_transfer(pd.DataFrame(value, TWO, TWO), ax=ax, unit="u", centre=centre)
    render(ax)


def test_transfer_of_all_slots_keeps_numbers_in_their_cells():
    slots = len(NEWEST_VOCAB)
    fig, ax = plots.figure(height=plots.rows_height(slots))
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.uniform(-30, 30, (slots, slots)), NEWEST_VOCAB, NEWEST_VOCAB)
    values.iloc[0, :2] = [0.214, -0.5]
    plots.plot_transfer(values, ax=ax, unit="bias (VMAF points)", centre=0)
    renderer = render(ax)
    cell = ax.get_window_extent(renderer).width / slots
    assert texts(ax)[:2] == [".21", "-.50"]
    assert max(t.get_window_extent(renderer).width for t in ax.texts) <= cell
    assert len(fig.axes) == 2


def ablation(*rows):
    return pd.DataFrame(rows, columns=["name", "rmse", "low", "high"])


def test_ablation_draws_dots_and_intervals_from_the_top(ax):
    plots.plot_ablation(ablation(("ships", 0.25, 0.2, 0.3), ("dropout", 1.0, 0.8, 1.3)), ax=ax)
    render(ax)
    assert y_names(ax) == ["ships", "dropout"]
    assert ax.get_ylim() == (1.5, -0.5)
    bars = [segment[:, 0].tolist() for segment in ax.collections[0].get_segments()]
    assert bars == [[0.2, 0.3], [0.8, 1.3]]
    assert texts(ax) == ["0.250", "1.000"]
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel().startswith("RMSE (VMAF points;")
    assert ax.lines[0].get_xdata() == [0.25, 0.25]


@pytest.mark.parametrize(("largest", "scale"), [(2.5, "linear"), (2.6, "log")])
def test_ablation_turns_logarithmic_beyond_ten_times(ax, largest, scale):
    table = ablation(("ships", 0.25, 0.2, 0.3), ("mean", largest, 2.0, 3.0))
    plots.plot_ablation(table, ax=ax)
    render(ax)
    assert ax.get_xscale() == scale


def test_ablation_marks_what_did_not_converge(ax):
    table = ablation(("ships", 0.25, 0.2, 0.3), ("lr 10", np.nan, np.nan, np.nan))
    plots.plot_ablation(table, ax=ax)
    render(ax)
    assert texts(ax) == ["0.250", "not finite"]
    assert ax.lines[-1].get_xydata().tolist() == [[1.0, 1.0]]


def ladder_steps(encoders, unseen=True):
    """Return steps of two sources, 2 VMAF points apart, each answer with an offset of its own."""
    offsets = {("ours", True): 1.0, ("reference", True): 3.0}
    if unseen:
        offsets |= {("ours", False): 2.0, ("reference", False): -20.0}
    return [
        {"answer": answer, "seen": seen, "src": src, "encoder": encoder, "quality": quality}
        | {"vmaf": 110 - quality * 2 + shift, "predicted": 110 - quality * 2 + shift + offset}
        for (answer, seen), offset in offsets.items()
        for src, shift in (("a", -1.0), ("b", 1.0))
        for encoder in encoders
        for quality in (10, 30, 50)
    ]


def test_ladder_grid_draws_the_error_of_three_answers_as_means_over_sources():
    fig = plots.ladder_grid(ladder_steps(TWO))
    panel = fig.axes[0]
    render(panel)
    assert [ax.get_title() for ax in fig.axes if ax.axison] == TWO
    drawn = {line.get_label(): line for line in panel.lines[1:]}
    assert {name: line.get_ydata().tolist() for name, line in drawn.items()} == {
        "ours, codec seen": [1, 1, 1],
        "ours, codec unseen": [2, 2, 2],
        "reference recipe, codec unseen": [-20, -20, -20],
    }
    assert all(line.get_xdata().tolist() == [10, 30, 50] for line in drawn.values())
    # Told apart without colour, too.
    styles = {(line.get_linestyle(), line.get_marker()) for line in drawn.values()}
    assert len(styles) == 3
    assert panel.get_ylim() == (-26, 26) == fig.axes[1].get_ylim()
    assert panel.get_yticks().tolist() == [-10, -1, 0, 1, 10]
    assert fig.get_supxlabel().startswith("quality value")
    assert fig.get_supylabel() == "mean of predicted - VMAF (points)"
    assert "ours, codec unseen 2.00" in fig.get_label()


@pytest.mark.parametrize(("count", "spare"), [(1, 2), (2, 1), (3, 3), (5, 1), (16, 2)])
def test_ladder_grid_has_a_panel_per_encoder_and_one_legend(count, spare):
    encoders = list(NEWEST_VOCAB[:count])
    fig = plots.ladder_grid(ladder_steps(encoders[::-1]))
    render(fig.axes[0])
    shown = [ax for ax in fig.axes if ax.axison]
    assert [ax.get_title() for ax in shown] == encoders
    assert len(fig.axes) - len(shown) == spare
    assert legend(fig.axes[count]) == [
        "ours, codec seen",
        "ours, codec unseen",
        "reference recipe, codec unseen",
    ]


def test_ladder_grid_leaves_out_what_nobody_measured():
    fig = plots.ladder_grid(ladder_steps(TWO, unseen=False))
    render(fig.axes[0])
    lines = {line.get_label(): len(line.get_xdata()) for line in fig.axes[0].lines}
    assert lines["ours, codec seen"] == 3
    assert lines.get("ours, codec unseen", 0) == 0
