"""The run directory: stamps, what it refuses, and what it removes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from chain import ROOT

from fr_lib.corpus import Corpus, audit_corpus, load_corpus, synthetic_table, write_table
from fr_lib.errors import ArtefactError, InputError
from fr_lib.files import read_json, write_json
from fr_lib.runs import RunDir, plain, project_path
from fr_lib.runs.chapters import ARTEFACTS
from fr_lib.runs.rundir import MARK, OWNER, UNFINISHED

JSON_FILES = ["loso.json", "gate.json", "export.json"]


def rows(path, seed: int = 0) -> Corpus:
    table = synthetic_table(["libx264", "libsvtav1"], [20, 40], sources=3, frames=3, seed=seed)
    write_table(table, path)
    return load_corpus(path)


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return rows(tmp_path / "rows.jsonl")


@pytest.fixture
def run(tmp_path, corpus) -> RunDir:
    """A run after 01_corpus_audit."""
    run = RunDir(tmp_path / "one")
    run.begin(corpus)
    run.write("audit.json", audit_corpus(corpus))
    return run


# --- stamps


def test_every_file_carries_run_id_and_corpus_hash(run, corpus):
    written = run.write("loso.json", {"x": 1})
    assert written == {"x": 1, "run_id": "one", "corpus_sha256": corpus.sha256}
    assert read_json(run / "loso.json", made_by="") == written


def test_a_later_process_takes_the_hash_from_the_audit(run, corpus):
    later = RunDir(run.path)
    assert later.write("loso.json", {})["corpus_sha256"] == corpus.sha256
    assert later.read("loso.json") == later.read("loso.json")


def test_data_cannot_choose_its_own_stamp(run):
    assert run.write("loso.json", {"run_id": "other"})["run_id"] == "one"


def test_the_run_id_is_the_last_part_of_the_path(tmp_path, monkeypatch):
    assert RunDir(tmp_path / "runs" / "spring").run_id == "spring"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert RunDir(".").run_id == "here"


@pytest.mark.parametrize(("key", "value"), [("run_id", "two"), ("corpus_sha256", "f" * 64)])
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_file_of_another_run_or_corpus_is_refused(run, name, key, value):
    run.write(name, {"x": 1})
    write_json(run / name, read_json(run / name, made_by="") | {key: value})
    with pytest.raises(ArtefactError, match=f"{name}: {key} {value}; .*run {ARTEFACTS[name]} aga"):
        run.read(name)


def test_the_audit_of_another_corpus_is_refused(run, tmp_path):
    other = RunDir(tmp_path / "elsewhere" / "one")
    other.begin(rows(tmp_path / "other.jsonl", seed=1))
    run.write("loso.json", {})
    other.write("audit.json", {})
    (other / "audit.json").replace(run / "audit.json")
    with pytest.raises(ArtefactError, match=r"loso\.json: corpus_sha256"):
        RunDir(run.path).read("loso.json")
    with pytest.raises(ArtefactError, match="not those that were audited"):
        RunDir(run.path).corpus()


def test_a_moved_run_is_another_run(run):
    moved = run.path.with_name("renamed")
    run.path.rename(moved)
    with pytest.raises(ArtefactError, match=r"audit\.json: run_id one; allowed: renamed"):
        RunDir(moved).corpus()


@pytest.mark.parametrize("name", ["audit.json", *JSON_FILES])
def test_a_missing_file_names_the_notebook_to_run(tmp_path, run, name):
    (run / name).unlink(missing_ok=True)
    with pytest.raises(ArtefactError, match=f"{name}: missing; .*run {ARTEFACTS[name]} first"):
        RunDir(run.path).read(name)


@pytest.mark.parametrize("name", ["corpus.parquet", "folds.parquet", "oof.parquet"])
def test_a_missing_table_names_the_notebook_to_run(run, name):
    (run / name).unlink(missing_ok=True)
    with pytest.raises(ArtefactError, match=f"{name}: missing; .*run {ARTEFACTS[name]} first"):
        run.read_table(name)


def test_nothing_can_be_written_before_the_audit(tmp_path):
    with pytest.raises(ArtefactError, match="run 01_corpus_audit first"):
        RunDir(tmp_path / "new").write("loso.json", {})


# --- the rows


def test_the_corpus_comes_back_as_it_was_loaded(run, corpus):
    again = RunDir(run.path).corpus()
    pd.testing.assert_frame_equal(again.table, corpus.table)
    for name in ("sha256", "shape", "name", "n_rows_read", "dropped", "notes", "teacher"):
        assert getattr(again, name) == getattr(corpus, name), name
    assert again.codec_block().tolist() == corpus.codec_block().tolist()


def test_altered_rows_are_refused(run):
    table = pd.read_parquet(run / "corpus.parquet")
    table.loc[0, "vmaf"] += 1e-6
    table.to_parquet(run / "corpus.parquet", index=False)
    with pytest.raises(ArtefactError, match=r"corpus\.parquet.*run 01_corpus_audit again"):
        RunDir(run.path).corpus()


def test_a_table_comes_back_as_it_was_written(run):
    table = pd.DataFrame({"held_out": ["a", "b"], "plcc": [0.5, np.nan], "seed": [0, 1]})
    run.write_table("folds.parquet", table)
    pd.testing.assert_frame_equal(run.read_table("folds.parquet"), table)


# --- what is removed


def leave_everything(run: RunDir) -> None:
    for name in (*ARTEFACTS, "model/fr_regressor_v3.onnx"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()


def left(run: RunDir) -> set[str]:
    return {file.name for file in run.path.rglob("*") if file.is_file()} - {MARK}


def test_a_new_corpus_removes_what_an_earlier_one_left(run, corpus):
    leave_everything(run)
    for name in ("note.txt", "book/index.md", "notebooks/02_loso.ipynb"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
    (run / "notebooks" / f"01_corpus_audit{UNFINISHED}").touch()
    RunDir(run.path).begin(corpus)
    assert left(run) == {"corpus.parquet", "note.txt", f"01_corpus_audit{UNFINISHED}"}


@pytest.mark.parametrize(
    "name", [*ARTEFACTS, "model/x.onnx", "book/index.md", "notebooks/02_loso.ipynb"]
)
def test_a_folder_that_no_run_has_made_loses_nothing(tmp_path, corpus, name):
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("my own")
    with pytest.raises(InputError, match=r"mine: it holds .* was not made by a run"):
        RunDir(tmp_path / "mine").begin(corpus)
    assert [f for f in (tmp_path / "mine").rglob("*") if f.is_file()] == [file]


def test_a_notebook_alone_may_keep_its_copy_in_its_new_folder(tmp_path, corpus):
    """As papermill does, before the first cell runs."""
    for place in ("01_corpus_audit.ipynb", "notebooks/01_corpus_audit.ipynb"):
        file = tmp_path / place.replace("/", "_") / place
        file.parent.mkdir(parents=True)
        file.touch()
        run = RunDir(tmp_path / place.replace("/", "_"))
        run.begin(corpus)
        assert (run / MARK).is_file()


def test_a_link_is_removed_and_not_what_it_points_to(run, corpus, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").touch()
    for name in ("model", "book"):
        (run / name).symlink_to(tmp_path / "elsewhere")
    run.begin(corpus)
    assert not (run / "model").is_symlink()
    assert not (run / "book").is_symlink()
    assert (tmp_path / "elsewhere" / "precious").is_file()


# --- whose it is


def test_a_whole_run_keeps_others_out_and_leaves_a_mark_and_no_lock(tmp_path, corpus):
    run = RunDir(tmp_path / "one")
    with run.sole():
        with (
            pytest.raises(InputError, match="one: another process writes here"),
            RunDir(run.path).sole(),
        ):
            pass
        kernel = RunDir(run.path)
        kernel.begin(corpus)
        kernel.write("audit.json", audit_corpus(corpus))
        assert run.read("audit.json") == kernel.read("audit.json")
    assert left(run) == {"corpus.parquet", "audit.json"}
    with RunDir(run.path).sole():
        pass


def test_a_notebook_alone_stays_out_while_a_whole_run_is_at_work(run, corpus, monkeypatch):
    with RunDir(run.path).sole():
        monkeypatch.delenv(OWNER)
        with pytest.raises(InputError, match="another process writes here"):
            RunDir(run.path).begin(corpus)
        monkeypatch.setenv(OWNER, "its parent was killed")
        with pytest.raises(InputError, match="another process writes here"):
            RunDir(run.path).write_table("oof.parquet", corpus.table)
        monkeypatch.setenv(OWNER, "")
    assert left(run) == {"corpus.parquet", "audit.json"}


def test_what_was_begun_before_another_run_neither_reads_nor_writes(run, corpus):
    before = RunDir(run.path)
    before.read("audit.json")
    with RunDir(run.path).sole():
        pass
    for work in (
        lambda: before.read("audit.json"),
        lambda: before.write("loso.json", {}),
        lambda: before.write_table("oof.parquet", corpus.table),
    ):
        with pytest.raises(ArtefactError, match="another run has begun here meanwhile"):
            work()
    assert left(run) == {"corpus.parquet", "audit.json"}


def test_a_folder_with_anything_in_it_is_no_place_for_a_whole_run(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").touch()
    with (
        pytest.raises(InputError, match=r"it holds note\.txt and was not made by a run"),
        RunDir(tmp_path / "mine").sole(),
    ):
        pass
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    "mark", [[], "x", {}, {"run": 5}, {"run": "mine"}, {"run": {}}, {"run": "0" * 31 + "G"}]
)
def test_a_mark_of_another_tool_is_none_of_a_run(mark, tmp_path, corpus):
    (tmp_path / "mine" / "model").mkdir(parents=True)
    (tmp_path / "mine" / MARK).write_text(json.dumps(mark))
    (tmp_path / "mine" / "model" / "precious").touch()
    run = RunDir(tmp_path / "mine")
    with pytest.raises(InputError, match="was not made by a run"), run.sole():
        pass
    with pytest.raises(InputError, match="was not made by a run"):
        run.begin(corpus)
    assert left(run) == {"precious"}


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("result", ["audit.json", None])
def test_a_refused_run_leaves_its_results_or_nothing(there, result, tmp_path):
    run = RunDir(tmp_path / "run")
    if there:
        run.path.mkdir()

    def refused() -> None:
        with run.sole():
            (run / "notebooks").mkdir()
            (run / (result or "scratch")).touch()
            raise InputError("no good")

    with pytest.raises(InputError, match="no good"):
        refused()
    assert run.path.exists() == (there or result is not None)
    assert left(run) == ({result} if result else set())


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("audit.json", {"corpus.parquet", "audit.json"}),
        ("loso.json", {*ARTEFACTS} - {"outside.json", "gate.json", "export.json"}),
        ("gate.json", {*ARTEFACTS} - {"export.json"}),
        ("export.json", {*ARTEFACTS, "fr_regressor_v3.onnx"}),
    ],
)
def test_a_file_written_again_makes_later_ones_stale(run, corpus, name, kept):
    audited = (run / "audit.json").read_text()
    leave_everything(run)
    (run / "audit.json").write_text(audited)
    run.write(name, {})
    assert left(run) == kept


@pytest.mark.parametrize(
    ("notebook", "kept"),
    [
        ("01_corpus_audit", set()),
        ("02_loso", {"corpus.parquet", "audit.json"}),
        ("03_gate", {*ARTEFACTS} - {"outside.json", "gate.json", "export.json"}),
        ("04_export", {*ARTEFACTS} - {"export.json"}),
        ("05_transfer", {*ARTEFACTS, "fr_regressor_v3.onnx"}),
    ],
)
def test_a_notebook_that_starts_again_makes_its_own_files_and_later_ones_stale(run, notebook, kept):
    leave_everything(run)
    run.drop_after(notebook)
    assert left(run) == kept


# --- values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float32("nan"), None),
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([1.0, np.nan]), [1.0, None]),
        ((1, "a"), [1, "a"]),
        ({"a": {"b": [np.inf]}}, {"a": {"b": [None]}}),
        ({1: 2}, {"1": 2}),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}]),
        ("nan", "nan"),
        (None, None),
    ],
)
def test_values_become_json(value, expected):
    assert plain(value) == expected
    json.dumps(plain(value), allow_nan=False)


def test_an_undefined_metric_is_null_in_the_file(run):
    run.write("loso.json", {"plcc": float("nan")})
    assert json.loads((run / "loso.json").read_text())["plcc"] is None


# --- paths


def test_a_relative_path_means_the_same_in_notebooks_and_in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    from_root = project_path("runs/a").resolve()
    monkeypatch.chdir(ROOT / "notebooks")
    assert project_path("runs/a").resolve() == from_root == ROOT / "runs" / "a"
    assert RunDir("runs/a").path.resolve() == from_root


def test_a_folder_called_notebooks_elsewhere_is_nothing_special(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_path("runs/a").resolve() == tmp_path / "notebooks" / "runs" / "a"


def test_an_absolute_path_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT / "notebooks")
    assert project_path(tmp_path) == tmp_path


# --- figures and progress


def test_a_figure_is_saved_and_handed_back(run):
    from matplotlib.figure import Figure

    figure = Figure()
    assert run.save_figure(figure, "one") is figure
    assert (run / "figures" / "one.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (run / "figures" / "one.svg").read_text()


def test_progress_is_one_whole_file(run):
    for share in (0.1, 0.2):
        run.progress("epoch", share)
    assert json.loads((run / "progress.json").read_text()) == {"message": "epoch", "share": 0.2}
    assert not list(run.path.glob(".progress*"))
