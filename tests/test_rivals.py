"""What a network has to beat, on corpora whose answer is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tiny import rows_of

from fr_lib.corpus import V061, Corpus, load_corpus, vmaf_from_features, write_table
from fr_lib.evaluate.rivals import (
    leave_one_out,
    linear,
    map_of_v061,
    mean_of_rows,
    own_formula,
    rival,
)
from fr_lib.schema import CANONICAL_6

LINEAR, MAP = "clipped linear regression", "isotonic map of VMAF v0.6.1"
OTHER = "vmaf_4k_v0.6.1"
pytestmark = pytest.mark.usefixtures("other_teacher")
# Worth per unit of each feature; the five lie between 0.6 and 1, and motion2 below 12.
WORTH = np.array([20.0, 5.0, 10.0, -8.0, 30.0, 0.5])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Four sources of 32 rows each."""
    table = rows_of(("libx264", "libvvenc"), (10, 25, 35, 45), sources=4)
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    write_table(table, path)
    return load_corpus(path)


def features_of(corpus: Corpus) -> np.ndarray:
    return corpus.table[list(CANONICAL_6)].to_numpy()


def scored(corpus: Corpus, vmaf: np.ndarray, teacher: str | None = V061.name) -> Corpus:
    """Return the same rows with other scores."""
    return replace(corpus, table=corpus.table.assign(vmaf=vmaf), teacher=teacher)


def on_a_plane(corpus: Corpus) -> np.ndarray:
    score = features_of(corpus) @ WORTH + 10
    assert 20 < score.min() < score.max() < 90
    return score


# --- each predictor -------------------------------------------------------------------------------


def test_a_linear_regression_finds_a_plane_and_goes_on_beyond_its_rows():
    rng = np.random.default_rng(0)
    x, asked = rng.random((20, 6)), 5 * rng.random((7, 6))
    found = linear(x, x @ WORTH + 3, asked)
    np.testing.assert_allclose(found, asked @ WORTH + 3, atol=1e-9)
    # Not one through the origin: what all have in common is not the features' work.
    np.testing.assert_allclose(linear(x, np.full(20, 40.0), asked), 40.0, atol=1e-9)


def test_a_linear_regression_of_two_levels_is_the_least_squares_line():
    x = np.zeros((4, 6))
    x[:, 0] = [0, 0, 1, 1]
    asked = np.zeros((3, 6))
    asked[:, 0] = [0, 0.5, 2]
    # Means 15 and 55 at the two places, 40 apart.
    found = linear(x, np.array([10.0, 20.0, 50.0, 60.0]), asked)
    assert found.tolist() == pytest.approx([15, 35, 95])


