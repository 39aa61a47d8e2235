"""Stage the book of a run and build it: sources, executed notebooks, figures, values.

jupyter-book never executes anything here. Pages of ``book/`` are Jinja templates that see the run's
JSON files and nothing else, so no number in them is typed; a name that no file has stops the build.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fr_lib.arms import ARMS, BLIND_ARM, SHIPPED_ARM
from fr_lib.corpus import formula_applies, teacher_of
from fr_lib.errors import ArtefactError, say, text
from fr_lib.evaluate import (
    LEAVE_ONE_OUT,
    LIFT_CLAUSE,
    ONE_CODEC,
    RETRAIN_PENDING,
    SEED_CLAUSE,
    failed_clauses,
)
from fr_lib.files import ROOT, read_json
from fr_lib.report.drawings import drawing
from fr_lib.report.names import page_code, page_name, page_text
from fr_lib.report.tables import shipped_first, worst_of_domain
from fr_lib.runs import CHAPTERS, PAGES, RunDir, find
from fr_lib.schema import ADAPTERS, CANONICAL_6, ENCODER_VOCAB_V2

PUBLISHED = ROOT / "data" / "adr0323_published.json"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure for a page: fixed digits, or words where there is none.

    Examples
    --------
    >>> number(0.12345, 2), number(None)
    ('0.12', 'not measured')
    """
    return text(value, f".{digits}f")


def thousands(value: float) -> str:
    """Return a count with a thin separator: ``6,864``."""
    return f"{value:,.0f}"


def page_values(run: RunDir) -> dict[str, Any]:
    """Return what the pages may use, all of it read from files of the run or of the project."""
    card = read_json(run / "model" / "fr_regressor_v3.json", made_by="04_export")
    audit, gate = run.read("audit.json"), run.read("gate.json")
    clauses = {clause["name"]: clause for clause in gate["clauses"]}
    return {
        "audit": audit,
        "loso": run.read("loso.json"),
        "gate": gate,
        "lift_clause": clauses[LIFT_CLAUSE],
        "seed_clause": clauses[SEED_CLAUSE],
        "outside": run.read("outside.json"),
        "elsewhere": _elsewhere(find(run, "beyond")),
        "export": run.read("export.json"),
        "card": card,
        "made": audit.get("provenance"),
        "clips": clip_figures(audit.get("provenance")),
        "transfer": find(run, "transfer"),
        "ablation": find(run, "ablation"),
        "seeds": seed_figures(find(run, "seeds")),
        "published": read_json(PUBLISHED, made_by="a checkout of the project"),
        "teacher": teacher_of(audit["identity"]["teacher"]),
        "formula_applies": formula_applies(audit["teacher_check"]),
        "chapters": CHAPTERS,
        "pages": PAGES,
        "failed": failed_clauses(gate),
        "retrain_pending": RETRAIN_PENDING,
        "schemes": {"left_out": LEAVE_ONE_OUT, "alone": ONE_CODEC},
        "arms": ARMS,
        "aware": SHIPPED_ARM,
        "blind": BLIND_ARM,
        "adapters": ADAPTERS,
        "features": CANONICAL_6,
        "vocab_v2": ENCODER_VOCAB_V2,
        # Its title is the card's heading already, and its sections belong one level lower.
        "changelog": (ROOT / "CHANGELOG.md")
        .read_text()
        .partition("\n")[2]
        .replace("\n## ", "\n### "),
    }


def _elsewhere(beyond: Mapping[str, Any] | None, arm: str = SHIPPED_ARM) -> dict[str, Any] | None:
    """Return, per recipe, an arm's errors outside the corpus in VMAF points, what ships first."""
    if beyond is None:
        return None
    recipes = {}
    for name, found in beyond["recipes"].items():
        logs = [log["rmse"][arm] for log in found["logs"] if log["rmse"][arm] is not None]
        recipes[name] = {
            "stress": found["arms"][arm]["stress"],
            "swap": found["arms"][arm]["swap"],
            "log_median": float(np.median(logs)) if logs else None,
            "log_worst": max(logs, default=None),
            "worst_frames": [
                frame["difference"]
                for recipe, own, frame in worst_of_domain(beyond)
                if (recipe, own) == (name, arm)
            ],
        }
    return {
        "order": shipped_first(beyond),
        "recipes": recipes,
        "logs": beyond["recipes"][beyond["shipped"]]["logs"],
    }


