"""Fan the cells of a corpus out on Dask: on this machine, or on a cluster that already runs.

Every cell is a task of its own. Rows come back to the client, which alone writes them: one file
per cell, named by the cell's key, so it does not matter how often or where a cell was worked on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from fr_lib.encode.cell import Cell, run_cell
from fr_lib.encode.clips import decode_y4m
from fr_lib.encode.ffmpeg import ffmpeg_version
from fr_lib.encode.store import CellStore, progress
from fr_lib.errors import EncodeError, InputError, say
from fr_lib.files import sha256_of

CONNECT_S = 5
WORKERS_S = 30
# For what a worker may suffer, such as a full disk. Lost workers are Dask's own affair: it gives
# their tasks to others, and gives up after `distributed.scheduler.allowed-failures`.
RETRIES = 2
# Keeps each message to the scheduler far below the size at which Dask warns.
BATCH = 1000
# Ctrl-C reaches every process of a terminal; who started the workers ends them.
IGNORE_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"

Rows = list[dict]


def on_cluster(
    workers: int | None = None,
    scheduler: str | None = None,
    report: Callable[[str], None] = print,
) -> Callable[[Sequence[Cell], CellStore, str], list[str]]:
    """Return the `work` that makes :func:`fr_lib.encode.cell.make_corpus` use Dask.

    Parameters
    ----------
    workers : int, optional
        Start a cluster of so many one-thread processes on this machine.
    scheduler : str, optional
        Address of a running scheduler, ``tcp://host:port``, instead. Sources and FFmpeg must have
        the same paths on all of its workers.
    report : callable
        Takes each line meant for the user.

    Raises
    ------
    InputError
        At once: if Dask is not installed, or `workers` is less than 1. From the returned function,
        before any encode: if the scheduler cannot be reached, has no worker, or has one that lacks
        a source or runs another FFmpeg.
    """
    _require_dask()
    if scheduler is None and (workers is None or workers < 1):
        raise InputError(say("--workers", str(workers), "1 or more", "give a whole number"))

    def work(cells: Sequence[Cell], store: CellStore, ffmpeg: str) -> list[str]:
        cluster = _local(workers) if scheduler is None else _running(scheduler, report)
        with _quiet(), cluster as client:
            known = client.scheduler_info(n_workers=-1)
            report(f"workers: {len(known['workers'])}, scheduler: {known['address']}")
            report(_dashboard(client))
            # A worker's working folder is its own.
            cells = [replace(c, source=_absolute(c.source)) for c in cells]
            version = ffmpeg_version(ffmpeg)
            paths = sorted({c.source.path for c in cells})
            refuse_unfit(_look_around(client, ffmpeg, paths), version)
            return _collect(client, cells, store, ffmpeg, version)

    return work


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError(
            say(
                "--workers, --scheduler",
                "Dask is not installed",
                "an environment with the extra `cluster`",
                "pip install -e '.[cluster]', or leave the option out",
            )
        ) from None


def _absolute(source):
    return replace(source, path=os.path.abspath(source.path))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from logging at length what ends as one line here, such as a lost scheduler."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _local(workers: int) -> Iterator:
    import dask
    from distributed import Client, LocalCluster

    with (
        tempfile.TemporaryDirectory(prefix="fr_corpus_") as scratch,
        dask.config.set({"temporary-directory": scratch}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            # Any free port, so that runs side by side do not meet.
            dashboard_address="127.0.0.1:0",
            # FFmpeg takes the memory, and a worker's limit does not see its children.
            memory_limit=None,
            preload=[IGNORE_SIGINT],
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _running(scheduler: str, report: Callable[[str], None]) -> Iterator:
    from distributed import Client

    _refuse_other_servers(scheduler)
    with Client(scheduler, timeout=CONNECT_S) as client:
        if not client.scheduler_info()["workers"]:
            report(f"waiting up to {WORKERS_S} s for a worker at {scheduler}")
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise InputError(
                say(
                    f"--scheduler {scheduler}",
                    f"no worker joined within {WORKERS_S} s",
                    "at least one worker",
                    f"start some with `dask worker {scheduler} --nthreads 1`",
                )
            ) from None
        yield client


def _refuse_other_servers(scheduler: str) -> None:
    """Raise InputError unless a scheduler answers; Dask's client waits forever for some servers."""

    async def kind() -> str:
        from distributed.comm import connect

        comm = await connect(scheduler, timeout=CONNECT_S)
        try:
            await comm.write({"op": "identity", "reply": True})
            return (await comm.read())["type"]
        finally:
            comm.abort()

    async def kind_in_time() -> str:
        return await asyncio.wait_for(kind(), CONNECT_S)

    try:
        # In a thread, since a notebook has an event loop in its own.
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(asyncio.run, kind_in_time()).result()
    except Exception:
        # Bytes that mean something else to Dask can fail in any way.
        found = "nothing"
    if found != "Scheduler":
        raise InputError(
            say(
                f"--scheduler {scheduler}",
                f"no Dask scheduler answers there within {CONNECT_S} s",
                "tcp://host:port of a running one",
                "start one with `dask scheduler`, or use --workers",
            )
        )


def _dashboard(client) -> str:
    from importlib.metadata import PackageNotFoundError, version

    link = client.dashboard_link
    try:
        # Where the scheduler runs, which need not have this package.
        client.run_on_scheduler(version, "bokeh")
    except PackageNotFoundError:
        tables = link.removesuffix("status") + "info/main/workers.html"
        return f"dashboard: {tables} (tables only: bokeh is not installed at the scheduler)"
    return f"dashboard: {link}"


