"""The run directory: the only thing that the notebooks share.

Each notebook reads the files of the one before, and writes its own. Every file carries the run's id
and the hash of its corpus, and a file of another run or another corpus is refused. The checked rows
travel as ``corpus.parquet``, whose own hash stands in ``audit.json``.

A folder is a run's by its mark, and nothing is removed from one without. Who begins a run writes a
new mark; a process that has met another one since neither reads nor writes there any more.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from fr_lib.corpus import Corpus, write_table
from fr_lib.errors import ArtefactError, FrError, InputError, say
from fr_lib.files import read_json, remove, sha256_of, write_bytes, write_json
from fr_lib.runs.chapters import ARTEFACTS
from fr_lib.system import sole_writer

PROGRESS = "progress.json"
MARK = "run.json"
LOCK = "run.lock"
_RUN = re.compile("[0-9a-f]{32}")
# By this variable the kernels of a whole run know whose they are.
OWNER = "FR_LIB_RUN"
# How the copy of a notebook ends while it is executed.
UNFINISHED = ".inprogress.ipynb"


def project_path(path: str | Path) -> Path:
    """Return `path`, taken from the project's folder when the kernel started in a folder of it.

    papermill starts kernels where it was called, JupyterLab where the notebook lies: in
    ``notebooks/``, and its start page in ``runs/``. A relative path means the same in all of them.
    """
    here = Path.cwd()
    if here.name in ("notebooks", "runs") and (here.parent / "pyproject.toml").is_file():
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
        self.mark: str | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @contextmanager
    def sole(self) -> Iterator[None]:
        """Keep the folder to one whole run, its kernels included, from first file to verdict.

        A run that is refused before it has a result leaves nothing in a folder that was new.

        Raises
        ------
        InputError
            If the folder holds files and no mark, is no folder, or another process writes there.
            Nothing was written then.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = not self.path.exists()
        self.path.mkdir(exist_ok=True)
        try:
            self._refuse_foreign(self._others())
            with sole_writer(self.path, self / LOCK), self._cleared_if_refused():
                os.environ[OWNER] = self._write_mark()
                try:
                    yield
                finally:
                    del os.environ[OWNER]
        finally:
            if made:
                with suppress(OSError):  # it holds a run by now
                    self.path.rmdir()

    def _others(self) -> list[Path]:
        """Return all that lies in the folder, the lock apart."""
        return [path for path in self.path.iterdir() if path.name != LOCK]

    @contextmanager
    def _cleared_if_refused(self) -> Iterator[None]:
        fresh = not self._others()
        try:
            yield
        except FrError as refused:
            if fresh and refused.exit_code == 2 and not any((self / n).exists() for n in ARTEFACTS):
                for path in self._others():
                    remove(path)
            raise

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write here, unless another process does or another run has begun since.

        Raises
        ------
        InputError
            If a whole run is at work here, and this is none of its kernels.
        ArtefactError
            If another run has begun here since this one first looked.
        """
        self._refuse_other_run()
        if self._is_owner():
            yield  # the run that started this kernel holds the lock
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.path, self / LOCK):
            self._refuse_other_run()
            yield

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Keep runs out while the folder's results are read; InputError if one is at work."""
        if not os.access(self.path, os.W_OK):
            yield  # no run can write here
            return
        with sole_writer(self.path, self / LOCK):
            yield

    def _is_owner(self) -> bool:
        return self.mark is not None and os.environ.get(OWNER) == self.mark

    def _write_mark(self) -> str:
        self.mark = secrets.token_hex(16)
        write_json(self / MARK, {"run": self.mark, "pid": os.getpid()})
        return self.mark

    def _read_mark(self) -> str | None:
        if not (self / MARK).is_file():
            return None
        mark = read_json(self / MARK, made_by=ARTEFACTS["audit.json"])
        run = mark.get("run") if isinstance(mark, dict) else None
        # Others have a run.json of their own.
        return run if isinstance(run, str) and _RUN.fullmatch(run) else None

    def _refuse_other_run(self) -> None:
        found = self._read_mark()
        if self.mark is None:
            self.mark = found
        if found != self.mark:
            raise ArtefactError(
                say(
                    str(self.path),
                    "another run has begun here meanwhile",
                    "one run at a time",
                    "run it again in another folder",
                )
            )

    def _refuse_foreign(self, found: Iterable[Path]) -> None:
        """Refuse a folder that holds what was `found` and has no mark."""
        first = min(found, default=None)
        if first is not None and self._read_mark() is None:
            raise InputError(
                say(
                    str(self.path),
                    f"it holds {first.name} and was not made by a run (no {MARK} of one)",
                    "a new or empty folder, or that of an earlier run",
                    "name another run directory",
                )
            )

    def begin(self, corpus: Corpus) -> None:
        """Start the run from a loaded corpus: drop what an earlier corpus left, keep the rows.

        Parameters
        ----------
        corpus : Corpus

        Raises
        ------
        InputError
            If the folder has no mark and holds what would have to go.
        """
        # papermill has begun this notebook's own copy by now, wherever it was told to.
        own = ARTEFACTS["corpus.parquet"]
        self._refuse_foreign(p for p in self._made_after("") if not p.name.startswith(own))
        with self.writing():
            if not self._is_owner():
                self._write_mark()
            self.drop_after("")
            self.corpus_sha256 = corpus.sha256
            write_table(corpus.table, self / "corpus.parquet")

    def _made_after(self, notebook: str) -> Iterator[Path]:
        """Yield what is there of all that a notebook named `notebook` or later writes."""
        names = [name for name, writer in ARTEFACTS.items() if writer >= notebook]
        names += ["model"] * (ARTEFACTS["export.json"] >= notebook) + ["book"]
        yield from (self / name for name in names if os.path.lexists(self / name))
        for copy in self.path.glob("notebooks/*.ipynb"):
            if copy.name >= notebook and not copy.name.endswith(UNFINISHED):
                yield copy

    def removed(self) -> list[Path]:
        """Return the files and folders that a new run in this folder removes."""
        return [self / name for name in (*ARTEFACTS, "model", "notebooks", "book")]

    def drop_after(self, notebook: str) -> None:
        """Remove all that a notebook named `notebook` or later writes; "" is before all.

        The executed copies of these notebooks and the book go too; a copy in work stays.
        """
        for path in list(self._made_after(notebook)):
            remove(path)

    def write(self, name: str, data: dict[str, Any]) -> dict[str, Any]:
        """Stamp `data` with run id and corpus hash, write it, and return what was written.

        What later notebooks left of an earlier run is removed.
        """
        stamp = {"run_id": self.run_id, "corpus_sha256": self._corpus_sha256()}
        stamped = plain(data) | stamp
        with self.writing():
            if name == "audit.json":
                stamped["corpus_parquet_sha256"] = sha256_of(self / "corpus.parquet")
            write_json(self / name, stamped)
            # A rerun notebook makes what later ones wrote stale, though run and corpus are the
            # same.
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
        self._refuse_other_run()
        data = read_json(self / name, made_by=maker)
        wanted = {"run_id": self.run_id, "corpus_sha256": self._corpus_sha256()}
        for key, value in wanted.items():
            if data.get(key) != value:
                raise ArtefactError(
                    say(str(self / name), f"{key} {data.get(key)}", value, f"run {maker} again")
                )
        return data

    def noted(self, chapter: str) -> dict[str, Any]:
        """Return what papermill noted in the executed copy of a notebook: {} where it did not.

        Parameters, times and the like; they stand in no result, which is the same each time.
        """
        copy = self / "notebooks" / f"{chapter}.ipynb"
        if not copy.is_file():
            return {}
        return read_json(copy, made_by=chapter)["metadata"].get("papermill", {})

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write a table beside the JSON files; :meth:`read_table` reads it back."""
        with self.writing():
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
        """Save a figure in ``figures``, and return it for display.

        ``<name>.svg`` is for the book: its text is text, its background is the page's, and its
        description are the labels of the figure and of its axes. ``<name>.png`` is for slides.
        """
        import matplotlib

        labels = (drawn.get_label() for drawn in (figure, *figure.axes))
        # matplotlib's own labels, as of a colour bar, stand in angle brackets.
        words = " ".join(label for label in labels if label and not label.startswith("<"))
        facts = {"Date": None, "Description": words}
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=200)
        # Laid out once, which takes longer than to draw: both files and the notebook show the same.
        figure.set_layout_engine("none")
        # Equal figures have equal bytes.
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            figure.savefig(svg, format="svg", transparent=True, metadata=facts)
        with self.writing():
            for suffix, buffer in (("png", png), ("svg", svg)):
                write_bytes(self / "figures" / f"{name}.{suffix}", buffer.getvalue())
        return figure

    def progress(self, message: str, share: float) -> None:
        """Leave the state of a long step where the command line can show it."""
        temporary = self / f".{PROGRESS}.{os.getpid()}"
        temporary.write_text(json.dumps({"message": message, "share": share}))
        temporary.replace(self / PROGRESS)
