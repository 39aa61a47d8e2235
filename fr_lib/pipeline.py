"""Run the notebooks through papermill, strictly, and turn them into the book.

papermill alone only warns of an unknown parameter, leaves a plausible file behind when a run fails,
and can call a notebook whose kernel died complete. Here parameters must fit, output has another
name until it was verified, and what comes after a failure is removed.
"""

from __future__ import annotations

import ast
import difflib
import json
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fr_lib import errors
from fr_lib.arms import SHIPPED_ARM
from fr_lib.corpus import formula_applies
from fr_lib.errors import PATHS, ArtefactError, FrError, printable, say
from fr_lib.evaluate import failed_clauses
from fr_lib.files import ROOT
from fr_lib.report import build_book
from fr_lib.runs import (
    CHAPTERS,
    PARAMETERS,
    PROGRESS,
    STEPS,
    UNFINISHED,
    RunDir,
    fault_of,
    find,
    judge_parameters,
    refuse,
    why_missing,
)
from fr_lib.system import end_children

PROFILES: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "full": {"seeds": 5, "measure": True},
}
# How Python, and NumPy where the disk is full, word what the operating system refuses.
_SYSTEM_REFUSES = re.compile(r"\[Errno \d+\]|\d+ requested and \d+ written")


class NotebookFailed(FrError):
    """A notebook stopped; `exit_code` is that of the error class it raised, 1 for one not ours."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def notebook_path(name: str) -> Path:
    """Return the source of a notebook by its name without suffix."""
    return ROOT / "notebooks" / f"{name}.ipynb"


def declared_parameters(name: str) -> dict[str, Any]:
    """Return the parameters of a notebook with their default values.

    Raises
    ------
    ArtefactError
        If the notebook has not exactly one ``parameters`` cell of literals.
    """
    import nbformat

    notebook = nbformat.read(notebook_path(name), as_version=4)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ArtefactError(
            say(name, f"{len(cells)} cells tagged 'parameters'", "one", "mend the notebook")
        )
    return {
        target.id: ast.literal_eval(line.value)
        for line in ast.parse(cells[0].source).body
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
    }


def parse_settings(settings: Sequence[str], **own: str) -> dict[str, Any]:
    """Read ``key=value`` strings into values that the notebooks' parameters may have.

    Parameters
    ----------
    settings : sequence of str
    **own : str
        Parameters that the run sets itself, judged along.

    Raises
    ------
    InputError
        With a line for each that is wrong: no value, an unknown name (the nearest is named), one
        that the run sets itself, one with two values, a value that its parameter cannot have.
    """
    given = {}
    faults = [fault for key, value in own.items() if (fault := fault_of(key, value))]
    for setting in settings:
        key, equals, text = setting.partition("=")
        fault = _no_setting(key, equals, setting)
        if fault is None:
            value = PARAMETERS[key].read(text)
            fault = fault_of(key, value, where="--set")
            if given.setdefault(key, value) != value:
                found = f"{given[key]!r:.60} and {value!r:.60}"
                fault = fault or say(f"--set {key}", found, "one value", "remove the other")
        if fault is not None:
            faults.append(fault)
    refuse(faults)
    return given


def _no_setting(key: str, equals: str, setting: str) -> str | None:
    """Return why a ``key=value`` sets nothing, whatever the value."""
    free = ", ".join(sorted(name for name, known in PARAMETERS.items() if not known.instead))
    if not equals:
        return say("--set", f"{setting!r:.60}", "key=value", "add the value")
    if key not in PARAMETERS:
        (near,) = difflib.get_close_matches(key[:60], PARAMETERS, n=1, cutoff=0.0)
        found = f"{key!r:.60} is no parameter of any notebook"
        return say("--set", found, free, f"did you mean {near!r}?")
    if PARAMETERS[key].instead:
        return say("--set", f"{key!r} is set by the run", free, PARAMETERS[key].instead)
    return None


def run_notebook(name: str, run: RunDir, settings: Mapping[str, Any]) -> Path:
    """Execute one notebook into ``<run>/notebooks/<name>.ipynb`` and verify that it ran whole.

    Parameters
    ----------
    name : str
    run : RunDir
    settings : mapping
        Values by parameter name; those that this notebook does not declare are for others.

    Raises
    ------
    InputError
        For a value that its parameter cannot have; then nothing is written or removed.
    NotebookFailed
        With notebook, cell and message; the copy is kept as ``<name>.failed.ipynb``. What an
        earlier run left of this and later notebooks is gone either way; only the first notebook
        leaves it until it has loaded and checked its corpus.
    """
    import papermill

    declared = declared_parameters(name)
    # All of them, so that the injected cell of the copy documents the run.
    full = declared | {k: v for k, v in settings.items() if k in declared}
    judge_parameters(full)
    folder = run / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    partial, final = folder / f"{name}{UNFINISHED}", folder / f"{name}.ipynb"
    failed = folder / f"{name}.failed.ipynb"
    for killed in folder.glob(f"*{UNFINISHED}"):
        killed.unlink()
    if name != STEPS[0]:
        run.drop_after(name)
    try:
        with _kernel_alone():
            papermill.execute_notebook(
                notebook_path(name),
                partial,
                parameters=full,
                progress_bar=False,
                cwd=str(Path.cwd()),
                kernel_name="python3",
                # The kernel warns on each start of what every local notebook does.
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
                # All that counts is on disk by now, and a kernel with torch or with processes of
                # its own takes seconds to say goodbye.
                shutdown_kernel="immediate",
            )
        _verify(partial, name)
    except Exception as stopped:
        if partial.is_file():
            partial.replace(failed)
        raise _explained(stopped, name, failed) from None
    except BaseException:
        # asyncio would report at the exit what became of the talk with the kernel.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        partial.unlink(missing_ok=True)
        raise
    partial.replace(final)
    return final


@contextmanager
def _kernel_alone() -> Iterator[None]:
    """Give a kernel a scratch folder for all it writes aside, and leave neither of them behind.

    papermill ends a kernel that it knows, with the processes of its group. An interruption while
    one starts comes before that. Files of a user's own IPython profile have no say in a run.
    """
    import psutil

    with tempfile.TemporaryDirectory(prefix="fr_run_", ignore_cleanup_errors=True) as scratch:
        names = ("TMPDIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        before = psutil.Process().children()
        os.environ.update(dict.fromkeys(names, scratch))
        # This process has looked at TMPDIR already, and makes the file that a kernel is told of.
        tempfile.tempdir = scratch
        try:
            yield
        finally:
            tempfile.tempdir = None
            end_children(before)
            for name in names:
                del os.environ[name]
            os.environ.update(kept)


def _verify(path: Path, name: str) -> None:
    """Refuse an executed notebook with an error, or with a cell that never ran."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    unfinished = [c for c in code if c.execution_count is None]
    errors = [o for c in code for o in c.outputs if o.output_type == "error"]
    if unfinished or errors or notebook.metadata.get("papermill", {}).get("exception"):
        message = say(
            name,
            f"{len(unfinished)} of {len(code)} cells did not run, {len(errors)} errors",
            "every cell, no error",
            "run it again; the kernel may have been killed",
        )
        raise NotebookFailed(message, 1)


