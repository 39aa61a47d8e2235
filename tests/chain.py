"""Whole runs of the project, for the tests that look at what a run leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus import synthetic_table, write_table
from fr_lib.corpus.synthetic import PREFIX
from fr_lib.schema import CANONICAL_6

ROOT = Path(__file__).resolve().parent.parent
NVENC_ONLY = ROOT / "tests" / "data" / "nvenc_only.jsonl"
NOTEBOOKS = ("01_corpus_audit", "02_loso", "03_gate", "04_export")


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
    """
    table = synthetic_table(["libx264", "libsvtav1"], [20, 35, 50], sources=3, frames=8, seed=1)
    rng = np.random.default_rng(0)
    table["vmaf"] = table.groupby("src")["vmaf"].transform(rng.permutation)
    table["src"] = table["src"].str.removeprefix(PREFIX)
    return table.drop(columns="synthetic")


def run_smoke(folder: Path) -> Done:
    return python("fr_lib", "run", "--smoke", "--run-dir", folder, path=folder)


def run_hopeless(folder: Path) -> Done:
    """Run the full profile, small: two seeds, and the chapters that train models of their own."""
    corpus = folder.with_suffix(".jsonl.gz")
    write_table(hopeless_table(), corpus)
    settings = ("--profile", "full", "--set", "seeds=2", "--set", "epochs=2", "--set", "seed=3")
    return python("fr_lib", "run", "--corpus", corpus, "--run-dir", folder, *settings, path=folder)


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


def run_nvenc(folder: Path) -> Done:
    """Run a corpus of the other shape and suffix than those of the other runs, with an index."""
    corpus = folder.with_suffix(".parquet")
    table = per_encode(pd.read_json(NVENC_ONLY, lines=True))
    table.set_index(pd.Index([0] * len(table))).to_parquet(corpus)
    arguments = ("--corpus", corpus, "--run-dir", folder, "--set", "epochs=3")
    return python("fr_lib", "run", *arguments, path=folder)


def run_alone(folder: Path, corpus: Path, *, epochs: int) -> list[Done]:
    """Run each notebook by itself through plain papermill, with its own parameters only."""
    own = {"01_corpus_audit": ["-p", "corpus", corpus], "02_loso": ["-p", "epochs", epochs]}
    folder.mkdir()
    return [
        python(
            "papermill",
            *(f"notebooks/{name}.ipynb", folder / f"{name}.ipynb", "--no-progress-bar"),
            *("-p", "run_dir", folder, *map(str, own.get(name, []))),
            path=folder,
        )
        for name in NOTEBOOKS
    ]


def run_nbval(copy: Path, executed: Path) -> Done:
    """Run the executed notebooks of :func:`run_alone` once more, under nbval, in another folder."""
    folder = copy / executed.name
    shutil.copytree(executed, folder)
    for notebook in folder.glob("*.ipynb"):
        text = notebook.read_text()
        notebook.write_text(text.replace(json.dumps(str(executed))[1:-1], str(folder)))
    (copy / "pytest.ini").write_text("[pytest]\n")
    # nbval starts kernels beside the notebook, and has no option for it.
    return python(
        *("pytest", "-q", "--nbval-lax", "--nbval-current-env", "-p", "no:cacheprovider"),
        *("-c", copy / "pytest.ini", *(folder / f"{name}.ipynb" for name in NOTEBOOKS)),
        path=folder,
        environment={"PYTHONPATH": str(ROOT)},
    )
