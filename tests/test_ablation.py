"""The price of each choice, the baselines, and what the formula itself leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fr_lib.corpus import Corpus, load_corpus, synthetic_table, write_table
from fr_lib.evaluate import ablation as module
from fr_lib.evaluate import run_ablation, run_loso
from fr_lib.evaluate.ablation import CHOICES, baselines, ceiling, label
from fr_lib.evaluate.loso import bootstrap_interval, summary
from fr_lib.schema import CANONICAL_6
from fr_lib.train import RECIPES, Recipe
from fr_lib.train.recipe import named_recipe

FAST = Recipe(name="test", hidden=8, lr=2e-2, epochs=2)
# Two of the real choices; all of them take as long as all of the real ones.
FEW = {"dropout": ({"dropout": 0.5},), "hidden width": ({"hidden": 4},)}
FIGURES = ["rmse", "low", "high", "worst_rmse", "plcc", "worst_plcc"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    rows = synthetic_table(["libx264", "libvvenc"], [15, 25, 35, 45], sources=3, frames=3, seed=0)
    write_table(rows, path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def said() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def result(corpus, said):
    with pytest.MonkeyPatch.context() as few:
        few.setattr(module, "CHOICES", FEW)
        return run_ablation(corpus, FAST, 1, "cpu", lambda *state: said.append(state))


def figures_of(folds: pd.DataFrame) -> list[float]:
    figures, interval = summary(folds), bootstrap_interval(folds["rmse"])
    return [
        figures["mean_rmse"],
        *interval,
        figures["max_rmse"],
        figures["mean_plcc"],
        figures["min_plcc"],
    ]


# --- the choices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_decay": 0.0}, "weight decay 0"),
        ({"weight_decay": 1e-4}, "weight decay 0.0001"),
        ({"dropout": 0.1}, "dropout 0.1"),
        ({"hidden": 128}, "hidden 128"),
        ({"schedule": "cosine"}, "schedule cosine"),
        ({"lr": 2e-3, "batch": 16}, "lr 0.002, batch 16"),
    ],
)
def test_a_change_in_words(change, words):
    assert label(change) == words


def test_every_choice_changes_the_default_and_has_a_name_of_its_own():
    changes = [change for alternatives in CHOICES.values() for change in alternatives]
    variants = [replace(named_recipe(), **change) for change in changes]
    assert named_recipe() not in variants
    assert len({label(change) for change in changes}) == len(changes)
    # One at a time.
    assert {len(change) for change in changes} == {1}
    varied = {key for change in changes for key in change}
    assert varied == {
        *("dropout", "weight_decay", "hidden", "batch", "epochs", "schedule", "lr"),
        *("made_per_row", "censored"),
    }


def test_rows_stand_in_order_with_the_default_first(result):
    assert [(row["choice"], row["name"]) for row in result["rows"]] == [
        ("default", "as it ships"),
        ("dropout", "dropout 0.5"),
        ("hidden width", "hidden 4"),
        ("quality normalisation", "crf minmax"),
        ("quality normalisation", "crf constant"),
        ("adr0319", "real rows alone, as ADR-0319 has it"),
        ("reference", "the same with dropout, as its code"),
    ]
    assert all(list(row) == ["choice", "name", *FIGURES] for row in result["rows"])


@pytest.mark.parametrize(
    ("place", "variant", "norm"),
    [
        (0, FAST, "div63"),
        (1, replace(FAST, dropout=0.5), "div63"),
        (2, replace(FAST, hidden=4), "div63"),
        (3, FAST, "minmax"),
        (4, FAST, "constant"),
        (5, replace(RECIPES["adr0319"], epochs=FAST.epochs), "div63"),
        (6, replace(RECIPES["reference"], epochs=FAST.epochs), "div63"),
    ],
)
def test_a_row_is_loso_of_the_shipping_arm_with_that_change_alone(
    corpus, result, place, variant, norm
):
    folds = run_loso(corpus, variant, [1], ["v3"], crf_norm=norm, device="cpu").of("v3")
    row = result["rows"][place]
    assert [row[name] for name in FIGURES] == pytest.approx(figures_of(folds), rel=1e-6)


def test_the_rows_differ(result):
    rmse = [row["rmse"] for row in result["rows"]]
    assert len(set(rmse)) == len(rmse)


def test_progress_counts_the_variants_and_never_falls_back(result, said):
    shares = [share for _, share in said]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
    assert said[0][0].startswith("1 of 7, as it ships: ")
    assert said[-1][0].startswith("7 of 7, the same with dropout, as its code: ")


# --- baselines ------------------------------------------------------------------------------------


def named(records) -> dict[str, dict]:
    return {record["name"]: record for record in records}


def test_the_mean_is_that_of_the_training_rows(corpus):
    found = named(baselines(corpus))["mean of the training rows"]
    held = [corpus.table["src"] == source for source in corpus.sources()]
    vmaf = corpus.target().astype(float)
    rmse = [np.sqrt(np.mean((vmaf[~own].mean() - vmaf[own]) ** 2)) for own in held]
    assert found["rmse"] == pytest.approx(np.mean(rmse))
    assert found["worst_rmse"] == pytest.approx(max(rmse))
    # A constant has no correlation.
    assert np.isnan(found["plcc"])


def test_a_linear_corpus_is_no_matter_for_the_linear_baseline(corpus):
    linear = 20 + corpus.table["vif_scale0"] * 60 + corpus.table["adm2"] * 10
    found = named(baselines(replace(corpus, table=corpus.table.assign(vmaf=linear))))
    assert found["linear regression"]["rmse"] == pytest.approx(0, abs=1e-4)
    assert found["linear regression"]["worst_plcc"] == pytest.approx(1)
    assert found["VMAF v0.6.1, its own formula"]["rmse"] > 1


def test_vmafs_formula_is_right_where_vmaf_made_the_scores(corpus):
    found = named(baselines(corpus))
    assert list(found) == [
        "mean of the training rows",
        "linear regression",
        "VMAF v0.6.1, its own formula",
    ]
    rmse = [record["rmse"] for record in found.values()]
    assert rmse[0] > 10 > rmse[1] > 0.1 > 1e-4 > rmse[2]
    assert {record["choice"] for record in found.values()} == {"baseline"}
    for record in found.values():
        assert record["low"] <= record["rmse"] <= record["high"] <= record["worst_rmse"]


def test_a_held_out_source_is_no_part_of_its_own_baseline(corpus):
    """Two sources of constant, different scores: each is predicted as the other one."""
    two = corpus.table[corpus.table["src"].isin(corpus.sources()[:2])].reset_index(drop=True)
    scores = two["src"].map(dict(zip(corpus.sources(), (30.0, 70.0), strict=False)))
    found = named(baselines(replace(corpus, table=two.assign(vmaf=scores))))
    assert found["mean of the training rows"]["rmse"] == pytest.approx(40)
    assert found["linear regression"]["rmse"] == pytest.approx(40)


def test_the_report_holds_baselines_and_ceiling_of_the_corpus(corpus, result):
    assert result["ceiling"] == ceiling(corpus)
    pd.testing.assert_frame_equal(
        pd.DataFrame(result["baselines"]), pd.DataFrame(baselines(corpus))
    )


# --- ceiling --------------------------------------------------------------------------------------


def test_the_formula_leaves_rounding_alone(corpus):
    left = ceiling(corpus)
    assert (left["rows"], left["shape"]) == (72, "frame")
    assert 0 <= left["rmse"] <= left["max_abs"] <= 1e-6


def test_one_shifted_row_is_all_that_is_left(corpus):
    table = corpus.table.copy()
    row = table["vmaf"].sub(50).abs().idxmin()
    table.loc[row, "vmaf"] -= 0.3
    left = ceiling(replace(corpus, table=table))
    assert left["max_abs"] == pytest.approx(0.3, abs=1e-5)
    assert left["rmse"] == pytest.approx(0.3 / np.sqrt(72), abs=1e-5)


def test_pooled_rows_keep_what_pooling_costs(corpus):
    mean = {name: (name, "mean") for name in ("vmaf", *CANONICAL_6)}
    pooled = corpus.table.groupby(["src", "encoder", "quality"]).agg(**mean).reset_index()
    left = ceiling(replace(corpus, table=pooled, shape="encode"))
    assert (left["rows"], left["shape"]) == (24, "encode")
    assert left["rmse"] > 1e-3


def test_a_teacher_without_a_formula_has_no_ceiling_and_the_map_for_a_baseline(
    corpus, other_teacher
):
    other = replace(corpus, teacher=other_teacher)
    found = ceiling(other)
    assert (found["rows"], found["rmse"], found["max_abs"]) == (len(corpus.table), None, None)
    *same, last = baselines(other)
    assert [row["rmse"] for row in same] == [row["rmse"] for row in baselines(corpus)[:-1]]
    assert last["name"] == "isotonic map of VMAF v0.6.1"


def test_no_rows_are_made_for_a_teacher_without_a_formula(corpus, other_teacher, monkeypatch):
    monkeypatch.setattr(module, "CHOICES", {"made rows": CHOICES["made rows"]})
    names = {
        teacher: [row["name"] for row in run_ablation(rows, FAST, 0, "cpu")["rows"][1:-4]]
        for teacher, rows in (("other", replace(corpus, teacher=other_teacher)), ("own", corpus))
    }
    assert names == {"other": ["made per row 0"], "own": ["made per row 0", "made per row 3"]}
