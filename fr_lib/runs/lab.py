"""What a notebook shows a person in JupyterLab, and the book leaves out.

The book sets glued figures in its sentences, its pages are quiet, and a fault in a run is told on a
terminal. In Lab a reader sees each figure under its cell, how far a long cell is, and one line in
place of a traceback.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from typing import Any

from fr_lib.errors import ArtefactError, FrError, say
from fr_lib.runs.chapters import ARTEFACTS, CHAPTERS
from fr_lib.runs.parameters import judge_parameters
from fr_lib.runs.rundir import OWNER, RunDir

# Metadata of an output that the book leaves out.
LAB_ONLY = "lab_only"


def open_run(notebook: str, given: Mapping[str, Any]) -> RunDir:
    """Begin a notebook: judge its parameters, and refuse a run that lacks what it reads.

    Parameters
    ----------
    notebook : str
        Name of the notebook, without suffix.
    given : mapping
        Its parameters by name; its globals, say.

    Raises
    ------
    InputError
        One line for each wrong parameter.
    ArtefactError
        Naming the notebooks that have to run first.
    """
    shell = _shell()
    if shell is not None:
        shell.set_custom_exc((FrError,), _in_one_line)
    judge_parameters(given)
    run = LabRun(given["run_dir"])
    (chapter,) = [known for known in CHAPTERS if known.name == notebook]
    missing = {ARTEFACTS[file]: None for file in chapter.reads if not (run / file).is_file()}
    if missing:
        raise ArtefactError(
            say(
                notebook,
                f"{given['run_dir']} holds no results of {' and '.join(missing)} yet",
                "a run directory in which the notebooks before this one have run",
                f"open {next(iter(missing))} and run it first, with the same run_dir",
            )
        )
    return run


def glue(name: str, value: Any) -> None:
    """Glue a figure for the sentences of the book, and show it under the cell in Lab."""
    from IPython.display import display
    from myst_nb import glue as glue_for_the_book

    glue_for_the_book(name, value, display=False)
    display({"text/plain": f"{name}: {value}"}, raw=True, metadata={LAB_ONLY: True})


class LabRun(RunDir):
    """A run directory whose long steps show in Lab how far they are, and figures as they are."""

    _bar: tuple[int, Any] | None = None

    def progress(self, message: str, share: float) -> None:
        """Leave the state of a long step for the command line, and show it in Lab."""
        super().progress(message, share)
        shell = _shell()
        if shell is None or OWNER in os.environ:  # a whole run shows it on its terminal
            return
        from IPython.display import display

        data = {
            "text/plain": f"{share:4.0%} {message}",
            "text/html": f'<progress value="{share:.3f}"></progress> {html.escape(message)}',
        }
        shown = {"raw": True, "metadata": {LAB_ONLY: True}}
        if self._bar is None or self._bar[0] != shell.execution_count:
            self._bar = shell.execution_count, display(data, display_id=True, **shown)
        else:
            self._bar[1].update(data, **shown)

    def save_figure(self, figure: Any, name: str) -> Any:
        """Save a figure, and let Lab show it at the size of the file.

        By itself Lab cuts a figure to its ink, and draws it twice more for that.
        """
        if (shell := _shell()) is not None:
            from matplotlib_inline.config import InlineBackend

            backend = InlineBackend.instance(parent=shell)
            # Whatever else somebody set stays.
            backend.print_figure_kwargs = backend.print_figure_kwargs | {"bbox_inches": None}
        return super().save_figure(figure, name)


def _shell() -> Any:
    """Return the shell of the kernel that this runs in, or None outside of one."""
    from IPython import get_ipython

    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


def _in_one_line(
    shell: Any, kind: type[FrError], fault: FrError, trace: Any, tb_offset: int | None = None
) -> list[str]:
    lines = [f"{kind.__name__}: {fault}"]
    shell._showtraceback(kind, fault, lines)
    return lines
