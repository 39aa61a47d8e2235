"""A finished run as a folder that any static host serves: pages, files, and what they are."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import fr_lib
from fr_lib.errors import ArtefactError, InputError, counted, say
from fr_lib.evaluate import failed_clauses
from fr_lib.files import read_json, sha256_of, write_json
from fr_lib.release import verify
from fr_lib.report.downloads import FILES, SUMS, stale_files
from fr_lib.report.first_screen import state_of
from fr_lib.runs import RunDir
from fr_lib.system import replace_folder

MANIFEST = "manifest.json"
KIND = "fr_regressor_v3: published run"
# What Sphinx leaves for itself. Sources have the paths of the machine that ran the notebooks.
_NOT_PAGES = shutil.ignore_patterns("_sources", ".buildinfo", ".doctrees")


def publish_book(run_dir: str | Path, out: str | Path) -> list[str]:
    """Put the book of a finished run, with its files, into a folder for a static host.

    Parameters
    ----------
    run_dir : path-like
    out : path-like
        New, empty, or published before; it takes its place in one step, and what was there is gone.

    Returns
    -------
    list of str
        Lines that say what was published where.

    Raises
    ------
    ArtefactError
        If the run is not finished, has no book, its book is of other files than the run has now, or
        its model does not verify. Nothing is changed.
    InputError
        If a run is at work in `run_dir`, or `out` holds something else.
    """
    run, target = RunDir(run_dir), Path(out)
    _refuse_place(run, target)
    with run.at_rest():
        facts = _finished(run)
        pages = run / "book" / "_build" / "html"
        place = target.resolve()
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.new-", dir=place.parent) as made:
            fresh = Path(made, place.name)
            shutil.copytree(pages, fresh, ignore=_NOT_PAGES)
            # Without it some hosts leave out folders whose names begin with an underscore.
            (fresh / ".nojekyll").touch()
            files = _listed(fresh)
            write_json(fresh / MANIFEST, facts | {"files": files})
            replace_folder(fresh, place)
    return [
        f"{target}: run {facts['run_id']}, version {facts['version']}, gate {facts['verdict']}",
        f"{counted(len(files), 'file')}, listed in {MANIFEST}; open {target / 'index.html'}",
    ]


def _refuse_place(run: RunDir, target: Path) -> None:
    """Refuse a folder that lies in the run, holds it, or is not ours to replace."""
    place, own = target.resolve(), run.path.resolve()
    allowed = "a new or empty folder, or one published before"
    found = None
    if place.is_relative_to(own) or own.is_relative_to(place):
        found = f"{target} and the run {run.path} lie in each other"
    elif place.exists() and not place.is_dir():
        found = f"{target} is no folder"
    elif place.is_dir() and any(place.iterdir()) and not _ours(place):
        found = f"{target} holds something else (no {MANIFEST} of a published run)"
    if found:
        raise InputError(say("--out", found, allowed, "name another"))


def _ours(place: Path) -> bool:
    manifest = place / MANIFEST
    if not manifest.is_file():
        return False
    found = read_json(manifest, made_by="publish")
    return isinstance(found, dict) and found.get("kind") == KIND


def _finished(run: RunDir) -> dict[str, Any]:
    """Return what the manifest says of a run, after a look at all that is to be published."""
    if not (run / "export.json").is_file():
        found = "no finished run: export.json is missing"
        raise ArtefactError(say(str(run.path), found, "a finished run", "finish it first"))
    card, gate = run.read("export.json")["card"], run.read("gate.json")
    files = run / "book" / "_build" / "html" / FILES
    if not (files / SUMS).is_file():
        found = "the run has no book, or only a part of one"
        raise ArtefactError(say(str(run.path), found, "a run with its book", "make it first"))
    if stale := stale_files(run, files):
        found = f"not what the run has, or altered: {', '.join(stale[:3])}"
        raise ArtefactError(say(str(files), found, "the files of this run", "build the book again"))
    if problems := verify(run / "model"):
        raise ArtefactError("\n".join(problems))
    return {
        "kind": KIND,
        "version": fr_lib.__version__,
        "run_id": gate["run_id"],
        "verdict": state_of(gate, card),
        "failed_clauses": [clause["name"] for clause in failed_clauses(gate)],
        "corpus_sha256": gate["corpus_sha256"],
        "model_sha256": card["sha256"],
        "git_revision": card["run_provenance"]["git_revision"],
        "first_page": "index.html",
    }


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Return sha256 and size of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_of(path),
            "bytes": path.stat().st_size,
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
