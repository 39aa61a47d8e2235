"""The gate's own clauses on both sides of their limits, their rivals, and the second verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fr_lib.corpus import (
    V061,
    Corpus,
    audit_corpus,
    load_corpus,
    synthetic_table,
    vmaf_from_features,
    write_table,
)
from fr_lib.errors import NOT_MEASURED, GateFailed
from fr_lib.evaluate.clauses import FAIL, PASS, Clause
from fr_lib.evaluate.gate import (
    adr_clauses,
    adr_statement,
    failed_clauses,
    passed,
    require_pass,
    statement,
    verdict,
)
from fr_lib.evaluate.own import own_clauses
from fr_lib.evaluate.rivals import leave_one_out, map_of_v061, mean_of_rows, own_formula, rival
from fr_lib.files import json_text
from fr_lib.runs import plain
from fr_lib.schema import CANONICAL_6

# Just beyond a limit, by less than any published figure shows.
LESS = 1e-9
OTHER = "vmaf_4k_v0.6.1"
pytestmark = pytest.mark.usefixtures("other_teacher")
FOUR_FAMILIES = ["libx264", "libx265", "libsvtav1", "libvvenc"]
TEACHER, ROWS, DROPPED, TWICE, RIVAL, SWAP, STRESS = NAMES = (
    "rows agree with the teacher",
    "rows per held-out source",
    "rows dropped",
    "no source twice",
    "RMSE against a rival",
    "block swap, p99",
    "stress set RMSE",
)


def rows_of(qualities=(20, 40), sources=3, frames=10, encoders=("libx264",)) -> pd.DataFrame:
    """Return rows of this many sources, twenty each unless told otherwise."""
    return synthetic_table(encoders, qualities, sources, frames, seed=0)


def corpus_of(table: pd.DataFrame, folder) -> Corpus:
    write_table(table, folder / "rows.parquet")
    return load_corpus(folder / "rows.parquet")


@pytest.fixture
def audited(tmp_path):
    """Turn rows into what stands in ``audit.json``."""
    return lambda table: plain(audit_corpus(corpus_of(table, tmp_path)))


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> dict:
    return plain(audit_corpus(corpus_of(rows_of(), tmp_path_factory.mktemp("clean"))))


def loso_of(own=1.0, rmse=4.0, ours=True, by_title=None) -> dict:
    arms = {"v1": {"summary": {"mean_rmse": 99.0}}, "v3": {"summary": {"mean_rmse": own}}}
    found = {"name": "clipped linear regression", "rmse": rmse, "formula_teacher": ours}
    return {"arms": arms, "rival": found, "by_title": by_title}


def outside_of(p99=0.1, rmse=0.2) -> dict:
    far = {"swap": None, "stress": {"rmse": 99.0}}
    swap = {"p99": p99, "mean": 0.0125, "max": 1.5}
    stress = {"rmse": rmse, "rows": 7200, "worst_cell": {"rmse": 3.25}}
    return {"arms": {"v1": far, "v3": {"swap": swap, "stress": stress}}}


def clauses_of(facts: dict, loso=None, outside=None, **options) -> dict[str, Clause]:
    found = own_clauses(facts, loso or loso_of(), outside or outside_of(), **options)
    return {clause.name: clause for clause in found}


def test_all_seven_clauses_in_order_block_and_name_their_record(clean):
    clauses = clauses_of(clean)
    assert tuple(clauses) == NAMES
    assert {c.status for c in clauses.values()} == {PASS}
    assert all(c.blocks for c in clauses.values())
    assert [c.source for c in clauses.values()] == ["docs/adr/0010"] * 5 + ["docs/adr/0009"] * 2
    assert [c.limit for c in clauses.values()] == [
        "all rows",
        ">= 20 rows and >= 2 quality values each",
        "<= 10%",
        "none, or by group 3 groups clear both PLCC floors",
        "<= 0.5 x",
        "<= 0.5",
        "<= 1",
    ]


# --- rows agree with the teacher ------------------------------------------------------------------


def shifted(table: pd.DataFrame, rows: int, by: float = 1.5) -> pd.DataFrame:
    """Return a table some of whose scores another model might have given."""
    middle = table.index[table["vmaf"].between(20, 90)][:rows]
    return table.assign(vmaf=table["vmaf"].mask(table.index.isin(middle), table["vmaf"] + by))


@pytest.mark.parametrize(("wrong", "status"), [(0, PASS), (1, FAIL), (2, FAIL)])
def test_one_row_of_another_score_is_one_too_many(audited, wrong, status):
    clause = clauses_of(audited(shifted(rows_of(), wrong)))[TEACHER]
    assert (clause.status, clause.blocks) == (status, True)
    assert clause.value == (60 - wrong) / 60
    assert f"{wrong} of 60 rows differ from the formula of vmaf_v0.6.1" in clause.reason
    assert "by more than 0.01 VMAF points" in clause.reason
    assert ("by 1.5 at most" in clause.reason) is (wrong > 0)


def pooled(folder) -> Corpus:
    """Return one row per encode, whose features and score are means over its frames."""
    means = rows_of().groupby(["src", "encoder", "cq"])[["vmaf", *CANONICAL_6]].mean()
    names = {name: f"{name}_mean" for name in CANONICAL_6} | {"cq": "crf", "vmaf": "vmaf_score"}
    return corpus_of(means.reset_index().rename(columns=names).assign(schema_version=3), folder)


def of_another_teacher(folder) -> Corpus:
    return replace(corpus_of(rows_of(), folder), teacher=OTHER)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (of_another_teacher, f"{OTHER} is no formula of the six features"),
        (pooled, "the formula holds per frame"),
    ],
)
def test_where_the_teacher_is_no_formula_three_clauses_are_not_measured(tmp_path, make, why):
    facts = plain(audit_corpus(make(tmp_path)))
    clauses = clauses_of(facts, outside=outside_of(p99=9.0, rmse=9.0))
    for name in (TEACHER, SWAP, STRESS):
        clause = clauses[name]
        assert (clause.status, clause.value, clause.blocks) == (NOT_MEASURED, None, False)
        assert why in clause.reason
        assert passed([clause])
    for name in (SWAP, STRESS):
        assert clauses[name].reason.startswith("the teacher is no formula here: ")


# --- rows per held-out source ---------------------------------------------------------------------


def test_twenty_rows_are_enough_and_nineteen_are_not(audited):
    at = clauses_of(audited(rows_of()))[ROWS]
    assert (at.status, at.value, at.reason) == (PASS, 20.0, "the least has 20 rows")
    below = clauses_of(audited(rows_of().iloc[:-1]))[ROWS]
    assert (below.status, below.value, below.blocks) == (FAIL, 19.0, True)
    last = rows_of()["src"].iloc[-1]
    assert below.reason == f"too few to correlate: {last} (19 rows, 2 quality values)"


def test_two_quality_values_are_enough_and_one_is_not(audited):
    assert clauses_of(audited(rows_of()))[ROWS].status == PASS
    first = rows_of()["src"].iloc[0]
    longer = rows_of(frames=40)
    one = longer[(longer["src"] != first) | (longer["cq"] == 20)]
    below = clauses_of(audited(one))[ROWS]
    assert (below.status, below.value) == (FAIL, 40.0)
    assert below.reason == f"too few to correlate: {first} (40 rows, 1 quality values)"


@pytest.mark.parametrize(("sources", "more"), [(5, ""), (7, " and 2 more")])
def test_the_first_five_short_sources_are_named(audited, sources, more):
    reason = clauses_of(audited(rows_of(sources=sources, frames=9)))[ROWS].reason
    assert reason.count("(18 rows, 2 quality values)") == 5
    assert reason.endswith(f"quality values){more}")


# --- rows dropped ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("dropped", "status"), [(0, PASS), (120, PASS), (121, FAIL)])
def test_a_tenth_of_the_rows_may_be_dropped(audited, dropped, status):
    table = rows_of(frames=200)
    table.loc[table.index[:dropped], "adm2"] = np.nan
    clause = clauses_of(audited(table))[DROPPED]
    assert (clause.status, clause.blocks) == (status, True)
    assert clause.value == dropped / 1200
    assert clause.reason == f"{dropped} of 1,200 rows left with a reason"


# --- no source twice ------------------------------------------------------------------------------


def named(*names: str) -> pd.DataFrame:
    table = rows_of(sources=len(names))
    return table.assign(src=table["src"].map(dict(zip(table["src"].unique(), names, strict=True))))


def by_title(mean: float | None, worst: float | None) -> dict:
    return {"titles": 3, "summary": {"mean_plcc": mean, "min_plcc": worst}}


@pytest.fixture(scope="module")
def related(tmp_path_factory) -> dict:
    """Four sources, two of which are parts of one title."""
    table = named("ElFuente1", "ElFuente2", "Tennis", "Seeking")
    return plain(audit_corpus(corpus_of(table, tmp_path_factory.mktemp("related"))))


def test_sources_of_their_own_pass_whatever_their_number(audited):
    for names in (["Tennis", "Seeking", "FoxBird"], ["Tennis", "Seeking"]):
        clause = clauses_of(audited(named(*names)))[TWICE]
        assert (clause.status, clause.value) == (PASS, float(len(names)))
        assert clause.reason == "every source is its own"


@pytest.mark.parametrize(
    ("mean", "worst", "status"),
    [
        (0.95, 0.85, PASS),
        (0.95 - LESS, 0.85, FAIL),
        (0.95, 0.85 - LESS, FAIL),
        (None, 0.85, FAIL),
        (0.95, None, FAIL),
        (math.nan, math.nan, FAIL),
    ],
)
def test_parts_of_one_title_pass_where_leaving_them_out_together_does(related, mean, worst, status):
    clause = clauses_of(related, loso_of(by_title=by_title(mean, worst)))[TWICE]
    assert (clause.status, clause.value, clause.blocks) == (status, 3.0, True)
    assert clause.reason.startswith("one clip or title: ElFuente1 = ElFuente2; 3 groups; left out")
    shown = ["none" if v is None else f"{v:.5f}" for v in (mean, worst)]
    assert clause.reason.endswith(f"mean and worst PLCC are {shown[0]} and {shown[1]}")


def test_parts_of_one_title_fail_where_nothing_was_left_out_together(related):
    clause = clauses_of(related, loso_of(by_title=None))[TWICE]
    assert (clause.status, clause.value) == (FAIL, 3.0)
    assert clause.reason == "one clip or title: ElFuente1 = ElFuente2; 3 groups, 3 needed"


def test_two_groups_are_too_few_however_well_they_do(audited):
    facts = audited(named("ElFuente1", "ElFuente2", "Tennis"))
    clause = clauses_of(facts, loso_of(by_title=by_title(1.0, 1.0)))[TWICE]
    assert (clause.status, clause.value) == (FAIL, 2.0)
    assert clause.reason.endswith("2 groups, 3 needed")


def test_a_clip_under_a_second_name_is_found_by_its_rows(audited):
    table = named("Tennis", "Seeking", "FoxBird")
    copy = table[table["src"] == "Tennis"].assign(src="Court")
    facts = audited(pd.concat([table, copy], ignore_index=True))
    clause = clauses_of(facts)[TWICE]
    assert clause.status == FAIL
    assert "one clip or title: Court = Tennis; 3 groups" in clause.reason


# --- RMSE against a rival -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "own", "status", "limit"),
    [
        (True, 2.0, PASS, "<= 0.5 x"),
        (True, 2.0 + LESS, FAIL, "<= 0.5 x"),
        # Another teacher has no formula to be trained with: it is enough to beat the map at all.
        (False, 4.0 - LESS, PASS, "< 1 x"),
        (False, 4.0, FAIL, "< 1 x"),
        (False, 4.0 + LESS, FAIL, "< 1 x"),
    ],
)
def test_the_rivals_share_on_both_sides(clean, ours, own, status, limit):
    clause = clauses_of(clean, loso_of(own, 4.0, ours))[RIVAL]
    assert (clause.status, clause.limit, clause.blocks) == (status, limit, True)
    assert clause.value == pytest.approx(own / 4.0)
    assert clause.reason.startswith("mean RMSE of a clipped linear regression on the same folds: ")
    assert clause.reason.endswith("4.000 VMAF points")


def test_a_rival_is_named_as_one_says_it(clean):
    loso = loso_of(1.0, 4.0, ours=False)
    loso["rival"]["name"] = "isotonic map of VMAF v0.6.1"
    reason = clauses_of(clean, loso)[RIVAL].reason
    assert reason.startswith("mean RMSE of an isotonic map of VMAF v0.6.1 on the same folds: ")


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(("own", "rmse"), [(None, 4.0), (math.nan, 4.0), (0.0, 0.0), (1.0, 0.0)])
def test_what_has_no_ratio_fails(clean, ours, own, rmse):
    clause = clauses_of(clean, loso_of(own, rmse, ours))[RIVAL]
    assert (clause.status, clause.value, clause.blocks) == (FAIL, None, True)


def test_the_arm_that_ships_is_held_against_the_rival(clean):
    clauses = own_clauses(
        clean, loso_of(1.0, 4.0), {"arms": {"v1": outside_of()["arms"]["v3"]}}, "v1"
    )
    assert {c.name: c.value for c in clauses}[RIVAL] == pytest.approx(99.0 / 4.0)


# --- the rivals -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plenty(tmp_path_factory) -> Corpus:
    table = rows_of(qualities=(5, 20, 35, 50), sources=4, encoders=("libx264", "libvvenc"))
    return corpus_of(table, tmp_path_factory.mktemp("plenty"))


def scored_by_another(corpus: Corpus) -> Corpus:
    """Return its rows under a teacher that is a map of VMAF v0.6.1, and no formula of features."""
    exact = vmaf_from_features(corpus.table[list(CANONICAL_6)].to_numpy())
    table = corpus.table.assign(vmaf=100 * (exact / 100) ** 3, teacher=OTHER)
    return replace(corpus, table=table, teacher=OTHER)


def least_squares(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Return a linear regression worked out another way."""
    with_ones = np.column_stack([x, np.ones(len(x))])
    return np.column_stack([asked, np.ones(len(asked))]) @ np.linalg.lstsq(with_ones, y)[0]


