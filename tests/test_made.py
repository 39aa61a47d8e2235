"""Rows that the teacher labels: how many, from where, with which block, and from whose rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import rows_of

from fr_lib.arms import ARMS
from fr_lib.corpus import Corpus, load_corpus, vmaf_from_features, write_table
from fr_lib.evaluate import input_table, run_loso
from fr_lib.schema import ADAPTERS, CANONICAL_6, ENCODER_VOCAB_V2, N_CODEC_BLOCK, NEWEST_VOCAB
from fr_lib.train import (
    HIGHEST,
    MOTION_MAX,
    Job,
    Recipe,
    Scaler,
    batch,
    draw_domain,
    into_domain,
    made_count,
    train_many,
)
from fr_lib.train.batch import training_rows
from fr_lib.train.made import ADM_LINE, ADM_SPREAD, LEAST, MOST, STEP_DOWN, made_rows

V3_END, V2_END = 6 + N_CODEC_BLOCK, 6 + N_CODEC_BLOCK + len(ENCODER_VOCAB_V2) + 2
V3_SLOTS, V3_PRESET, V3_QUALITY = slice(6, V3_END - 2), V3_END - 2, V3_END - 1
V2_SLOTS, V2_PRESET, V2_QUALITY = slice(V3_END, V2_END - 2), V2_END - 2, V2_END - 1
# As few steps as there can be: made rows alone are 40,000.
SHORT = Recipe(name="test", hidden=8, lr=5e-3, epochs=1, batch=1024, made_per_row=1, censored=True)
PERFECT = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]


def with_presets(table):
    """Give libx264 a preset that goes with its quality, so that a block moves in two columns."""
    fast = (table["encoder"] == "libx264") & (table["cq"] == 20)
    slow = (table["encoder"] == "libx264") & (table["cq"] == 40)
    return table.assign(preset=table["preset"].mask(fast, "fast").mask(slow, "slow"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Three quarters of its rows are libx264's, and libvvenc has one quality value alone."""
    # The last row of an encoder has not its highest quality value, nor the first one its least.
    table = with_presets(rows_of(("libx264", "libvvenc"), (33, 40, 20)))
    path = tmp_path_factory.mktemp("corpus") / "c.parquet"
    write_table(table[(table["encoder"] == "libx264") | (table["cq"] == 33)], path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def table(corpus) -> np.ndarray:
    return input_table(corpus)


@pytest.fixture(scope="module")
def made(table) -> tuple[np.ndarray, np.ndarray]:
    return made_rows(table, 1, seed=0)


def steps_down(rows: np.ndarray) -> np.ndarray:
    """Return by how much the coarser of two vif scales is below the finer one, at worst."""
    return -np.diff(rows[:, 1:5], axis=1).min(axis=1)


def off_line(rows: np.ndarray) -> np.ndarray:
    """Return by how much adm2 is off its line over the mean of the vif scales."""
    return np.abs(rows[:, 0] - ADM_LINE[0] - ADM_LINE[1] * rows[:, 1:5].mean(axis=1))


# --- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_real", "per_row", "expected"),
    [
        (10, 0, 0),
        (MOST, 0, 0),
        (1, 1, LEAST),
        (LEAST - 1, 1, LEAST),
        (LEAST, 1, LEAST),
        (LEAST + 1, 1, LEAST + 1),
        (LEAST // 2 + 1, 2, LEAST + 2),
        (MOST - 1, 1, MOST - 1),
        (MOST, 1, MOST),
        (MOST + 1, 1, MOST),
        (10_000, 6, 60_000),
        (MOST // 6 + 1, 6, MOST),
    ],
)
def test_as_many_as_asked_for_within_least_and_most(n_real, per_row, expected):
    assert made_count(n_real, per_row) == expected


def test_least_and_most_are_those_of_the_documents():
    assert (LEAST, MOST) == (40_000, 120_000)


@pytest.mark.parametrize(("per_row", "count"), [(1, 40_000), (2_000, 60_000), (10**6, 120_000)])
def test_so_many_rows_come_out(table, per_row, count):
    given = table[:30]
    rows, labels = made_rows(given, per_row, seed=0)
    assert (rows.shape, labels.shape) == ((count, given.shape[1]), (count,))
    assert (rows.dtype, labels.dtype) == (np.float32, np.float32)


def test_an_epoch_counts_real_rows_and_made_ones(table):
    job = Job(np.arange(len(table)) < 30, ARMS["v3"].columns, seed=0)
    assert training_rows(job, SHORT) == 30 + LEAST
    assert training_rows(job, replace(SHORT, made_per_row=2_000)) == 30 + 60_000
    assert training_rows(job, replace(SHORT, made_per_row=0)) == 30


# --- seeds ----------------------------------------------------------------------------------------


def test_the_same_seed_makes_the_same_bytes_and_another_one_others(table, made):
    before = table.tobytes()
    rows, labels = made_rows(table, 1, seed=0)
    assert (rows.tobytes(), labels.tobytes()) == (made[0].tobytes(), made[1].tobytes())
    other, other_labels = made_rows(table, 1, seed=1)
    # Perfect rows and scores at an end of the scale can be the same by chance.
    assert (other[:, :6] != rows[:, :6]).any(axis=1).mean() > 0.9
    assert (other_labels != labels).mean() > 0.9
    assert table.tobytes() == before


# --- features and labels --------------------------------------------------------------------------


def test_labels_are_the_formula_of_the_features(made):
    rows, labels = made
    # In other company, a row's float64 score may end in another digit.
    exact = np.concatenate([vmaf_from_features(part) for part in np.array_split(rows[:, :6], 7)])
    np.testing.assert_allclose(labels, exact, rtol=0, atol=1e-5)
    assert (labels.min(), labels.max()) == (0.0, 100.0)
    # Both ends of the scale, and mostly what is between.
    assert 0.05 < (labels == 0).mean() < 0.25
    assert 0.05 < (labels == 100).mean() < 0.25


def test_made_features_stay_within_the_ends_of_the_domain(made):
    features = made[0][:, :6].astype(np.float64)
    assert features.min() == 0.0
    assert 1.3 < features[:, :5].max() <= HIGHEST
    assert features[:, 5].max() == MOTION_MAX
    assert (features[:, :5] > 1).any(axis=1).mean() < 0.2


def out_of_domain(features: np.ndarray) -> np.ndarray:
    """Return how far each row is from the domain in the feature that is furthest out."""
    wide = features.astype(np.float64)
    return np.abs(into_domain(wide, HIGHEST) - wide).max(axis=1)


def test_six_of_ten_are_of_the_domain_and_the_others_hardly_leave_it(made):
    out = out_of_domain(made[0][:, :6])
    # As close as float32 can be.
    assert out[:24_000].max() < 1e-6
    # Jitter takes a few mixtures a little way out; what is anywhere is nothing like that.
    assert (out > 1e-6).mean() < 0.02
    assert out.max() < 0.1
    rng = np.random.default_rng(0)
    anywhere = out_of_domain(rng.uniform(0, [HIGHEST] * 5 + [MOTION_MAX], (1000, 6)))
    assert (anywhere > 1e-6).mean() > 0.8
    # And they are not the mixtures, which lie near to the real rows.
    assert made[0][:24_000, 4].std() > 3 * made[0][24_000:, 4].std()


def test_one_of_ten_keeps_the_features_of_a_real_row(table, made):
    real = {row.tobytes() for row in table[:, :6]}
    kept = np.array([row.tobytes() in real for row in made[0][:, :6]])
    assert kept.sum() == 4_000
    assert {row.tobytes() for row in made[0][kept, :6]} == real


def test_mixtures_of_one_row_with_itself_are_that_row_in_other_motion(table):
    one = table[:1].copy()
    one[:, :6] = [*PERFECT[:5], 90.0]
    rows, labels = made_rows(one, 1, seed=0)
    alike = (rows[:, :5] == one[:, :5]).all(axis=1)
    assert alike.sum() == 16_000
    copied = alike & (rows[:, 5] == 90.0)
    assert copied.sum() == 4_000
    # Their own motion, though it is beyond the domain; the others' is drawn anew.
    motion = rows[alike & ~copied, 5]
    assert motion.max() <= MOTION_MAX
    assert (motion == 0).mean() == pytest.approx(0.1, abs=0.01)
    # Half of them slow, and of the other half 3 of 80.
    assert (motion <= 3).mean() == pytest.approx(0.1 + 0.9 * (0.5 + 0.5 * 3 / 80), abs=0.02)
    still = alike & (rows[:, 5] == 0)
    np.testing.assert_allclose(labels[still], 97.42804, atol=1e-4)


def test_mixtures_lie_between_and_around_the_real_rows(table):
    # Two frames, each a level of all five: a mixture's level is anywhere between.
    two = table[:2].copy()
    two[:, :5], two[:, 5] = [[0.5], [0.75]], 1.0
    rows, _ = made_rows(two, 1, seed=0)
    mixed = rows[-12_000:, :5]
    assert mixed.mean() == pytest.approx(0.625, abs=0.01)
    # Jitter adds 0.15 of their standard deviation, which is 0.125.
    assert 0.4 < mixed.min() < 0.5
    assert 0.75 < mixed.max() < 0.85
    # Half of the pairs are of two frames, and of these mixtures six of ten lie well between.
    level = mixed.mean(axis=1)
    assert ((level > 0.55) & (level < 0.7)).mean() == pytest.approx(0.3, abs=0.02)
    jitter = mixed - mixed.mean(axis=1, keepdims=True)
    assert jitter.std() == pytest.approx(0.15 * 0.125 * (4 / 5) ** 0.5, rel=0.05)


# --- the domain -----------------------------------------------------------------------------------


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
def test_draws_reach_the_ends_of_the_domain_and_no_further(highest):
    rows = draw_domain(np.random.default_rng(3), 20_000, highest)
    assert rows.shape == (20_000, 6)
    assert rows.min() == 0.0
    assert 0.98 * highest < rows[:, :5].max() <= highest
    beyond = (rows[:, 1:5] > 1).any(axis=1).mean()
    assert beyond == 0 if highest == 1 else 0.02 < beyond < 0.2
    assert rows[:, 5].max() == MOTION_MAX
    assert (rows[:, 5] == MOTION_MAX).mean() == pytest.approx(0.05, abs=0.01)
    assert (rows[:, 5] == 0).mean() == pytest.approx(0.15 * 0.95, abs=0.01)


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
def test_every_drawn_row_lies_in_the_domain_and_some_on_its_rim(highest):
    rows = draw_domain(np.random.default_rng(4), 20_000, highest)
    np.testing.assert_allclose(into_domain(rows, highest), rows, rtol=0, atol=1e-12)
    off, down = off_line(rows), steps_down(rows)
    assert off.max() <= ADM_SPREAD + 1e-12
    assert down.max() <= STEP_DOWN + 1e-12
    # A tenth on the rim, less those that the ends of the scale cut off.
    assert 0.05 < (off > ADM_SPREAD - 1e-9).mean() < 0.12
    # It is no ladder that only rises, and one in a hundred falls as steeply as it may.
    assert (down > 0.5 * STEP_DOWN).mean() > 0.05
    assert (down > STEP_DOWN - 1e-9).mean() > 0.005


def test_draws_follow_their_generator():
    first, second, other = (draw_domain(np.random.default_rng(s), 500) for s in (0, 0, 1))
    assert first.tobytes() == second.tobytes()
    assert not np.allclose(first, other)


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
def test_any_row_is_brought_into_the_domain_and_then_left_alone(highest):
    wild = np.random.default_rng(5).normal(0.5, [2.0] * 5 + [200.0], (2_000, 6))
    before = wild.copy()
    rows = into_domain(wild, highest)
    assert rows.min() >= 0
    assert rows[:, :5].max() <= highest
    assert rows[:, 5].max() <= MOTION_MAX
    assert steps_down(rows).max() <= STEP_DOWN + 1e-12
    assert off_line(rows).max() <= ADM_SPREAD + 1e-12
    np.testing.assert_allclose(into_domain(rows, highest), rows, rtol=0, atol=1e-12)
    assert (wild == before).all()


# A row inside the domain: the line is at 0.25 + 0.75 * 0.6 = 0.7.
INSIDE = [0.7, 0.6, 0.6, 0.6, 0.6, 5.0]


@pytest.mark.parametrize(
    ("column", "given", "expected"),
    [
        (0, 0.25, 0.25),
        (0, 0.24, 0.25),
        (0, 1.15, 1.15),
        (0, 1.16, 1.15),
        (4, 0.5, 0.5),
        (4, 0.49, 0.5),
        (4, 1.4, 1.4),
        (4, 1.41, 1.4),
        (5, 0.0, 0.0),
        (5, -0.01, 0.0),
        (5, 80.0, 80.0),
        (5, 80.01, 80.0),
    ],
)
def test_both_sides_of_every_end_of_the_domain(column, given, expected):
    row = np.array(INSIDE)
    row[column] = given
    [found] = into_domain(row[None], HIGHEST)
    assert found[column] == pytest.approx(expected, abs=1e-12)
    # And no other feature moves with it.
    others = np.arange(6) != column
    assert found[others].tolist() == row[others].tolist()


def test_a_lost_scale_takes_the_coarser_ones_down_step_by_step():
    [found] = into_domain(np.array([[0.5, 1.0, 0.0, 0.0, 0.0, 0.0]]), 1.0)
    assert found.tolist() == pytest.approx([0.5, 1.0, 0.9, 0.8, 0.7, 0.0])
    # adm2 is then at its line's 0.8875, less 0.45.
    [found] = into_domain(np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]]), 1.0)
    assert found[0] == pytest.approx(0.4375)


