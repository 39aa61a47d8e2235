"""What an unseen codec costs: who is trained on what, who answers, and the figures made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fr_lib.arms import ARMS
from fr_lib.corpus import Corpus, load_corpus, synthetic_table, write_table
from fr_lib.errors import InputError
from fr_lib.evaluate import input_table, run_transfer
from fr_lib.evaluate.loso import bootstrap_interval, metrics
from fr_lib.evaluate.transfer import (
    EVERY_CODEC,
    LEAVE_ONE_OUT,
    ONE_CODEC,
    Plan,
    largest_rise,
    plans,
)
from fr_lib.schema import CANONICAL_6
from fr_lib.train import RECIPES, Job, Recipe, train_many

FAST = Recipe(name="test", hidden=8, lr=5e-2, epochs=60)
ENCODERS = ["libx264", "libvvenc", "hevc_videotoolbox"]
POISONED = "libvvenc"
PAIR = ["scheme", "trained_on", "scored_on", "answer"]
STEP = ["answer", "seen", "src", "encoder", "quality"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """One frame per encode, so that a step of a ladder is a row of the corpus."""
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    qualities = [15, 22, 29, 36, 43, 50]
    write_table(synthetic_table(ENCODERS, qualities, sources=3, frames=1, seed=0), path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def said() -> list[tuple[str, float]]:
    """What the run of `result` reports."""
    return []


@pytest.fixture(scope="module")
def result(corpus, said):
    return run_transfer(corpus, FAST, device="cpu", progress=lambda *state: said.append(state))


@pytest.fixture(scope="module")
def poisoned(corpus):
    """The same, with absurd features in every row of one codec."""
    absurd = corpus.table[list(CANONICAL_6)].mask(of(corpus, POISONED), 1e4)
    return run_transfer(changed(corpus, **absurd), FAST, device="cpu")


def changed(corpus: Corpus, **columns) -> Corpus:
    return replace(corpus, table=corpus.table.assign(**columns))


def of(corpus: Corpus, encoder: str) -> pd.Series:
    return corpus.table["encoder"] == encoder


def pairs(result) -> pd.DataFrame:
    return pd.DataFrame(result["pairs"]).set_index(PAIR).sort_index()


def ladders(result) -> pd.Series:
    return pd.DataFrame(result["ladders"]).set_index(STEP)["predicted"].sort_index()


# --- plans ----------------------------------------------------------------------------------------


def test_plans_of_three_codecs():
    a, b, c = ENCODERS
    assert plans(ENCODERS) == [
        Plan(EVERY_CODEC, (a, b, c), (a, b, c)),
        Plan(LEAVE_ONE_OUT, (b, c), (a,)),
        Plan(LEAVE_ONE_OUT, (a, c), (b,)),
        Plan(LEAVE_ONE_OUT, (a, b), (c,)),
        Plan(ONE_CODEC, (a,), (a, b, c)),
        Plan(ONE_CODEC, (b,), (a, b, c)),
        Plan(ONE_CODEC, (c,), (a, b, c)),
    ]
    labels = [plan.label for plan in plans(ENCODERS)]
    assert labels == ["every codec", *(f"all but {e}" for e in ENCODERS), *ENCODERS]


def test_one_encoder_has_nothing_to_transfer_to(corpus):
    alone = replace(corpus, table=corpus.table[of(corpus, "libx264")].reset_index(drop=True))
    with pytest.raises(InputError, match="transfer: 1 encoder; allowed: 2 or more"):
        run_transfer(alone, FAST)
    assert len(plans(ENCODERS[:2])) == 5


# --- what is measured -----------------------------------------------------------------------------


def test_every_pair_is_there_once(result):
    table = pairs(result)
    assert table.index.is_unique
    # Two answers each, and the codec-blind network's where every codec was seen.
    assert len(table) == 2 * (3 + 3 + 9) + 3
    unseen = table[~table["seen"]].reset_index()
    assert (unseen["scheme"] != EVERY_CODEC).all()
    assert (unseen["trained_on"] != unseen["scored_on"]).all()
    assert unseen.groupby("scheme").size().to_dict() == {LEAVE_ONE_OUT: 6, ONE_CODEC: 12}
    assert result["encoders"] == ["libx264", "libvvenc", "hevc_videotoolbox"]


def test_ladders_hold_each_row_seen_once_and_unseen_once(result, corpus):
    table = pd.DataFrame(result["ladders"])
    assert not table.duplicated(STEP).any()
    assert len(table) == 2 * 2 * len(corpus.table)
    key = ["src", "encoder", "quality"]
    truth = corpus.table.set_index(key)["vmaf"].sort_index()
    for _, rows in table.groupby(["answer", "seen"]):
        pd.testing.assert_series_equal(rows.set_index(key)["vmaf"].sort_index(), truth)


def test_the_reference_keeps_its_recipe_and_takes_our_epochs(result):
    assert result["reference_recipe"] == RECIPES["reference"].as_dict() | {"epochs": FAST.epochs}


def test_progress_names_the_network_and_reaches_the_end(result, said):
    assert {message.split(":")[0] for message, _ in said} == {"v1", "v3", "reference"}
    assert max(share for _, share in said) == pytest.approx(1.0)


# --- who was trained on what ----------------------------------------------------------------------


def test_features_of_an_unseen_codec_never_train(result, poisoned):
    """Neither its rows nor their mean and spread reach a network that was not to see them."""
    before, after = pairs(result), pairs(poisoned)
    both = before.index.to_frame()[["trained_on", "scored_on"]]
    others = [e for e in ENCODERS if e != POISONED]
    untouched = before.index[both.isin(others).all(axis=1)]
    assert len(untouched) == 2 * 2 * 2
    pd.testing.assert_frame_equal(after.loc[untouched], before.loc[untouched])
    trained = before.index[both["trained_on"] == POISONED]
    assert (after.loc[trained, "rmse"] != before.loc[trained, "rmse"]).all()


def test_scores_of_an_unseen_codec_never_train(corpus, result):
    inverted = corpus.table["vmaf"].mask(of(corpus, POISONED), 100 - corpus.table["vmaf"])
    after = ladders(run_transfer(changed(corpus, vmaf=inverted), FAST, device="cpu"))
    before = ladders(result)
    own = before.index.get_level_values("encoder") == POISONED
    unseen = ~before.index.get_level_values("seen")
    assert (after[own & unseen] == before[own & unseen]).all()
    assert (after[~(own & unseen)] != before[~(own & unseen)]).mean() > 0.9


def test_a_held_out_source_never_trains(corpus, result):
    own = corpus.table["src"] == corpus.sources()[0]
    absurd = corpus.table["vmaf"].mask(own, 0.0)
    after = ladders(run_transfer(changed(corpus, vmaf=absurd), FAST, device="cpu"))
    before = ladders(result)
    held = before.index.get_level_values("src") == corpus.sources()[0]
    assert (after[held] == before[held]).all()
    assert (after[~held] != before[~held]).mean() > 0.9


def test_a_cell_without_rows_is_left_out(corpus):
    source = corpus.sources()[0]
    kept = corpus.table[(corpus.table["src"] != source) | ~of(corpus, POISONED)]
    found = run_transfer(replace(corpus, table=kept.reset_index(drop=True)), FAST, device="cpu")
    assert len(found["pairs"]) == 2 * (3 + 3 + 9) + 3
    steps = pd.DataFrame(found["ladders"])
    assert steps.query("encoder == @POISONED")["src"].nunique() == 2
    assert steps.query("encoder != @POISONED")["src"].nunique() == 3


# --- who answers ----------------------------------------------------------------------------------


def alone(corpus: Corpus, arm: str, recipe: Recipe, source: str, left_out: str | None):
    """Train one network by itself and return its scores of a held-out source."""
    table, sources = input_table(corpus), corpus.groups()
    rows = (sources != source) & (corpus.table["encoder"] != left_out).to_numpy()
    job = Job(rows, ARMS[arm].columns, 0)
    [model] = train_many(table, corpus.target(), [job], recipe, "cpu")
    held = sources == source
    return corpus.table[held].assign(predicted=model.predict(table[held]))


def shown(result, **wanted) -> np.ndarray:
    rows = ladders(result)
    for level, value in wanted.items():
        rows = rows[rows.index.get_level_values(level) == value]
    return rows.to_numpy()


@pytest.mark.parametrize("codec", ENCODERS)
def test_ours_for_an_unseen_codec_is_the_codec_blind_network(corpus, result, codec):
    source = corpus.sources()[1]
    rows = alone(corpus, "v1", FAST, source, left_out=codec).query("encoder == @codec")
    expected = rows.sort_values("quality")["predicted"].clip(0, 100)
    found = shown(result, answer="ours", seen=False, src=source, encoder=codec)
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("codec", ENCODERS)
def test_ours_for_a_seen_codec_is_the_codec_aware_network_of_every_codec(corpus, result, codec):
    source = corpus.sources()[1]
    rows = alone(corpus, "v3", FAST, source, left_out=None).query("encoder == @codec")
    expected = rows.sort_values("quality")["predicted"].clip(0, 100)
    found = shown(result, answer="ours", seen=True, src=source, encoder=codec)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_reference_answers_an_unseen_codec_from_its_untrained_slot(corpus, result):
    source, codec = corpus.sources()[1], ENCODERS[0]
    recipe = Recipe(**result["reference_recipe"])
    rows = alone(corpus, "v3", recipe, source, left_out=codec).query("encoder == @codec")
    found = shown(result, answer="reference", seen=False, src=source, encoder=codec)
    expected = rows.sort_values("quality")["predicted"].clip(0, 100)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_all_answers_are_clipped_to_the_range_of_vmaf(poisoned):
    found = ladders(poisoned)
    assert found.between(0, 100).all()
    assert found.isin([0.0, 100.0]).any()


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["ours", "reference"])
@pytest.mark.parametrize("codec", ENCODERS)
def test_a_pair_is_the_mean_over_held_out_sources(result, answer, codec):
    rows = pd.DataFrame(result["ladders"]).query(
        "answer == @answer and encoder == @codec and not seen"
    )
    each = [metrics(own["predicted"], own["vmaf"]) for _, own in rows.groupby("src")]
    found = pairs(result).loc[LEAVE_ONE_OUT, f"all but {codec}", codec, answer]
    for name in ("rmse", "bias", "plcc"):
        assert found[name] == pytest.approx(np.mean([figures[name] for figures in each]))


@pytest.mark.parametrize("answer", ["ours", "reference"])
@pytest.mark.parametrize("scheme", [LEAVE_ONE_OUT, ONE_CODEC])
def test_the_headline_is_the_mean_over_training_sets_of_unseen_pairs(result, scheme, answer):
    table = pairs(result).reset_index()
    unseen = table.query("scheme == @scheme and answer == @answer and not seen")
    sets = {name: own for name, own in unseen.groupby("trained_on")}
    rmse = {name: np.mean(own["rmse"].tolist()) for name, own in sets.items()}
    bias = {name: np.mean(own["bias"].tolist()) for name, own in sets.items()}
    found = result["headline"][scheme][answer]
    assert found["rmse"] == pytest.approx(sum(rmse.values()) / 3)
    assert found["abs_bias"] == pytest.approx(sum(map(abs, bias.values())) / 3)
    assert found["worst_rmse"] == pytest.approx(max(rmse.values()))
    assert found["worst_set"] == max(rmse, key=rmse.get)
    assert found["rmse_low"] <= found["rmse"] <= found["rmse_high"]


def test_biases_of_training_sets_do_not_cancel_in_the_headline(result):
    unseen = pairs(result).query("not seen").xs(ONE_CODEC).xs("ours", level="answer")
    bias = unseen.groupby("trained_on")["bias"].mean()
    assert bias.min() < 0 < bias.max()
    assert result["headline"][ONE_CODEC]["ours"]["abs_bias"] > 1.05 * abs(bias.mean())


def test_the_headline_interval_resamples_sources(result):
    rows = pd.DataFrame(result["ladders"]).query("answer == 'ours' and not seen")
    each = rows.groupby(["src", "encoder"]).apply(
        lambda own: metrics(own["predicted"], own["vmaf"])["rmse"]
    )
    expected = bootstrap_interval(each.groupby("src").mean())
    found = result["headline"][LEAVE_ONE_OUT]["ours"]
    assert (found["rmse_low"], found["rmse_high"]) == pytest.approx(expected)


def test_codecs_that_every_network_saw_are_not_in_the_headline(result):
    assert set(result["headline"]) == {LEAVE_ONE_OUT, ONE_CODEC}


def test_what_every_codec_seen_costs_stands_beside_the_headline(result):
    table = pairs(result).loc[EVERY_CODEC, "every codec"]
    assert set(result["seen"]) == {"ours", "reference", "codec-blind"}
    for answer, figures in result["seen"].items():
        own = table.xs(answer, level="answer")
        assert own["seen"].all()
        assert figures["rmse"] == pytest.approx(own["rmse"].mean())
    # Two networks of ours, and each answers for itself.
    assert result["seen"]["ours"]["rmse"] != result["seen"]["codec-blind"]["rmse"]


def ladder(encoder, predicted, answer="ours", seen=True, src="a"):
    return [
        {"answer": answer, "seen": seen, "src": src, "encoder": encoder, "quality": q}
        | {"predicted": score, "vmaf": 50.0}
        for q, score in zip((20, 30, 40), predicted, strict=True)
    ]


@pytest.mark.parametrize(
    ("encoder", "predicted", "rise"),
    [
        ("libx264", [90, 80, 70], 0),
        ("libx264", [90, 92, 70], 2),
        ("libx264", [80, 90, 87], 10),
        ("hevc_videotoolbox", [70, 80, 90], 0),
        ("hevc_videotoolbox", [80, 90, 87], 3),
        ("hevc_videotoolbox", [90, 80, 70], 10),
        ("libx264", [50, 50, 50], 0),
    ],
)
def test_a_rise_goes_with_falling_quality_on_either_scale(encoder, predicted, rise):
    steps = ladder(encoder, predicted)
    # The order in which steps are listed must not matter.
    assert largest_rise(steps[::-1]) == largest_rise(steps) == {"ours, seen": pytest.approx(rise)}


def test_the_largest_rise_is_kept_per_answer_and_never_crosses_ladders():
    steps = [
        *ladder("libx264", [90, 91, 70], src="a"),
        *ladder("libx264", [60, 64, 10], src="b"),
        *ladder("libvvenc", [99, 98, 97], src="b"),
        *ladder("libvvenc", [50, 57, 20], seen=False),
        *ladder("libvvenc", [50, 40, 30], answer="reference", seen=False),
    ]
    assert largest_rise(steps) == {"ours, seen": 4, "ours, unseen": 7, "reference, unseen": 0}


def test_the_rise_in_a_result_is_that_of_its_ladders(result):
    assert result["largest_rise"] == largest_rise(result["ladders"])
    assert set(result["largest_rise"]) == {
        f"{answer}, {seen}" for answer in ("ours", "reference") for seen in ("seen", "unseen")
    }
