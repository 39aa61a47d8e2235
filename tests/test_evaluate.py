"""Metrics, leave-one-source-out, intervals, and the graph fitted on everything."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from fr_lib.arms import ARMS
from fr_lib.corpus import Corpus, load_corpus, synthetic_table, write_table
from fr_lib.errors import InputError
from fr_lib.evaluate import input_table, joined, run_loso, worst_frames
from fr_lib.evaluate.loso import (
    bootstrap_interval,
    by_title,
    calibration,
    loso_report,
    metrics,
    paired_difference,
    refit,
    summary,
)
from fr_lib.release import open_session
from fr_lib.release.onnx import export_onnx
from fr_lib.schema import CANONICAL_6, ENCODER_VOCAB_V2, N_CODEC_BLOCK, NEWEST_VOCAB, codec_block
from fr_lib.train import Recipe

FAST = Recipe(name="test", hidden=16, lr=5e-3, epochs=3)
SIXTEEN_ROWS = Path(__file__).parent / "data" / "sixteen_rows.jsonl"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    rows = synthetic_table(["libx264", "libvvenc"], [20, 35, 48], sources=4, frames=8, seed=0)
    write_table(rows, path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def result(corpus):
    return run_loso(corpus, FAST, seeds=(0, 1), device="cpu")


# --- metrics --------------------------------------------------------------------------------------


def test_known_values():
    found = metrics([1, 2, 3, 4], [2, 2, 4, 8])
    assert found["plcc"] == pytest.approx(10 / math.sqrt(5 * 24))
    assert found["srocc"] == pytest.approx(4.5 / math.sqrt(5 * 4.5))
    assert found["rmse"] == pytest.approx(math.sqrt(18 / 4))
    assert found["bias"] == pytest.approx(-1.5)


def test_ties_take_average_ranks():
    rng = np.random.default_rng(0)
    vmaf = np.minimum(rng.uniform(0, 130, 400), 100)
    predicted = np.round(np.clip(vmaf + rng.normal(0, 8, 400), 0, 100), -1)
    found = metrics(predicted, vmaf)
    assert (vmaf == 100).sum() > 50
    assert found["plcc"] == pytest.approx(pearsonr(predicted, vmaf).statistic, abs=1e-12)
    assert found["srocc"] == pytest.approx(spearmanr(predicted, vmaf).statistic, abs=1e-12)


def test_perfect_and_reversed():
    vmaf = np.linspace(10, 90, 9)
    assert metrics(vmaf, vmaf) == pytest.approx({"plcc": 1, "srocc": 1, "rmse": 0, "bias": 0})
    assert metrics(-vmaf, vmaf)["plcc"] == pytest.approx(-1)
    assert metrics(vmaf**3, vmaf)["srocc"] == pytest.approx(1)


@pytest.mark.parametrize(("a", "b"), [([3, 3, 3], [1, 2, 3]), ([1, 2, 3], [3, 3, 3]), ([5], [7])])
def test_constants_and_single_rows_have_no_correlation_but_an_error(a, b):
    found = metrics(a, b)
    assert math.isnan(found["plcc"])
    assert math.isnan(found["srocc"])
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((np.array(a) - np.array(b)) ** 2)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_makes_all_undefined(bad):
    for pair in (([1, bad, 3], [1, 2, 3]), ([1, 2, 3], [1, bad, 3]), ([], [])):
        assert all(math.isnan(value) for value in metrics(*pair).values())


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2, 3]), ([[1, 2]], [[1, 2]])])
def test_shapes_that_do_not_fit_are_refused(a, b):
    with pytest.raises(InputError, match="metrics: shapes"):
        metrics(a, b)


SCORES = st.floats(0, 100)


@given(st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=30))
def test_bounds(pairs):
    predicted, vmaf = np.array(pairs).T
    found = metrics(predicted, vmaf)
    for name in ("plcc", "srocc"):
        assert math.isnan(found[name]) or -1 - 1e-12 <= found[name] <= 1 + 1e-12
    constant = np.ptp(predicted) == 0 or np.ptp(vmaf) == 0
    assert math.isnan(found["plcc"]) == constant
    # The last digits of a square may say less than the bias itself.
    assert abs(found["bias"]) <= found["rmse"] + 1e-9
    assert found["rmse"] <= 100


# --- leave one source out -------------------------------------------------------------------------


def test_schema_of_folds_and_predictions(corpus, result):
    sources = corpus.sources()
    assert list(result.folds) == [
        *("seed", "arm", "held_out", "n_train", "n_val"),
        *("plcc", "srocc", "rmse", "bias"),
    ]
    assert len(result.folds) == 2 * 3 * 4
    assert result.of("v3")["held_out"].tolist() == sources
    assert result.of("v1", seed=1)["seed"].tolist() == [1] * 4
    assert set(result.folds["n_train"]) == {144}
    assert set(result.folds["n_val"]) == {48}
    keys = ["src", "encoder", "preset", "quality", "frame_index", "vmaf"]
    assert list(result.oof) == [*keys, "pred_v1", "pred_v2", "pred_v3"]
    pd.testing.assert_frame_equal(result.oof[keys], corpus.table[keys])
    predictions = result.oof[["pred_v1", "pred_v2", "pred_v3"]]
    assert predictions.notna().all(axis=None)
    assert predictions.min(axis=None) >= 0
    assert predictions.max(axis=None) <= 100


def test_folds_are_the_metrics_of_the_predictions_that_are_kept(result):
    for arm in ARMS:
        for fold in result.of(arm).to_dict(orient="records"):
            rows = result.oof[result.oof["src"] == fold["held_out"]]
            found = metrics(rows[f"pred_{arm}"], rows["vmaf"])
            assert found == pytest.approx({k: fold[k] for k in found}, abs=1e-5)


@pytest.mark.parametrize(("shift", "bound"), [(-3.0, 0.0), (3.0, 100.0)])
def test_out_of_fold_predictions_are_clipped_to_the_range_of_vmaf(corpus, shift, bound):
    """A clip with features far beyond those of the others is scored at the end of the range."""
    own = corpus.table["src"] == corpus.sources()[0]
    moved = corpus.table[list(CANONICAL_6[:5])].where(~own, lambda features: features + shift)
    far = replace(corpus, table=corpus.table.assign(**moved))
    found = run_loso(far, replace(FAST, epochs=40), arms=["v1"], device="cpu")
    predicted = found.oof.loc[own, "pred_v1"]
    assert set(predicted) == {bound}
    fold = found.of("v1").iloc[0]
    assert fold["bias"] == pytest.approx((bound - corpus.table.loc[own, "vmaf"]).mean(), abs=1e-4)


def test_seeds_differ(result):
    assert not np.allclose(result.of("v3", 0)["rmse"], result.of("v3", 1)["rmse"])


def test_a_held_out_source_never_trains_its_own_fold(corpus):
    own = corpus.table["src"] == corpus.sources()[0]
    poisoned = replace(corpus, table=corpus.table.assign(vmaf=corpus.table["vmaf"].mask(own, 50)))
    before, after = (
        run_loso(c, FAST, arms=["v3"], device="cpu").oof["pred_v3"] for c in (corpus, poisoned)
    )
    assert (before[own] == after[own]).all()
    assert (before[~own] != after[~own]).mean() > 0.9


def test_groups_keep_clips_of_one_title_together(corpus):
    sources = corpus.sources()
    title = {sources[0]: "A", sources[1]: "A", sources[2]: "B", sources[3]: "B"}
    groups = corpus.table["src"].map(title).to_numpy(object)
    folds = run_loso(corpus, FAST, arms=["v1"], groups=groups, device="cpu").folds
    assert folds["held_out"].tolist() == ["A", "B"]
    assert folds["n_train"].tolist() == folds["n_val"].tolist() == [96, 96]
    with pytest.raises(InputError, match="groups: 5; allowed: 192"):
        run_loso(corpus, FAST, groups=groups[:5])


def only(corpus: Corpus, count: int) -> Corpus:
    kept = corpus.table["src"].isin(corpus.sources()[:count])
    return replace(corpus, table=corpus.table[kept].reset_index(drop=True))


def test_two_sources_are_enough_for_loso_and_one_is_not(corpus):
    assert len(run_loso(only(corpus, 2), FAST, arms=["v1"], device="cpu").folds) == 2
    with pytest.raises(InputError, match="1 source; allowed: 2 or more"):
        run_loso(only(corpus, 1), FAST)


def test_unknown_arms_and_impossible_seeds_are_refused(corpus):
    with pytest.raises(InputError, match="arms: v0, v4"):
        run_loso(corpus, FAST, arms=["v4", "v3", "v0"])
    for seeds in ([], range(0), [3, -1]):
        with pytest.raises(InputError, match="seeds: "):
            run_loso(corpus, FAST, seeds=seeds)


def test_input_table_holds_both_blocks(corpus):
    table = input_table(corpus)
    assert table.shape == (192, 6 + N_CODEC_BLOCK + len(ENCODER_VOCAB_V2) + 2)
    assert [len(arm.columns) for arm in ARMS.values()] == [
        6,
        6 + len(ENCODER_VOCAB_V2) + 2,
        6 + N_CODEC_BLOCK,
    ]
    names, ordinals = corpus.table["encoder"].tolist(), corpus.table["preset_ordinal"]
    v3 = codec_block(names, ordinals, corpus.table["quality"])
    assert (table[:, ARMS["v3"].columns[6:]] == v3).all()
    # v2: libx264 is slot 0 and libvvenc slot 3.
    assert set(table[:, ARMS["v2"].columns[6:]][:, :12].argmax(axis=1)) == {0, 3}
    assert (table[:, :6] == corpus.features()).all()


# --- figures over folds ---------------------------------------------------------------------------


def fold_table(plcc, rmse=(1.0, 2.0, 3.0)) -> pd.DataFrame:
    return pd.DataFrame({"held_out": ["A", "B", "C"], "plcc": plcc, "srocc": 0.5, "rmse": rmse})


def test_summary_of_known_folds():
    assert summary(fold_table([0.9, 0.8, 1.0])) == pytest.approx(
        {
            "mean_plcc": 0.9,
            "std_plcc": math.sqrt(0.02 / 3),
            "min_plcc": 0.8,
            "max_plcc": 1.0,
            "mean_srocc": 0.5,
            "mean_rmse": 2.0,
            "max_rmse": 3.0,
            "worst_source": "B",
            "worst_rmse_source": "C",
        }
    )


def test_an_undefined_fold_is_never_left_out():
    found = summary(fold_table([0.9, 0.8, math.nan], [math.nan, 1.0, 2.0]))
    for name in ("mean_plcc", "std_plcc", "min_plcc", "max_plcc", "mean_rmse", "max_rmse"):
        assert math.isnan(found[name])
    assert (found["worst_source"], found["worst_rmse_source"]) == ("C", "A")


def test_interval_of_known_values():
    assert bootstrap_interval([0.7] * 5) == pytest.approx((0.7, 0.7))
    # Two sources: the mean of a draw is 0, 1/2 or 1, the ends with probability 1/4 each.
    assert bootstrap_interval([0.0, 1.0]) == (0.0, 1.0)
    values = np.random.default_rng(0).normal(10, 2, 40)
    low, high = bootstrap_interval(values)
    half_width = 1.96 * values.std() / math.sqrt(40)
    assert low == pytest.approx(values.mean() - half_width, abs=0.05)
    assert high == pytest.approx(values.mean() + half_width, abs=0.05)


def test_interval_order_level_and_seed():
    values = [0.91, 0.95, 0.99, 0.97, 0.9]
    low, high = bootstrap_interval(values)
    assert min(values) <= low < np.mean(values) < high <= max(values)
    assert bootstrap_interval(values) == (low, high)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert all(math.isnan(end) for end in bootstrap_interval([0.9, math.nan]))


def test_paired_difference():
    folds = pd.DataFrame(
        {
            "seed": 0,
            "arm": ["v1"] * 3 + ["v3"] * 3,
            "held_out": ["A", "B", "C", "C", "B", "A"],
            "rmse": [1.0, 2.0, 3.0, 2.5, 1.0, 1.0],
        }
    )
    found = paired_difference(folds, "v3", "v1", "rmse")
    assert (found["arm"], found["baseline"], found["metric"]) == ("v3", "v1", "rmse")
    assert found["per_source"] == {"A": 0.0, "B": -1.0, "C": -0.5}
    assert found["mean"] == pytest.approx(-0.5)
    assert -1.0 <= found["low"] < -0.5 < found["high"] <= 0.0


def test_paired_difference_over_seeds_keeps_the_undefined():
    folds = pd.DataFrame(
        {
            "seed": [0, 0, 1, 1] * 2,
            "arm": ["v1", "v3"] * 4,
            "held_out": ["A"] * 4 + ["B"] * 4,
            "plcc": [0.5, 0.75, 0.5, 1.0, 0.5, 0.75, 0.5, math.nan],
        }
    )
    found = paired_difference(folds, "v3", "v1", "plcc")
    assert found["per_source"]["A"] == pytest.approx(0.375)
    assert math.isnan(found["per_source"]["B"])
    assert math.isnan(found["mean"])


def test_report(result, corpus):
    report = loso_report(result)
    assert report["seeds"] == [0, 1]
    assert report["recipe"] == FAST.as_dict()
    assert list(report["arms"]) == ["v1", "v2", "v3"]
    v3 = report["arms"]["v3"]
    assert v3["summary"] == summary(result.of("v3"))
    assert [fold["held_out"] for fold in v3["folds"]] == corpus.sources()
    assert set(v3["folds"][0]) == {
        *("held_out", "n_train", "n_val", "plcc", "srocc", "rmse", "bias")
    }
    assert v3["intervals"]["rmse"][0] <= v3["summary"]["mean_rmse"] <= v3["intervals"]["rmse"][1]
    assert v3["seed_mean_plcc"] == {
        str(seed): pytest.approx(result.of("v3", seed)["plcc"].mean()) for seed in (0, 1)
    }
    compared = [(p["baseline"], p["metric"]) for p in report["paired"]]
    assert compared == [("v1", "plcc"), ("v1", "rmse"), ("v2", "plcc"), ("v2", "rmse")]
    difference = result.of("v3")["rmse"].mean() - result.of("v1")["rmse"].mean()
    assert report["paired"][1]["mean"] == pytest.approx(difference)


# --- quality normalisation ------------------------------------------------------------------------


def predictions(corpus: Corpus, crf_norm: str, arm: str = "v3") -> pd.Series:
    return run_loso(corpus, FAST, arms=[arm], crf_norm=crf_norm, device="cpu").oof[f"pred_{arm}"]


def with_quality(corpus: Corpus, change) -> Corpus:
    return replace(corpus, table=corpus.table.assign(quality=change(corpus.table["quality"])))


def test_minmax_bounds_are_those_of_the_training_rows(corpus):
    """A held-out source with one wild quality value is scored as before everywhere else."""
    first = corpus.table["src"] == corpus.sources()[0]
    wild = first & (corpus.table["quality"] == 48)
    poisoned = with_quality(corpus, lambda quality: quality.mask(wild, 1e6))
    before, after = predictions(corpus, "minmax"), predictions(poisoned, "minmax")
    # Folds of other bounds train in other batches, which may round otherwise.
    same = first & ~wild
    np.testing.assert_allclose(after[same], before[same], atol=1e-3)
    assert (after[wild] != before[wild]).all()
    # In the other folds it is a training row, and their bounds move.
    assert (after[~first] != before[~first]).mean() > 0.5


def test_minmax_does_not_see_the_scale_of_the_quality(corpus):
    scaled = with_quality(corpus, lambda quality: 7 + quality * 4)
    before, after = predictions(corpus, "minmax"), predictions(scaled, "minmax")
    np.testing.assert_allclose(after, before, atol=0.05)
    assert not np.allclose(predictions(scaled, "div63"), predictions(corpus, "div63"), atol=0.05)


@pytest.mark.parametrize("arm", ["v2", "v3"])
def test_a_constant_norm_hides_the_quality(corpus, arm):
    mixed = with_quality(corpus, lambda quality: 68 - quality)
    assert (predictions(mixed, "constant", arm) == predictions(corpus, "constant", arm)).all()
    assert (predictions(mixed, "minmax", arm) != predictions(corpus, "minmax", arm)).any()


@pytest.mark.parametrize("crf_norm", ["minmax", "constant"])
def test_the_codec_blind_arm_knows_no_norm(corpus, crf_norm):
    expected = predictions(corpus, "div63", "v1")
    assert (predictions(corpus, crf_norm, "v1") == expected).all()


def test_minmax_of_a_single_quality_is_a_constant(corpus):
    one = with_quality(corpus, lambda quality: quality * 0 + 30)
    assert (predictions(one, "minmax") == predictions(one, "constant")).all()


# --- residuals ------------------------------------------------------------------------------------


def residuals(vmaf, residual, arm="v3") -> pd.DataFrame:
    vmaf = np.asarray(vmaf, dtype=float)
    return pd.DataFrame({"vmaf": vmaf, f"pred_{arm}": vmaf + residual})


def test_calibration_of_known_residuals():
    table = calibration(residuals([0, 9.999, 10, 55, 59, 90, 100], [1, 3, -2, 0, 4, -1, -3]))
    assert table["low"].tolist() == [0, 10, 50, 90]
    assert table["rows"].tolist() == [2, 1, 2, 2]
    assert table["bias"].tolist() == pytest.approx([2, -2, 2, -2])
    assert table["rmse"].tolist() == pytest.approx([5**0.5, 2, 8**0.5, 5**0.5])
    assert table["p05"].tolist() == pytest.approx([1.1, -2, 0.2, -2.9])
    assert table["p95"].tolist() == pytest.approx([2.9, -2, 3.8, -1.1])


def test_calibration_takes_an_arm_and_a_width():
    oof = residuals([5, 24, 26, 100], [1, 1, 1, 1], arm="v1")
    table = calibration(oof, "v1", width=25)
    assert table["low"].tolist() == [0, 25, 75]
    assert table["rows"].tolist() == [2, 1, 1]


def test_calibration_counts_every_row_once(result, corpus):
    table = calibration(result.oof)
    assert table["rows"].sum() == len(corpus.table)
    residual = result.oof["pred_v3"] - result.oof["vmaf"]
    assert np.average(table["bias"], weights=table["rows"]) == pytest.approx(residual.mean())
    square = np.average(table["rmse"] ** 2, weights=table["rows"])
    assert square == pytest.approx((residual**2).mean())
    assert loso_report(result)["calibration"].equals(table)


def test_worst_frames_are_those_missed_by_most_with_their_features(corpus):
    residual = np.zeros(192)
    residual[[7, 100, 31, 150]] = [4.0, -9.0, 2.0, -3.0]
    oof = corpus.table.assign(pred_v3=corpus.table["vmaf"] + residual)
    worst = worst_frames(corpus, oof, count=3)
    assert worst["residual"].tolist() == pytest.approx([-9.0, 4.0, -3.0])
    keys = ["src", "encoder", "preset", "quality", "frame_index", "vmaf", *CANONICAL_6]
    assert list(worst) == [*keys, "residual"]
    pd.testing.assert_frame_equal(worst[keys], corpus.table.loc[[100, 7, 150], keys])
    assert len(worst_frames(corpus, oof)) == 10


# --- titles ---------------------------------------------------------------------------------------


def test_by_title_is_loso_of_titles(corpus):
    a, b, c, d = corpus.sources()
    titles = {a: "A", b: "A", c: "B", d: "C"}
    found = by_title(corpus, titles, FAST, seed=1, device="cpu")
    groups = corpus.table["src"].map(titles).to_numpy(object)
    folds = run_loso(corpus, FAST, [1], ["v3"], groups, device="cpu").folds
    assert found == {"titles": 3, "summary": summary(folds)}
    assert found["summary"]["worst_source"] in "ABC"


def test_by_title_needs_titles_that_differ_from_the_sources(corpus):
    own = {source: source for source in corpus.sources()}
    assert by_title(corpus, own, FAST) is None
    assert by_title(corpus, dict.fromkeys(own, "one"), FAST) is None


# --- refit ----------------------------------------------------------------------------------------


def test_an_untrained_slot_is_scored_as_the_zero_block(corpus):
    networks = refit(corpus, FAST, device="cpu")
    graph, aware = joined(networks, corpus), networks["v3"]
    features = torch.from_numpy(aware.scaler(corpus.features()))
    n = len(features)
    trained = graph.trained.reshape(-1).tolist()
    assert trained == [name in ("libx264", "libvvenc") for name in NEWEST_VOCAB]
    with torch.no_grad():
        zero = graph(features, torch.zeros(n, N_CODEC_BLOCK))
        for encoder in NEWEST_VOCAB:
            block = torch.from_numpy(codec_block([encoder] * n, [5] * n, [30] * n))
            same = torch.equal(graph(features, block), zero)
            assert same == (encoder not in ("libx264", "libvvenc"))


def test_the_graph_is_the_two_models_of_one_scaler(corpus):
    networks = refit(corpus, FAST, seed=2, device="cpu")
    graph, aware = joined(networks, corpus), networks["v3"]
    table = input_table(corpus)
    np.testing.assert_allclose(
        aware.scaler.mean, corpus.features().astype(np.float64).mean(axis=0), rtol=1e-6
    )
    with torch.no_grad():
        score = graph(
            torch.from_numpy(aware.inputs(table)[:, :6]),
            torch.from_numpy(table[:, 6 : 6 + N_CODEC_BLOCK]),
        )
    np.testing.assert_allclose(score.numpy(), aware.predict(table).clip(0, 100), atol=1e-4)
    assert not graph.training


def test_one_epoch_on_sixteen_rows_survives_the_trip_through_onnx(tmp_path):
    corpus = load_corpus(SIXTEEN_ROWS)
    networks = refit(corpus, replace(FAST, epochs=1), device="cpu")
    graph, aware = joined(networks, corpus), networks["v3"]
    facts = export_onnx(graph, tmp_path / "m.onnx")
    assert facts["opset"] == 17
    session = open_session(tmp_path / "m.onnx")
    features, block = aware.scaler(corpus.features()), corpus.codec_block()
    with torch.no_grad():
        expected = graph(torch.from_numpy(features), torch.from_numpy(block)).numpy()
    for n in (1, 7, 16):
        [score] = session.run(None, {"features": features[:n], "codec_block": block[:n]})
        np.testing.assert_allclose(score, expected[:n], atol=1e-4)
