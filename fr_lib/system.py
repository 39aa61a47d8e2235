"""What the operating system shares out: who writes where, processes, and signals that end them."""

from __future__ import annotations

import ctypes
import errno
import math
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from fr_lib.errors import InputError, say
from fr_lib.files import atomic_path, remove, write_bytes

# Signals that end a command, and for how long further ones are passed over while it unwinds.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 5.0


# Of renameat2, from Linux's <fcntl.h> and <linux/fs.h>.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def write_together(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write several files of a folder in one step: all of them or, on any interruption, none.

    A copy of the folder, its other files linked, takes its place. Where two folders cannot change
    places (systems other than Linux, network file systems, mount points), or this process works
    inside, each file is renamed into its place by itself, in their order, when the bytes of all are
    on disk.

    Parameters
    ----------
    folder : Path
        Made if absent; its own folder is there.
    files : mapping
        Bytes by name. Who calls keeps others from writing to the folder.

    Raises
    ------
    NotADirectoryError
        If `folder` is something else. It is left as it is.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    for killed in folder.parent.glob(f".{folder.name}.new-*"):
        remove(killed)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.new-", dir=folder.parent) as made:
        fresh = Path(made, folder.name)
        if folder.is_dir():
            shutil.copytree(folder, fresh, symlinks=True, copy_function=_link)
        for name, data in files.items():
            write_bytes(fresh / name, data)
        if not folder.exists():
            fresh.rename(folder)
        elif _works_inside(folder) or not _exchange(fresh, folder):
            with ExitStack() as renames:
                # The stack unwinds from the end.
                for name, data in reversed(files.items()):
                    renames.enter_context(atomic_path(folder / name)).write_bytes(data)


def replace_folder(fresh: Path, folder: Path) -> None:
    """Let a folder take the place of another, in one step where the system can.

    Elsewhere (see :func:`write_together`) an interruption between two renames leaves no folder.

    Parameters
    ----------
    fresh : Path
        On the same file system, in a folder of the caller's, where the old one ends up.
    folder : Path
        With its own folder there; it may be absent or empty.
    """
    if not folder.exists():
        fresh.rename(folder)
    elif not _exchange(fresh, folder):
        old = fresh.with_name(f"{fresh.name}.old")
        folder.rename(old)
        fresh.rename(folder)


def _link(source: str, copy: str) -> None:
    try:
        os.link(source, copy, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, copy, follow_symlinks=False)


def _works_inside(folder: Path) -> bool:
    """Say whether relative paths start in a folder, or below: they would follow it out of place."""
    with suppress(OSError):  # the working directory has been removed
        return Path.cwd().is_relative_to(folder)
    return False


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places in one step; say whether system and file system could."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    places = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other))
    return renameat2(*places, _RENAME_EXCHANGE) == 0


@contextmanager
def sole_writer(
    guarded: str | Path, lock: Path, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Keep every other process from writing to a file or folder while the block runs.

    The lock file is gone afterwards. The system drops the lock of a process that dies, so a file
    that a killed one left holds nobody up.

    Parameters
    ----------
    guarded : path-like
        What a message names.
    lock : Path
        The lock file; its folder exists.
    wait : callable, optional
        Takes a line for the user, once, when another process has to end first. Default: refuse.

    Raises
    ------
    InputError
        If another process writes there, unless `wait`.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        if wait is None:
            found = "another process writes here"
            raise InputError(
                say(str(guarded), found, "one at a time", "wait until it ends, or name another")
            ) from None
        wait(f"{guarded}: waiting until another process that writes here has ended")
        held.acquire()
    try:
        yield
    finally:
        # Unlinked while held: who waits for this file sees that, and locks its successor.
        lock.unlink(missing_ok=True)
        held.release()


def end_children(before: Collection[Any] = ()) -> None:
    """Kill the processes that this one has started, and all of theirs; wait until they are gone.

    The one by which ``multiprocessing`` removes what killed processes leave stays; it ends itself.

    Parameters
    ----------
    before : collection of psutil.Process
        Children that are none of the caller's business.
    """
    import psutil

    ended = []
    for child in set(psutil.Process().children()) - {*before}:
        with suppress(psutil.NoSuchProcess):
            if "resource_tracker" not in " ".join(child.cmdline()):
                ended += [*child.children(recursive=True), child]
    for one in ended:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(ended, timeout=10)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: raise KeyboardInterrupt, with their number.

    Others that come while it unwinds are passed over. A signal that is ignored stays so, as under
    ``nohup``. Outside the main thread nothing changes, since Python handles signals there alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -math.inf

    def stop(number: int, _frame: object) -> None:
        nonlocal last
        if time.monotonic() - last > PATIENCE_S:
            last = time.monotonic()
            raise KeyboardInterrupt(number)

    before = {number: signal.getsignal(number) for number in STOPS}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
