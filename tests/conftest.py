"""The runs that several files look at, each made once, whichever test process asks first.

``smoke`` is a whole run that passes, ``hopeless`` one whose gate fails and that measures all
chapters, ``steps`` are plain papermill calls, one per notebook, on a per-encode corpus of NVIDIA
encoders alone, and ``nvenc`` is what they left; all three have their book. ``checked`` is nbval on
the executed notebooks of ``hopeless``. Tests read them; one that has to write copies first.
"""

from __future__ import annotations

import gc
import os

# Test processes and their kernels take all cores already: more threads in each wait for each other
# longer than they work. Read when numpy and torch are imported, so it stands before them.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["PYTHONSTARTUP"] = os.path.join(os.path.dirname(__file__), "startup.py")

import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import startup  # noqa: F401
from chain import ROOT, Done, chromium, run_hopeless, run_nbval, run_nvenc, run_smoke, tree
from filelock import FileLock
from hypothesis import HealthCheck, settings
from tabs import Tabs

from fr_lib.corpus import V061, load_corpus, write_table
from fr_lib.corpus.teachers import TEACHERS

# How fast a shared machine draws an example is no property of what is tested. The same examples
# each time, so that a change is judged by itself; `make reliability` looks further.
settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("here")
RUNS = ("smoke", "hopeless", "nvenc", "steps", "checked")


@pytest.fixture
def other_teacher(monkeypatch) -> str:
    """Let there be a teacher that is no formula of the six features."""
    other = replace(V061, name="vmaf_4k_v0.6.1", formula=None)
    monkeypatch.setitem(TEACHERS, other.name, other)
    return other.name


@pytest.fixture
def load(tmp_path):
    """Turn rows into a corpus by way of a file."""

    def through_file(table):
        write_table(table, tmp_path / "rows.parquet")
        return load_corpus(tmp_path / "rows.parquet")

    return through_file


def _long_ones(config: pytest.Config) -> bool:
    """Return whether the tests of `make reliability` are asked for."""
    return "not reliability" not in config.option.markexpr


def pytest_configure(config: pytest.Config) -> None:
    """Where several processes test, let kernels be forked from one that is warm already.

    The long tests count and kill what belongs to a run: their kernels are as users have them.
    """
    several = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not several or _long_ones(config):
        return
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    os.environ |= {
        "WARM_KERNELS": os.path.join(folder.name, "door"),
        "JUPYTER_PATH": str(ROOT / "tests"),
    }
    server = subprocess.Popen(
        [sys.executable, ROOT / "tests" / "kernels" / "serve.py", os.environ["WARM_KERNELS"]],
        stdin=subprocess.PIPE,
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
        start_new_session=True,
    )
    config.add_cleanup(server.communicate)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the long tests' folder where their mark is not asked for: it makes 1,000 cases."""
    return True if collection_path.name == "reliability" and not _long_ones(config) else None


def pytest_collection_finish() -> None:
    """Never look through what the tests import for garbage: it takes half a second each time."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first of two test processes begin with one long run, the second with the others.

    With ``--dist worksteal`` each begins with its share of the list, then steals from the others.
    """
    first, second, both, others = [], [], [], []
    for item in items:
        asks = set(getattr(item, "fixturenames", ())) & {*RUNS}
        long, short = "hopeless" in asks, bool(asks - {"hopeless", "checked"})
        (both if long and short else first if long else second if short else others).append(item)
    # What looks at both runs comes last of the first share, which is the smaller one.
    half = max(0, len(items) // 2 - len(first) - len(both))
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
def browser() -> Iterator[Tabs]:
    with chromium() as browser:
        yield Tabs(browser)


@pytest.fixture(scope="session")
def smoke(once) -> Done:
    return once("smoke", run_smoke)[0]


@pytest.fixture(scope="session")
def hopeless(once) -> Done:
    return once("hopeless", run_hopeless)[0]


@pytest.fixture(scope="session")
def steps(once) -> list[Done]:
    return once("nvenc", run_nvenc)


@pytest.fixture(scope="session")
def nvenc(steps) -> Done:
    return steps[-1]


@pytest.fixture(scope="session")
def checked(once, hopeless) -> Done:
    """What nbval says of the notebooks of `hopeless`."""
    return once("again", lambda folder: run_nbval(folder, hopeless.path))[0]