def held_out_rmse(corpus: Corpus, fit, low=0.0, high=100.0) -> list[float]:
    x, y = corpus.features().astype(float), corpus.target().astype(float)
    found = []
    for source in corpus.sources():
        held = corpus.groups() == source
        score = np.clip(fit(x[~held], y[~held], x[held]), low, high)
        found.append(math.sqrt(np.mean((score - y[held]) ** 2)))
    return found


def test_the_rival_of_the_formula_is_a_clipped_linear_regression(plenty):
    found = rival(plenty)
    assert (found["name"], found["formula_teacher"]) == ("clipped linear regression", True)
    assert found["rmse"] == pytest.approx(np.mean(held_out_rmse(plenty, least_squares)))
    # Clipped, or the rival would be easier to beat than it says.
    unclipped = held_out_rmse(plenty, least_squares, -np.inf, np.inf)
    assert found["rmse"] < np.mean(unclipped) - 0.01


def test_the_rival_of_another_teacher_is_the_best_map_of_the_score(plenty):
    corpus = scored_by_another(plenty)
    found = rival(corpus)
    assert (found["name"], found["formula_teacher"]) == ("isotonic map of VMAF v0.6.1", False)
    assert found["rmse"] < 0.5 * np.mean(held_out_rmse(corpus, least_squares))


