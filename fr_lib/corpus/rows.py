"""Tables as files: JSON lines, plain or gzip, and Parquet."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

import pandas as pd

from fr_lib.corpus.strict import BOM, is_unicode, kind_of, parse_json, shown
from fr_lib.errors import CorpusError, InputError, counted, say
from fr_lib.files import atomic_path, not_a_file

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

# A row has some hundred bytes, and most files no blank line at all: beyond these a file is refused
# as it is read, so that neither a gigabyte of nothing nor a small file that unpacks to one is kept.
_LONGEST_LINE = 1 << 20
_MOST_BLANK = 20_000
_MOST_BAD = 1_000
_MOST_UNPACKED = 100
_UNPACKED_FREE = 4 << 20
_MANY_ROWS = 1_000_000
# What pandas calls the unnamed index that it stores.
_INDEX = re.compile(r"__index_level_\d+__")


def _format_of(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return suffix
    raise InputError(say(str(path), "unknown file type", ", ".join(SUFFIXES), "rename or convert"))


def read_table(path: str | Path, wanted: Collection[str] | None = None) -> pd.DataFrame:
    """Read the rows of a corpus file as they are, without any check of their content.

    The rows are numbered from 0 in the file's order. An index that was stored with a Parquet file
    is a column like any other where it has a name, and nothing where it has none.

    Parameters
    ----------
    path : path of a .jsonl, .jsonl.gz or .parquet file
    wanted : collection of str, optional
        The columns to keep; default: all.

    Raises
    ------
    InputError
        If the file is missing, is no file or has another suffix.
    CorpusError
        If a line is not one JSON object, its key stands twice or its text is no Unicode (reasons
        and line numbers are named), the Parquet file cannot be read, or nearly all of a file is
        blank.
    """
    path = Path(path)
    suffix = _format_of(path)
    if fault := not_a_file(path):
        raise InputError(say(str(path), fault, ", ".join(SUFFIXES), "check the path"))
    if suffix == ".parquet":
        return _read_parquet(path, wanted)
    return pd.DataFrame(_read_lines(path, suffix == ".jsonl.gz", wanted))


# --- Parquet --------------------------------------------------------------------------------------


def _read_parquet(path: Path, wanted: Collection[str] | None) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not by way of a data set, which takes columns from the names of folders.
        with pq.ParquetFile(path) as file:
            stored = [n for n in file.schema_arrow.names if not _INDEX.fullmatch(n)]
            names = [n for n in stored if wanted is None or n in wanted]
            _refuse_bare_rows(path, file.metadata.num_rows)
            _refuse_twice(path, names)
            table = file.read(columns=names)
            steps = _steps(file.schema_arrow, wanted)
        table.validate(full=True)
        # Labels are no positions: an index comes as the column that it is, and orders nothing.
        frame = table.to_pandas(ignore_metadata=True)
        return frame.assign(**{n: s for n, s in steps.items() if len(s) == len(frame)})
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as broken:
        raise _unreadable(path, str(broken), "Parquet") from None


def _steps(schema: Any, wanted: Collection[str] | None) -> dict[str, range]:
    """Return the named indices that pandas stored as first, last and step, and in no column."""
    try:
        indices = [i for i in schema.pandas_metadata["index_columns"] if isinstance(i, dict)]
        return {
            i["name"]: range(i["start"], i["stop"], i["step"])
            for i in indices
            if i["name"] not in schema.names and i["name"] and (not wanted or i["name"] in wanted)
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _refuse_bare_rows(path: Path, rows: int) -> None:
    """Refuse a file of less than a byte per row: one row, many times, that would fill memory."""
    if rows > max(_MANY_ROWS, path.stat().st_size):
        found = f"{rows:,} rows in {path.stat().st_size:,} bytes"
        raise CorpusError(say(str(path), found, "rows that differ", "check its maker"))


def _refuse_twice(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = f"column {', '.join(map(shown, twice))} twice"
        raise CorpusError(say(str(path), found, "one column of a name", "remove one"))


def _unreadable(path: Path, why: object, wanted: str) -> CorpusError:
    """Name what the file is by its first bytes, and what broke it where it is what it should be."""
    try:
        with path.open("rb") as stream:
            kind = kind_of(stream.read(4096))
    except OSError as refused:
        kind, why = wanted, refused
    found = f"cannot be read ({shown(why)})" if kind == wanted else f"{kind}, not {wanted}"
    return CorpusError(say(str(path), found, f"a file of {wanted}", "write it again"))


# --- JSON lines -----------------------------------------------------------------------------------


def _read_lines(path: Path, packed: bool, wanted: Collection[str] | None) -> list[dict[str, Any]]:
    """Read one JSON object per line; blank lines are passed over."""
    rows: list[dict[str, Any]] = []
    bad: dict[str, list[int]] = {}
    kind, bare = "JSON", 0
    try:
        with (
            path.open("rb") as raw,
            gzip.GzipFile(fileobj=raw) if packed else raw as stream,
        ):
            kind = kind_of(stream.peek(4096))
            for number, line in _lines(path, stream, raw):
                try:
                    rows.append(_row(line, wanted))
                except ValueError as fault:
                    bad.setdefault(_reason(fault), []).append(number)
                    if sum(map(len, bad.values())) == _MOST_BAD:
                        break
                    continue
                bare += not rows[-1]
                if bare > _MOST_BLANK + 0.5 * number:
                    raise _senseless(path, f"no known column in {bare:,} of {number:,} rows")
    except (OSError, EOFError, zlib.error) as broken:
        raise _unreadable(path, broken, "gzip" if packed else "JSON") from None
    if bad:
        if kind not in ("JSON", "blank", "other text"):
            found = f"{kind}, not lines of JSON"
            raise CorpusError(say(str(path), found, "one JSON object per line", "convert it"))
        raise _bad_lines(path, bad)
    return rows


def _lines(path: Path, stream: IO[bytes], raw: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank with their numbers, as long as the file makes sense."""
    blank = 0
    for number in itertools.count(1):
        line = stream.readline(_LONGEST_LINE + 1)
        if not line:
            return
        if number == 1:
            line = line.removeprefix(BOM)
        if len(line) > _LONGEST_LINE:
            raise _senseless(path, f"line {number:,} is longer than {_LONGEST_LINE:,} bytes")
        if not number % 1024 and stream.tell() > max(_UNPACKED_FREE, _MOST_UNPACKED * raw.tell()):
            found = f"{raw.tell():,} bytes that unpack to {stream.tell():,}"
            raise _senseless(path, found)
        if line.strip():
            yield number, line
            continue
        blank += 1
        if blank > _MOST_BLANK + 0.8 * number:
            raise _senseless(path, f"{blank:,} of the first {number:,} lines are blank")


