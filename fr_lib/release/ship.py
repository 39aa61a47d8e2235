"""The last step: export the final networks, prove the file, write sidecar and registry row.

All of it goes into the run's own ``model`` folder; ``release`` carries it on from there. A run that
failed the gate writes the same files, marked so that no consumer takes them, as the audit trail.
"""

from __future__ import annotations

import platform
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fr_lib.arms import SHIPPED_ARM
from fr_lib.evaluate import joined
from fr_lib.files import ROOT, remove, write_json
from fr_lib.release.card import sidecar
from fr_lib.release.checks import verify
from fr_lib.release.onnx import MIN_PARITY_ROWS, export_onnx, open_session, parity
from fr_lib.release.registry import REGISTRY, registry_row, upsert_row
from fr_lib.runs import RunDir, load_networks
from fr_lib.schema import CANONICAL_6, MODEL_ID
from fr_lib.train import Recipe, made_count

_PACKAGES = ("torch", "numpy", "pandas", "scipy", "onnx", "onnxruntime", "imageio-ffmpeg")


def provenance() -> dict[str, Any]:
    """Return versions, platform and git revision of this run, for ``run_provenance``."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_revision": _git_revision(),
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _git_revision() -> str:
    """Return the commit of the code, with "+changes" if tracked files differ from it."""
    done = [
        subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=False)
        for args in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
    ]
    if done[0].returncode:
        return "not a git checkout"
    return done[0].stdout.strip() + ("+changes" if done[1].stdout.strip() else "")


def ship_model(run: RunDir) -> dict[str, Any]:
    """Export the networks that were judged, and write everything that ships, whole or not at all.

    Parameters
    ----------
    run : RunDir
        With the files of 01, 02 and 03.

    Returns
    -------
    dict
        What ``export.json`` holds: facts of the file, parity, example, provenance.

    Raises
    ------
    ArtefactError
        If an upstream file is missing or belongs to another run or corpus, or if the ONNX file
        does not reproduce the network.
    """
    with tempfile.TemporaryDirectory(prefix=".model-", dir=run.path) as made:
        written = _exported(run, Path(made, "model"))
        with run.writing():
            remove(run / "model")
            Path(made, "model").rename(run / "model")
    return run.write("export.json", written)


def _exported(run: RunDir, folder: Path) -> dict[str, Any]:
    """Make the model folder of a run at `folder`, and return what ``export.json`` holds."""
    corpus, loso, gate = run.corpus(), run.read("loso.json"), run.read("gate.json")
    recipe, seed = Recipe(**loso["recipe"]), loso["seeds"][0]
    networks = load_networks(run)
    graph, aware = joined(networks, corpus), networks[SHIPPED_ARM]
    folder.mkdir()
    file = folder / f"{MODEL_ID}.onnx"
    facts = export_onnx(graph, file)
    features, block = aware.scaler(corpus.features()), corpus.codec_block()
    agreement = parity(
        graph, file, features, block, min_rows=min(MIN_PARITY_ROWS, len(corpus.table))
    )
    card = sidecar(
        facts=facts,
        feature_mean=aware.scaler.mean,
        feature_std=aware.scaler.std,
        loso=loso,
        gate=gate,
        corpus_name=corpus.name,
        corpus_sha256=corpus.sha256,
        n_rows=len(corpus.table),
        rows_per_slot=corpus.rows_per_slot(),
        domain=run.read("outside.json")["domain"],
        recipe=recipe.as_dict()
        | {"seed": seed, "made_rows": made_count(len(corpus.table), recipe.made_per_row)},
        provenance=provenance() | {"teacher": corpus.taught_by.name},
        synthetic=corpus.synthetic,
    )
    write_json(folder / f"{MODEL_ID}.json", card)
    upsert_row(folder / REGISTRY, registry_row(card))
    return {
        "facts": facts,
        "parity": agreement,
        "card": card,
        "row": registry_row(card),
        "problems": verify(folder),
        "example": _example(corpus, file, features, block),
    }


def _example(corpus: Any, file: Path, features: np.ndarray, block: np.ndarray) -> dict[str, Any]:
    """Return one real row, the one of median VMAF, with the score that the file gives it."""
    row = int(np.argsort(corpus.target(), kind="stable")[len(features) // 2])
    inputs = {"features": features[row : row + 1], "codec_block": block[row : row + 1]}
    facts = corpus.table.iloc[row]
    return {
        "features": [float(facts[name]) for name in CANONICAL_6],
        "encoder": facts["encoder"],
        "quality": float(facts["quality"]),
        "preset": facts["preset"],
        "src": facts["src"],
        "vmaf": float(facts["vmaf"]),
        "predicted": float(open_session(file).run(["vmaf"], inputs)[0][0]),
    }