def test_rows_that_name_no_teacher_count_as_of_the_formula(tmp_path):
    corpus = corpus_of(rows_of().drop(columns="teacher"), tmp_path)
    assert corpus.teacher is None
    assert rival(corpus)["formula_teacher"] is True


def test_a_map_between_known_points_and_flat_beyond_them():
    x = np.array([[1.0] * 5 + [0.0], [0.9, 0.5, 0.8, 0.9, 0.93, 5.0], [0.4] + [0.1] * 4 + [0.0]])
    assert vmaf_from_features(x).round().tolist() == [97, 73, 0]
    # The two higher scores are out of order, so a rising map can only take their mean.
    assert map_of_v061(x, np.array([60.0, 80.0, 10.0]), x).tolist() == [70.0, 70.0, 10.0]
    beyond = map_of_v061(x[:2], np.array([60.0, 50.0]), x[2:])
    assert beyond.tolist() == [50.0]


def test_every_row_is_predicted_once_from_the_other_sources_and_clipped(plenty):
    rows = leave_one_out(plenty, mean_of_rows)
    assert list(rows) == ["held_out", "predicted", "vmaf"]
    assert rows["held_out"].tolist() == sorted(plenty.groups())
    for source, own in rows.groupby("held_out"):
        others = plenty.table.loc[plenty.table["src"] != source, "vmaf"]
        assert own["predicted"].to_numpy() == pytest.approx(others.mean(), abs=1e-4)
    far = leave_one_out(plenty, lambda x, y, asked: np.resize([-50.0, 150.0], len(asked)))
    assert set(far["predicted"]) == {0.0, 100.0}


