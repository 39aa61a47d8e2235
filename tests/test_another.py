"""Another teacher's scores from rows of v0.6.1: who learns from what, and the figures of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import papermill
import pytest

import fr_lib.train
from fr_lib.corpus import Corpus, audit_corpus, load_corpus, synthetic_table, write_table
from fr_lib.errors import InputError
from fr_lib.evaluate import MAP, another, run_another
from fr_lib.evaluate.another import (
    AS_IS,
    AWARE,
    BLIND,
    CORRECTIONS,
    LIFTS,
    LINEAR,
    MAP_AWARE,
    MAP_BLIND,
    NETWORKS,
    ONE_HOT,
    QUALITY,
    TREES,
    answers_of,
    scores_of,
)
from fr_lib.evaluate.loso import metrics
from fr_lib.files import ROOT, json_text
from fr_lib.report import another as words
from fr_lib.report import plots
from fr_lib.runs import ANOTHER, CHAPTERS, RunDir, plain
from fr_lib.runs.evidence import record
from fr_lib.schema import CANONICAL_6, N_CODEC_BLOCK, N_FEATURES

NEAR, FAR = ANOTHER
OFFSET = {"libx264": -6.0, "libsvtav1": 6.0}
[CHAPTER] = [chapter for chapter in CHAPTERS if chapter.name == "08_another_teacher"]


def scored_table() -> pd.DataFrame:
    """Return rows whose far score is a line of v0.6.1's; the near one parts by codec besides."""
    table = synthetic_table([*OFFSET], [20, 30, 40, 50], sources=3, frames=4, seed=0)
    line = 15 + 0.7 * table["vmaf"]
    return table.assign(**{NEAR: line + table["encoder"].map(OFFSET), FAR: line})


