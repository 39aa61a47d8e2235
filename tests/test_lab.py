"""What a reader of the notebooks meets in JupyterLab, and the book leaves out."""

from __future__ import annotations

from html import unescape

import nbformat
import papermill
import pytest
from chain import MEASURED, REFUSED, ROOT

from fr_lib.errors import ArtefactError, InputError
from fr_lib.report import chapters_list
from fr_lib.runs import CHAPTERS, LAB_ONLY, STEPS, RunDir, open_run

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", ())]


def lab_only(path) -> list[str]:
    found = [output for output in outputs(path) if output.get("metadata", {}).get(LAB_ONLY)]
    return [output.data["text/plain"] for output in found]


# --- a notebook whose turn has not come


@pytest.mark.parametrize("chapter", CHAPTERS[1:], ids=lambda chapter: chapter.name)
def test_a_notebook_says_which_one_has_to_run_first(tmp_path, chapter):
    wanted = rf"^{chapter.name}: .* holds no results of 01_corpus_audit.*; open 01_corpus_audit and"
    with pytest.raises(ArtefactError, match=wanted):
        open_run(chapter.name, {"run_dir": str(tmp_path)})
    assert not [*tmp_path.iterdir()]


def test_parameters_are_judged_before_the_run_is_looked_at(tmp_path):
    with pytest.raises(InputError, match="parameter epochs: -1"):
        open_run("02_loso", {"run_dir": str(tmp_path), "epochs": -1})


def test_a_run_with_all_that_a_notebook_reads_is_opened(smoke):
    assert open_run("04_export", {"run_dir": str(smoke.path)}).read("gate.json")["gate_passed"]


def test_a_fault_is_one_line_under_its_cell(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        papermill.execute_notebook(
            ROOT / "notebooks" / "04_export.ipynb",
            tmp_path / "out.ipynb",
            parameters={"run_dir": str(tmp_path / "new")},
            progress_bar=False,
        )
    assert stopped.value.ename == "ArtefactError"
    [fault] = [o for o in outputs(tmp_path / "out.ipynb") if o.output_type == "error" and o.evalue]
    [line] = fault.traceback
    assert line == f"ArtefactError: {fault.evalue}"
    assert "open 01_corpus_audit and run it first" in line
    assert "\n" not in line


# --- figures and progress


def test_glued_figures_stand_under_their_cells_and_not_in_the_book(smoke):
    for name in STEPS:
        executed = smoke.path / "notebooks" / f"{name}.ipynb"
        record = "application/papermill.record/text/plain"
        glued = [o.metadata["scrapbook"]["name"] for o in outputs(executed) if record in o.data]
        assert [line.split(": ")[0] for line in lab_only(executed)] == glued
        assert lab_only(smoke.path / "book" / "notebooks" / f"{name}.ipynb") == []
    shown = lab_only(smoke.path / "notebooks" / "01_corpus_audit.ipynb")
    assert "n_kept: 480" in shown
    assert "n_kept: 480" not in smoke.page("notebooks/01_corpus_audit").read_text()


def test_progress_shows_in_a_notebook_run_by_itself_and_not_in_the_book(nvenc, smoke):
    lines = lab_only(nvenc.path / "notebooks" / "02_loso.ipynb")
    [bar] = [line for line in lines if "epoch" in line]
    assert bar.split()[0] == "100%"
    assert "<progress" not in nvenc.page("notebooks/02_loso").read_text()
    # In a whole run the terminal shows it.
    assert not [x for x in lab_only(smoke.path / "notebooks" / "02_loso.ipynb") if "epoch" in x]


# --- the start page


def state(run: RunDir) -> dict[str, str]:
    rows = [unescape(line).split(" | ") for line in chapters_list(run).splitlines()[2:]]
    return {row[0].split("notebooks/")[1].split(".ipynb")[0]: row[-1][:-2] for row in rows}


def test_the_start_page_lists_every_notebook_with_question_and_state(smoke, tmp_path):
    assert state(RunDir(tmp_path)) == {
        chapter.name: "waits for 01" if chapter.reads else "can run" for chapter in CHAPTERS
    }
    found = state(RunDir(smoke.path))
    assert {name: found[name] for name in STEPS} == dict.fromkeys(STEPS, "done")
    for name in MEASURED:
        assert found[name].startswith("can run with measure = True: not measured")
    assert found[REFUSED].startswith("the rows were not all scored by")
    assert "| Does this model ship? | 01, 02 |" in chapters_list(RunDir(tmp_path))


def test_the_start_page_runs_where_make_lab_puts_it(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    source, copy = ROOT / "notebooks" / "00_start.ipynb", tmp_path / "start.ipynb"
    given = {"run_dir": str(tmp_path / "new")}
    papermill.execute_notebook(source, copy, parameters=given, progress_bar=False)
    [shown] = [o.data["text/markdown"] for o in outputs(copy) if "text/markdown" in o.data]
    assert shown == chapters_list(RunDir(tmp_path / "new"))
    target = (ROOT / "Makefile").read_text().partition("\nlab:")[2].partition("\n\n")[0]
    assert "notebooks/00_start.ipynb runs/start.ipynb" in target
    assert "/lab/tree/runs/start.ipynb" in target