@pytest.fixture(scope="module")
def ladder(corpus) -> np.ndarray:
    """Three frames whose VMAF v0.6.1 rises."""
    x = features_of(corpus)
    exact = vmaf_from_features(x)
    rows = x[[exact.argmin(), np.argsort(exact)[len(exact) // 2], exact.argmax()]]
    low, middle, high = vmaf_from_features(rows)
    assert low + 10 < middle < high - 10
    return rows


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((10, 50, 90), (10, 50, 90)),
        ((10, 10, 90), (10, 10, 90)),
        # Pools of those that are out of order, and never a falling map.
        ((50, 10, 90), (30, 30, 90)),
        ((10, 90, 50), (10, 70, 70)),
        ((90, 50, 10), (50, 50, 50)),
    ],
)
def test_the_map_rises_with_vmaf_v061_and_pools_what_does_not(ladder, scores, expected):
    found = map_of_v061(ladder, np.array(scores, dtype=float), ladder)
    assert found.tolist() == pytest.approx(expected)


def test_the_map_is_straight_between_its_points_and_flat_beyond_them(ladder):
    low, middle, high = vmaf_from_features(ladder)
    share = (middle - low) / (high - low)
    found = map_of_v061(ladder[[0, 2]], np.array([20.0, 60.0]), ladder)
    assert found.tolist() == pytest.approx([20, 20 + 40 * share, 60])
    below, _, above = map_of_v061(ladder[[1, 1]], np.array([30.0, 40.0]), ladder)
    assert (below, above) == pytest.approx((35, 35))


def test_the_mean_and_the_formula_know_their_values(ladder):
    assert mean_of_rows(ladder, np.array([1.0, 2.0, 6.0]), ladder[:2]).tolist() == [3.0, 3.0]
    perfect = np.array([[1.0] * 5 + [0.0]])
    assert own_formula(V061)(ladder, np.zeros(3), perfect) == pytest.approx([97.42804], abs=1e-5)


# --- left out in turn -----------------------------------------------------------------------------


def test_a_source_is_predicted_by_the_others_alone(corpus):
    """Spoil one source: its predictions stay as they were, and those of the others move."""
    plane = on_a_plane(corpus)
    own = (corpus.table["src"] == corpus.sources()[1]).to_numpy()
    spoilt = np.where(own, 100 - plane, plane)
    before, after = (leave_one_out(scored(corpus, v), linear) for v in (plane, spoilt))
    held = before["held_out"] == corpus.sources()[1]
    assert (before.loc[held, "predicted"] == after.loc[held, "predicted"]).all()
    assert (before.loc[~held, "predicted"] != after.loc[~held, "predicted"]).all()
    np.testing.assert_allclose(after.loc[held, "vmaf"], (100 - plane)[own], atol=1e-4)


def test_what_is_fitted_on_holds_no_row_of_the_held_out_source(corpus):
    given = []

    def watch(x, y, asked):
        given.append((len(x), len(y), len(asked)))
        assert not {row.tobytes() for row in x} & {row.tobytes() for row in asked}
        return np.zeros(len(asked))

    leave_one_out(corpus, watch)
    assert given == [(96, 96, 32)] * 4


# --- the rival ------------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", [V061.name, None])
def test_a_plane_is_what_the_linear_rival_knows(corpus, teacher):
    found = rival(scored(corpus, on_a_plane(corpus), teacher))
    assert (found["name"], found["formula_teacher"]) == (LINEAR, True)
    assert found["rmse"] == pytest.approx(0, abs=1e-3)


def alike(corpus: Corpus) -> Corpus:
    """Return a corpus whose sources all show the frames of the first one."""
    table = corpus.table.copy()
    shown = table.loc[table["src"] == corpus.sources()[0], list(CANONICAL_6)].to_numpy()
    for source in corpus.sources():
        table.loc[table["src"] == source, list(CANONICAL_6)] = shown
    return replace(corpus, table=table)


def test_a_rising_map_of_vmaf_v061_is_what_the_other_rival_knows(corpus):
    same = alike(corpus)
    exact = vmaf_from_features(features_of(same))
    # Rising and far from straight, so that a plane cannot know it.
    steps = np.where(exact < np.median(exact), 30.0, 70.0)
    found = rival(scored(same, steps, OTHER))
    assert (found["name"], found["formula_teacher"]) == (MAP, False)
    assert found["rmse"] == pytest.approx(0, abs=1e-6)
    assert rival(scored(same, steps))["rmse"] > 5
    # Nothing that falls with VMAF v0.6.1 is known: the map is then the mean, 20 off everywhere.
    falling = rival(scored(same, 100 - steps, OTHER))
    assert falling["rmse"] == pytest.approx(20)


def test_another_teacher_is_not_held_against_a_plane(corpus):
    found = rival(scored(corpus, on_a_plane(corpus), OTHER))
    assert (found["name"], found["formula_teacher"]) == (MAP, False)
    assert found["rmse"] > 0.3


def test_predictions_are_clipped_at_both_ends(corpus):
    """A plane that leaves the scale, and scores that stop at its ends."""
    x = features_of(corpus)
    plane = x @ WORTH
    wide = 130 * (plane - plane.min()) / np.ptp(plane) - 15
    first = corpus.sources()[0]
    others = (corpus.table["src"] != first).to_numpy()
    # Scores off the scale stand for no corpus: they make the plane known beyond doubt.
    rows = leave_one_out(scored(corpus, np.where(others, wide, wide.clip(0, 100))), linear)
    own = rows[rows["held_out"] == first]
    np.testing.assert_allclose(own["predicted"], wide[~others].clip(0, 100), atol=1e-3)
    found = set(own["predicted"])
    assert {0.0, 100.0} <= found
    assert len(found) > 10


def test_the_rmse_is_the_mean_over_sources_and_not_over_rows(corpus):
    """Of one source three frames in four are gone; the others are as large as before."""
    first = corpus.table["src"] == corpus.sources()[0]
    kept = ~first | (corpus.table["frame_index"] == 0)
    small = replace(corpus, table=corpus.table[kept].reset_index(drop=True))
    found = rival(small)["rmse"]
    rows = leave_one_out(small, linear)
    error = (rows["predicted"] - rows["vmaf"]).to_numpy()
    each = [
        math.sqrt(np.mean(error[(rows["held_out"] == s).to_numpy()] ** 2)) for s in small.sources()
    ]
    assert found == pytest.approx(np.mean(each))
    assert found != pytest.approx(math.sqrt(np.mean(error**2)), rel=1e-3)


def test_the_rival_of_the_formula_is_never_the_formula(corpus):
    # The formula would be the truth itself, and beaten by nothing.
    assert np.abs(leave_one_out(corpus, own_formula(V061)).eval("predicted - vmaf")).max() < 1e-3
    assert rival(corpus)["rmse"] > 0.5