def clip_figures(made: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the ranges of the clips' width, height, frame count and seconds, and their rates.

    None where they are not known, as of clips that others encoded.
    """
    if made is None or not all("fps_exact" in clip for clip in made["sources"]):
        return None
    rates = [Fraction(clip["fps_exact"]) for clip in made["sources"]]
    seconds = [clip["frames"] / rate for clip, rate in zip(made["sources"], rates, strict=True)]
    ranges = {
        name: (min(values), max(values))
        for name, values in {
            "seconds": [float(s) for s in seconds],
            "rate": [float(r) for r in rates],
            **{key: [c[key] for c in made["sources"]] for key in ("width", "height", "frames")},
        }.items()
    }
    return {"count": len(rates)} | ranges


def seed_figures(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return, per arm, mean and spread over seeds of mean PLCC and mean RMSE; and the block's lift.

    ``lift`` holds, per metric, the mean over seeds of the shipped arm minus the blind one, the
    lowest and the highest seed, and in how many seeds the shipped one was better.
    """
    if found is None:
        return None
    folds = pd.DataFrame(found["folds"])
    means = folds.groupby(["arm", "seed"])[["plcc", "rmse"]].mean()
    lift = means.loc[SHIPPED_ARM] - means.loc[BLIND_ARM]
    return {
        "count": int(folds["seed"].nunique()),
        "arms": {
            arm: {
                f"{column}_{name}": float(getattr(np, name)(own[column]))
                for column in ("plcc", "rmse")
                for name in ("mean", "ptp")
            }
            for arm, own in means.groupby("arm")
        },
        "lift": {
            column: {
                "mean": float(values.mean()),
                "low": float(values.min()),
                "high": float(values.max()),
                "better": int((sign * values > 0).sum()),
            }
            for column, sign, values in (("plcc", 1, lift["plcc"]), ("rmse", -1, lift["rmse"]))
        },
    }


def render_page(page: str, values: Mapping[str, Any]) -> str:
    """Fill a page; jinja2.UndefinedError if it names what no file has.

    Text that is put in means itself, whatever is in it: see :mod:`fr_lib.report.names`.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=page_text,
    )
    environment.filters |= {
        "number": lambda *given: Markup(number(*given)),
        "thousands": lambda value: Markup(thousands(value)),
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
    stage = run / "book"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    values = page_values(run)
    for source in sorted((ROOT / "book").iterdir()):
        if source.suffix == ".md" or source.name == "_toc.yml":
            (stage / source.name).write_text(render_page(source.read_text(), values))
        elif source.is_dir():
            shutil.copytree(source, stage / source.name)
        else:
            shutil.copy(source, stage)
    shutil.copytree(run / "figures", stage / "figures")
    (stage / "notebooks").mkdir()
    for name in (chapter.name for chapter in CHAPTERS):
        if name in missing:
            page = (ROOT / "book" / "templates" / "missing.md").read_text()
            page = render_page(page, {"title": _title(name), "reason": missing[name]})
            (stage / "notebooks" / f"{name}.md").write_text(page)
            continue
        executed = run / "notebooks" / f"{name}.ipynb"
        if not executed.is_file():
            raise ArtefactError(
                say(str(executed), "missing", "an executed notebook", f"run {name} first")
            )
        _stage_notebook(executed, stage)
    return stage


def _title(name: str) -> str:
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


_SAVED = re.compile(r'\bsave_figure\(\w+, "(\w+)"\)')


def _stage_notebook(executed: Path, stage: Path) -> None:
    """Copy an executed notebook as the book has it.

    Code is folded away, the injected cell looks like its twin, and a figure that the cell saved is
    the drawing instead of the pixels.
    """
    import nbformat

    notebook = nbformat.read(executed, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tags = set(cell.metadata.get("tags", []))
            cell.metadata["tags"] = sorted(tags | {"hide-input"} - {"injected-parameters"})
            images = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            for output, name in zip(images, _SAVED.findall(cell.source), strict=False):
                figure = drawing(stage / "figures" / f"{name}.svg")
                output.data = nbformat.from_dict({"text/html": figure})
    notebook.cells = [c for c in notebook.cells if "parameters" not in c.metadata.get("tags", [])]
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
    return page
