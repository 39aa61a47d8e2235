"""Kernels forked from a warm process are what they would be without it, and end as they would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from chain import python_notebook
from nbformat.v4 import new_code_cell

HERE = Path(__file__).parent / "kernels"
# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")
ABOUT = """
import json, os, subprocess, sys, tempfile
child = subprocess.run([sys.executable, "-c", "raise SystemExit(3)"])
import matplotlib.pyplot
print(json.dumps([
    os.getcwd(), os.environ["SAID"], tempfile.gettempdir(), sys.path[0], child.returncode,
    matplotlib.get_backend(),
]))
"""


def soon(true: Callable[[], object]) -> bool:
    """Wait until something is so, for half a minute."""
    for _ in range(600):
        if true():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def door():
    """Where it is asked; its name may have no more than a hundred letters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "door")


@pytest.fixture
def server(door, monkeypatch):
    """One that has imported nothing yet: its kernels start no sooner than others."""
    code = f"import serve; serve.serve({str(door)!r}, ())"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(HERE), "MPLBACKEND": "agg"},
    ) as process:
        assert soon(door.exists)
        monkeypatch.setenv("WARM_KERNELS", str(door))
        monkeypatch.setenv("JUPYTER_PATH", str(HERE.parent))
        yield psutil.Process(process.pid)
        process.stdin.close()


@pytest.fixture
def pair(server, tmp_path):
    """What Jupyter knows, and the kernel itself."""
    words = [HERE / "python3" / "launch.py", tmp_path / "connection.json"]
    with subprocess.Popen(
        [sys.executable, "-I", "-S", *words], stderr=subprocess.DEVNULL, start_new_session=True
    ) as known:
        assert soon((tmp_path / "connection.json").exists)
        [kernel] = server.children()
        yield known, kernel
        known.kill()


def test_it_has_the_place_of_who_asked(server, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("SAID", "by who asked")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "more"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    source, copy = tmp_path / "about.ipynb", tmp_path / "copy.ipynb"
    nbformat.write(python_notebook([new_code_cell(ABOUT)]), source)
    papermill.execute_notebook(source, copy, cwd=str(tmp_path), progress_bar=False)
    [output] = nbformat.read(copy, as_version=4).cells[0].outputs
    *place, backend = json.loads(output["text"])
    folders = [str(tmp_path / name) for name in ("scratch", "more")]
    assert place == [str(tmp_path), "by who asked", *folders, 3]
    assert "inline" in backend


def test_an_interruption_is_passed_on(pair):
    known, kernel = pair
    known.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert known.poll() is None
    assert kernel.is_running()
    known.send_signal(signal.SIGTERM)
    assert soon(lambda: not kernel.is_running())
    assert known.wait(timeout=30) == 0


@pytest.mark.parametrize("killed", [0, 1], ids=["known", "kernel"])
def test_neither_outlives_the_other(pair, killed):
    known, kernel = pair
    os.kill(pair[killed].pid, signal.SIGKILL)
    assert soon(lambda: known.poll() is not None)
    assert soon(lambda: not kernel.is_running())


def test_kernels_end_with_those_that_asked_not_with_the_server(pair, server):
    known, kernel = pair
    server.kill()
    time.sleep(0.3)
    assert known.poll() is None
    assert kernel.is_running()