# --- codec blocks ---------------------------------------------------------------------------------


def names_of(rows: np.ndarray, slots: slice, vocabulary) -> list[str]:
    return [vocabulary[i] for i in rows[:, slots].argmax(axis=1)]


def test_every_block_is_one_encoder_that_the_rows_have(table, made):
    rows = made[0]
    for slots, vocabulary in ((V3_SLOTS, NEWEST_VOCAB), (V2_SLOTS, ENCODER_VOCAB_V2)):
        assert set(np.unique(rows[:, slots])) == {0.0, 1.0}
        assert (rows[:, slots].sum(axis=1) == 1).all()
        assert set(names_of(rows, slots, vocabulary)) == {"libx264", "libvvenc"}
    # Both blocks of a row tell of the same encoder, preset and quality.
    assert names_of(rows, V3_SLOTS, NEWEST_VOCAB) == names_of(rows, V2_SLOTS, ENCODER_VOCAB_V2)
    for one, other in ((V3_PRESET, V2_PRESET), (V3_QUALITY, V2_QUALITY)):
        np.testing.assert_allclose(rows[:, one], rows[:, other], atol=1e-6)
    x264 = np.array(names_of(rows, V3_SLOTS, NEWEST_VOCAB)) == "libx264"
    assert x264.mean() == pytest.approx(0.75, abs=0.01)


