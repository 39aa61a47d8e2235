"""Tables as files: JSON lines, plain or gzip, and Parquet."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from fr_lib.errors import CorpusError, InputError, counted, say
from fr_lib.files import atomic_path

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def _format_of(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise InputError(say(str(path), "unknown file type", ", ".join(SUFFIXES), "rename or convert"))


def _not_parquet(path: Path, broken: Exception) -> CorpusError:
    return CorpusError(
        say(str(path), f"not Parquet ({broken})", "a Parquet file", "write it again")
    )


def read_table(path: str | Path) -> pd.DataFrame:
    """Read the rows of a corpus file as they are, without any check of their content.

    Raises
    ------
    InputError
        If the file is missing or has another suffix.
    CorpusError
        If a line is not a JSON object (the first five line numbers are named) or the Parquet file
        cannot be read.
    """
    path = Path(path)
    suffix = _format_of(path)
    if not path.is_file():
        raise InputError(say(str(path), "no such file", ", ".join(SUFFIXES), "check the path"))
    if suffix == ".parquet":
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as broken:
            raise _not_parquet(path, broken) from None
    return pd.DataFrame(_read_lines(path, gzip.open if suffix == ".jsonl.gz" else open))


def _read_lines(path: Path, opener: Callable[..., Any]) -> list[dict[str, Any]]:
    """Read one JSON object per line; empty lines are passed over."""
    rows, bad = [], []
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = _json_object(line)
                if row is None:
                    bad.append(number)
                else:
                    rows.append(row)
    except (OSError, EOFError, UnicodeDecodeError) as broken:
        raise CorpusError(
            say(str(path), f"cannot be read ({broken})", "UTF-8 JSON lines", "write it again")
        ) from None
    if bad:
        numbers = ", ".join(map(str, bad[:5]))
        raise CorpusError(
            say(
                str(path),
                f"{counted(len(bad), 'line')} without a JSON object (line {numbers})",
                "one JSON object per line",
                "repair or remove them",
            )
        )
    return rows


def _json_object(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write rows to a corpus file atomically; the same rows give the same bytes."""
    path = Path(path)
    suffix = _format_of(path)
    with atomic_path(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
            return
        text = "".join(
            json.dumps(row, allow_nan=False, separators=(",", ":")) + "\n"
            for row in table.to_dict(orient="records")
        ).encode()
        # A gzip header carries a time stamp; without it equal corpora have equal hashes.
        temporary.write_bytes(gzip.compress(text, mtime=0) if suffix == ".jsonl.gz" else text)
