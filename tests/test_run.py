"""The strict runner: what it accepts, what a failure leaves behind, and whole runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from chain import HOSTILE_NAMES, MEASURED, ROOT, hopeless_table, python, python_notebook, tree
from nbformat.v4 import new_code_cell, new_notebook
from papermill.exceptions import PapermillExecutionError

from fr_lib import pipeline as runner
from fr_lib.corpus import write_table
from fr_lib.errors import ArtefactError, FrError, InputError
from fr_lib.files import write_json
from fr_lib.pipeline import (
    NotebookFailed,
    declared_parameters,
    parse_settings,
    run_notebook,
)
from fr_lib.release import verify
from fr_lib.runs import STEPS, RunDir
from fr_lib.runs.chapters import ARTEFACTS

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")


# --- settings


def test_the_declared_parameters_are_the_notebooks_defaults():
    assert declared_parameters("02_loso") == {
        "run_dir": "runs/mine",
        "recipe_name": "taught",
        "epochs": 0,
        "seed": 0,
        "seeds": 1,
        "device": "auto",
    }


def test_settings_take_the_type_of_the_default():
    assert parse_settings(["epochs=3", "recipe_name=adr0319", "measure=True"]) == {
        "epochs": 3,
        "recipe_name": "adr0319",
        "measure": True,
    }


def test_no_settings_are_fine():
    assert parse_settings([]) == {}


def test_a_value_may_hold_an_equals_sign_or_be_empty():
    with pytest.raises(InputError, match="--set reference: 'a=b'; "):
        parse_settings(["reference=a=b"])
    assert parse_settings(["reference="]) == {"reference": ""}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("corpsu=x", "'corpsu' is no parameter of any notebook; .*did you mean 'corpus'"),
        ("epoch=3", "did you mean 'epochs'"),
        ("=3", "is no parameter"),
        ("epochs", "'epochs'; allowed: key=value"),
        ("epochs=", "--set epochs: ''; allowed: a whole number from 1 to 10,000"),
        ("epochs=many", "--set epochs: 'many'; allowed: a whole number"),
        ("epochs=1.5", "allowed: a whole number"),
        ("epochs=True", "allowed: a whole number"),
        ("epochs=__import__('os')", "allowed: a whole number"),
        ("corpus=x", "'corpus' is set by the run; .*use --corpus"),
        ("run_dir=x", "use --run-dir"),
        ("stop_on_fail=True", "always carries the verdict on"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        parse_settings([setting])


# --- one notebook


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def copies(run: RunDir) -> set[str]:
    return {file.name for file in (run / "notebooks").glob("*")}


def copy_of(done, folder) -> RunDir:
    """Return a run directory of the same id with the files that the notebooks share."""
    run = RunDir(folder / done.path.name)
    run.path.mkdir(parents=True)
    for name in ARTEFACTS:
        shutil.copy(done.path / name, run.path)
    shutil.copytree(done.path / "model", run / "model")
    shutil.copytree(done.path / "notebooks", run / "notebooks")
    (run / "book").mkdir()
    (run / "book" / "index.html").write_text("the card of an earlier run")
    return run


def refused(name: str, run: RunDir, **settings) -> NotebookFailed:
    with pytest.raises(NotebookFailed) as stopped:
        run_notebook(name, run, {"run_dir": str(run.path)} | settings)
    return stopped.value


def assert_nothing_later_is_left(name: str, run: RunDir) -> None:
    assert {n for n, writer in ARTEFACTS.items() if writer > name and (run / n).exists()} == set()
    assert copies(run) == {f"{n}.ipynb" for n in STEPS if n < name} | {f"{name}.failed.ipynb"}
    assert not list((run / "model").glob("*"))
    assert not (run / "book").exists()


def test_01_leaves_an_earlier_run_alone_until_it_has_checked_its_corpus(smoke, tmp_path):
    run = copy_of(smoke, tmp_path)
    before = tree(run.path)
    (tmp_path / "odd.jsonl").write_text('{"src": 1}\n')
    failure = refused("01_corpus_audit", run, corpus=str(tmp_path / "odd.jsonl"))
    assert failure.exit_code == 2
    assert "odd.jsonl" in str(failure)
    (run / "notebooks" / "01_corpus_audit.failed.ipynb").unlink()
    assert tree(run.path) == before


def test_02_refuses_to_start_without_the_audit(smoke, tmp_path):
    run = copy_of(smoke, tmp_path)
    (run / "audit.json").unlink()
    failure = refused("02_loso", run)
    assert failure.exit_code == 2
    assert "holds no results of 01_corpus_audit" in str(failure)
    assert "open 01_corpus_audit and run it first" in str(failure)
    assert_nothing_later_is_left("02_loso", run)


def test_03_refuses_evidence_of_another_corpus(smoke, nvenc, tmp_path):
    run = copy_of(smoke, tmp_path)
    stamp = {"run_id": run.run_id}
    write_json(run / "audit.json", nvenc.json("audit.json") | stamp)
    failure = refused("03_gate", run)
    assert failure.exit_code == 2
    assert "loso.json: corpus_sha256" in str(failure)
    assert "run 02_loso again" in str(failure)
    assert_nothing_later_is_left("03_gate", run)


def test_04_refuses_rows_that_were_not_audited(smoke, tmp_path):
    run = copy_of(smoke, tmp_path)
    run.read_table("corpus.parquet").iloc[1:].to_parquet(run / "corpus.parquet", index=False)
    failure = refused("04_export", run)
    assert failure.exit_code == 2
    assert "not those that were audited" in str(failure)
    assert_nothing_later_is_left("04_export", run)


def test_03_keeps_its_verdict_when_it_stops_on_a_failed_gate(hopeless, tmp_path):
    run = copy_of(hopeless, tmp_path)
    failure = refused("03_gate", run)  # its own parameters stop it
    assert failure.exit_code == 1
    assert "GateFailed" in str(failure)
    assert "v3 retrain pending" in str(failure)
    assert "mean LOSO PLCC is -" in str(failure)
    assert run.read("gate.json")["gate_passed"] is False
    assert_nothing_later_is_left("03_gate", run)


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that puts cells in the place of a notebook, and its run directory."""

    def write(*cells: str, parameters: str = 'run_dir: str = "runs/x"  # where') -> RunDir:
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        notebook = python_notebook([first, *map(new_code_cell, cells)])
        nbformat.write(notebook, tmp_path / "odd.ipynb")
        monkeypatch.setattr(runner, "notebook_path", lambda name: tmp_path / "odd.ipynb")
        run = RunDir(tmp_path / "run")
        run.path.mkdir()
        return run

    return write


