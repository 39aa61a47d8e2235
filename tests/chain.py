"""Whole runs of the project, for the tests that look at what a run leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
from nbformat.v4 import new_code_cell, new_notebook, new_output

from fr_lib.corpus import audit_corpus, load_corpus, read_stress, synthetic_table, write_table
from fr_lib.evaluate import measure, shipped_report
from fr_lib.evaluate.gate import evaluate_gate, verdict
from fr_lib.files import ROOT
from fr_lib.report import build_book
from fr_lib.runs import CHAPTERS, STEPS, RunDir, save_networks
from fr_lib.schema import CANONICAL_6

EVIDENCE = {chapter.name: chapter.evidence for chapter in CHAPTERS if chapter.evidence}
# The corpora made here have scores of one teacher.
REFUSED = "08_another_teacher"
MEASURED = [name for name in EVIDENCE if name != REFUSED]
NVENC_ONLY = ROOT / "tests" / "data" / "nvenc_only.jsonl"
# The first that is there is taken; `make browser` looks for the same.
BROWSERS = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
]
# What differs between two looks at one table: where it lies in memory, how its style is called.
NAMES_OF_OBJECTS = """
[address]
regex: 0x[0-9a-f]+
replace: 0xADDRESS

[style]
regex: T_[0-9a-f]{5}
replace: T_STYLE
"""
# What breaks pages, tables, figures or terminals where a name is not taken as text: HTML that would
# run, Markdown, MyST, mathematics of matplotlib, quotes and dashes that a typesetter would improve,
# directions of writing, what no font has, what is too long, white space, control characters.
HOSTILE_NAMES = (
    '<img src=x onerror="alert(1)"> $\\frac$ | {ref}`x` ![](y) '
    "'q' -- ... _a_ *b* \\ \\| &amp; <!--",
    "# 1. %\n- [x](javascript:alert(2))\n\n:::{note}  {{ x }} {% y %} 😀 "
    "e\u0301 \u05e2\u05d1\u202e映画\u2066",
    "</td></table><script>alert(3)</script>`" + "long" * 70 + "\x1b[31m$x$",
)
HOSTILE_RUN = "run <b>'$x_1$'|`*_ 映画"


@dataclass(frozen=True)
class Done:
    """A command that ended: what it said, and the run directory it worked in."""

    path: Path
    code: int
    out: str
    err: str

    def json(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())

    def page(self, name: str = "index") -> Path:
        return self.path / "book" / "_build" / "html" / f"{name}.html"


def python(
    *arguments: str | Path, path: Path = ROOT, environment: Mapping[str, str] | None = None
) -> Done:
    """Run ``python -m ...`` in the project's folder; `path` is where its results will be."""
    ended = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(path, ended.returncode, ended.stdout, ended.stderr)


