"""The start page of JupyterLab: the notebooks, what each asks and needs, and how far a run is."""

from __future__ import annotations

from fr_lib.files import ROOT
from fr_lib.report.names import page_text
from fr_lib.runs import ARTEFACTS, CHAPTERS, Chapter, RunDir, find, why_missing


def chapters_list(run: RunDir) -> str:
    """Return a Markdown table of the notebooks with links, and their state in a run.

    Parameters
    ----------
    run : RunDir
        It need not exist yet.

    Raises
    ------
    ArtefactError
        If a file of the run belongs to another run or corpus.
    """
    lines = ["| notebook | asks | needs | in this run |", "|---|---|---|---|"]
    for chapter in CHAPTERS:
        title, question = heading(chapter.name)
        needs = dict.fromkeys(ARTEFACTS[file] for file in chapter.reads)
        link = f"[{chapter.name[:2]} {title}](../notebooks/{chapter.name}.ipynb)"
        before = ", ".join(name[:2] for name in needs) or "a corpus"
        lines.append(f"| {link} | {question} | {before} | {page_text(state_of(run, chapter))} |")
    return "\n".join(lines)


def state_of(run: RunDir, chapter: Chapter) -> str:
    """Return in words whether a notebook has run, can run, or what it waits for."""
    waits = {ARTEFACTS[file]: None for file in chapter.reads if not (run / file).is_file()}
    if waits:
        return f"waits for {next(iter(waits))[:2]}"
    if chapter.evidence is None:
        done = all((run / file).is_file() for file in chapter.writes)
        return "done" if done else "can run"
    if why := chapter.refuses(run.read("audit.json")):
        return why
    if find(run, chapter.evidence):
        return "can run: results are stored"
    return f"can run with measure = True: {why_missing(run, chapter.evidence)}"


def heading(name: str) -> tuple[str, str]:
    """Return title and question of a notebook, from its first cell."""
    import nbformat

    first = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells[0].source
    question = first.partition("**Question.** ")[2].partition("\n\n")[0]
    return first.splitlines()[0].removeprefix("# "), " ".join(question.split())
