"""Train many small networks at once, on all cores or on one GPU.

LOSO needs one model per fold, arm and seed: dozens of tiny MLPs. :mod:`fr_lib.train.batch` trains
several of them together in one process; here they are shared out over processes, one per core.
Threads would not do: between two calls of a few microseconds each, they would wait for the
interpreter's lock more than they work.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count

from fr_lib.errors import InputError, TrainingError, say
from fr_lib.train.batch import Job, Trained, train_batch, training_rows
from fr_lib.train.recipe import Recipe
from fr_lib.worker import Crew, WorkerDied

# Models per batch: more hide the cost of a call no better, and their state outgrows the cache.
MAX_BATCH_OF_MODELS = 32
# Rows to step through, counted per model, from which on it pays to start processes, which takes
# some two seconds.
WORTH_A_PROCESS = 8_000_000
BOARD = "progress.npy"
# Seconds between two looks at what the processes have done.
GLANCE = 0.25


def pick_device(device: str = "auto") -> str:
    """Return "cuda" if `device` is "auto" and one is there, else "cpu" or what was named.

    Raises
    ------
    InputError
        For another name, or for "cuda" where there is none.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InputError(say("device", repr(device), "auto, cpu, cuda", "choose one"))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(say("device", "no CUDA device here", "auto, cpu", "choose one"))
    return device


def train_many(
    table: np.ndarray,
    target: np.ndarray,
    jobs: Sequence[Job],
    recipe: Recipe,
    device: str = "auto",
    progress: Callable[[str, float], None] | None = None,
) -> list[Trained]:
    """Train one model per job; the result is that of training them one after another.

    The same call gives the same weights, whatever the number of cores and the order of jobs.

    Parameters
    ----------
    table : (N, C) float32
        Raw features and codec blocks; each job names its columns.
    target : (N,) float32
        VMAF, 0..100.
    jobs : sequence of Job
    recipe : Recipe
    device : {"auto", "cpu", "cuda"}
    progress : callable, optional
        Called with a message and the share done, 0..1.

    Returns
    -------
    list of Trained, in the order of `jobs`.

    Raises
    ------
    InputError
        If a job has no rows, or its rows are not one bool per row of `table`.
    TrainingError
        If a process that trained was killed.
    """
    _check(jobs, len(table))
    where = pick_device(device)
    x = np.ascontiguousarray(table, dtype=np.float32)
    y = np.ascontiguousarray(target, dtype=np.float32)
    steps = [math.ceil(training_rows(job, recipe) / recipe.batch) * recipe.epochs for job in jobs]
    worth = sum(steps) * recipe.batch >= WORTH_A_PROCESS
    cores = cpu_count() if where == "cpu" and worth else 1
    batches = _batches(jobs, steps, cores, MAX_BATCH_OF_MODELS if where == "cpu" else len(jobs))
    report = _reporter(len(jobs), recipe.epochs, progress)
    members = [[jobs[i] for i in batch] for batch in batches]
    work = _Work(x, y, members, recipe, where, report)
    trained = _in_processes(work) if cores > 1 else _here(work)
    by_job = dict(zip((i for batch in batches for i in batch), trained, strict=True))
    return [by_job[i] for i in range(len(jobs))]


def _check(jobs: Sequence[Job], n_rows: int) -> None:
    for job in jobs:
        if job.rows.shape != (n_rows,) or job.rows.dtype != bool:
            found = f"rows of shape {job.rows.shape}, {job.rows.dtype}"
            raise InputError(say("training", found, f"({n_rows},) bool", "mark the rows"))
        if not job.rows.any():
            raise InputError(
                say("training", "a model without rows", "at least one row", "add sources")
            )


def _batches(jobs: Sequence[Job], steps: Sequence[int], cores: int, size: int) -> list[list[int]]:
    """Group job numbers by input columns, longest training first, at most `size` together.

    Every group is cut into as many parts for every core, and the longest batches come first.
    """
    by_columns: dict[tuple[int, ...], list[int]] = {}
    for i in sorted(range(len(jobs)), key=lambda i: -steps[i]):
        by_columns.setdefault(jobs[i].columns, []).append(i)
    batches = []
    for members in by_columns.values():
        parts = min(cores * math.ceil(len(members) / (cores * size)), len(members))
        # Long and short trainings in turns, so that batches take alike.
        batches += [members[k::parts] for k in range(parts)]
    return sorted(batches, key=lambda batch: -sum(steps[i] for i in batch))


