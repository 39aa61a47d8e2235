"""Lists of logs: a table with one line per log, or a pattern over file names."""

from __future__ import annotations

import csv
import glob
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fr_lib.corpus.columns import preset_fault
from fr_lib.corpus.presets import native_preset
from fr_lib.corpus.strict import BOM, is_unicode, parse_json, shown
from fr_lib.corpus.teachers import teacher_of
from fr_lib.errors import InputError, counted, say
from fr_lib.files import not_a_file
from fr_lib.schema import ADAPTERS, NEWEST_VOCAB, adapter

REQUIRED = ("path", "src", "encoder", "quality")
TEXT, WHOLE, NUMBER = "text", "a whole number from 0", "a number"
# Optional columns of the table, in the order in which a corpus has them.
OPTIONAL = {
    "preset": TEXT,
    "enc_bytes": WHOLE,
    "enc_time_ms": NUMBER,
    "teacher": TEXT,
    "ffmpeg_version": TEXT,
    "libvmaf_version": TEXT,
    "src_sha256": TEXT,
    "width": WHOLE,
    "height": WHOLE,
}
COLUMNS = (*REQUIRED, *OPTIONAL)
_MOST_WHOLE = 2**53
_GROUP = re.compile(r"\{(\w+)\}")
# What a group of a pattern stands for. An encoder's name may hold what stands between the groups.
_GROUPS = {
    "encoder": "|".join(map(re.escape, sorted(NEWEST_VOCAB, key=len, reverse=True))),
    "quality": r"\d+(?:\.\d+)?",
    **{name: r"\d+" for name, kind in OPTIONAL.items() if kind != TEXT},
}


@dataclass(frozen=True)
class Entry:
    """One log and what made its encode.

    Attributes
    ----------
    where : str
        What a message names: the line of the table, or the file.
    listed : str
        The path as the table has it.
    path : Path
    src, encoder, preset : str
        `preset` is one of the encoder's own.
    quality : int or float
    more : dict
        The optional columns that it has, by name.
    """

    where: str
    listed: str
    path: Path
    src: str
    encoder: str
    preset: str
    quality: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple:
        """What tells its rows from all others of a corpus, and their order."""
        size = (self.more.get("width", 0), self.more.get("height", 0))
        return (self.src, self.encoder, self.preset, float(self.quality), *size)


def read_list(table: str | Path) -> tuple[list[Entry], list[str]]:
    """Read a table of logs.

    Parameters
    ----------
    table : path of a .csv file with a header, or a .jsonl file
        Relative paths in it are relative to its folder.

    Returns
    -------
    entries : list of Entry
        Of lines without fault, in their order.
    faults : list of str
        One line for each fault, all of them.

    Raises
    ------
    InputError
        If there is no such file, it is no table, has no lines or columns that are not known.
    """
    table = Path(table)
    if fault := not_a_file(table):
        raise InputError(say(str(table), fault, "a table of logs", "check --table"))
    if table.suffix not in _TABLES:
        raise InputError(say(str(table), "unknown file type", ".csv, .jsonl", "rename or convert"))
    try:
        text = table.read_bytes().removeprefix(BOM).decode()
        columns, lines = _TABLES[table.suffix](text)
    except (OSError, ValueError, csv.Error) as broken:
        found = f"cannot be read ({shown(broken)})"
        raise InputError(say(str(table), found, f"UTF-8 {table.suffix}", "mend it")) from None
    if columns:
        _refuse_columns(table, columns)
    return _judged([(f"line {number}", row) for number, row in lines], table.parent)


