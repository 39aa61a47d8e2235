"""Both row shapes in, a checked table out, every issue in one report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib import schema
from fr_lib.corpus.columns import MOST_FAULTS, either, names, numbers, optional, presets, rows_of
from fr_lib.corpus.logs import MOST
from fr_lib.corpus.rows import read_table
from fr_lib.corpus.strict import shown
from fr_lib.corpus.teachers import TEACHERS, V061, Teacher, teacher_of
from fr_lib.errors import CorpusError, InputError, counted, say
from fr_lib.files import sha256_of
from fr_lib.schema import CANONICAL_6, NEWEST_VOCAB, BlockNorm

SCHEMA_VERSION = 3
_MEANS = tuple(f"{name}_mean" for name in CANONICAL_6)
_QUALITY = ("cq", "crf")
_TARGET = ("vmaf", "vmaf_score")
_STAMP = ("teacher", "vmaf_model")
_KEY = ["src", "encoder", "preset", "quality", "frame_index"]
_OPTIONAL = {
    "enc_bytes": "numbers",
    "enc_time_ms": "numbers",
    "src_sha256": "text",
    "ffmpeg_version": "text",
    "libvmaf_version": "text",
    "synthetic": "true or false",
    "width": "numbers",
    "height": "numbers",
    "src_scale": "numbers",
    "enc_scale": "numbers",
}
# Columns that tell rows apart where a file has them: one clip, encoded at several sizes.
_SIZES = ["width", "height", "enc_scale"]
_WANTED = frozenset(
    {"src", "encoder", "preset", "frame_index", "schema_version", "exit_status"}.union(
        _QUALITY, _TARGET, _STAMP, CANONICAL_6, _MEANS, _OPTIONAL, TEACHERS
    )
)
_NO_FRAME = -1
# Beyond this a float64, which null needs, no longer tells one whole number from the next.
_MOST_FRAME = 2**53


@dataclass(frozen=True, eq=False)
class Corpus:
    """The rows of one corpus file that passed every check, and how the rest left.

    Attributes
    ----------
    table : DataFrame
        One row per kept row, in the file's order: src, encoder, preset (str), preset_ordinal
        (float64, 0 fastest .. 9 slowest), quality (float64, the encoder's own knob), frame_index
        (int64; -1 in per-encode rows), vmaf (float64, 0..100), the columns of ``CANONICAL_6``
        (float64, raw libvmaf units; the clip's means in per-encode rows), and those of teacher,
        enc_bytes, enc_time_ms, src_sha256, ffmpeg_version, libvmaf_version, synthetic, width and
        height (of the pictures that were scored), src_scale and enc_scale (of the reference to its
        clip, of the encode to the reference) that the file has. Scores of other teachers stand in
        columns of their names.
    sha256 : str
        Of the file's bytes; a corpus is known by it.
    shape : {"frame", "encode"}
    name : str
        File name without its folder.
    n_rows_read : int
    dropped : list of dict
        ``{"reason": str, "count": int, "examples": [row numbers from 1, at most five]}``. A row is
        counted once, under its first reason, so the counts add up to the rows that are missing.
    notes : list of str
        What was assumed or is worth knowing, with counts.
    teacher : str or None
        None where no row names one.
    """

    table: pd.DataFrame
    sha256: str
    shape: str
    name: str
    n_rows_read: int
    dropped: list[dict[str, Any]]
    notes: list[str]
    teacher: str | None

    def features(self) -> np.ndarray:
        """Return the raw features: (N, 6) float32, ``CANONICAL_6`` order, not standardised."""
        return self.table[list(CANONICAL_6)].to_numpy(dtype=np.float32)

    def target(self) -> np.ndarray:
        """Return VMAF: (N,) float32, 0..100."""
        return self.table["vmaf"].to_numpy(dtype=np.float32)

    def codec_block(
        self, norm: BlockNorm | None = None, vocab: tuple[str, ...] = NEWEST_VOCAB
    ) -> np.ndarray:
        """Return :func:`schema.codec_block` of the rows: (N, len(vocab) + 2) float32."""
        return schema.codec_block(
            self.table["encoder"].to_numpy(dtype=object),
            self.table["preset_ordinal"].to_numpy(),
            self.table["quality"].to_numpy(),
            norm,
            vocab,
        )

    def groups(self) -> np.ndarray:
        """Return the source of each row, by which folds are held out: (N,) object array of str."""
        return self.table["src"].to_numpy(dtype=object)

    def sources(self) -> list[str]:
        """Return the names of all sources, sorted."""
        return sorted(self.table["src"].unique())

    def rows_per_slot(self) -> dict[str, int]:
        """Return the rows of each slot, vocabulary order, zeros included."""
        counts = self.table["encoder"].value_counts()
        return {name: int(counts.get(name, 0)) for name in NEWEST_VOCAB}

    def encoders(self) -> list[str]:
        """Return the encoders with rows, vocabulary order."""
        return [name for name, rows in self.rows_per_slot().items() if rows]

    @property
    def taught_by(self) -> Teacher:
        """The teacher whose scores the rows hold."""
        return teacher_of(self.teacher)

    @property
    def synthetic(self) -> bool:
        """Whether any row says that it is made up."""
        return bool(made_up(self.table).any())

    def coverage(self) -> pd.DataFrame:
        """Return row counts: one row per source (sorted), one column per slot, int64."""
        counts = pd.crosstab(self.table["src"], self.table["encoder"])
        return counts.reindex(index=self.sources(), columns=list(NEWEST_VOCAB), fill_value=0)


def load_corpus(path: str | Path, teacher: str | None = None) -> Corpus:
    """Read and check a corpus of either row shape.

    The shape is told by the columns: the six features and ``frame_index`` (per frame), or the
    six ``<feature>_mean`` and ``schema_version`` 3 (per encode). The quality value is `cq` or
    `crf`, the target `vmaf` or `vmaf_score`, the teacher's stamp `teacher` or `vmaf_model`. Rows
    without a preset get the encoder's default, with a note; the preset words of vmaf-tune are read
    as :mod:`fr_lib.corpus.presets` lists them, with a note.

    Parameters
    ----------
    path : path of a .jsonl, .jsonl.gz or .parquet file
    teacher : str, optional
        Whose scores `vmaf` shall be; default: those of the teacher that the rows are stamped with.
        Another's scores must stand in a column of its name; the two then change places.

    Returns
    -------
    Corpus

    Raises
    ------
    InputError
        If the file is missing or has another suffix.
    CorpusError
        If the file cannot be parsed or has structural faults; the message lists all of them. Also
        if no row is left.
    """
    path = Path(path)
    raw = read_table(path, _WANTED)
    if not len(raw):
        _refuse(path, [say("rows", "none in the file", "at least one row", "check its maker")])
    faults: list[str] = []
    notes: list[str] = []
    shape = _shape_of(raw, faults)
    _check_columns(raw, shape, faults)
    _check_schema_version(raw, shape, faults)
    table = pd.DataFrame(
        {"src": names(raw, "src", faults), "encoder": names(raw, "encoder", faults)}
    )
    _check_encoders(table, faults)
    table["preset"] = presets(raw, table["encoder"], faults, notes)
    table["quality"] = either(raw, _QUALITY, faults)
    table["frame_index"] = numbers(raw, "frame_index", faults) if shape == "frame" else 0.0
    table["vmaf"] = either(raw, _TARGET, faults)
    for name, column in zip(CANONICAL_6, CANONICAL_6 if shape == "frame" else _MEANS, strict=True):
        table[name] = numbers(raw, column, faults)
    stamp = _teacher(raw, table, faults, notes)
    table["exit_status"] = numbers(raw, "exit_status", faults).fillna(0.0)
    for name, kind in _OPTIONAL.items():
        if name in raw:
            table[name] = optional(raw, name, kind, faults)
    for name in [name for name in TEACHERS if name in raw]:
        table[name] = numbers(raw, name, faults)
    taught_by = _taught_by(table, stamp, teacher, faults)
    if faults:
        _refuse(path, faults)
    n_rows_read = len(raw)
    del raw
    table, dropped = _drop_faulty_rows(table, teacher_of(taught_by), shape)
    if table.empty:
        _refuse(path, [_none_left(dropped)])
    _note_synthetic(table, notes)
    return Corpus(
        table=_finished(table, shape),
        sha256=sha256_of(path),
        shape=shape,
        name=path.name,
        n_rows_read=n_rows_read,
        dropped=dropped,
        notes=notes,
        teacher=taught_by,
    )


def _refuse(path: Path, faults: list[str]) -> None:
    more = len(faults) - MOST_FAULTS
    raise CorpusError(
        say(
            str(path),
            counted(len(faults), "structural fault"),
            "a per-frame or a per-encode (schema v3) corpus",
            "mend all of these:",
        )
        + "".join(f"\n- {fault}" for fault in faults[:MOST_FAULTS])
        + (f"\n- and {more:,} more" if more > 0 else "")
    )


def _any_given(raw: pd.DataFrame, names: tuple[str, ...]) -> pd.Series:
    return raw[[n for n in names if n in raw]].notna().any(axis=1)


def _shape_of(raw: pd.DataFrame, faults: list[str]) -> str:
    per_frame = _any_given(raw, ("frame_index", *CANONICAL_6))
    per_encode = _any_given(raw, _MEANS)
    if per_frame.any() and per_encode.any():
        faults.append(
            say(
                "row shape",
                f"per frame on {rows_of(per_frame)}, per encode on {rows_of(per_encode)}",
                "one shape per file",
                "split the file",
            )
        )
    if per_frame.any():
        return "frame"
    # Without one feature column, these two still tell which columns to ask for.
    return "encode" if per_encode.any() or {"schema_version", "vmaf_score"} & set(raw) else "frame"


def _check_columns(raw: pd.DataFrame, shape: str, faults: list[str]) -> None:
    features = ("frame_index", *CANONICAL_6) if shape == "frame" else ("schema_version", *_MEANS)
    missing = [n for n in ("src", "encoder", *features) if n not in raw]
    missing += [" or ".join(pair) for pair in (_QUALITY, _TARGET) if not set(pair) & set(raw)]
    if missing:
        faults.append(
            say(
                "columns",
                f"missing {', '.join(missing)}",
                f"those of a per-{shape} row",
                "add them or check their spelling",
            )
        )


def _check_schema_version(raw: pd.DataFrame, shape: str, faults: list[str]) -> None:
    if shape == "frame" or "schema_version" not in raw:
        return
    version = numbers(raw, "schema_version", faults)
    wrong = version != SCHEMA_VERSION
    if wrong.any():
        found = ", ".join(sorted({f"{v:g}" for v in version[wrong].unique()})[:5])
        faults.append(
            say(
                "schema_version",
                f"{found} on {rows_of(wrong)}",
                str(SCHEMA_VERSION),
                "convert the rows to schema v3",
            )
        )


def _check_encoders(table: pd.DataFrame, faults: list[str]) -> None:
    unknown = [n for n in table["encoder"].unique() if n and n not in NEWEST_VOCAB]
    for name in unknown[:MOST_FAULTS]:
        try:
            schema.encoder_index(shown(name))
        except InputError as fault:
            faults.append(f"{fault} [{rows_of(table['encoder'] == name)}]")


def _teacher(
    raw: pd.DataFrame, table: pd.DataFrame, faults: list[str], notes: list[str]
) -> str | None:
    """Add the column `teacher` if rows are stamped; more than one teacher is a fault."""
    stamps = [raw[name] for name in _STAMP if name in raw]
    stamps = [s.astype(object).where(s.isna(), s.astype(str)) for s in stamps]
    found = sorted({name for stamp in stamps for name in stamp.dropna().unique()})
    if not found:
        notes.append(f"No row names its teacher; {V061.name} is assumed.")
        return None
    [first, *others] = found
    if others or first not in TEACHERS:
        faults.append(_other_teachers(pd.concat(stamps, axis=1), found))
    stamp = stamps[0] if len(stamps) == 1 else stamps[0].fillna(stamps[1])
    unstamped = int(stamp.isna().sum())
    if unstamped:
        notes.append(f"Teacher not named on {counted(unstamped, 'row')}; {first} is assumed.")
    table["teacher"] = stamp.astype("str")
    return first


def _taught_by(
    table: pd.DataFrame, stamp: str | None, wanted: str | None, faults: list[str]
) -> str | None:
    """Let `vmaf` be the score of `wanted`, if another is asked for than the stamp says."""
    given = stamp or V061.name
    if wanted is None or wanted == given:
        return stamp
    if wanted not in TEACHERS or wanted not in table:
        scored = [given, *(name for name in TEACHERS if name in table and name != given)]
        faults.append(
            say("teacher", f"no scores of {shown(wanted)}", ", ".join(scored), "name one of these")
        )
        return stamp
    table[given] = table["vmaf"]
    table["vmaf"] = table.pop(wanted)
    table["teacher"] = wanted
    return wanted


def _other_teachers(stamps: pd.DataFrame, found: list[str]) -> str:
    """Return the fault of a corpus of an unknown teacher or of several, with the rows of each."""
    listed = ", ".join(
        f"{shown(name)} on {rows_of(stamps.eq(name).any(axis=1))}" for name in found[:5]
    )
    mixed = "a mixture: " if len(found) > 1 else ""
    return say(
        "teacher", mixed + listed, f"{' or '.join(TEACHERS)} alone", "score the rows again with it"
    )


_DUPLICATE = "duplicate key (the first row is kept)"


def _row_faults(table: pd.DataFrame, teacher: Teacher, shape: str) -> dict[str, pd.Series]:
    """Return which rows break each rule, by the reason under which such a row leaves."""
    frame, vmaf, (low, high) = table["frame_index"], table["vmaf"], teacher.range
    whole = (frame >= 0) & (frame < _MOST_FRAME) & (frame == np.floor(frame))
    features = table[list(CANONICAL_6)]
    finite = np.isfinite(features).all(axis=1)
    return {
        "exit_status is not 0": table["exit_status"] != 0,
        "quality is null": table["quality"].isna(),
        "quality outside the encoder's range": ~_quality_allowed(table),
        "feature is not finite": ~finite,
        # What vmaf-tune writes where libvmaf logged no features.
        "all six means are 0": (features == 0).all(axis=1) & (shape == "encode"),
        f"feature beyond {MOST:g} in size": finite & (features.abs() > MOST).any(axis=1),
        "target is not finite": ~np.isfinite(vmaf),
        f"target outside {low:g}..{high:g}": np.isfinite(vmaf) & ~vmaf.between(low, high),
        "frame_index is not a whole number from 0 to 2^53": ~whole,
    }


def _quality_allowed(table: pd.DataFrame) -> pd.Series:
    low = table["encoder"].map({e: a.lo for e, a in schema.ADAPTERS.items()})
    high = table["encoder"].map({e: a.hi for e, a in schema.ADAPTERS.items()})
    return table["quality"].between(low, high) | table["quality"].isna()


def _drop_faulty_rows(
    table: pd.DataFrame, teacher: Teacher, shape: str
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the rows that are left, and what left under the first rule that it breaks."""
    dropped = []
    kept = pd.Series(True, index=table.index)

    def drop(reason: str, rows: pd.Series) -> None:
        where = np.flatnonzero(rows)
        kept[rows] = False
        if len(where):
            examples = (where[:5] + 1).tolist()
            dropped.append({"reason": reason, "count": len(where), "examples": examples})

    for reason, broken in _row_faults(table, teacher, shape).items():
        drop(reason, broken & kept)
    # Last, so that a failed first attempt does not push out the good second one.
    key = [*_KEY, *(name for name in _SIZES if name in table)]
    again = table[kept].duplicated(key).reindex(table.index, fill_value=False)
    drop(_DUPLICATE, again)
    return table[kept], dropped


def _none_left(dropped: list[dict[str, Any]]) -> str:
    found = ", ".join(f"{d['reason']}: {d['count']}" for d in dropped)
    return say("rows", f"none left ({found})", "at least one good row", "mend the corpus's maker")


def made_up(table: pd.DataFrame) -> pd.Series:
    """Return which rows say that no encoder made them: (N,) bool."""
    stamp = table.get("synthetic", pd.Series(False, index=table.index))
    return stamp.eq(True).fillna(False).astype(bool)


def _note_synthetic(table: pd.DataFrame, notes: list[str]) -> None:
    count = int(made_up(table).sum())
    if count:
        notes.append(f"Synthetic, not the work of any real encoder: {counted(count, 'row')}.")


def _finished(table: pd.DataFrame, shape: str) -> pd.DataFrame:
    ordinals = {(e, p): o for e, a in schema.ADAPTERS.items() for p, o in a.presets.items()}
    codes, pairs = pd.factorize(table["encoder"] + "\n" + table["preset"])
    per_pair = np.array([ordinals[tuple(pair.split("\n"))] for pair in pairs])
    table = table.drop(columns="exit_status").reset_index(drop=True)
    table.insert(3, "preset_ordinal", per_pair[codes])
    if shape == "encode":
        table["frame_index"] = _NO_FRAME
    return table.astype({"frame_index": np.int64})