def _explained(stopped: Exception, name: str, failed: Path) -> NotebookFailed:
    if isinstance(stopped, NotebookFailed):
        return stopped
    ename = getattr(stopped, "ename", type(stopped).__name__)
    message = getattr(stopped, "evalue", str(stopped))
    cell = getattr(stopped, "exec_count", None)
    kind = getattr(errors, ename, None)  # papermill passes on the name of the class alone
    code = kind.exit_code if isinstance(kind, type) and issubclass(kind, FrError) else 1
    if code == 2:
        return NotebookFailed(f"{name}: {message}", code)
    if isinstance(stopped, OSError) or _SYSTEM_REFUSES.match(message):
        return NotebookFailed(say(name, message, PATHS, "mend that"), 2)
    where = f"{name}, cell {cell}" if cell else name
    return NotebookFailed(f"{where}: {ename}: {message} (see {failed})", code)


@contextmanager
def shown_progress(name: str, run: RunDir) -> Iterator[None]:
    """Show what a notebook's long step reports, as a bar on a terminal, else as plain lines."""
    from tqdm import tqdm

    report = run / PROGRESS
    report.unlink(missing_ok=True)
    done = threading.Event()
    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=1.0,
        desc=name,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}",
        mininterval=0.2 if terminal else 10,
    )

    def watch() -> None:
        while not done.wait(0.5):
            if report.is_file():
                state = json.loads(report.read_text())
                bar.set_postfix_str(state["message"], refresh=False)
                # A step with several parts reports each of them from its start.
                bar.update(state["share"] - bar.n)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
        bar.update(1.0 - bar.n)
    finally:
        done.set()
        watcher.join()
        bar.close()
        report.unlink(missing_ok=True)