def test_the_formula_is_no_rival_but_the_truth(plenty):
    rows = leave_one_out(plenty, own_formula(V061))
    assert np.abs(rows["predicted"] - rows["vmaf"]).max() < 1e-3


# --- block swap and stress set --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "key", "limit"), [(SWAP, "p99", 0.5), (STRESS, "rmse", 1.0)], ids=["swap", "stress"]
)
def test_block_swap_and_stress_set_on_both_sides(clean, name, key, limit):
    for value, status in ((0.0, PASS), (limit, PASS), (limit + LESS, FAIL), (99.0, FAIL)):
        clauses = clauses_of(clean, outside=outside_of(**{key: value}))
        assert (clauses[name].status, clauses[name].value) == (status, value)
        assert clauses[name].blocks
        other = STRESS if name == SWAP else SWAP
        assert clauses[other].status == PASS


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
@pytest.mark.parametrize(("name", "key"), [(SWAP, "p99"), (STRESS, "rmse")])
def test_what_is_not_finite_outside_the_corpus_fails(clean, name, key, value):
    clause = clauses_of(clean, outside=outside_of(**{key: value}))[name]
    assert (clause.status, clause.value, clause.blocks) == (FAIL, None, True)


def test_what_a_diverged_network_leaves_in_outside_json_fails(clean):
    """Every figure of it is null there, since JSON has no NaN."""
    outside = outside_of()
    outside["arms"]["v3"] = {
        "swap": dict.fromkeys(("p99", "mean", "max")),
        "stress": {"rmse": None, "rows": 7200, "worst_cell": {"rmse": None}},
    }
    clauses = clauses_of(clean, outside=outside)
    assert [clauses[n].status for n in (SWAP, STRESS)] == [FAIL, FAIL]


