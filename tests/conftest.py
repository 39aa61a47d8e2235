"""The runs that several files look at, each made once, two at a time.

``smoke`` is a whole run that passes, ``hopeless`` one whose gate fails and that measures all
chapters, ``nvenc`` one on a corpus of NVIDIA encoders alone; all three have their book. ``alone``
is the first one's corpus once more, one plain papermill call per notebook. Tests read them; one
that has to write copies first.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from chain import ROOT, Done, run_alone, run_hopeless, run_nbval, run_nvenc, run_smoke, tree

from fr_lib.corpus import load_corpus, write_table
from fr_lib.pipeline import smoke_corpus
from fr_lib.runs import RunDir


@pytest.fixture
def load(tmp_path):
    """Turn rows into a corpus by way of a file."""

    def through_file(table):
        write_table(table, tmp_path / "rows.parquet")
        return load_corpus(tmp_path / "rows.parquet")

    return through_file


@pytest.fixture(scope="session", autouse=True)
def _runs_start_first(request) -> None:
    """Let the runs go on beside the tests that do not need them."""
    if any("runs" in getattr(item, "fixturenames", ()) for item in request.session.items):
        request.getfixturevalue("runs")


@pytest.fixture(scope="session")
def shipped_before() -> dict[str, str]:
    """What ``model/`` held before any run of the tests."""
    return tree(ROOT / "model")


@pytest.fixture(scope="session")
def runs(tmp_path_factory, shipped_before) -> Iterator[dict[str, Future]]:
    base: Path = tmp_path_factory.mktemp("runs")
    corpus = smoke_corpus(RunDir(base / "corpus"))
    with ThreadPoolExecutor(2) as pool:
        started = {
            # The longest first, so that both lanes end together.
            "hopeless": pool.submit(run_hopeless, base / "hopeless"),
            "smoke": pool.submit(run_smoke, base / "smoke"),
            "alone": pool.submit(run_alone, base / "alone", corpus, epochs=60),
            "nvenc": pool.submit(run_nvenc, base / "nvenc"),
        }
        executed = started["alone"]
        started["checked"] = pool.submit(
            lambda: run_nbval(base / "again", executed.result()[0].path)
        )
        yield started


@pytest.fixture(scope="session")
def smoke(runs) -> Done:
    return runs["smoke"].result()


@pytest.fixture(scope="session")
def hopeless(runs) -> Done:
    return runs["hopeless"].result()


@pytest.fixture(scope="session")
def nvenc(runs) -> Done:
    return runs["nvenc"].result()


@pytest.fixture(scope="session")
def checked(runs) -> Done:
    """What nbval says of the notebooks of `alone`."""
    return runs["checked"].result()


@pytest.fixture(scope="session")
def alone(runs) -> list[Done]:
    return runs["alone"].result()
