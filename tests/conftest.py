"""The runs that several files look at, each made once, whichever test process asks first.

``smoke`` is a whole run that passes, ``hopeless`` one whose gate fails and that measures all
chapters, ``nvenc`` one on a per-encode corpus of NVIDIA encoders alone; all three have their book.
``alone`` is the first one's corpus once more, one plain papermill call per notebook. Tests read
them; one that has to write copies first.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from chain import ROOT, Done, run_alone, run_hopeless, run_nbval, run_nvenc, run_smoke, tree
from filelock import FileLock

from fr_lib.corpus import load_corpus, write_table
from fr_lib.pipeline import smoke_corpus
from fr_lib.runs import RunDir

RUNS = ("smoke", "hopeless", "nvenc", "alone", "checked")


@pytest.fixture
def load(tmp_path):
    """Turn rows into a corpus by way of a file."""

    def through_file(table):
        write_table(table, tmp_path / "rows.parquet")
        return load_corpus(tmp_path / "rows.parquet")

    return through_file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first of two test processes begin with one long run, the second with the others.

    With ``--dist worksteal`` each begins with its share of the list, then steals from the others.
    """
    first, second, both, others = [], [], [], []
    for item in items:
        asks = set(getattr(item, "fixturenames", ())) & {*RUNS}
        long, short = "hopeless" in asks, bool(asks - {"hopeless"})
        (both if long and short else first if long else second if short else others).append(item)
    half = max(0, (len(items) + 1) // 2 - len(first) - len(both))
    items[:] = [*first, *others[:half], *both, *second, *others[half:]]


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[..., list[Done]]:
    """Return what makes a run in the folder of all test processes, or waits for who does."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def made(name: str, make: Callable[[Path], Done | list[Done]]) -> list[Done]:
        kept = base / f"{name}.done"
        with FileLock(base / f"{name}.lock"):
            if not kept.is_file():
                done = make(base / name)
                kept.write_bytes(pickle.dumps(done if isinstance(done, list) else [done]))
        return pickle.loads(kept.read_bytes())

    return made


@pytest.fixture(scope="session", autouse=True)
def shipped_before() -> dict[str, str]:
    """What ``model/`` held before any run of the tests."""
    return tree(ROOT / "model")


@pytest.fixture(scope="session")
def smoke(once) -> Done:
    return once("smoke", run_smoke)[0]


@pytest.fixture(scope="session")
def hopeless(once) -> Done:
    return once("hopeless", run_hopeless)[0]


@pytest.fixture(scope="session")
def nvenc(once) -> Done:
    return once("nvenc", run_nvenc)[0]


@pytest.fixture(scope="session")
def alone(once) -> list[Done]:
    def make(folder: Path) -> list[Done]:
        corpus = smoke_corpus(RunDir(folder.with_name("corpus")))
        return run_alone(folder, corpus, epochs=60)

    return once("alone", make)


@pytest.fixture(scope="session")
def checked(once, alone) -> Done:
    """What nbval says of the notebooks of `alone`."""
    return once("again", lambda folder: run_nbval(folder, alone[0].path))[0]
