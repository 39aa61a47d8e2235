"""Which recipe a corpus is trained with: by name, by its teacher, and beside another."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tiny import rows_of

from fr_lib.corpus import Corpus, load_corpus, write_table
from fr_lib.corpus.audit import teacher_check
from fr_lib.errors import InputError
from fr_lib.evaluate import measure
from fr_lib.schema import CANONICAL_6
from fr_lib.train import DEFAULT_RECIPE, RECIPES, Recipe, beside, recipe_for
from fr_lib.train.recipe import named_recipe


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """24 rows that the formula scored."""
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    write_table(rows_of(), path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def holds(corpus) -> dict:
    return teacher_check(corpus)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory) -> Corpus:
    """The same frames as means of an encode, of which the formula does not hold."""
    table = rows_of()
    names = list(CANONICAL_6)
    means = table.groupby(["src", "encoder", "preset", "cq"])[[*names, "vmaf"]].mean()
    means = means.reset_index().rename(columns={name: f"{name}_mean" for name in names})
    path = tmp_path_factory.mktemp("pooled") / "c.jsonl"
    write_table(means.assign(schema_version=3, teacher="vmaf_v0.6.1"), path)
    return load_corpus(path)


def off_by(corpus: Corpus, points: float, rows: int) -> Corpus:
    """Return a corpus whose first rows are scored this much lower."""
    first = corpus.table.index < rows
    vmaf = corpus.table["vmaf"]
    return replace(corpus, table=corpus.table.assign(vmaf=vmaf.mask(first, vmaf - points)))


pytestmark = pytest.mark.usefixtures("other_teacher")


def of_teacher(corpus: Corpus, name: str | None) -> Corpus:
    return replace(corpus, teacher=name)


# --- by name --------------------------------------------------------------------------------------


def test_the_default_is_the_one_that_ships():
    assert DEFAULT_RECIPE == "taught"
    assert named_recipe() == named_recipe("taught") == RECIPES["taught"]


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_knows_its_name_and_takes_other_epochs(name):
    assert named_recipe(name).name == name
    assert named_recipe(name, 0) == RECIPES[name]
    assert named_recipe(name, 1) == replace(RECIPES[name], epochs=1, steps=0)
    assert named_recipe(name, 999).epochs == 999
    assert RECIPES[name].epochs not in (1, 999)


@pytest.mark.parametrize("name", ["", "Taught", "adr319", "none"])
def test_an_unknown_name_is_refused_with_those_that_are_allowed(name):
    with pytest.raises(InputError) as refused:
        named_recipe(name)
    said = f"recipe: {name!r}; allowed: taught, adr0319, reference; choose one"
    assert str(refused.value) == said
    with pytest.raises(InputError, match="allowed: taught, adr0319, reference"):
        recipe_for({"status": "measured", "n_disagree": 0}, name)


def test_fewer_than_no_epochs_are_refused():
    with pytest.raises(InputError, match="recipe epochs: -1; allowed: 1 or more"):
        named_recipe("taught", -1)


# --- what a teacher allows ------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", ["vmaf_v0.6.1", None])
@pytest.mark.parametrize("epochs", [0, 7])
def test_taught_is_kept_where_the_formula_holds(corpus, teacher, epochs):
    found = teacher_check(of_teacher(corpus, teacher))
    assert (found["status"], found["n_disagree"]) == ("measured", 0)
    assert recipe_for(found, "taught", epochs) == (named_recipe("taught", epochs), None)


def test_both_sides_of_what_counts_as_disagreement(corpus, holds):
    edge = holds["tolerance"]
    within = teacher_check(off_by(corpus, 0.98 * edge, rows=24))
    assert recipe_for(within) == (named_recipe("taught"), None)
    beyond = teacher_check(off_by(corpus, 1.02 * edge, rows=1))
    assert recipe_for(beyond)[0] == named_recipe("adr0319")


@pytest.mark.parametrize(("rows", "said"), [(1, "1 of 24"), (5, "5 of 24"), (24, "24 of 24")])
def test_rows_that_disagree_refuse_taught_and_are_counted(corpus, rows, said):
    plan, refused = recipe_for(teacher_check(off_by(corpus, 3.0, rows)))
    assert plan == named_recipe("adr0319")
    reason = f"{said} rows disagree with the formula of vmaf_v0.6.1"
    assert refused == f"taught is refused: {reason}"


def test_large_counts_are_readable(holds):
    _, refused = recipe_for(holds | {"n_disagree": 1_234, "n_rows": 56_789})
    assert "1,234 of 56,789 rows disagree" in refused


def test_another_teacher_refuses_taught(corpus):
    found = teacher_check(of_teacher(corpus, "vmaf_4k_v0.6.1"))
    assert found["status"] == "not applicable"
    why = "vmaf_4k_v0.6.1 is no formula of the six features"
    assert recipe_for(found) == (named_recipe("adr0319"), f"taught is refused: {why}")


def test_pooled_rows_refuse_taught(pooled):
    plan, refused = recipe_for(teacher_check(pooled))
    assert (pooled.shape, plan) == ("encode", named_recipe("adr0319"))
    why = "the score of pooled features is not the pooled score: the formula holds per frame"
    assert refused == f"taught is refused: {why}"


@pytest.mark.parametrize("name", ["adr0319", "reference"])
def test_a_recipe_without_made_rows_asks_no_teacher(corpus, name):
    for spoilt in (of_teacher(corpus, "vmaf_4k_v0.6.1"), off_by(corpus, 3.0, rows=24)):
        assert recipe_for(teacher_check(spoilt), name, 9) == (named_recipe(name, 9), None)


@pytest.mark.parametrize(("epochs", "expected"), [(0, 200), (75, 200), (15, 40), (3, 8), (1, 3)])
def test_what_stands_in_keeps_the_share_of_the_epochs(corpus, epochs, expected):
    found = teacher_check(of_teacher(corpus, "vmaf_4k_v0.6.1"))
    assert recipe_for(found, "taught", epochs)[0] == named_recipe("adr0319", expected)


def test_a_measurement_trains_what_stands_in_and_says_why(corpus):
    spoilt = off_by(corpus, 3.0, rows=2)
    own = {source: source for source in spoilt.sources()}
    facts = {"teacher_check": teacher_check(spoilt), "source_groups": own}
    result, evidence = measure(spoilt, facts, "taught", 1, [0], device="cpu")
    assert result.recipe == named_recipe("adr0319", 3)
    said = "taught is refused: 2 of 24 rows disagree with the formula of vmaf_v0.6.1"
    assert evidence["recipe_refused"] == said
    # It is measured already, so nothing is beside it.
    assert evidence["adr0319"] is None


# --- beside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plan", "epochs"),
    [
        ("adr0319", named_recipe("taught"), 200),
        ("adr0319", named_recipe("taught", 15), 40),
        ("adr0319", named_recipe("taught", 1), 3),
        ("adr0319", named_recipe("taught", 150), 400),
        ("taught", named_recipe("adr0319"), 75),
        ("taught", named_recipe("adr0319", 40), 15),
        ("reference", named_recipe("adr0319", 11), 11),
        ("taught", named_recipe("taught", 4), 4),
    ],
)
def test_a_recipe_beside_another_keeps_its_share_of_the_epochs(name, plan, epochs):
    assert beside(name, plan) == named_recipe(name, epochs)


def test_a_plan_whose_epochs_follow_from_its_steps_shortens_nothing_else():
    plan = named_recipe("taught").for_rows(100_000)
    assert plan.epochs < RECIPES["taught"].epochs
    assert beside("adr0319", plan) == RECIPES["adr0319"]


@pytest.mark.parametrize(
    ("rows", "epochs"), [(1, 75), (7_350, 75), (7_369, 74), (12_300, 45), (10**9, 1)]
)
def test_steps_are_the_most_that_a_training_takes(rows, epochs):
    plan = named_recipe("taught").for_rows(rows)
    assert plan == replace(RECIPES["taught"], epochs=epochs)
    if 1 < epochs < 75:
        assert plan.epochs * math.ceil(rows * 7 / plan.batch) == pytest.approx(plan.steps, rel=0.04)


def test_recipes_without_steps_keep_their_epochs():
    assert RECIPES["adr0319"].for_rows(10**9) == RECIPES["adr0319"]


@pytest.mark.parametrize(("of_adr", "expected"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
def test_a_share_is_never_less_than_one_epoch(of_adr, expected):
    # 75 of 200: 0.4, 0.75, 1.1, 1.5 and 1.9 epochs.
    assert beside("taught", named_recipe("adr0319", of_adr)).epochs == expected


def test_a_plan_of_another_name_lends_its_number_of_epochs():
    for name in RECIPES:
        own = Recipe(name="mine", epochs=5, hidden=8)
        assert beside(name, own) == named_recipe(name, 5)