def test_a_failed_copy_goes_when_the_notebook_succeeds(written):
    run = written("1 + 1")
    (run / "notebooks").mkdir()
    for copy in ("01_corpus_audit", "02_loso", "03_gate.failed", "04_export"):
        (run / "notebooks" / f"{copy}.ipynb").touch()
    # What a notebook does not declare is for others.
    settings = {"run_dir": str(run.path), "epochs": 7}
    assert run_notebook("03_gate", run, settings) == run / "notebooks" / "03_gate.ipynb"
    assert copies(run) == {"01_corpus_audit.ipynb", "02_loso.ipynb", "03_gate.ipynb"}


def test_processes_work_for_a_notebook(written):
    run = written(
        "import os\nfrom fr_lib.worker import Crew\ncrew = Crew(2)",
        "assert crew.submit(os.getppid).result() == os.getpid()",
        "crew.stop()",
    )
    assert run_notebook("01_corpus_audit", run, {"run_dir": str(run.path)}).is_file()


def test_a_killed_kernel_is_a_failure(written):
    run = written("import os, signal", "os.kill(os.getpid(), signal.SIGKILL)", "1 + 1")
    failure = refused("01_corpus_audit", run)
    assert failure.exit_code == 1
    assert "DeadKernelError" in str(failure)
    assert copies(run) == {"01_corpus_audit.failed.ipynb"}


