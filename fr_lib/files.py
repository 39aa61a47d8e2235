"""Files that matter: hashed, written to a temporary name, renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, InputError, say

# The checkout: notebooks, pages and data lie beside the package.
ROOT = Path(__file__).resolve().parent.parent


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def not_a_file(path: str | Path) -> str | None:
    """Return what keeps `path` from being read as a file, in words; None if nothing does.

    Nothing is opened: a pipe that nobody writes to would wait for ever.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as refused:
        return f"no file can have this path ({getattr(refused, 'strerror', None) or refused})"
    return _KINDS.get(stat.S_IFMT(mode))


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it takes the target's name.

    On any exception, Ctrl-C included, the temporary file is removed and `target` keeps what it had.
    The suffix is kept, since readers and writers choose a format by it.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.name}.", suffix="".join(target.suffixes[-2:]), dir=target.parent
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_inside(inputs: Iterable[tuple[str, str | Path]], lost: Iterable[Path]) -> None:
    """Refuse an input that a command would remove or write over.

    Parameters
    ----------
    inputs : iterable of (option, path)
    lost : iterable of Path
        Files and folders that the command removes or writes anew.

    Raises
    ------
    InputError
        Naming the first such input.
    """
    places = [place.resolve() for place in lost]
    for option, path in inputs:
        found = Path(path).resolve()
        for place in places:
            if found.is_relative_to(place):
                inside = "is" if found == place else "lies in"
                raise InputError(
                    say(
                        option,
                        f"{path} {inside} {place}, which this command writes anew",
                        "a file elsewhere",
                        "move it first, or write somewhere else",
                    )
                )


def remove(path: Path) -> None:
    """Remove a file, a link (never what it points to) or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_bytes(target: str | Path, data: bytes) -> None:
    """Write `data` to `target` atomically."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def json_text(value: Any) -> str:
    """Return `value` as JSON: indent 2, sorted keys, no NaN (ValueError), one final newline."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def write_json(target: str | Path, value: Any) -> None:
    """Write `value` to `target` atomically in the form of :func:`json_text`."""
    write_bytes(target, json_text(value).encode())


def read_json(path: str | Path, *, made_by: str) -> Any:
    """Read a JSON file; `made_by` tells the user what writes it.

    Raises
    ------
    ArtefactError
        If the file is missing or is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise ArtefactError(say(str(path), "missing", "a JSON file", f"run {made_by} first"))
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as broken:
        raise ArtefactError(
            say(str(path), f"not JSON ({broken})", "a JSON file", f"run {made_by} again")
        ) from None


def sha256_of(path: str | Path) -> str:
    """Return the sha256 of a file as 64 lower-case hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
