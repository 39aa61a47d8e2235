"""Processes that work, and the hand that starts, feeds and ends them.

Tasks go in and answers come out through the two pipes of each. Nothing else is shared, so nothing
is left behind however either side ends: no semaphore, no file, and no process, as one whose pipe is
closed ends itself in the middle of its work. ``multiprocessing`` and loky keep named semaphores,
which survive a kernel that is killed, and the former runs a script without a guard once more.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO


class WorkerDied(Exception):
    """The process ended before it answered."""


class Worker:
    """A process of its own for calls that take long; one call at a time."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C is for the process that waits, which then ends this one.
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            start_new_session=True,
        )

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function(*arguments)`` returns there, or raise what it raises.

        Raises
        ------
        WorkerDied
            If the process is killed meanwhile.
        """
        try:
            pickle.dump((function, arguments), self._process.stdin)
            self._process.stdin.flush()
            answer, went_wrong = pickle.load(self._process.stdout)
        except (OSError, EOFError, ValueError, pickle.UnpicklingError):
            raise WorkerDied from None
        if went_wrong:
            raise went_wrong
        return answer

    def stop(self) -> None:
        """End the process at once; who waits for its answer gets `WorkerDied`."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        with suppress(BrokenPipeError):  # a task that it did not live to read
            self._process.stdin.close()


class Crew:
    """Several such processes, each with a thread that waits for its answers."""

    def __init__(self, size: int) -> None:
        self._workers = [Worker() for _ in range(size)]
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(size)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Let the next idle process call ``function(*arguments)``, as :meth:`Worker.call` does."""
        return self._threads.submit(self._hand_over, function, *arguments)

    def _hand_over(self, function: Callable[..., Any], *arguments: Any) -> Any:
        worker = self._idle.get()
        try:
            return worker.call(function, *arguments)
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        """End all processes at once."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.stop()


def _read(tasks: queue.SimpleQueue, source: BinaryIO) -> None:
    """Queue tasks as they come; end this process, whatever it does, when its starter is gone."""
    while True:
        try:
            tasks.put(pickle.load(source))
        except EOFError:
            os._exit(0)


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    tasks: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks, source), daemon=True).start()
    while True:
        function, arguments = tasks.get()
        try:
            answer = function(*arguments), None
        except Exception as error:
            answer = None, error
        pickle.dump(answer, sink)
        sink.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    _serve(sys.stdin.buffer, answers)