def test_a_notebook_that_leaves_early_is_a_failure(written):
    run = written("import sys", "sys.exit(0)", "1 + 1")
    failure = refused("01_corpus_audit", run)
    assert failure.exit_code == 1
    assert "1 of 5 cells did not run" in str(failure)
    assert copies(run) == {"01_corpus_audit.failed.ipynb"}


def test_a_fault_of_the_code_names_notebook_cell_and_message(written):
    run = written("x = 1", "x / 0")
    failure = refused("01_corpus_audit", run)
    assert failure.exit_code == 1
    assert "01_corpus_audit, cell 4: ZeroDivisionError: division by zero" in str(failure)
    assert "01_corpus_audit.failed.ipynb" in str(failure)


def children(kind: type) -> list[type]:
    return [c for child in kind.__subclasses__() for c in (child, *children(child))]


OURS = [FrError, *(kind for kind in children(FrError) if kind.__module__ == "fr_lib.errors")]


def told(name: str, message: str) -> NotebookFailed:
    """Return what the runner makes of an error of this class in a kernel, as papermill tells it."""
    error = PapermillExecutionError(3, 4, "raise", name, message, [])
    return runner._explained(error, "01_corpus_audit", Path("copy.ipynb"))


def test_a_run_ends_with_the_exit_code_of_the_error(written):
    run = written(
        "from fr_lib.errors import InputError", "raise InputError('x: y; allowed: z; do')"
    )
    failure = refused("01_corpus_audit", run)
    assert (failure.exit_code, str(failure)) == (2, "01_corpus_audit: x: y; allowed: z; do")


@pytest.mark.parametrize("kind", OURS)
def test_each_error_of_ours_has_the_exit_code_of_its_class(kind):
    failure = told(kind.__name__, "x: y; allowed: z; do")
    assert failure.exit_code == kind.exit_code
    assert "x: y; allowed: z; do" in str(failure)


@pytest.mark.parametrize("name", ["say", "exit_code", "OSError"])
def test_an_error_that_is_not_ours_ends_with_1(name):
    assert told(name, "x").exit_code == 1


def test_what_the_system_refuses_a_notebook_ends_with_2(written):
    run = written("open('/proc/none', 'w')")
    failure = refused("01_corpus_audit", run)
    assert failure.exit_code == 2
    assert str(failure).startswith("01_corpus_audit: [Errno ")
    assert "/proc/none" in str(failure)


@pytest.mark.parametrize(
    "refusal",
    [
        OSError(36, "File name too long", "a" * 300),
        NotADirectoryError(20, "Not a directory", "x.ipynb/x"),
        OSError("10 requested and 4 written"),
    ],
)
def test_each_refusal_of_the_system_ends_with_2(refusal):
    failure = told(type(refusal).__name__, str(refusal))
    assert failure.exit_code == 2
    assert str(failure).startswith(f"01_corpus_audit: {refusal}; allowed: paths that can be")


@pytest.mark.parametrize("tags", [[], ["parameters", "parameters"]])
def test_a_notebook_has_one_parameters_cell(tags, tmp_path, monkeypatch):
    cells = [new_code_cell("a: int = 1  # a", metadata={"tags": [tag]}) for tag in tags]
    nbformat.write(new_notebook(cells=cells), tmp_path / "odd.ipynb")
    monkeypatch.setattr(runner, "notebook_path", lambda name: tmp_path / "odd.ipynb")
    with pytest.raises(ArtefactError, match=f"{len(tags)} cells tagged 'parameters'"):
        declared_parameters("odd")


# --- whole runs