def match_files(pattern: str) -> tuple[list[Entry], list[str]]:
    """Find the logs that a pattern describes, as :func:`read_list` returns them.

    Parameters
    ----------
    pattern : str
        A path with columns of the table in braces, ``logs/{src}_{encoder}_{quality}.xml``. ``*``
        stands for anything within a name.

    Raises
    ------
    InputError
        If the pattern lacks a required column, has one twice or that is not known, or no file fits.
    """
    names = _GROUP.findall(pattern)
    if len(set(names)) < len(names):
        raise InputError(say("--pattern", f"{pattern}: a column twice", "once each", "drop one"))
    _refuse_columns("--pattern", {*names, "path"})
    parts = re.split(r"(\{\w+\}|\*)", pattern)
    files = sorted(glob.glob("".join(glob.escape(p) if p[:1] not in "{*" else "*" for p in parts)))
    if not files:
        raise InputError(say("--pattern", f"{pattern}: no such file", "files", "check it"))
    whole = re.compile("".join(map(_regex, parts)))
    rows, faults = [], []
    for file in files:
        if fits := whole.fullmatch(file):
            texts = fits.groupdict()
            rows.append((file, {n: _as_said(n, t) for n, t in texts.items()} | {"path": file}))
        else:
            allowed = f"{pattern}, with an encoder of the vocabulary and numbers"
            faults.append(say(file, "does not fit the pattern", allowed, "rename it"))
    entries, more = _judged(rows, Path())
    return entries, faults + more


def _regex(part: str) -> str:
    if part == "*":
        return "[^/]*"
    group = _GROUP.fullmatch(part)
    return f"(?P<{group[1]}>{_GROUPS.get(group[1], '[^/]+')})" if group else re.escape(part)


# --- lines of a table -----------------------------------------------------------------------------


# Of each line its number, and its row or what is wrong with it.
Lines = list[tuple[int, dict[str, Any] | str]]


def _read_csv(text: str) -> tuple[set[str], Lines]:
    """Return the columns and the lines."""
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(lines, [])
    if len(set(header)) < len(header):
        raise ValueError("a column twice")
    read: Lines = []
    for line in filter(None, lines):
        if len(line) == len(header):
            pairs = zip(header, line, strict=True)
            read.append((lines.line_num, {n: _as_said(n, t) for n, t in pairs if t}))
        else:
            found = f"{counted(len(line), 'field')}, the header {len(header)}"
            read.append((lines.line_num, found))
    return set(header), read


def _as_said(name: str, text: str) -> Any:
    """Return the text of a column of numbers as the number that it spells, if it spells one."""
    if name != "quality" and OPTIONAL.get(name, TEXT) == TEXT:
        return text
    try:
        return text if "_" in text else int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        return text


def _read_json_lines(text: str) -> tuple[set[str], Lines]:
    """Return the columns of any line, and the lines; null is a column that a line has not."""
    read: Lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = parse_json(line)
            except json.JSONDecodeError:
                row = None
            except ValueError as fault:
                row = str(fault)
            if isinstance(row, dict):
                row = {name: value for name, value in row.items() if value is not None}
            read.append((number, row if isinstance(row, dict | str) else "no JSON object"))
    return {name for _, row in read if isinstance(row, dict) for name in row}, read


_TABLES = {".csv": _read_csv, ".jsonl": _read_json_lines}


def _refuse_columns(where: object, names: set[str]) -> None:
    lacking = [name for name in REQUIRED if name not in names]
    unknown = sorted(names - {*COLUMNS})
    found = [
        *([f"no column {', '.join(lacking)}"] if lacking else []),
        *([f"unknown column {', '.join(map(shown, unknown))}"] if unknown else []),
    ]
    if found:
        raise InputError(say(str(where), "; ".join(found), ", ".join(COLUMNS), "mend its columns"))


def _judged(rows: list[tuple[str, Any]], folder: Path) -> tuple[list[Entry], list[str]]:
    entries, faults = [], []
    for where, row in rows:
        line = _Line(where, row if isinstance(row, dict) else {}, folder)
        if not isinstance(row, dict):
            line.fault(row, "one value for each column", "mend the line")
        elif entry := line.entry():
            entries.append(entry)
        faults += line.faults
    return entries, faults + _clashes(entries)


