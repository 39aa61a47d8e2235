"""The four notebooks: how they are written, and what they give on a tiny corpus."""

from __future__ import annotations

import ast
import base64
import re
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import papermill
import pytest
from chain import EVIDENCE, MEASURED, ROOT

from fr_lib.files import sha256_of
from fr_lib.report.digits import correlations, points
from fr_lib.report.plots import WIDTH_IN
from fr_lib.report.tables import teacher_sentence
from fr_lib.runs import CHAPTERS, STEPS
from fr_lib.runs.chapters import ARTEFACTS

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")

MAX_CELLS, MAX_CELL_LINES, MAX_CODE_LINES = 21, 12, 80
# Digits in prose that are names, not results: versions, features, decisions, files, shapes, and
# the ends of the scale.
NAMES = re.compile(
    r"v0\.6\.1|\bv\d\b|`\w+`|ADR-\d+|\b0\d_\w+|\b\d+-(slot|D)\b|VMAF 100 and|at 0, where"
)
PARAMETER = re.compile(r"(\w+): (str|int|float|bool) = ([^=#]+)  # ([^=]+)")


def source(name: str) -> Path:
    return ROOT / "notebooks" / f"{name}.ipynb"


@cache
def notebook(name: str) -> nbformat.NotebookNode:
    return nbformat.read(source(name), as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def tags(cell: nbformat.NotebookNode) -> set[str]:
    return set(cell.metadata.get("tags", []))


def parameters_cell(name: str) -> nbformat.NotebookNode:
    (cell,) = [cell for cell in code_cells(name) if "parameters" in tags(cell)]
    return cell


SOURCES = tuple(chapter.name for chapter in CHAPTERS)
each = pytest.mark.parametrize("name", SOURCES)


# --- how they are written


def test_these_are_all_notebooks_there_are():
    found = sorted(p.stem for p in (ROOT / "notebooks").glob("*.ipynb"))
    assert found == ["00_start", *SOURCES]


def test_a_chapter_reads_what_earlier_ones_write():
    for chapter in CHAPTERS:
        assert {ARTEFACTS[file] for file in chapter.reads} <= {
            *SOURCES[: SOURCES.index(chapter.name)]
        }
    assert [c.name for c in CHAPTERS if c.evidence] == [*EVIDENCE]
    assert sorted(SOURCES) == [*SOURCES]


@pytest.mark.parametrize("chapter", CHAPTERS[1:], ids=lambda chapter: chapter.name)
def test_the_run_directory_is_asked_for_with_the_files_that_the_chapter_reads(chapter):
    [line] = [x for x in parameters_cell(chapter.name).source.splitlines() if "run_dir" in x]
    named = set(re.findall(r"0\d_\w+", line))
    assert named == {ARTEFACTS[file] for file in chapter.reads}


@each
def test_parameters_are_typed_literals_with_a_comment(name):
    lines = parameters_cell(name).source.splitlines()
    assert lines
    for line in lines:
        match = PARAMETER.fullmatch(line)
        assert match, f"papermill would not see it whole: {line}"
        assert type(ast.literal_eval(match[3])).__name__ == match[2]


@each
def test_papermill_sees_every_parameter(name):
    seen = papermill.inspect_notebook(str(source(name)))
    declared = [PARAMETER.fullmatch(x) for x in parameters_cell(name).source.splitlines()]
    assert {k: (v["inferred_type_name"], v["default"], v["help"]) for k, v in seen.items()} == {
        match[1]: (match[2], match[3], match[4]) for match in declared
    }


def test_a_parameter_has_one_type_and_default_in_all_notebooks():
    found = {
        PARAMETER.fullmatch(line).group(1, 2, 3)
        for name in SOURCES
        for line in parameters_cell(name).source.splitlines()
    }
    assert len(found) == len({parameter for parameter, *_ in found})


@each
def test_a_notebook_is_short(name):
    lines = [len(cell.source.splitlines()) for cell in code_cells(name)]
    assert len(notebook(name).cells) <= MAX_CELLS
    assert max(lines) <= MAX_CELL_LINES
    assert sum(lines) <= MAX_CODE_LINES


@each
def test_cells_hold_no_logic(name):
    for cell in code_cells(name):
        assert not re.search(r"^\s*[!%]", cell.source, re.MULTILINE)
        banned = (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try, ast.If)
        found = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, banned)]
        assert not found, ast.unparse(found[0])