def run_all(
    run: RunDir,
    settings: Mapping[str, Any],
    book: bool = True,
    say_line: Callable[[str], None] = print,
) -> int:
    """Run the four notebooks and build the book; return the exit code of the verdict.

    A failed gate does not stop the run: 04 writes the audit trail, the book says that the model
    failed, and the exit code is 1.

    Raises
    ------
    FrError
        If a notebook or the book fails.
    """
    # Inside the whole run the verdict is carried on to 04 and to the book.
    settings = dict(settings) | {"stop_on_fail": False}
    judge_parameters(settings)
    for name in STEPS:
        with shown_progress(name, run):
            run_notebook(name, run, settings)
    page = None
    if book:
        missing = _run_evidence(run, settings)
        with shown_progress("book", run):
            page = build_book(run, missing)
    loso, gate = run.read("loso.json"), run.read("gate.json")
    for line in closing_lines(loso, gate, run, page):
        say_line(printable(line))
    return 0 if gate["gate_passed"] else 1


def _run_evidence(run: RunDir, settings: Mapping[str, Any]) -> dict[str, str]:
    """Run the chapters that have evidence; return the others with what keeps them from it."""
    missing = {}
    audit = run.read("audit.json")
    for chapter in CHAPTERS:
        name, key = chapter.name, chapter.evidence
        if key is None:
            continue
        if why := chapter.refuses(audit):
            missing[name] = why
        elif settings.get("measure") or find(run, key):
            with shown_progress(name, run):
                run_notebook(name, run, settings)
        else:
            missing[name] = why_missing(run, key)
    return missing


_shown = partial(errors.text, missing=errors.NOT_FINITE)


def closing_lines(
    loso: Mapping[str, Any], gate: Mapping[str, Any], run: RunDir, page: Path | None
) -> list[str]:
    """Return verdict, headline figures and paths, the last lines that a run prints."""
    figures = loso["arms"][SHIPPED_ARM]["summary"]
    failed = [c["name"] for c in failed_clauses(gate)]
    verdict = "PASSED" if gate["gate_passed"] else f"FAILED ({', '.join(failed)})"
    adr = "PASSED" if gate["adr_gate_passed"] else "FAILED"
    return [
        f"gate:  {verdict}; ADR-0319's own recipe by ADR-0323's clauses: {adr}",
        f"LOSO:  recipe {loso['recipe']['name']}, mean PLCC "
        f"{_shown(figures['mean_plcc'], '.7f')}, "
        f"worst PLCC {_shown(figures['min_plcc'], '.7f')} ({figures['worst_source']}), "
        f"mean RMSE {_shown(figures['mean_rmse'], '.3f')} VMAF points",
        _stress_line(run),
        f"model: {run / 'model'}",
        f"open:  {page or 'no book was built'}",
    ]


def _stress_line(run: RunDir) -> str:
    check = run.read("audit.json")["teacher_check"]
    if not formula_applies(check):
        return f"stress set and block swap: not applicable, {check['reason']}"
    stress = run.read("outside.json")["arms"][SHIPPED_ARM]["stress"]
    return (
        f"stress set ({stress['rows']:,} frames that no encoder of the corpus made): RMSE "
        f"{_shown(stress['rmse'], '.3f')}, "
        f"worst cell {_shown(stress['worst_cell']['rmse'], '.2f')}"
    )


def smoke_corpus(run: RunDir) -> Path:
    """Write a small synthetic corpus for a smoke run into the run directory, and return its path.

    Its rows are made up and say so; a model made of them can never be released.
    """
    from fr_lib.corpus import synthetic_table, write_table

    path = run / "smoke.jsonl"
    table = synthetic_table(
        ["libx264", "libx265", "libsvtav1"], [20, 30, 40, 50], sources=4, frames=10, seed=1
    )
    write_table(table, path)
    return path
