"""Processes that work: what comes back, and that none is left however either side ends."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from busy import endless

from fr_lib.worker import Crew, Worker, WorkerDied

START = """
import sys
from busy import endless
from fr_lib.worker import Crew

crew = Crew(2)
try:
    work = [crew.submit(endless, sys.argv[1]) for _ in range(2)]
    work[0].result()
finally:
    crew.stop()
"""


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.stop()


def at_work(folder: Path) -> list[psutil.Process]:
    """Wait until two processes are at work; return them."""
    while len(names := [path.name for path in folder.iterdir()]) < 2:
        time.sleep(0.01)
    return [psutil.Process(int(name)) for name in names]


def test_a_call_is_answered_by_another_process_each_time_the_same(worker):
    assert worker.call(math.hypot, 3, 4) == 5
    assert worker.call(os.getpid) == worker.call(os.getpid) != os.getpid()


def test_what_a_call_raises_is_raised_here_and_the_next_is_answered(worker):
    with pytest.raises(ValueError, match="invalid literal"):
        worker.call(int, "x")
    assert worker.call(int, "7") == 7


def test_what_a_call_prints_is_no_answer(capfd):
    worker = Worker()
    assert worker.call(os.write, 1, b"printed") == 7
    worker.stop()
    assert capfd.readouterr() == ("", "printed")


def test_a_process_that_ends_before_it_answers_is_told_as_such(worker):
    with pytest.raises(WorkerDied):
        worker.call(os._exit, 0)
    with pytest.raises(WorkerDied):
        worker.call(os.getpid)


def test_a_crew_works_side_by_side_and_is_stopped_at_once(tmp_path):
    crew = Crew(2)
    futures = [crew.submit(endless, tmp_path) for _ in range(2)]
    workers = at_work(tmp_path)
    crew.stop()
    for future in futures:
        with pytest.raises(WorkerDied):
            future.result()
    assert not any(process.is_running() for process in workers)


@contextmanager
def starter(folder: Path) -> Iterator[subprocess.Popen]:
    """Start a process in a session of its own that waits for a crew which does not end."""
    with subprocess.Popen(
        [sys.executable, "-c", START, str(folder)],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background job ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("everyone", [True, False], ids=["terminal", "kernel"])
def test_ctrl_c_ends_who_waits_and_all_who_work(everyone, tmp_path):
    with starter(tmp_path) as process:
        workers = at_work(tmp_path)
        # A terminal interrupts the whole group, a notebook's kernel itself alone.
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode != 0
        # Those who work hear nothing of it: they would say so too.
        assert errors.count("KeyboardInterrupt") == 1
        assert psutil.wait_procs(workers, timeout=10)[1] == []


def test_a_starter_killed_at_once_leaves_no_process_behind(tmp_path):
    with starter(tmp_path) as process:
        workers = at_work(tmp_path)
        process.kill()
        assert psutil.wait_procs(workers, timeout=20)[1] == []