def test_a_run_that_passes_ends_with_0_and_says_where_to_look(smoke):
    assert smoke.code == 0, smoke.err
    figures = smoke.json("loso.json")["arms"]["v3"]["summary"]
    stress = smoke.json("outside.json")["arms"]["v3"]["stress"]
    adr = "PASSED" if smoke.json("gate.json")["adr_gate_passed"] else "FAILED"
    lines = smoke.out.splitlines()[-5:]
    assert lines == [
        f"gate:  PASSED; ADR-0319's own recipe by ADR-0323's clauses: {adr}",
        f"LOSO:  recipe taught, mean PLCC {figures['mean_plcc']:.7f}, worst PLCC "
        f"{figures['min_plcc']:.7f} ({figures['worst_source']}), "
        f"mean RMSE {figures['mean_rmse']:.3f} VMAF points",
        f"stress set (9,288 frames that no encoder of the corpus made): RMSE {stress['rmse']:.3f}, "
        f"worst cell {stress['worst_cell']['rmse']:.2f}",
        f"model: {smoke.path / 'model'}",
        f"open:  {smoke.page()}",
    ]
    assert smoke.page().is_file()


def test_every_file_of_a_run_carries_its_stamp(smoke):
    stamps = [
        (facts["run_id"], facts["corpus_sha256"])
        for facts in map(smoke.json, ("audit.json", "loso.json", "gate.json", "export.json"))
    ]
    assert set(stamps) == {("smoke", stamps[0][1])}
    assert len(stamps[0][1]) == 64


def test_a_finished_run_leaves_no_scratch_files(smoke, hopeless):
    for done, chapters in ((smoke, ()), (hopeless, MEASURED)):
        names = {file.name for file in done.path.rglob("*") if "_build" not in file.parts}
        assert not {n for n in names if "progress" in n or "failed" in n or n.startswith(".")}
        executed = {f"{name}.ipynb" for name in (*STEPS, *chapters)}
        assert copies(RunDir(done.path)) == executed


def test_progress_is_shown_for_each_step(hopeless):
    for step in (*STEPS, *MEASURED, "book"):
        assert f"{step}: 100%" in hopeless.err


def test_the_full_profile_measures_its_chapters_and_a_setting_beats_it(hopeless):
    assert {"transfer.json", "ablation.json", "seeds.json", "beyond.json"} == {
        file.name for file in (hopeless.path / "evidence").iterdir()
    }
    assert hopeless.json("loso.json")["seeds"] == [3, 4]
    assert hopeless.json("evidence/beyond.json")["searched"] == 50


def test_a_smoke_run_leaves_model_alone(smoke, shipped_before):
    assert tree(ROOT / "model") == shipped_before


def test_a_smoke_run_is_never_released(smoke, tmp_path):
    ended = python("fr_lib", "release", "--run-dir", smoke.path, "--model-dir", tmp_path / "tiny")
    assert ended.code == 2
    assert "synthetic" in ended.err
    assert not (tmp_path / "tiny").exists()


def test_a_smoke_model_says_what_it_is(smoke):
    card = smoke.json("model/fr_regressor_v3.json")
    assert (card["gate_passed"], card["training"]["smoke"]) == (True, True)
    assert verify(smoke.path / "model") == []


def is_fail(clause: dict) -> bool:
    return clause["blocks"] and clause["status"] == "fail"


def test_a_failed_gate_ends_with_1_and_leaves_its_audit_trail(hopeless):
    assert hopeless.code == 1, hopeless.err
    failed = ", ".join(c["name"] for c in hopeless.json("gate.json")["clauses"] if is_fail(c))
    assert "mean LOSO PLCC, worst source PLCC" in failed
    assert f"gate:  FAILED ({failed})" in hopeless.out
    assert "Traceback" not in hopeless.err
    card = hopeless.json("model/fr_regressor_v3.json")
    (row,) = hopeless.json("model/registry.json")["models"]
    assert (card["gate_passed"], card["training"]["gate_passed"]) == (False, False)
    assert (card["training"]["smoke"], row["smoke"]) == (True, True)
    assert "v3 retrain pending" in card["notes"]
    assert "v3 retrain pending" in row["notes"]
    assert card["recipe"] | {"name": "adr0319", "epochs": 3, "seed": 3} == card["recipe"]
    assert verify(hopeless.path / "model") == []