def _senseless(path: Path, found: str) -> CorpusError:
    return CorpusError(say(str(path), found, "a row in every line", "check its maker"))


def _row(line: bytes, wanted: Collection[str] | None) -> dict[str, Any]:
    """Return the wanted columns of one line; ValueError says what is wrong with it."""
    row = parse_json(line.decode())
    if not isinstance(row, dict):
        raise ValueError("no JSON object")
    if wanted is not None:
        row = {name: value for name, value in row.items() if name in wanted}
    if b"\\u" in line:
        for name, value in row.items():
            if not is_unicode(name) or (isinstance(value, str) and not is_unicode(value)):
                raise ValueError(f"half a character (a lone surrogate) in {shown(name)}")
    return row


def _reason(fault: ValueError) -> str:
    if isinstance(fault, UnicodeDecodeError):
        return "bytes that are not UTF-8"
    return "no JSON object" if isinstance(fault, json.JSONDecodeError) else str(fault)


def _bad_lines(path: Path, bad: dict[str, list[int]]) -> CorpusError:
    listed = [
        f"{counted(len(numbers), 'line')} with {reason} (line {', '.join(map(str, numbers[:5]))})"
        for reason, numbers in itertools.islice(bad.items(), 5)
    ]
    more = ["and more"] if len(bad) > 5 or sum(map(len, bad.values())) == _MOST_BAD else []
    found = ", ".join(listed + more)
    return CorpusError(say(str(path), found, "one JSON object per line", "repair or remove them"))


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