def test_half_of_the_blocks_move_along_their_encoders_quality_values(table, made):
    x264 = made[0][:, V3_SLOTS.start] == 1
    real = {row.tobytes() for row in table[:, 6:]}
    moved = np.array([row.tobytes() not in real for row in made[0][:, 6:]])
    assert moved[x264].mean() == pytest.approx(0.5, abs=0.02)
    # One quality value alone leaves nowhere to move to.
    assert not moved[~x264].any()
    quality = made[0][x264 & moved, V3_QUALITY] * 63
    assert quality.min() == pytest.approx(18, abs=0.1)
    assert quality.max() == pytest.approx(42, abs=0.1)
    # The preset goes from that of the least quality value to that of the highest with it.
    fast, slow = (ADAPTERS["libx264"].presets[name] / 9 for name in ("fast", "slow"))
    expected = fast + (slow - fast) * (quality - 20) / 20
    np.testing.assert_allclose(made[0][x264 & moved, V3_PRESET], expected, atol=1e-5)


def test_features_and_blocks_are_exchanged(table, made):
    own = {row[:6].tobytes(): row[V3_SLOTS.start] for row in table}
    rows = [row for row in made[0] if row[:6].tobytes() in own]
    came_from_x264 = np.array([own[row[:6].tobytes()] == 1 for row in rows])
    says_x264 = np.array([row[V3_SLOTS.start] == 1 for row in rows])
    for origin in (came_from_x264, ~came_from_x264):
        assert says_x264[origin].mean() == pytest.approx(0.75, abs=0.05)


