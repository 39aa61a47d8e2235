"""Work that does not end, for processes that are stopped at it; they import nothing else of it."""

from __future__ import annotations

import os
from pathlib import Path


def endless(folder: str | Path) -> None:
    """Say by a file of this process's number that it is at work, and stay there."""
    Path(folder, str(os.getpid())).touch()
    while True:
        pass
