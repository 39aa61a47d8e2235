"""Logs as they stand in a file: JSON, XML and CSV of libvmaf and of ffmpeg-quality-metrics."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from fr_lib.corpus.strict import BOM, kind_of, parse_json, shown
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.files import not_a_file

# The names under which frames are counted: libvmaf's from 0, ffmpeg-quality-metrics' from 1.
LIBVMAF, FFQM = "libvmaf", "ffmpeg-quality-metrics"
_COUNT = {LIBVMAF: "frameNum", FFQM: "n"}
# The command line tool of libvmaf, and its older Python library.
_ROOTS = ("VMAF", "result")
_CHUNK = 1 << 20
# Text of numbers packs into a tenth; beyond these a file is refused as it is unpacked.
_MOST_UNPACKED = 100
_UNPACKED_FREE = 4 << 20

# A string, which stays what it is, or a number that libvmaf wrote as C prints it.
# One that does not end reaches to the end: each further quote would look for its own for ever.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|(-?)\b(?:(nan)|inf)\b', re.DOTALL)
_SUBTITLES = re.compile(rb"\{\d+\}\{\d+\}frame: \d")
_HTML = re.compile(rb"\s*<(!doctype\s+)?html\b", re.IGNORECASE)


@dataclass(frozen=True)
class Frames:
    """The frames of one log, values as they stand there: a number, or what stands in its place.

    Attributes
    ----------
    form : str
        Who wrote it and how: ``libvmaf XML``, say.
    metrics : list of dict
        Of each frame, by name. Anything but a dict is a fault of the log.
    numbers : list
        Of each frame in the clip, from 0; None where the log does not count.
    version : str or None
        Of libvmaf, where the log says.
    model : str or None
        The model file that scored it, where the log says.
    """

    form: str
    metrics: list[Any]
    numbers: list[Any]
    version: str | None = None
    model: str | None = None


class _NoLog(ValueError):
    """The file is sound, and something else than a log."""


def read_frames(path: Path) -> Frames:
    """Read the frames of a log in any of its formats, plain or gzip.

    Raises
    ------
    ArtefactError
        If the file is missing, is no file, or is broken or something else; it is named.
    InputError
        If it is a log without frames.
    """
    if fault := not_a_file(path):
        raise no_log(path, "missing" if fault == "no such file" else fault)
    kind, packed = "file", False
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2).startswith(b"\x1f\x8b")
            chunks = _chunks(gzip.GzipFile(fileobj=raw) if packed else raw, raw)
            first = next(chunks, b"")
            kind = _kind(first)
            if kind not in _READERS:
                raise no_log(path, f"{kind}, no log")
            frames = _READERS[kind](itertools.chain([first], chunks))
    except _NoLog as other:
        raise no_log(path, str(other)) from None
    except (OSError, EOFError, zlib.error) as broken:
        raise no_log(path, f"broken {'gzip' if packed else kind} ({shown(broken)})") from None
    except (ValueError, expat.ExpatError, csv.Error) as broken:
        raise no_log(path, f"broken {kind} ({shown(broken)})") from None
    if not frames.metrics:
        raise InputError(_said(path, f"{frames.form} with no frames"))
    return frames


def no_log(path: Path, found: str) -> ArtefactError:
    """Return the error of a file that is no log."""
    return ArtefactError(_said(path, found))


def _said(path: Path, found: str) -> str:
    allowed = f"a log of {LIBVMAF} (JSON, XML or CSV) or of {FFQM}"
    return say(str(path), found, allowed, "run libvmaf with log_path and log_fmt=json")


def _chunks(stream: IO[bytes], raw: IO[bytes]) -> Iterator[bytes]:
    """Yield the text, without its mark, as long as it is in proportion to the file."""
    whole = 0
    while chunk := stream.read(_CHUNK):
        whole += len(chunk)
        if whole > max(_UNPACKED_FREE, _MOST_UNPACKED * raw.tell()):
            raise ValueError(f"{raw.tell():,} bytes unpack to {whole:,}")
        yield chunk.removeprefix(BOM) if whole == len(chunk) else chunk


def _kind(head: bytes) -> str:
    kind = kind_of(head[:4096])
    if kind == "JSON" and _SUBTITLES.match(head):
        return "subtitles (log_fmt=sub)"
    if kind == "XML or HTML":
        return "HTML" if _HTML.match(head) else "XML"
    return kind


# --- JSON -----------------------------------------------------------------------------------------


def _json(chunks: Iterator[bytes]) -> Frames:
    log = _parse(b"".join(chunks).decode())
    if not isinstance(log, dict):
        raise _NoLog("JSON that is no object")
    if "frames" not in log and isinstance(log.get("vmaf"), list):
        frames = log["vmaf"]
        return Frames(f"{FFQM} JSON", frames, _numbered(frames, FFQM))
    if "frames" not in log and "input_file_dist" in log:
        raise _NoLog(f"{FFQM} JSON without vmaf (it has {_listed(log)})")
    frames = log.get("frames")
    if not isinstance(frames, list):
        raise _NoLog(f"JSON without a list of frames (it has {_listed(log)})")
    # Of libvmaf's Python library, whose frames hold their metrics themselves.
    bare = "executorId" in log
    metrics = frames if bare else [f.get("metrics") if isinstance(f, dict) else f for f in frames]
    params = log.get("params")
    return Frames(
        form=f"{LIBVMAF} JSON",
        metrics=metrics,
        numbers=_numbered(frames, LIBVMAF),
        version=_text(log.get("version")),
        model=_text(params.get("model")) if isinstance(params, dict) else None,
    )


def _parse(text: str) -> Any:
    """Parse JSON that may hold ``nan`` and ``inf``, as C prints them and libvmaf writes them."""
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return parse_json(_TOKEN.sub(_as_python_reads_it, text))


def _as_python_reads_it(token: re.Match[str]) -> str:
    if token[0].startswith('"'):
        return token[0]
    return "NaN" if token[2] else f"{token[1]}Infinity"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _listed(names: Mapping[str, Any]) -> str:
    return shown(", ".join(names) or "nothing")


# --- XML ------------------------------------------------------------------------------------------


def _xml(chunks: Iterator[bytes]) -> Frames:
    """Read elements as they come; a document type, where entities are declared, is refused."""
    found = _Elements()
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = found.doctype
    parser.StartElementHandler = found.start
    for chunk in chunks:
        parser.Parse(chunk, False)
    parser.Parse(b"", True)
    numbers = _numbered(found.frames, LIBVMAF)
    return Frames(f"{LIBVMAF} XML", found.frames, numbers, found.version, found.model)


class _Elements:
    """What the elements of a log say."""

    def __init__(self) -> None:
        self.root = self.version = self.model = None
        self.frames: list[dict[str, Any]] = []

    def doctype(self, *_: Any) -> None:
        raise _NoLog("XML with a document type (DOCTYPE)")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.root is None:
            if name not in _ROOTS:
                raise _NoLog(f"XML of something else (its root is {shown(name)})")
            self.root, self.version = name, attributes.get("version")
        elif name == "frame":
            self.frames.append({key: _value(text) for key, text in attributes.items()})
        elif name == "params":
            self.model = attributes.get("model")


def _value(text: str) -> float | str | None:
    """Return what a text stands for: a number, as C writes one, or itself; None where it is empty.

    Python would read ``1_0`` as 10.
    """
    try:
        return text if "_" in text else float(text)
    except ValueError:
        return text or None


# --- CSV ------------------------------------------------------------------------------------------


def _csv(chunks: Iterator[bytes]) -> Frames:
    lines = csv.reader(io.StringIO(b"".join(chunks).decode(), newline=""), strict=True)
    header = [name.strip() for name in next(lines)]
    maker = {"Frame": LIBVMAF, "n": FFQM}.get(header[0])
    if maker is None:
        raise _NoLog(f"CSV of something else (its columns are {shown(', '.join(header))})")
    if twice := {name for name in header if name and header.count(name) > 1}:
        raise ValueError(f"the column {shown(min(twice))} twice")
    frames = []
    for line in filter(None, lines):
        if len(line) != len(header):
            found = f"line {lines.line_num} has {len(line)} fields, the first {len(header)}"
            raise ValueError(found)
        frames.append({key: _value(text) for key, text in zip(header, line, strict=True) if key})
    for frame in frames:
        frame[_COUNT[maker]] = frame.pop(header[0])
    return Frames(f"{maker} CSV", frames, _numbered(frames, maker))


def _numbered(frames: list[Any], maker: str) -> list[Any]:
    """Return the numbers of frames from 0, as they stand where they are none."""
    name = _COUNT[maker]
    found = [frame.get(name) if isinstance(frame, dict) else None for frame in frames]
    if maker == LIBVMAF:
        return found
    return [n - 1 if isinstance(n, int | float) and not isinstance(n, bool) else n for n in found]


_READERS: dict[str, Callable[[Iterator[bytes]], Frames]] = {"JSON": _json, "XML": _xml, "CSV": _csv}
