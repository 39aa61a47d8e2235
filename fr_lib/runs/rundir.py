"""The run directory: the only thing that the notebooks share.

Each notebook reads the files of the one before, and writes its own. Every file carries the run's id
and the hash of its corpus, and a file of another run or another corpus is refused. The checked rows
travel as ``corpus.parquet``, whose own hash stands in ``audit.json``.
"""

from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from fr_lib.corpus import Corpus, write_table
from fr_lib.errors import ArtefactError, say
from fr_lib.files import read_json, sha256_of, write_bytes, write_json
from fr_lib.runs.chapters import ARTEFACTS

PROGRESS = "progress.json"


def project_path(path: str | Path) -> Path:
    """Return `path`, taken from the project's folder when the kernel started in ``notebooks/``.

    papermill starts kernels where it was called, JupyterLab where the notebook lies; with this a
    relative path means the same in both.
    """
    here = Path.cwd()
    if here.name == "notebooks" and (here.parent / "pyproject.toml").is_file():
        return here.parent / path
    return Path(path)


def plain(value: Any) -> Any:
    """Return `value` as JSON types: arrays and NumPy scalars unwrapped, NaN and infinities None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, pd.DataFrame):
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class RunDir:
    """Files of one run, stamped on writing and checked on reading.

    Parameters
    ----------
    path : path-like
        ``runs/<id>``; its last part is the run id.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = project_path(path)
        self.run_id = self.path.resolve().name

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def begin(self, corpus: Corpus) -> None:
        """Start the run from a loaded corpus: drop what an earlier corpus left, keep the rows.

        Parameters
        ----------
        corpus : Corpus
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.drop_after("")
        self.corpus_sha256 = corpus.sha256
        write_table(corpus.table, self / "corpus.parquet")

    def drop_after(self, notebook: str) -> None:
        """Remove every file that a notebook named `notebook` or later writes; "" is before all."""
        for name, writer in ARTEFACTS.items():
            if writer >= notebook:
                (self / name).unlink(missing_ok=True)
        model = self / "model"
        if model.is_dir() and ARTEFACTS["export.json"] >= notebook:
            for file in model.iterdir():
                file.unlink()

    def write(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        """Stamp `data` with run id and corpus hash, write it, and return what was written.

        What later notebooks left of an earlier run is removed.
        """
        stamp = {"run_id": self.run_id, "corpus_sha256": self._corpus_sha256()}
        stamped = plain(data) | stamp
        if name == "audit.json":
            stamped["corpus_parquet_sha256"] = sha256_of(self / "corpus.parquet")
        write_json(self / name, stamped)
        # A rerun notebook makes what later ones wrote stale, though run and corpus are the same.
        self.drop_after(ARTEFACTS[name] + "~")
        return stamped

    def _corpus_sha256(self) -> str:
        if not hasattr(self, "corpus_sha256"):
            self.corpus_sha256 = self._read_audit()["corpus_sha256"]
        return self.corpus_sha256

    def _read_audit(self) -> dict[str, Any]:
        return read_json(self / "audit.json", made_by=ARTEFACTS["audit.json"])

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file of this run.

        Raises
        ------
        ArtefactError
            If it is missing, or belongs to another run or another corpus.
        """
        maker = ARTEFACTS[name]
        data = read_json(self / name, made_by=maker)
        wanted = {"run_id": self.run_id, "corpus_sha256": self._corpus_sha256()}
        for key, value in wanted.items():
            if data.get(key) != value:
                raise ArtefactError(
                    say(str(self / name), f"{key} {data.get(key)}", value, f"run {maker} again")
                )
        return data

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table beside the JSON files; :meth:`read_table` reads it back."""
        write_table(table, self / name)

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table; ArtefactError if it is missing."""
        if not (self / name).is_file():
            raise ArtefactError(
                say(str(self / name), "missing", "a file", f"run {ARTEFACTS[name]} first")
            )
        return pd.read_parquet(self / name)

    def corpus(self) -> Corpus:
        """Return the checked corpus of this run, as ``01_corpus_audit`` left it.

        Raises
        ------
        ArtefactError
            If ``audit.json`` or ``corpus.parquet`` is missing, or its rows are not the audited.
        """
        audit = self.read("audit.json")
        table = self.read_table("corpus.parquet")
        if sha256_of(self / "corpus.parquet") != audit["corpus_parquet_sha256"]:
            raise ArtefactError(
                say(
                    str(self / "corpus.parquet"),
                    "its rows are not those that were audited",
                    "the file that audit.json describes",
                    "run 01_corpus_audit again",
                )
            )
        facts = audit["identity"]
        return Corpus(
            table=table,
            sha256=facts["sha256"],
            shape=facts["shape"],
            name=facts["name"],
            n_rows_read=facts["n_rows_read"],
            dropped=facts["dropped"],
            notes=facts["notes"],
            teacher=facts["teacher"],
        )

    def save_figure(self, figure: Any, name: str) -> Any:
        """Save a figure as ``figures/<name>.png`` for the card, and return it for display."""
        folder = self / "figures"
        folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=140)
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        return figure

    def progress(self, message: str, share: float) -> None:
        """Leave the state of a long step where the command line can show it."""
        temporary = self / f".{PROGRESS}.{os.getpid()}"
        temporary.write_text(json.dumps({"message": message, "share": share}))
        temporary.replace(self / PROGRESS)