def loaded(table: pd.DataFrame, folder, teacher: str | None = None) -> Corpus:
    write_table(table, folder / "c.jsonl")
    return load_corpus(folder / "c.jsonl", teacher)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return loaded(scored_table(), tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def quick():
    """Few rows have few steps: let each of them count."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("NETWORK", "CORRECTION"):
            recipe = replace(getattr(another, name), batch=16, epochs=40, lr=2e-2, dropout=0.0)
            patch.setattr(another, name, recipe)
        yield


@pytest.fixture(scope="module")
def said() -> list[tuple[str, float]]:
    """What the run of `facts` reports."""
    return []


@pytest.fixture(scope="module")
def facts(corpus, quick, said):
    tell = lambda *state: said.append(state)  # noqa: E731
    return run_another(corpus, seeds=(0, 1), device="cpu", progress=tell)


@pytest.fixture(scope="module")
def answers(corpus, quick):
    return answers_of(corpus, NEAR, (0, 1), "cpu")


def changed(corpus: Corpus, **columns) -> Corpus:
    return replace(corpus, table=corpus.table.assign(**columns))


def of(facts, teacher: str, name: str) -> dict:
    [found] = [row for row in facts["teachers"][teacher]["predictors"] if row["name"] == name]
    return found


# --- who sees what --------------------------------------------------------------------------------


def test_the_networks_differ_in_what_they_see_of_the_block():
    features = tuple(range(N_FEATURES))
    preset, quality = N_FEATURES + N_CODEC_BLOCK - 2, N_FEATURES + N_CODEC_BLOCK - 1
    slots = tuple(range(N_FEATURES, preset))
    assert {
        BLIND: features,
        ONE_HOT: features + slots,
        QUALITY: (*features, *slots, quality),
        AWARE: (*features, *slots, preset, quality),
    } == NETWORKS
    assert {MAP_BLIND: NETWORKS[BLIND], MAP_AWARE: NETWORKS[AWARE]} == CORRECTIONS


def test_scores_of_a_held_out_source_never_train(corpus, answers):
    own = corpus.groups() == corpus.sources()[0]
    absurd = changed(corpus, **{NEAR: corpus.table[NEAR].mask(own, 0.0)})
    after = answers_of(absurd, NEAR, (0, 1), "cpu")
    for name, before in answers.items():
        np.testing.assert_array_equal(after[name][:, own], before[:, own], name)
        if name != AS_IS:
            assert (after[name][:, ~own] != before[:, ~own]).mean() > 0.8, name


def test_features_of_a_held_out_source_never_train(corpus, answers):
    """Scaled by 100, they would move the mean and the spread by which inputs are standardised."""
    own = corpus.groups() == corpus.sources()[0]
    held, other = np.flatnonzero(own)[:4], np.flatnonzero(own)[4:]
    table = corpus.table[list(CANONICAL_6)].copy()
    table.iloc[other] *= 100
    after = answers_of(changed(corpus, **table), NEAR, (0, 1), "cpu")
    for name, before in answers.items():
        np.testing.assert_allclose(after[name][:, held], before[:, held], atol=1e-9, err_msg=name)


def test_a_correction_that_says_nothing_leaves_the_map(corpus, answers, monkeypatch):
    def silenced(*given):
        models = fr_lib.train.many.train_many(*given)
        for model in models:
            for values in model.model.parameters():
                values.data.zero_()
        return models

    monkeypatch.setattr(fr_lib.train, "train_many", silenced, raising=False)
    found = answers_of(corpus, NEAR, (0, 1), "cpu")
    for name in CORRECTIONS:
        np.testing.assert_array_equal(found[name], np.repeat(answers[MAP], 2, axis=0))
        assert (answers[name] != answers[MAP]).any()


def test_answers_stay_within_the_range_of_the_teacher(corpus, quick):
    steep = changed(corpus, **{NEAR: (3 * corpus.table["vmaf"] - 100).clip(0, 100)})
    for name, found in answers_of(steep, NEAR, (0,), "cpu").items():
        assert found.min() >= 0, name
        assert found.max() <= 100, name
    assert answers_of(steep, NEAR, (0,), "cpu")[LINEAR].min() == 0


# --- figures --------------------------------------------------------------------------------------


def test_every_predictor_is_there_in_order(facts):
    expected = [AS_IS, MAP, LINEAR, TREES, *NETWORKS, *CORRECTIONS]
    for teacher in facts["teachers"].values():
        assert [row["name"] for row in teacher["predictors"]] == expected
        assert [row["name"] for row in teacher["predictors"] if row["sees_codec"]] == [
            *(ONE_HOT, QUALITY, AWARE, MAP_AWARE)
        ]
        assert [row["part"] for row in teacher["lift"]] == [*LIFTS]
    assert (facts["rows"], facts["sources"], facts["widths"]) == (96, 3, None)


def test_the_score_as_it_is_errs_by_the_known_distance(corpus, facts):
    away = corpus.table[FAR] - corpus.table["vmaf"]
    each = np.sqrt((away**2).groupby(corpus.table["src"]).mean())
    found = of(facts, FAR, AS_IS)
    assert found["rmse"] == pytest.approx(each.mean())
    assert (found["worst_rmse"], found["worst_source"]) == (
        pytest.approx(each.max()),
        each.idxmax(),
    )
    assert found["plcc"] == pytest.approx(1.0)


def test_a_line_of_the_old_score_is_found_by_the_map_and_codecs_are_not(facts):
    assert of(facts, FAR, MAP)["rmse"] < 1.5
    # Half of the rows lie six points above, half as many below.
    assert of(facts, NEAR, MAP)["rmse"] == pytest.approx(6, abs=1.5)


def test_the_block_finds_what_parts_by_codec(facts):
    lift = {row["part"]: row for row in facts["teachers"][NEAR]["lift"]}
    for part in ("codec (one-hot)", "whole block", "whole block, correction of the map"):
        assert lift[part]["rmse"]["high"] < -1, part
    assert of(facts, NEAR, MAP_AWARE)["rmse"] < 0.6 * of(facts, NEAR, MAP)["rmse"]
    assert of(facts, NEAR, MAP_AWARE)["against_map"]["high"] < 0
    for row in facts["teachers"][NEAR]["by_codec"]:
        assert row["correction"]["mean"] < -1, row["encoder"]


def test_figures_are_means_over_seeds_and_then_sources(corpus, facts, answers):
    groups, target = corpus.groups(), corpus.table[NEAR].to_numpy()
    for name in (AWARE, MAP_BLIND):
        each = {
            source: np.mean(
                [
                    metrics(a[groups == source], target[groups == source])["rmse"]
                    for a in answers[name]
                ]
            )
            for source in corpus.sources()
        }
        assert of(facts, NEAR, name)["rmse"] == pytest.approx(np.mean([*each.values()]))
        assert of(facts, NEAR, name)["worst_rmse"] == pytest.approx(max(each.values()))


def test_parts_of_the_block_add_up_to_the_whole(facts):
    for teacher in facts["teachers"].values():
        *parts, whole, _ = (row["rmse"]["mean"] for row in teacher["lift"])
        assert sum(parts) == pytest.approx(whole)
        changes = [row["network"] for row in teacher["by_source"]]
        assert np.mean(changes) == pytest.approx(whole)


def test_progress_names_the_teacher_and_reaches_the_end(said):
    assert {message.split(":")[0] for message, _ in said} == {NEAR, FAR}
    assert [share for _, share in said] == sorted(share for _, share in said)
    assert said[-1][1] == pytest.approx(1.0)


# --- which corpora --------------------------------------------------------------------------------


def test_a_run_of_another_teacher_has_the_same_scores(corpus, tmp_path):
    swapped = loaded(scored_table(), tmp_path, teacher=NEAR)
    assert swapped.taught_by.name == NEAR
    for name in ("vmaf_v0.6.1", NEAR, FAR):
        np.testing.assert_array_equal(scores_of(swapped, name), scores_of(corpus, name))


@pytest.mark.parametrize("spoilt", ["missing", "one not there"])
def test_rows_without_a_score_are_refused(corpus, spoilt):
    table = corpus.table.drop(columns=FAR) if spoilt == "missing" else corpus.table.copy()
    if spoilt != "missing":
        table.loc[3, FAR] = np.nan
    with pytest.raises(InputError, match=f"rows without a score of {FAR}; allowed: one on each"):
        run_another(replace(corpus, table=table))


def test_one_source_is_refused(corpus):
    alone = corpus.table[corpus.groups() == corpus.sources()[0]].reset_index(drop=True)
    with pytest.raises(InputError, match="another teacher: 1 source; allowed: 2 or more"):
        run_another(replace(corpus, table=alone))


def test_the_chapter_refuses_a_corpus_without_the_columns_in_words(corpus, tmp_path):
    assert CHAPTER.refuses(audit_corpus(corpus)) is None
    swapped = loaded(scored_table(), tmp_path, teacher=FAR)
    assert CHAPTER.refuses(audit_corpus(swapped)) is None
    few = replace(corpus, table=corpus.table.drop(columns=NEAR))
    assert CHAPTER.refuses(audit_corpus(few)) == f"the rows were not all scored by {NEAR} too"
    none = replace(corpus, table=corpus.table.drop(columns=[NEAR, FAR]))
    said = CHAPTER.refuses(audit_corpus(none))
    assert said == f"the rows were not all scored by {NEAR} and {FAR} too"


# --- the page -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")
def test_the_notebook_shows_what_was_measured(corpus, facts, tmp_path, monkeypatch):
    run = RunDir(tmp_path / "r")
    run.begin(corpus)
    run.write("audit.json", audit_corpus(corpus) | {"provenance": None})
    run.write("loso.json", {"recipe": {}, "seeds": [0]})
    record(run, "another", facts)
    monkeypatch.chdir(ROOT)
    executed = papermill.execute_notebook(
        ROOT / "notebooks" / f"{CHAPTER.name}.ipynb",
        tmp_path / "out.ipynb",
        parameters={"run_dir": str(run.path)},
        progress_bar=False,
    )
    shown = "".join(
        output["data"].get("text/markdown", "")
        for cell in executed.cells
        for output in cell.get("outputs", ())
        if "data" in output
    )
    assert words.verdict(facts) in shown
    assert (run / "figures" / "another_teacher.png").is_file()


# --- words ----------------------------------------------------------------------------------------


def test_the_tables_have_a_line_for_each_figure(facts):
    stored = plain(facts)
    json_text(stored)
    near = stored["teachers"][NEAR]
    assert len(words.predictors_table(near)) == 10
    assert len(words.lift_table(stored)) == 2 * len(LIFTS)
    assert len(words.codecs_table(stored)) == 2 * len(OFFSET)
    assert set(words.sources_table(near)["held-out source"]) == {
        r["src"] for r in near["by_source"]
    }


def test_the_verdict_follows_the_intervals(facts):
    said = words.verdict(facts)
    near, _, far = said.partition("VMAF v1.0.16, 1080p at 5 heights: ")
    assert "beyond the sources' spread" in near
    assert near.strip().endswith("which helps.")
    assert far


def test_the_figure_marks_every_predictor_with_its_sight_and_the_map(facts):
    fig = plots.another_grid(facts)
    assert [ax.get_title() for ax in fig.axes] == [o["title"] for o in facts["teachers"].values()]
    assert [t.get_text() for t in fig.legends[0].get_texts()] == [
        *("codec-blind", "codec-aware", "isotonic map")
    ]
    for ax, teacher in zip(fig.axes, facts["teachers"].values(), strict=True):
        assert "VMAF points" in ax.get_xlabel()
        names = [label.get_text() for label in ax.get_yticklabels()]
        assert names == [row["name"] for row in teacher["predictors"]]
        drawn = {
            line.get_label(): dict(zip(line.get_ydata(), line.get_xdata(), strict=True))
            for line in ax.get_lines()
        }
        for place, row in enumerate(teacher["predictors"]):
            assert (
                drawn["codec-aware" if row["sees_codec"] else "codec-blind"][place] == row["rmse"]
            )
            if row["name"] == MAP:
                assert set(drawn["isotonic map"].values()) == {row["rmse"]}


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-2, -1, True), (1, 2, True), (-1, 1, False), (0, 1, False)]
)
def test_an_interval_that_touches_zero_decides_nothing(low, high, expected):
    assert words.excludes_zero({"mean": (low + high) / 2, "low": low, "high": high}) == expected


def test_sizes_are_said_where_the_rows_name_them(corpus):
    assert words.sizes({"widths": None}) == "of sizes that the rows do not name"
    assert words.sizes({"widths": [640, 1280]}) == "640 to 1280 pixels wide"