def test_a_failed_run_leaves_model_alone(hopeless, shipped_before):
    assert tree(ROOT / "model") == shipped_before


def test_both_shapes_and_every_suffix_run_to_their_book(smoke, hopeless, nvenc):
    found = set()
    for done in (smoke, hopeless, nvenc):
        assert done.page().is_file(), done.err
        facts = done.json("audit.json")["identity"]
        assert facts["n_rows_read"] == facts["n_rows_kept"] > 0
        found.add((facts["shape"], facts["name"].partition(".")[2]))
    assert found == {("frame", "jsonl"), ("frame", "jsonl.gz"), ("encode", "parquet")}


def test_a_per_encode_corpus_says_why_its_teacher_is_not_checked(nvenc):
    text = nvenc.page("notebooks/01_corpus_audit").read_text()
    assert "No row could be checked here: the score of pooled features is not" in text
    assert nvenc.json("audit.json")["teacher_check"]["n_rows"] is None


def test_a_run_without_a_formula_closes_with_no_figure_of_the_stress_set(nvenc):
    run = runner.RunDir(nvenc.path)
    lines = runner.closing_lines(nvenc.json("loso.json"), nvenc.json("gate.json"), run, None)
    reason = nvenc.json("audit.json")["teacher_check"]["reason"]
    assert f"stress set and block swap: not applicable, {reason}" in lines
    assert not [line for line in lines if "worst cell" in line]


def test_the_verdict_of_a_run_is_its_exit_code(smoke, hopeless):
    for done in (smoke, hopeless):
        assert done.code == (0 if done.json("gate.json")["gate_passed"] else 1)


def test_a_missing_corpus_ends_a_run_before_it_starts(tmp_path):
    missing = tmp_path / "nowhere.jsonl"
    ended = python("fr_lib", "run", "--corpus", missing, "--run-dir", tmp_path / "run")
    assert ended.code == 2
    assert ended.err.splitlines() == [
        f"{missing}: no such file; allowed: a corpus file; check --corpus"
    ]
    assert not (tmp_path / "run").exists()


def test_a_corpus_that_is_refused_leaves_no_new_folder(tmp_path):
    (tmp_path / "odd.jsonl").write_text('{"src": 1}\n')
    words = ("--corpus", tmp_path / "odd.jsonl", "--run-dir", tmp_path / "run")
    ended = python("fr_lib", "run", *words)
    assert ended.code == 2
    assert "odd.jsonl: 2 structural faults" in ended.err
    assert [*tmp_path.rglob("*")] == [tmp_path / "odd.jsonl"]


def test_a_notebook_that_stops_ends_a_run_with_one_line(tmp_path):
    """Here the second one does, for want of sources; what the first one wrote stays."""
    table = hopeless_table()
    write_table(table[table["src"] == HOSTILE_NAMES[0]], tmp_path / "one.jsonl")
    ended = python(
        *("fr_lib", "run", "--no-book", "--set", "epochs=1"),
        *("--corpus", tmp_path / "one.jsonl", "--run-dir", tmp_path / "run"),
    )
    assert ended.code == 2
    # A kernel whose heartbeat lost its port to another process says so, and works on.
    assert not re.search(r'File ".*fr_lib', ended.err)
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("02_loso: LOSO: 1 source; allowed: 2 or more sources")
    assert (tmp_path / "run" / "audit.json").is_file()
    assert copies(RunDir(tmp_path / "run")) == {"01_corpus_audit.ipynb", "02_loso.failed.ipynb"}


def test_an_unknown_setting_ends_a_run_before_it_starts(tmp_path):
    ended = python("fr_lib", "run", "--run-dir", tmp_path / "run", "--set", "corpsu=x")
    assert ended.code == 2
    assert "corpsu" in ended.err
    assert "did you mean 'corpus'" in ended.err
    assert not (tmp_path / "run").exists()