Report = Callable[[float, float], None]


def _reporter(models: int, epochs: int, progress: Callable[[str, float], None] | None) -> Report:
    """Return what turns models done and MSE into a message."""

    def report(done: float, loss: float) -> None:
        share = done / models
        if progress:
            progress(f"epoch {share * epochs:.0f}/{epochs}, MSE {loss:.3g}", share)

    return report


@dataclass(frozen=True)
class _Work:
    """What is to be trained, whichever way: in this process or in several.

    Attributes
    ----------
    x, y : (N, C) and (N,) float32
    batches : sequence of sequence of Job
        Each is trained together.
    recipe : Recipe
    device : {"cpu", "cuda"}
    report : Report
    """

    x: np.ndarray
    y: np.ndarray
    batches: Sequence[Sequence[Job]]
    recipe: Recipe
    device: str
    report: Report


def _here(work: _Work) -> list[Trained]:
    """Train one batch after another in this process."""
    trained: list[Trained] = []
    for batch in work.batches:

        def tick(done: float, loss: float, before: int = len(trained)) -> None:
            work.report(before + done, loss)

        trained += train_batch(work.x, work.y, batch, work.recipe, work.device, tick)
    return trained


def _in_processes(work: _Work) -> list[Trained]:
    """Train batches in a process per core."""
    with tempfile.TemporaryDirectory() as name, keep_processes() as crew:
        folder = Path(name)
        board = _new_board(folder, len(work.batches))
        filed = _laid_out(folder, work.x, work.y, work.batches)
        try:
            futures = [
                crew.submit(_at_work, folder, k, batch, work.recipe, work.device)
                for k, batch in enumerate(filed)
            ]
            while (state := wait(futures, GLANCE, FIRST_EXCEPTION)).not_done:
                for future in state.done:
                    future.result()  # raises what went wrong
                done, loss = board.T
                if done.any():
                    work.report(float(done.sum()), float(loss[done > 0].mean()))
            parts = [future.result() for future in futures]
        except WorkerDied:
            raise TrainingError(
                say(
                    "training",
                    "a process was killed, most likely for want of memory",
                    f"{cpu_count()} processes that live to the end",
                    "free memory and run it again",
                )
            ) from None
        work.report(float(board[:, 0].sum()), float(board[:, 1].mean()))
    return [model for part in parts for model in part]


_kept: list[Crew] = []


@contextmanager
def keep_processes() -> Iterator[Crew]:
    """Let the calls of :func:`train_many` inside the block share their processes.

    Starting them takes about two seconds. None outlives the block, however it ends.
    """
    if _kept:
        yield _kept[0]
        return
    _kept.append(Crew(cpu_count()))
    try:
        yield _kept[0]
    finally:
        # Results are here by now, or nobody waits for them any more.
        _kept.pop().stop()


def _new_board(folder: Path, batches: int) -> np.ndarray:
    """Return a view of the board where processes write models done and MSE, a line per batch."""
    np.save(folder / BOARD, np.zeros((batches, 2)))
    return np.load(folder / BOARD, mmap_mode="r")


# A job whose rows lie in a file: their line there, columns, seed.
FiledJob = tuple[int, tuple[int, ...], int]


def _laid_out(
    folder: Path, x: np.ndarray, y: np.ndarray, batches: Sequence[Sequence[Job]]
) -> list[list[FiledJob]]:
    """Write the arrays where every process can map them into memory; each set of rows once."""
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    distinct = {id(job.rows): job.rows for batch in batches for job in batch}
    shape = (len(distinct), len(x))
    lines = np.lib.format.open_memmap(folder / "rows.npy", "w+", dtype=bool, shape=shape)
    for line, rows in zip(lines, distinct.values(), strict=True):
        line[:] = rows
    line_of = {key: i for i, key in enumerate(distinct)}
    return [[(line_of[id(j.rows)], j.columns, j.seed) for j in batch] for batch in batches]


def _at_work(
    folder: Path, k: int, batch: Sequence[FiledJob], recipe: Recipe, device: str
) -> list[Trained]:
    """Train batch `k` in a process of its own, and keep line `k` of the board up to date."""
    x, y, rows = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "y", "rows"))
    board = np.load(folder / BOARD, mmap_mode="r+")

    def tick(done: float, loss: float) -> None:
        board[k] = done, loss

    jobs = [Job(rows[line], columns, seed) for line, columns, seed in batch]
    return train_batch(x, y, jobs, recipe, device, tick)