# --- a fold's own rows alone ----------------------------------------------------------------------

POISONS = {
    "motion": lambda t: t.assign(motion2=t["motion2"] * 3 + 1),
    "features": lambda t: t.assign(**dict.fromkeys(CANONICAL_6, 1e3)),
    "vmaf": lambda t: t.assign(vmaf=7.0),
    "encoder": lambda t: t.assign(encoder="h264_nvenc", preset="p4", preset_ordinal=5.0),
    "quality": lambda t: t.assign(quality=51.0),
}


def poisoned(corpus: Corpus, rows, *names: str) -> Corpus:
    """Return a corpus whose marked rows are spoilt in these ways."""
    table = corpus.table.copy()
    for name in names or POISONS:
        table = POISONS[name](table)
    return replace(corpus, table=table.where(rows, corpus.table).astype(corpus.table.dtypes))


def of_source(corpus: Corpus, number: int):
    return corpus.table["src"] == corpus.sources()[number]


def seen(corpus: Corpus, held_out, arm: str = "v3", plan: Recipe = SHORT) -> tuple[bytes, ...]:
    """Return all that the training of a fold is given: real rows, made rows, both targets."""
    job = Job((~held_out).to_numpy(), ARMS[arm].columns, seed=0)
    table, vmaf = input_table(corpus), corpus.target()
    inputs, targets, [rows] = batch._with_made(table, vmaf, [job], plan)
    real, made = rows[: job.rows.sum()], rows[job.rows.sum() :]
    assert (real == np.flatnonzero(job.rows)).all()
    assert len(made) == (LEAST if plan.made_per_row else 0)
    parts = (inputs[real], inputs[made], targets[real], targets[made])
    return tuple(part.tobytes() for part in parts)