@each
def test_nothing_is_imported_that_a_reader_would_have_to_look_up(name):
    allowed = {"fr_lib", "pandas", "matplotlib", "IPython", "myst_nb"}
    for cell in code_cells(name):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed
            elif isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] in allowed


@each
def test_the_sources_hold_no_results(name):
    for cell in code_cells(name):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert "widgets" not in notebook(name).metadata


@each
def test_only_known_tags_are_used(name):
    used = {tag for cell in notebook(name).cells for tag in tags(cell)}
    assert used <= {"parameters", "nbval-check-output", "hide-input", "remove-cell"}


@each
def test_prose_holds_no_number_that_could_be_a_result(name):
    for cell in notebook(name).cells:
        if cell.cell_type == "markdown":
            text = re.sub(NAMES, "", re.sub(r"\{glue:text\}`\w+`", "", cell.source))
            assert not re.search(r"\d", text), text


@each
def test_every_glued_name_is_glued_in_that_notebook(name):
    shown = {m for c in notebook(name).cells for m in re.findall(r"\{glue:text\}`(\w+)`", c.source)}
    glued = {m for c in code_cells(name) for m in re.findall(r'\bglue\("(\w+)"', c.source)}
    assert shown == glued


@each
def test_a_name_is_glued_once(name):
    names = [m for c in code_cells(name) for m in re.findall(r'\bglue\("(\w+)"', c.source)]
    assert len(names) == len(set(names))


@each
def test_what_shows_figures_is_compared_when_it_runs_again(name):
    for cell in code_cells(name):
        figures = re.search(r"^(tables\.show|Markdown)\(|recommendation", cell.source, re.MULTILINE)
        drawn = "save_figure" in cell.source
        assert ("nbval-check-output" in tags(cell)) == bool(figures and not drawn), cell.id


@each
def test_cells_have_stable_ids(name):
    ids = [cell.id for cell in notebook(name).cells]
    assert ids == [f"{name[:2]}-{i:02d}" for i in range(len(ids))]


def test_they_carry_nothing_that_the_commit_hook_takes_away():
    [hook] = re.findall(
        r"entry: \.venv/bin/(nbstripout.*)", (ROOT / ".pre-commit-config.yaml").read_text()
    )
    paths = map(str, (ROOT / "notebooks").glob("*.ipynb"))
    words = [sys.executable, "-m", *hook.split(), "--verify", *paths]
    assert subprocess.run(words, check=False).returncode == 0
    assert f"-m {hook} --verify" in (ROOT / "Makefile").read_text()


@each
def test_it_starts_with_a_title_and_a_question(name):
    first, *_ = notebook(name).cells
    assert first.cell_type == "markdown"
    assert re.match(r"# \w.*\n\n\*\*Question\.\*\* .*\?", first.source)


@pytest.mark.parametrize("number", range(len(SOURCES)), ids=SOURCES)
def test_it_ends_with_what_to_try_and_what_comes_next(number):
    last = notebook(SOURCES[number]).cells[-1]
    assert last.cell_type == "markdown"
    tried, _, after = last.source.partition("**Next:**")
    assert re.match(r"## What to try, and what comes next\n\n(- .+\n(  .+\n)*){2,}", tried)
    links = re.findall(r"\]\((\w+)\.ipynb\)", after)
    assert links == [*SOURCES[number + 1 : number + 2]]


@each
def test_a_notebook_works_in_a_folder_of_the_users_own_and_says_what_must_run_first(name):
    (line,) = [x for x in parameters_cell(name).source.splitlines() if "run_dir" in x]
    assert PARAMETER.fullmatch(line)[3] == '"runs/mine"'
    calls = [c.source for c in code_cells(name) if "open_run(" in c.source]
    assert len(calls) == 1
    assert f'open_run("{name}", globals())' in calls[0]


