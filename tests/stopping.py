"""Whole runs of notebooks that never end, to be stopped from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from chain import ROOT, python_notebook
from nbformat.v4 import new_code_cell

# What the notebook does: with one process of its own, and with those that train.
WAITING = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
going.touch()
time.sleep(600)
"""
TRAINING = """
import numpy as np
from fr_lib.train import Recipe, many
from fr_lib.train.batch import Job
many.WORTH_A_PROCESS = 0
many.cpu_count = lambda: 2
rng = np.random.default_rng(0)
table, target = rng.normal(size=(600, 24)), rng.uniform(0, 100, 600)
jobs = [Job(np.arange(600) < 500, tuple(range(w)), s) for w in (6, 24) for s in range(20)]
many.train_many(
    table, target, jobs, Recipe(epochs=10**6), device="cpu", progress=lambda *_: going.touch()
)
"""
START = """
import sys
from pathlib import Path
from fr_lib import pipeline
from fr_lib.__main__ import main
pipeline.notebook_path = lambda name: Path(sys.argv[1])
sys.exit(main(["run", "--corpus", sys.argv[2], "--run-dir", sys.argv[3], "--no-book"]))
"""


@dataclass
class Run:
    """A run at work: its process, and the folder that holds all it writes."""

    process: subprocess.Popen
    folder: Path

    def wait_for(self, moment: str) -> list[psutil.Process]:
        """Wait for the kernel's process, or until the notebook is at work; return all processes."""
        while True:
            assert self.process.poll() is None, self.process.communicate()
            me = psutil.Process(self.process.pid)
            if (self.folder / "going").exists() or (moment == "kernel" and me.children()):
                return [me, *me.children(recursive=True)]
            time.sleep(0.05)

    def left_over(self) -> list[str]:
        """Return the names of scratch files: in TMPDIR, and copies of notebooks in work."""
        scratch = [*(self.folder / "tmp").iterdir(), *self.folder.glob("run/**/*inprogress*")]
        return [path.name for path in [*scratch, *self.folder.glob("run/*.lock")]]


def _hear_signals() -> None:
    """A shell's background job ignores SIGINT, one under nohup SIGHUP; children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@contextmanager
def whole_run(folder: Path, cell: str) -> Iterator[Run]:
    """Start ``run`` on a notebook with one `cell`, which touches ``going`` when it is at work."""
    parameters = f'corpus: str = ""  # not read\nrun_dir: str = ""\ngoing = "{folder / "going"}"'
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [first, new_code_cell("from pathlib import Path\ngoing = Path(going)\n" + cell)]
    nbformat.write(python_notebook(cells), folder / "endless.ipynb")
    (folder / "rows.jsonl").touch()
    (folder / "tmp").mkdir()
    # Its kernel is to be a child of the run, as it is for users: not one of tests/kernels.
    environment = {name: word for name, word in os.environ.items() if name != "JUPYTER_PATH"}
    names = (folder / "endless.ipynb", folder / "rows.jsonl", folder / "run")
    with subprocess.Popen(
        [sys.executable, "-c", START, *map(str, names)],
        cwd=ROOT,
        env=environment | {"TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_signals,
    ) as process:
        try:
            yield Run(process, folder)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
