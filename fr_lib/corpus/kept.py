"""Logs that were read, kept as columns under the hash of the log, and the rows made of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fr_lib.corpus.logs import read_log
from fr_lib.corpus.teachers import vmaf_from_features
from fr_lib.errors import FrError
from fr_lib.files import sha256_of, write_bytes
from fr_lib.schema import CANONICAL_6

FRAME = "frame_index"
_ABOUT = b"log"
# A row of numbers packs well at any level, and this one keeps up with the reading.
_LEVEL = 6


@dataclass(frozen=True)
class Part:
    """What becomes of one kept log in a corpus.

    Attributes
    ----------
    file : Path
        The kept log.
    before, after : dict
        Columns of one value: before the frames' own, and after them.
    score : str
        The log's score that is the target.
    others : dict of str to str or None
        Columns of further teachers, after all others, and the log's score for each; None where it
        has none.
    """

    file: Path
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    score: str
    others: Mapping[str, str | None]


def keep(paths: Sequence[Path], folder: Path) -> list[dict[str, Any] | str]:
    """Read logs and keep each in `folder`; one that is kept already is not read again.

    Returns
    -------
    list of dict or str
        Per log its facts: sha256, form, version, frames (count) and, for each of its scores, off
        (mean absolute difference to the formula of VMAF v0.6.1), lacking (frames without it) and
        named (the teacher that the log names, or None). Or what is wrong with it.
    """
    return [_keep(path, folder) for path in paths]


def _keep(path: Path, folder: Path) -> dict[str, Any] | str:
    try:
        sha256 = sha256_of(path)
        kept = kept_file(folder, sha256)
        if kept.is_file():
            with pa.ipc.open_file(kept) as file:
                return json.loads(file.schema.metadata[_ABOUT])
        log = read_log(path)
    except (FrError, OSError) as refused:
        return str(refused)
    formula = vmaf_from_features(log.features)
    facts = {
        "sha256": sha256,
        "form": log.form,
        "version": log.version,
        "frames": len(formula),
        "scores": {
            name: {
                "off": float(np.nanmean(np.abs(own - formula))),
                "lacking": int(np.isnan(own).sum()),
                "named": log.teacher_named(name),
            }
            for name, own in log.scores.items()
        },
    }
    columns = {FRAME: log.frames, **dict(zip(CANONICAL_6, log.features.T, strict=True))}
    table = pa.table(columns | {f"score {name}": own for name, own in log.scores.items()})
    write_bytes(kept, _ipc(table.replace_schema_metadata({_ABOUT: json.dumps(facts)})))
    return facts


def kept_file(folder: Path, sha256: str) -> Path:
    """Return where a log of this hash is kept."""
    return folder / f"{sha256}.arrow"


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def columns_of(part: Part) -> dict[str, np.ndarray]:
    """Return the frames' own columns, frames without the target left out; NaN in others is none."""
    with pa.ipc.open_file(part.file) as file:
        table = file.read_all()
    target = table[f"score {part.score}"].to_numpy()
    has = ~np.isnan(target)
    columns = {FRAME: table[FRAME].to_numpy(), "vmaf": target}
    columns |= {name: table[name].to_numpy() for name in CANONICAL_6}
    for teacher, score in part.others.items():
        none = np.full(len(has), np.nan)
        columns[teacher] = none if score is None else table[f"score {score}"].to_numpy()
    return {name: column[has] for name, column in columns.items()}


def text_of(parts: Sequence[Part], packed: bool) -> bytes:
    """Return the rows of kept logs as JSON lines, as a member of gzip if `packed`."""
    text = "".join(map(_lines, parts)).encode()
    return gzip.compress(text, _LEVEL, mtime=0) if packed else text


def _lines(part: Part) -> str:
    columns = columns_of(part)
    begin, end = _inside(part.before), _inside(part.after)
    names = list(columns)
    at = len(names) - len(part.others)
    # The digits of repr are JSON's.
    own = [f'"{name}":%s' for name in names]
    pieces = [begin, *own[:at], *([end] if end else []), *own[at:]]
    line = "{" + ",".join(p if p in own else p.replace("%", "%%") for p in pieces) + "}\n"
    values = [_json_numbers(column) for column in columns.values()]
    return "".join([line % row for row in zip(*values, strict=True)])


def _inside(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), allow_nan=False, separators=(",", ":"))[1:-1]


def _json_numbers(column: np.ndarray) -> list[str]:
    numbers = list(map(repr, column.tolist()))
    return ["null" if n == "nan" else n for n in numbers] if "nan" in numbers else numbers


def table_of(parts: Sequence[Part], schema: pa.Schema) -> pa.Table:
    """Return the rows of kept logs as a table of this schema."""
    return pa.concat_tables([_table(part, schema) for part in parts])


def _table(part: Part, schema: pa.Schema) -> pa.Table:
    own = columns_of(part)
    same = {**part.before, **part.after}
    count = len(own[FRAME])
    arrays = [
        pa.array(own[field.name], field.type, from_pandas=True)
        if field.name in own
        else pa.repeat(pa.scalar(same[field.name], field.type), count)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