def test_the_reasons_say_mean_most_rows_and_worst_cell(clean):
    clauses = clauses_of(clean)
    assert clauses[SWAP].reason.endswith("mean 0.013, most 1.500 VMAF points")
    assert clauses[STRESS].reason.startswith("7,200 frames that no encoder of the corpus made")
    assert clauses[STRESS].reason.endswith("worst cell 3.25 VMAF points")


# --- two verdicts ---------------------------------------------------------------------------------


def folds(plcc) -> list[dict]:
    numbers = {"n_train": 40, "n_val": 20, "srocc": 0.9, "rmse": 1.0, "bias": 0.0}
    return [{"held_out": s, "plcc": p} | numbers for s, p in zip("abc", plcc, strict=True)]


def report(aware, blind=(0.9, 0.9, 0.9)) -> dict:
    """Return folds by arm as ``loso.json`` holds them."""
    return {
        "seeds": [3, 4],
        "arms": {"v1": {"folds": folds(blind)}, "v3": {"folds": folds(aware)}},
        "adr0319": None,
    }


GOOD, POOR = (0.99, 0.98, 0.97), (0.99, 0.98, 0.5)


def statuses(clauses: list[Clause]) -> dict[str, str]:
    return {c.name: c.status for c in clauses}


def test_adr_0319_is_judged_by_the_clauses_of_its_records_alone():
    clauses = adr_clauses(report(GOOD), FOUR_FAMILIES)
    assert [c.name for c in clauses] == [
        "mean LOSO PLCC",
        "finite folds, enough sources",
        "worst source PLCC",
        "RMSE vs reference table",
        "multi-codec lift over v1",
        "seed spread of mean PLCC",
    ]
    assert not set(statuses(clauses)) & set(NAMES)
    assert passed(clauses)


@pytest.mark.parametrize(("ships", "beside", "ok"), [(POOR, GOOD, True), (GOOD, POOR, False)])
def test_adr_0319_is_judged_by_its_own_folds_where_another_recipe_ships(ships, beside, ok):
    loso = report(ships) | {"adr0319": report(beside)}
    assert passed(adr_clauses(loso, FOUR_FAMILIES)) is ok
    # Without folds beside them, those that ship are its own.
    assert passed(adr_clauses(report(ships), FOUR_FAMILIES)) is not ok