@dataclass
class _Line:
    """One line of a table, and what is wrong with it."""

    where: str
    row: dict[str, Any]
    folder: Path
    faults: list[str] = field(default_factory=list)

    def fault(self, found: str, allowed: str, todo: str) -> None:
        self.faults.append(say(self.where, found, allowed, todo))

    def entry(self) -> Entry | None:
        """Return the line as an entry, or None if anything is wrong with it."""
        for judge in (self._texts, self._numbers, self._settings):
            judge()
        listed = self.row["path"]
        path = self.folder / listed if isinstance(listed, str) else self.folder
        if isinstance(listed, str) and (fault := not_a_file(path)):
            self.fault(f"{shown(listed)}: {fault}", "a log", "check the path")
        if self.faults:
            return None
        more = {n: self.row[n] for n in OPTIONAL if n in self.row and n != "preset"}
        settings = (self.row[name] for name in ("src", "encoder", "preset", "quality"))
        return Entry(self.where, listed, path, *settings, more)

    def _texts(self) -> None:
        named = [name for name, kind in OPTIONAL.items() if kind == TEXT]
        if type(self.row.get("preset")) is int:
            self.row["preset"] = str(self.row["preset"])
        for name in (*REQUIRED[:3], *named):
            value = self.row.setdefault(name, "") if name in REQUIRED else self.row.get(name, "")
            if not isinstance(value, str) or not is_unicode(value) or "\0" in value:
                self.fault(f"{name} is {shown(value)}", TEXT, "mend it")
            elif not value and name in REQUIRED:
                self.fault(f"no {name}", "one in every line", "add it")

    def _numbers(self) -> None:
        for name, kind in OPTIONAL.items():
            if kind != TEXT and name in self.row and not _is_number(self.row[name], kind == WHOLE):
                self.fault(f"{name} is {shown(self.row[name])}", kind, "mend it")
        if ("width" in self.row) != ("height" in self.row):
            self.fault("width or height alone", "both or neither", "add the other")

    def _settings(self) -> None:
        """Judge teacher, encoder, quality and preset; the preset becomes the encoder's own."""
        quality, preset = self.row.get("quality"), self.row.get("preset", "")
        if not _is_number(quality):
            found = f"quality is {shown(quality)}" if "quality" in self.row else "no quality"
            self.fault(found, NUMBER, "give the encoder's own value")
        if isinstance(self.row.get("teacher"), str):
            self._judge(teacher_of, self.row["teacher"])
        if not self.row["encoder"] or not self._judge(adapter, shown(self.row["encoder"])):
            return
        unit = ADAPTERS[self.row["encoder"]]
        if _is_number(quality) and self._judge(unit.check_quality, quality):
            self.row["quality"] = int(quality) if float(quality).is_integer() else quality
        if isinstance(preset, str):
            self.row["preset"] = native_preset(unit.encoder, preset or unit.default_preset)
            if self.row["preset"] not in unit.presets:
                self.faults.append(f"{self.where}: {preset_fault(unit.encoder, preset)}")

    def _judge(self, judge: Callable[[Any], Any], value: Any) -> bool:
        try:
            judge(value)
        except InputError as refused:
            self.faults.append(f"{self.where}: {refused}")
            return False
        return True


def _is_number(value: Any, whole: bool = False) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < _MOST_WHOLE and (not whole or value == int(value))


def _clashes(entries: list[Entry]) -> list[str]:
    """Return what two lines cannot both say."""
    faults = []
    paths: dict[Path, Entry] = {}
    keys: dict[tuple, Entry] = {}
    clips: dict[str, str] = {}
    for entry in entries:
        if (first := paths.setdefault(entry.path, entry)) is not entry:
            found = f"{shown(entry.listed)} stands on {first.where} too"
            faults.append(say(entry.where, found, "each log once", "remove one"))
        elif (first := keys.setdefault(entry.key, entry)) is not entry:
            what = f"{entry.src} {entry.encoder} {entry.preset} {entry.quality:g}"
            found = f"{shown(what)} stands on {first.where} too"
            faults.append(say(entry.where, found, "each encode once", "remove one"))
        content = entry.more.get("src_sha256")
        if content and clips.setdefault(entry.src, content) != content:
            found = f"another src_sha256 of {shown(entry.src)} than above"
            faults.append(say(entry.where, found, "one content per name", "rename the clip"))
    return faults


def report(where: str, faults: list[str], note: str = "") -> InputError:
    """Return the error that lists all faults of a list of logs."""
    head = say(where, counted(len(faults), "fault"), "none", f"mend all of these{note}:")
    return InputError(head + "".join(f"\n- {fault}" for fault in faults))