def tree(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def hopeless_table() -> pd.DataFrame:
    """Return rows whose VMAF is shuffled within each source, so that no feature explains it.

    They do not call themselves synthetic: releasing their model must fail for its gate's sake.
    Their sources have names of the worst kind.
    """
    table = synthetic_table(["libx264", "libsvtav1"], [20, 35, 50], sources=3, frames=8, seed=1)
    rng = np.random.default_rng(0)
    table["vmaf"] = table.groupby("src")["vmaf"].transform(rng.permutation)
    table["src"] = table["src"].map(dict(zip(table["src"].unique(), HOSTILE_NAMES, strict=True)))
    return table.drop(columns="synthetic")


def run_smoke(folder: Path) -> Done:
    """Run on the synthetic corpus; fewer epochs than its own 30 pass the gate too."""
    few = ("--set", "epochs=8")
    return python("fr_lib", "run", "--smoke", *few, "--run-dir", folder, path=folder)


def run_hopeless(folder: Path) -> Done:
    """Run the full profile, small: two seeds, and the chapters that train models of their own.

    The search for the worst frame starts from few points; the run is to end, not to find.
    """
    folder.mkdir()
    folder /= HOSTILE_RUN
    corpus = folder.with_suffix(".jsonl.gz")
    write_table(hopeless_table(), corpus)
    few = ("seeds=2", "epochs=1", "seed=3", "points=50")
    settings = [word for setting in few for word in ("--set", setting)]
    return python(
        *("fr_lib", "run", "--profile", "full", "--corpus", corpus, "--run-dir", folder),
        *settings,
        path=folder,
    )


def per_encode(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each cell pooled into one of schema v3: means, deviations, mean score."""
    key = ["src", "encoder", "preset", "cq"]
    cells = table.groupby(key, sort=False)
    means = cells[list(CANONICAL_6)].mean().add_suffix("_mean")
    deviations = cells[list(CANONICAL_6)].std(ddof=0).add_suffix("_std")
    facts = cells.agg(vmaf_score=("vmaf", "mean"), vmaf_model=("teacher", "first"))
    pooled = pd.concat([facts, means, deviations], axis=1).reset_index()
    same = {"schema_version": 3, "exit_status": 0, "synthetic": "synthetic" in table}
    return pooled.rename(columns={"cq": "crf"}).assign(**same)


def run_nvenc(folder: Path) -> list[Done]:
    """Run each notebook by itself through plain papermill, with its own parameters, then the book.

    The corpus is of the other shape and suffix than those of the other runs, with an index, and of
    NVIDIA encoders alone. Its model fails, which is for 03 to carry on.
    """
    corpus = folder.with_suffix(".parquet")
    table = per_encode(pd.read_json(NVENC_ONLY, lines=True))
    table.set_index(pd.Index([0] * len(table))).to_parquet(corpus)
    own = {
        "01_corpus_audit": {"corpus": corpus},
        "02_loso": {"epochs": 3},
        "03_gate": {"stop_on_fail": False},
    }
    folder.mkdir()
    steps = []
    for name in STEPS:
        given = own.get(name, {}) | {"run_dir": folder}
        parameters = [part for key, value in given.items() for part in ("-p", key, value)]
        copy = folder / "notebooks" / f"{name}.ipynb"
        copy.parent.mkdir(exist_ok=True)
        source = f"notebooks/{name}.ipynb"
        steps.append(
            python("papermill", source, copy, "--no-progress-bar", *parameters, path=folder)
        )
    build_book(RunDir(folder), dict.fromkeys(EVIDENCE, "it was not asked for"))
    return steps


def judged(folder: Path, table: pd.DataFrame, *, epochs: int, seed: int = 0) -> RunDir:
    """Return a run after 03_gate, made without notebooks."""
    file = folder.with_suffix(".jsonl")
    write_table(table, file)
    corpus, run = load_corpus(file), RunDir(folder)
    run.begin(corpus)
    facts = run.write("audit.json", audit_corpus(corpus))
    result, evidence = measure(corpus, facts, "adr0319", epochs, [seed], device="cpu")
    run.write_table("folds.parquet", result.folds)
    run.write_table("oof.parquet", result.oof)
    run.write("loso.json", evidence | {"networks_sha256": save_networks(run, result.final)})
    run.write("outside.json", shipped_report(result.final, corpus, read_stress()))
    run.write("gate.json", verdict(evaluate_gate(result.folds, facts["trained_slots"]), []))
    return run


def tiny_table() -> pd.DataFrame:
    encoders = ["libx264", "libx265", "libsvtav1"]
    return synthetic_table(encoders, [20, 45], sources=3, frames=4, seed=0)


def linked(folder: Path, copy: Path) -> Path:
    """Copy a finished run without its bytes; who changes a file puts another in its place."""
    return shutil.copytree(folder, copy / folder.name, copy_function=os.link)


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield the distribution's browser, asking nothing of any network."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found, "the browser tests need Chromium: install the system's package (see .ci/run)"
    quiet = "background-networking component-update sync extensions default-apps"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--no-first-run"]
            + [f"--disable-{name}" for name in quiet.split()],
        )
        yield browser
        browser.close()


def python_notebook(cells: list[nbformat.NotebookNode]) -> nbformat.NotebookNode:
    """Return one for the kernel that ours ask for."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def made_up_notebook() -> nbformat.NotebookNode:
    """Return one that shows another figure than it did, in a marked and in a plain cell."""
    shown = new_output("execute_result", {"text/plain": "1"}, execution_count=1)
    cells = [new_code_cell("2", outputs=[shown], execution_count=1)]
    cells += deepcopy(cells)
    cells[0].metadata["tags"] = ["nbval-check-output"]
    return python_notebook(cells)


def run_nbval(copy: Path, executed: Path) -> Done:
    """Run the executed notebooks of a run once more, under nbval, in another folder.

    What the cells tagged ``nbval-check-output`` show must be what they showed. Chapters of evidence
    show what lies in the run instead of measuring it once more.
    """
    folder = copy / executed.name
    shutil.copytree(executed, folder, ignore=shutil.ignore_patterns("book"))
    for path in (folder / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if "injected-parameters" in cell.metadata.get("tags", ()):
                # papermill writes a string as JSON has it.
                cell.source = cell.source.replace(
                    json.dumps(str(executed)), json.dumps(str(folder))
                )
                assert json.dumps(str(folder)) in cell.source
                cell.source = cell.source.replace("measure = True", "measure = False")
        nbformat.write(notebook, path)
    nbformat.write(made_up_notebook(), folder / "notebooks" / "made_up.ipynb")
    notebooks = sorted((folder / "notebooks").glob("*.ipynb"))
    (copy / "pytest.ini").write_text("[pytest]\n")
    (copy / "names.cfg").write_text(NAMES_OF_OBJECTS)
    # nbval starts kernels beside the notebook, and has no option for it. Those that a user has
    # installed come after this environment's, as in the Makefile.
    return python(
        *("pytest", "-q", "--nbval-lax", "-p", "no:cacheprovider"),
        *("--nbval-sanitize-with", copy / "names.cfg", "-c", copy / "pytest.ini", *notebooks),
        path=folder,
        environment={"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"},
    )