# --- what they give


def glued(path: Path) -> dict[str, str]:
    """Return the values that an executed notebook glued, as text."""
    mime = "application/papermill.record/text/plain"
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    return {
        output.metadata["scrapbook"]["name"]: str(ast.literal_eval(output.data[mime]))
        for cell in cells
        for output in cell.outputs
        if mime in output.get("data", {})
    }


def test_the_audit_shows_what_its_file_says(smoke):
    facts, shown = smoke.json("audit.json"), glued(smoke.path / "notebooks/01_corpus_audit.ipynb")
    assert shown["n_kept"] == f"{facts['identity']['n_rows_kept']:,}" == "480"
    assert shown["n_trained"] == str(len(facts["trained_slots"])) == "3"
    assert facts["teacher_check"]["n_disagree"] == 0
    assert shown["teacher_says"] == teacher_sentence(facts["teacher_check"])


def test_loso_shows_what_its_file_says(smoke):
    shown = glued(smoke.path / "notebooks/02_loso.ipynb")
    figures = smoke.json("loso.json")["arms"]["v3"]["summary"]
    assert shown["mean_plcc"] == correlations([figures["mean_plcc"]])[0] != "1.00000"
    assert shown["mean_rmse"] == points(figures["mean_rmse"])
    assert shown["worst_source"] == figures["worst_rmse_source"]


def test_the_gate_shows_what_its_file_says(smoke, hopeless):
    said = [
        (run.json("gate.json")["gate_passed"], glued(run.path / "notebooks/03_gate.ipynb"))
        for run in (smoke, hopeless)
    ]
    assert [passed for passed, _ in said] == [True, False]
    assert "passed" in said[0][1]["verdict"]
    assert "failed (mean LOSO PLCC" in said[1][1]["verdict"]
    assert "v3 retrain pending" in said[1][1]["verdict"]


def test_export_shows_what_its_file_says(smoke):
    facts, shown = smoke.json("export.json"), glued(smoke.path / "notebooks/04_export.ipynb")
    assert shown["parity_rows"] == f"{facts['parity']['rows']:,}"
    assert shown["opset"] == str(facts["facts"]["opset"]) == "17"
    assert (
        shown["kib"] == f"{(smoke.path / 'model/fr_regressor_v3.onnx').stat().st_size / 1024:.0f}"
    )


def test_the_injected_cell_documents_every_parameter(smoke):
    for name in STEPS:
        executed = nbformat.read(smoke.path / "notebooks" / f"{name}.ipynb", as_version=4)
        (cell,) = [c for c in executed.cells if "injected-parameters" in tags(c)]
        declared = [PARAMETER.fullmatch(x)[1] for x in parameters_cell(name).source.splitlines()]
        assert re.findall(r"^(\w+) = ", cell.source, re.MULTILINE) == declared


# --- each one alone


def test_each_runs_alone_through_plain_papermill(steps):
    assert [step.code for step in steps] == [0] * len(STEPS), [step.err for step in steps]


def test_nbval_finds_in_all_chapters_what_they_showed(checked):
    # The injected cell comes on top of each notebook's own; a page made up for it shows another
    # figure than it did, in a cell that is marked and in one that is not.
    cells = sum(len(code_cells(name)) + 1 for name in (*STEPS, *MEASURED))
    assert f"1 failed, {cells + 1} passed" in checked.out, checked.out
    assert "made_up.ipynb::Cell 0" in checked.out


def test_alone_or_in_a_run_evidence_and_model_have_the_same_bytes(hopeless, checked):
    for name in ("loso.json", "gate.json", "outside.json", "model/fr_regressor_v3.onnx"):
        assert sha256_of(checked.path / name) == sha256_of(hopeless.path / name), name


def test_a_figure_is_shown_at_the_size_of_its_file(hopeless):
    shown = [
        struct.unpack(">I", base64.b64decode(output.data["image/png"])[16:20])[0]
        for path in sorted((hopeless.path / "notebooks").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) > 10
    assert set(shown) == {round(100 * WIDTH_IN)}
