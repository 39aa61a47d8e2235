"""Files that matter: hashed, written to a temporary name, renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fr_lib.errors import ArtefactError, say

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