@pytest.mark.parametrize("arm", list(ARMS))
def test_a_spoilt_held_out_source_changes_no_row_of_its_fold(corpus, arm):
    held_out = of_source(corpus, 0)
    spoilt = poisoned(corpus, held_out)
    assert (input_table(spoilt) != input_table(corpus)).any(axis=1).tolist() == held_out.tolist()
    assert seen(spoilt, held_out, arm) == seen(corpus, held_out, arm)


@pytest.mark.parametrize(
    ("poison", "changed"),
    [
        ("motion", (True, True, False, True)),
        ("features", (True, True, False, True)),
        # Made rows are labelled by the formula, whatever the corpus says.
        ("vmaf", (False, False, True, False)),
        ("encoder", (True, True, False, False)),
        ("quality", (True, True, False, False)),
    ],
)
def test_a_spoilt_training_source_does_change_them(corpus, poison, changed):
    held_out = of_source(corpus, 0)
    clean = seen(corpus, held_out)
    spoilt = seen(poisoned(corpus, of_source(corpus, 1), poison), held_out)
    assert tuple(a != b for a, b in zip(clean, spoilt, strict=True)) == changed
    # The same poison in the source that is held out is not seen.
    assert seen(poisoned(corpus, held_out, poison), held_out) == clean


def test_without_made_rows_a_training_has_the_real_ones_alone(corpus):
    _, made, _, labels = seen(corpus, of_source(corpus, 0), plan=replace(SHORT, made_per_row=0))
    assert (made, labels) == (b"", b"")


def test_no_job_of_a_batch_sees_rows_made_for_another(corpus):
    table, vmaf = input_table(corpus), corpus.target()
    kept = [(~of_source(corpus, i)).to_numpy() for i in range(3)]
    jobs = [Job(rows, ARMS["v3"].columns, seed=0) for rows in kept]
    inputs, targets, together = batch._with_made(table, vmaf, jobs, SHORT)
    made = [set(rows[job.rows.sum() :]) for rows, job in zip(together, jobs, strict=True)]
    assert len(set.union(*made)) == sum(map(len, made)) == 3 * LEAST
    for job, rows in zip(jobs, together, strict=True):
        alone, alone_targets, [own] = batch._with_made(table, vmaf, [job], SHORT)
        assert inputs[rows].tobytes() == alone[own].tobytes()
        assert targets[rows].tobytes() == alone_targets[own].tobytes()


def test_loso_with_made_rows_scores_a_source_as_if_it_had_never_been(corpus):
    """Spoil a source but for its first frames: its fold scores those to the last bit as before."""
    held_out = of_source(corpus, 0)
    first = held_out & (corpus.table["frame_index"] == 0)
    spoilt = poisoned(corpus, held_out & ~first)
    before, after = (
        run_loso(c, SHORT, arms=["v1", "v3"], device="cpu").oof for c in (corpus, spoilt)
    )
    for arm in ("pred_v1", "pred_v3"):
        assert (before.loc[first, arm] == after.loc[first, arm]).all()
        assert before[arm].nunique() > 20
        # In the folds of the others it is a training source, and they do change.
        assert (before.loc[~held_out, arm] != after.loc[~held_out, arm]).mean() > 0.9


def test_the_scaler_is_of_the_real_rows_alone(corpus):
    table, rows = input_table(corpus), (~of_source(corpus, 0)).to_numpy()
    [trained] = train_many(table, corpus.target(), [Job(rows, ARMS["v1"].columns, 0)], SHORT, "cpu")
    expected = Scaler.fit(table[rows, :6])
    assert trained.scaler.mean.tolist() == expected.mean.tolist()
    assert trained.scaler.std.tolist() == expected.std.tolist()