def test_its_lift_is_measured_against_its_own_blind_folds():
    loso = report(GOOD, blind=(0.1,) * 3) | {"adr0319": report(GOOD, blind=(0.96,) * 3)}
    (lift,) = [c for c in adr_clauses(loso, FOUR_FAMILIES) if c.source == "ADR-0235"]
    assert lift.value == pytest.approx(0.02)


def test_a_fold_of_adr_0319_that_is_null_fails_it():
    found = statuses(adr_clauses(report((0.99, None, 0.99)), FOUR_FAMILIES))
    assert found["mean LOSO PLCC"] == found["finite folds, enough sources"] == FAIL


def clause(status: str, blocks: bool = True, name: str = "a clause") -> Clause:
    return Clause(name, "<= 1", None, status, blocks, "said so", "here")


@pytest.mark.parametrize(
    ("status", "blocks", "ok"),
    [
        (PASS, True, True),
        (FAIL, True, False),
        (FAIL, False, True),
        (NOT_MEASURED, True, True),
        (NOT_MEASURED, False, True),
    ],
)
def test_a_verdict_falls_with_a_blocking_clause_that_failed(status, blocks, ok):
    own, fine = clause(status, blocks), clause(PASS)
    for clauses in ([own], [fine, own], [own, fine]):
        found = verdict(clauses, [fine])
        assert (found["gate_passed"], found["adr_gate_passed"]) == (ok, True)
        mirrored = verdict([fine], clauses)
        assert (mirrored["gate_passed"], mirrored["adr_gate_passed"]) == (True, ok)


# What makes each own clause, and no other, fail.
FAILING = {
    TEACHER: (lambda: shifted(rows_of(), 1), loso_of, outside_of),
    ROWS: (lambda: rows_of(frames=9), loso_of, outside_of),
    DROPPED: (lambda: with_gaps(rows_of(frames=20), 13), loso_of, outside_of),
    TWICE: (lambda: named("ElFuente1", "ElFuente2", "Tennis"), loso_of, outside_of),
    RIVAL: (rows_of, lambda: loso_of(own=math.nan), outside_of),
    SWAP: (rows_of, loso_of, lambda: outside_of(p99=math.nan)),
    STRESS: (rows_of, loso_of, lambda: outside_of(rmse=1.1)),
}


def with_gaps(table: pd.DataFrame, count: int) -> pd.DataFrame:
    table.loc[table.index[:count], "motion2"] = np.nan
    return table


@pytest.mark.parametrize("name", NAMES)
def test_each_own_clause_alone_fails_the_gate_and_leaves_the_adr_verdict(audited, name):
    table, loso, outside = (make() for make in FAILING[name])
    clauses = own_clauses(audited(table), loso, outside)
    found = verdict(clauses, adr_clauses(report(GOOD), FOUR_FAMILIES))
    assert [c["name"] for c in failed_clauses(found)] == [name]
    assert (found["gate_passed"], found["adr_gate_passed"]) == (False, True)
    assert statement(found).startswith(f"The gate failed ({name}).")
    assert adr_statement(found) == "it passes; no blocking clause failed."
    with pytest.raises(GateFailed, match=f"{name} is .*v3 retrain pending"):
        require_pass(found)


def test_the_adr_verdict_fails_without_moving_the_gate(clean):
    found = verdict(list(clauses_of(clean).values()), adr_clauses(report(POOR), FOUR_FAMILIES))
    assert (found["gate_passed"], found["adr_gate_passed"]) == (True, False)
    assert adr_statement(found) == "it fails (mean LOSO PLCC, worst source PLCC)."
    assert statement(found) == "The gate passed: no blocking clause failed."
    require_pass(found)


def test_a_clause_of_adr_0319_that_does_not_block_is_not_named():
    clauses = [clause(FAIL, name="first"), clause(FAIL, False, "lift"), clause(PASS, name="last")]
    assert adr_statement(verdict([], clauses)) == "it fails (first)."


def test_the_verdict_is_json_whatever_was_measured(clean):
    bad = clauses_of(clean, loso_of(math.nan), outside_of(math.nan, math.nan))
    found = json.loads(json_text(verdict(list(bad.values()), [])))
    assert {c["name"] for c in failed_clauses(found)} == {RIVAL, SWAP, STRESS}
    assert all(c["value"] is None for c in failed_clauses(found))