def look_around(ffmpeg: str, paths: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return FFmpeg's version, None if it cannot be used, and what is wrong where this runs."""
    faults = [
        say(path, "no such file", "the same path on every worker", "share the folder")
        for path in paths
        if not Path(path).is_file()
    ]
    try:
        return ffmpeg_version(ffmpeg), faults
    except EncodeError as unfit:
        return None, [str(unfit), *faults]


def _look_around(client, ffmpeg: str, paths: Sequence[str]) -> dict[str, tuple]:
    found = client.run(look_around, ffmpeg, paths, on_error="return")
    unfit = {who: broken for who, broken in found.items() if isinstance(broken, Exception)}
    if unfit:
        raise InputError(
            say(
                _some(sorted(unfit)),
                f"cannot run fr_lib ({next(iter(unfit.values()))})",
                "fr_lib and its requirements on every worker",
                "install the same requirements.lock there",
            )
        )
    return found


def refuse_unfit(found: Mapping[str, tuple[str | None, Sequence[str]]], version: str) -> None:
    """Raise InputError unless all workers have FFmpeg `version` and no fault.

    Parameters
    ----------
    found : mapping
        Worker's address to what :func:`look_around` returned there.
    version : str
        FFmpeg's version where the command runs; what it probed holds for this one only.

    Raises
    ------
    InputError
        With one line for each other version and each fault, and who is concerned.
    """
    at: dict[str, list[str]] = {}
    for worker, (own, faults) in sorted(found.items()):
        mixed = say(f"FFmpeg {own}", "mixed versions", version, "give all workers the same one")
        for fault in ([] if own in (None, version) else [mixed]) + list(faults):
            at.setdefault(fault, []).append(worker)
    if at:
        raise InputError("\n".join(f"{_some(who)}: {fault}" for fault, who in at.items()))


def _some(workers: Sequence[str]) -> str:
    more = f" and {len(workers) - 3} more" if len(workers) > 3 else ""
    return ", ".join(workers[:3]) + more


def work_cell(cell: Cell, ffmpeg: str, version: str) -> Rows | str:
    """Work on one cell on a worker; return its rows, or the line that says why there are none.

    Scratch space is a folder of the task's own in the worker's: the reference, the encode and its
    decoded frames, all gone when the task ends. Dask removes what a killed worker leaves.
    """
    from distributed import get_worker

    with tempfile.TemporaryDirectory(prefix="cell_", dir=get_worker().local_directory) as folder:
        reference, scratch = Path(folder, "reference.y4m"), Path(folder, "cell")
        scratch.mkdir()
        try:
            # A worker that joined late has not been looked at.
            refuse_unfit({get_worker().address: look_around(ffmpeg, [cell.source.path])}, version)
            _refuse_other_content(cell)
            raster = decode_y4m(ffmpeg, cell.source, reference, threads=cell.threads)
            return run_cell(cell, ffmpeg, scratch, reference, raster)
        except (EncodeError, InputError) as failed:
            return str(failed)


def _refuse_other_content(cell: Cell) -> None:
    if sha256_of(cell.source.path) != cell.source.sha256:
        raise EncodeError(
            say(
                cell.name,
                f"{cell.source.path} has other content on a worker",
                f"sha256 {cell.source.sha256}",
                "share the folder",
            )
        )


def _collect(
    client, cells: Sequence[Cell], store: CellStore, ffmpeg: str, version: str
) -> list[str]:
    """Hand out all cells, store each one's rows as they come; return failures in grid order."""
    failed: dict[tuple, str] = {}
    given_up: list[Cell] = []
    with progress(len(cells)) as bar:

        def take(cell: Cell, rows: Rows | str) -> None:
            if isinstance(rows, str):
                failed[cell.key] = rows
            else:
                store.put(cell.key, rows)
            bar.update()

        for cell, rows in _outcomes(client, cells, ffmpeg, version):
            if rows is None:
                given_up.append(cell)
            else:
                take(cell, rows)
        # Dask blames a lost worker's queue too: a cell may have stood behind one that kills. Each
        # by itself, they show which it is.
        for cell in given_up:
            for _, rows in _outcomes(client, [cell], ffmpeg, version):
                take(cell, _deadly(cell) if rows is None else rows)
    return [failed[c.key] for c in cells if c.key in failed]


def _outcomes(
    client, cells: Sequence[Cell], ffmpeg: str, version: str
) -> Iterator[tuple[Cell, Rows | str | None]]:
    """Yield cells as they end with rows, the line of a failure, or None after too many workers."""
    from distributed import as_completed

    futures = client.map(
        work_cell,
        cells,
        ffmpeg=ffmpeg,
        version=version,
        # Two people may ask one scheduler for the same cell; neither shall get the other's.
        pure=False,
        retries=RETRIES,
        batch_size=BATCH,
    )
    cell_of = {future.key: cell for future, cell in zip(futures, cells, strict=True)}
    arriving = as_completed(futures)
    # Results are dropped on the cluster once nothing here refers to them.
    del futures
    for future in arriving:
        cell = cell_of[future.key]
        yield cell, _outcome(future, cell)


def _outcome(future, cell: Cell) -> Rows | str | None:
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        return future.result()
    except KilledWorker:
        return None
    except (CancelledError, CommClosedError):
        raise EncodeError(
            say(
                "scheduler",
                "lost",
                "one that runs until all cells are done",
                "run the same command again; finished cells are kept",
            )
        ) from None
    except OSError as broken:
        return say(cell.name, str(broken), "a worker that can write", "see the workers' disks")


def _deadly(cell: Cell) -> str:
    return say(
        cell.name,
        "every worker that tried it died",
        "a worker that lives",
        "see the workers' logs; memory is the usual cause",
    )
