"""Stage the book of a run and build it: sources, executed notebooks, figures, values.

jupyter-book never executes anything here. Pages of ``book/`` are Jinja templates that see the
values of :mod:`fr_lib.report.values` and nothing else, so no number in them is typed; a name that
no file has stops the build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fr_lib.errors import ArtefactError, say, text
from fr_lib.files import ROOT
from fr_lib.report.downloads import FILES, put_files
from fr_lib.report.drawings import drawing
from fr_lib.report.explorer import explorer_data, write_explorer
from fr_lib.report.names import page_code, page_name, page_text
from fr_lib.report.start import heading
from fr_lib.report.tables import short_of_one
from fr_lib.report.values import number, page_values, thousands
from fr_lib.runs import CHAPTERS, LAB_ONLY, RunDir


def render_page(page: str, values: Mapping[str, Any]) -> str:
    """Fill a page; jinja2.UndefinedError if it names what no file has.

    Text that is put in means itself, whatever is in it: see :mod:`fr_lib.report.names`.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "book" / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=page_text,
    )
    environment.filters |= {
        "number": lambda *given: Markup(number(*given)),
        "thousands": lambda value: Markup(thousands(value)),
        "short_of_one": lambda plcc: Markup(short_of_one(plcc)),
        "text": lambda *given: Markup(text(*given)),
        "name": page_name,
        "code": page_code,
    }
    return environment.from_string(page).render(values)


def stage_book(run: RunDir, missing: Mapping[str, str]) -> Path:
    """Put everything the book shows into ``<run>/book`` and return that folder.

    Parameters
    ----------
    run : RunDir
    missing : mapping
        Chapters without evidence, and why: their page says that and shows no figure.

    Raises
    ------
    ArtefactError
        If a chapter was not executed in this run.
    """
    import nbformat

    stage = run / "book"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    explorer = explorer_data(run)
    values = page_values(run) | {"explorer": explorer}
    values |= put_files(run, stage / FILES, values, render_page)
    for source in sorted((ROOT / "book").iterdir()):
        if source.suffix == ".md" or source.name == "_toc.yml":
            (stage / source.name).write_text(render_page(source.read_text(), values))
        elif source.is_dir():
            shutil.copytree(source, stage / source.name)
        else:
            shutil.copy(source, stage)
    write_explorer(explorer, stage / "extra" / "explorer")
    shutil.copytree(run / "figures", stage / "figures")
    (stage / "notebooks").mkdir()
    for name in (chapter.name for chapter in CHAPTERS):
        if name in missing:
            page = (ROOT / "book" / "templates" / "missing.md").read_text()
            page = render_page(page, {"title": heading(name)[0], "reason": missing[name]})
            # A notebook too, so that links to the chapter are the same whether it has results.
            cells = [nbformat.v4.new_markdown_cell(page)]
            page = nbformat.v4.new_notebook(cells=cells)
            nbformat.write(page, stage / "notebooks" / f"{name}.ipynb")
            continue
        executed = run / "notebooks" / f"{name}.ipynb"
        if not executed.is_file():
            raise ArtefactError(
                say(str(executed), "missing", "an executed notebook", f"run {name} first")
            )
        _stage_notebook(executed, stage)
    return stage


_SAVED = re.compile(r'\bsave_figure\(\w+, "(\w+)"\)')


def _stage_notebook(executed: Path, stage: Path) -> None:
    """Copy an executed notebook as the book has it.

    Code is folded away, and left out where it shows nothing, but for what the run was given. A
    figure that the cell saved is the drawing instead of the pixels, and what is shown for a reader
    in JupyterLab stays there.
    """
    import nbformat

    notebook, kept = nbformat.read(executed, as_version=4), []
    for cell in notebook.cells:
        given = False
        if cell.cell_type == "code":
            tags = set(cell.metadata.get("tags", []))
            given = "injected-parameters" in tags
            cell.metadata["tags"] = sorted(tags | {"hide-input"} - {"injected-parameters"})
            cell.outputs = [o for o in cell.outputs if not o.get("metadata", {}).get(LAB_ONLY)]
            images = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            for output, name in zip(images, _SAVED.findall(cell.source), strict=False):
                figure = drawing(stage / "figures" / f"{name}.svg")
                output.data = nbformat.from_dict({"text/html": figure})
        if cell.cell_type != "code" or cell.outputs or given:
            kept.append(cell)
    notebook.cells = kept
    nbformat.write(notebook, stage / "notebooks" / executed.name)


def build_book(run: RunDir, missing: Mapping[str, str]) -> Path:
    """Build the run's book with every warning an error; return the page to open.

    Parameters
    ----------
    run, missing
        As in :func:`stage_book`.

    Raises
    ------
    ArtefactError
        With the first warnings of the build.
    """
    stage = stage_book(run, missing)
    # The package cannot be run with -m, and its script need not be on the PATH.
    start = "from jupyter_book.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "build", "-W", "-n", "--keep-going", str(stage)],
        capture_output=True,
        text=True,
        check=False,
    )
    page = stage / "_build" / "html" / "index.html"
    if done.returncode or not page.is_file():
        log = stage / "build.log"
        log.write_text(done.stdout + done.stderr)
        lines = [x for x in log.read_text().splitlines() if "WARNING" in x or "ERROR" in x]
        raise ArtefactError(
            say(
                "book",
                " | ".join(lines[:3]) or "jupyter-book failed",
                "a build without warnings",
                f"see {log}",
            )
        )
    # Beside the pages, not among their sources: links to it are plain, whatever serves the book.
    (stage / FILES).rename(page.parent / FILES)
    return page
