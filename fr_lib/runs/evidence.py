"""Results that take minutes, kept with the stamps of what made them.

Chapters on transfer and on the price of each choice need hundreds of models. ``--profile full``
measures them into the run directory; for the corpus that ships they are kept under ``data/``, so
that a quick run can show them. A result whose corpus, recipe or code is not that of the run is not
shown: the page says what differs instead.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from fr_lib.corpus import STRESS_SET
from fr_lib.errors import ArtefactError, say
from fr_lib.files import ROOT, read_json, sha256_of, write_bytes, write_json
from fr_lib.runs.rundir import RunDir, plain

STORE = ROOT / "data" / "evidence"
REMEDY = "make book PROFILE=full"
# What decides the figures; stored results are stale when any of it comes to mean something else.
CODE = (
    *("schema", "arms", "corpus/load", "corpus/columns", "corpus/strict", "corpus/presets"),
    *("corpus/rows", "corpus/teachers", "train/model", "train/recipe", "train/made"),
    *("train/fold", "train/batch", "train/many", "evaluate/rivals", "evaluate/loso"),
)
# What decides the figures of one result alone.
OWN_CODE = {
    "seeds": (),
    "transfer": ("evaluate/transfer",),
    "ablation": ("evaluate/ablation",),
    "beyond": ("evaluate/outside", "corpus/formats", "corpus/logs"),
    "another": ("evaluate/another",),
}


def code_sha256(name: str) -> str:
    """Return one hash over what the modules that decide a result mean: see :func:`meaning`."""
    digest = hashlib.sha256()
    for module in (*CODE, *OWN_CODE[name]):
        source = (ROOT / "fr_lib" / f"{module}.py").read_text(encoding="utf-8")
        digest.update(f"{module}\0{meaning(source)}\0".encode())
    return digest.hexdigest()


# A run asks several times, of files that change between two runs at most.
@lru_cache(maxsize=64)
def meaning(source: str) -> str:
    r"""Return the syntax tree of Python text, whatever its comments, layout and docstrings.

    Examples
    --------
    >>> meaning("def f():\n    'One.'\n    return 1") == meaning("def f(): return 1  # one")
    True
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)


def stamps(run: RunDir, name: str) -> dict[str, Any]:
    """Return what the result `name` must have been made of to belong to this run."""
    loso = run.read("loso.json")
    return {
        "corpus_sha256": loso["corpus_sha256"],
        "recipe": loso["recipe"],
        "seed": loso["seeds"][0],
        "code_sha256": code_sha256(name),
        "stress_sha256": sha256_of(STRESS_SET),
    }


def stored(run: RunDir) -> Path:
    """Return the folder where results for the run's corpus are kept in the project."""
    return STORE / run.read("loso.json")["corpus_sha256"][:12]


def find(run: RunDir, name: str) -> dict[str, Any] | None:
    """Return the stored result `name` if its stamps are this run's, else None."""
    for path in (run / "evidence" / f"{name}.json", stored(run) / f"{name}.json"):
        if path.is_file():
            data = read_json(path, made_by=REMEDY)
            if data.get("stamps") == stamps(run, name):
                return data
    return None


def get_evidence(
    run: RunDir, name: str, measure: Callable[[], Mapping[str, Any]] | None
) -> dict[str, Any]:
    """Return the result `name` of this run: measured now, or found with matching stamps.

    Parameters
    ----------
    run : RunDir
    name : str
    measure : callable or None
        Measures it; without, the run directory and then the project's store are searched.

    Raises
    ------
    ArtefactError
        If there is no result with this run's stamps.
    """
    if measure is not None:
        return record(run, name, measure())
    data = find(run, name)
    if data is None:
        raise ArtefactError(say(name, why_missing(run, name), "matching stamps", REMEDY))
    return data


def record(run: RunDir, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Write a result with this run's stamps into the run directory, and return it."""
    stamped = plain(dict(data)) | {"stamps": stamps(run, name)}
    with run.writing():
        write_json(run / "evidence" / f"{name}.json", stamped)
    return stamped


def why_missing(run: RunDir, name: str) -> str:
    """Return what keeps a result from being shown, for its page."""
    places = (run / "evidence" / f"{name}.json", stored(run) / f"{name}.json")
    path = next((p for p in places if p.is_file()), None)
    if path is None:
        return "not measured for this corpus"
    wanted, found = stamps(run, name), read_json(path, made_by=REMEDY).get("stamps", {})
    differs = [key.removesuffix("_sha256") for key in wanted if found.get(key) != wanted[key]]
    return f"stored results are of another {', '.join(differs)}"


def seed_folds(run: RunDir, folds: pd.DataFrame) -> pd.DataFrame:
    """Return LOSO folds of several seeds: those of this run, or with stored ones of other seeds.

    Parameters
    ----------
    folds : DataFrame
        ``folds.parquet`` of the run. With several seeds they are recorded for later runs.
    """
    if folds["seed"].nunique() > 1:
        record(run, "seeds", {"folds": folds})
        return folds
    known = find(run, "seeds")
    if known is None:
        return folds
    others = pd.DataFrame(known["folds"]).query("seed not in @folds.seed")
    return pd.concat([folds, others], ignore_index=True)


def keep(run: RunDir) -> list[Path]:
    """Copy the run's results that have its stamps into the project's store; return the files."""
    source = run / "evidence"
    if not source.is_dir():
        return []
    kept = []
    for path in sorted(source.glob("*.json")):
        if read_json(path, made_by=REMEDY).get("stamps") == stamps(run, path.stem):
            write_bytes(stored(run) / path.name, path.read_bytes())
            kept.append(stored(run) / path.name)
    return kept
