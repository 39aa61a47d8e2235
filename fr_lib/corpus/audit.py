"""Evidence about a corpus that needs no model: coverage, saturation, teacher.

Everything is counted from the rows and comes back as plain JSON values, so that the card can quote
it without a number typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib import schema
from fr_lib.corpus.load import Corpus
from fr_lib.corpus.teachers import MEASURED, NOT_APPLICABLE, TEACHERS
from fr_lib.corpus.twins import duplicate_sources, merged, title_groups
from fr_lib.errors import counted
from fr_lib.files import read_json, sha256_of
from fr_lib.schema import ADAPTERS, NEWEST_VOCAB, codec_families

# libvmaf's log has six decimals, which costs 2e-4 at most; fifty times that is another score.
TEACHER_TOLERANCE = 1e-2
MIN_FAMILIES = 3

_CELL = ["src", "encoder"]


def audit_corpus(corpus: Corpus) -> dict[str, Any]:
    """Return what the corpus is and what it covers, as values that JSON can hold.

    Parameters
    ----------
    corpus : Corpus

    Returns
    -------
    dict
        identity : sha256, shape, name, n_rows_read, n_rows_kept, dropped, notes, teacher, and
        scored_by, the names of all teachers that scored every row.
        sources : list of {src, group, n_rows, vmaf_min, vmaf_mean, vmaf_max, n_qualities}.
        cells : the same per source and encoder, with quality_min, quality_max, n_qualities.
        rows_per_slot : rows of each slot; trained_slots, empty_slots : their names.
        families : coding standards with rows; lift_measurable : at least three of them.
        coverage : {sources, encoders, rows}, rows[i][j] = rows of source i and slot j.
        coverage_statement : see :func:`coverage_statement`.
        saturation : rows and share at VMAF exactly 0 and exactly 100.
        constant_columns : list of {column, value} of the codec block (default normalisation).
        teacher_check : see :func:`teacher_check`.
        duplicates : see :func:`fr_lib.corpus.twins.duplicate_sources`; titles : see
        :func:`fr_lib.corpus.twins.title_groups`; source_groups : see
        :func:`fr_lib.corpus.twins.source_groups`.
    """
    slots = corpus.rows_per_slot()
    pairs = duplicate_sources(corpus)
    titles = title_groups(corpus.sources())
    groups = merged(corpus.sources(), pairs, titles)
    families = codec_families(corpus.encoders())
    return {
        "identity": _identity(corpus),
        "sources": _source_rows(corpus, groups),
        "cells": _cell_rows(corpus),
        "rows_per_slot": slots,
        "trained_slots": corpus.encoders(),
        "empty_slots": [name for name, count in slots.items() if not count],
        "families": families,
        "lift_measurable": len(families) >= MIN_FAMILIES,
        "coverage": _coverage(corpus),
        "coverage_statement": coverage_statement(corpus),
        "saturation": _saturation(corpus),
        "constant_columns": _constant_columns(corpus),
        "teacher_check": teacher_check(corpus),
        "duplicates": pairs,
        "titles": titles,
        "source_groups": groups,
    }


def find_provenance(corpus_file: str | Path) -> dict[str, Any] | None:
    """Return the provenance file beside a corpus, if it describes that very file, else None.

    ``X.provenance.json`` is written by the corpus maker next to ``X.jsonl.gz``.
    """
    corpus_file = Path(corpus_file)
    beside = corpus_file.with_name(corpus_file.name.split(".")[0] + ".provenance.json")
    if not beside.is_file():
        return None
    made = read_json(beside, made_by="the corpus maker")
    about = made.get("corpus") if isinstance(made, dict) else None
    same = isinstance(about, dict) and about.get("sha256") == sha256_of(corpus_file)
    return made if same else None


def _identity(corpus: Corpus) -> dict[str, Any]:
    return {
        "sha256": corpus.sha256,
        "shape": corpus.shape,
        "name": corpus.name,
        "n_rows_read": corpus.n_rows_read,
        "n_rows_kept": len(corpus.table),
        "dropped": corpus.dropped,
        "notes": corpus.notes,
        "teacher": corpus.teacher,
        "scored_by": _scored_by(corpus),
    }


def _scored_by(corpus: Corpus) -> list[str]:
    """Return the teachers that scored every row: whose scores are `vmaf`, and others beside it."""
    others = [n for n in TEACHERS if n in corpus.table and np.isfinite(corpus.table[n]).all()]
    return [corpus.taught_by.name, *others]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows as dicts of plain Python values."""
    return table.to_dict(orient="records")


def _source_rows(corpus: Corpus, groups: dict[str, str]) -> list[dict[str, Any]]:
    table = (
        corpus.table.groupby("src", sort=True)["vmaf"]
        .agg(n_rows="size", vmaf_min="min", vmaf_mean="mean", vmaf_max="max")
        .reset_index()
    )
    points = corpus.table.groupby("src")["quality"].nunique()
    table["n_qualities"] = table["src"].map(points)
    table.insert(1, "group", table["src"].map(groups))
    return _records(table)


def _cell_rows(corpus: Corpus) -> list[dict[str, Any]]:
    table = corpus.table.groupby(_CELL, sort=True).agg(
        n_rows=("vmaf", "size"),
        vmaf_min=("vmaf", "min"),
        vmaf_mean=("vmaf", "mean"),
        vmaf_max=("vmaf", "max"),
        quality_min=("quality", "min"),
        quality_max=("quality", "max"),
        n_qualities=("quality", "nunique"),
    )
    return _records(table.reset_index())


def _coverage(corpus: Corpus) -> dict[str, Any]:
    table = corpus.coverage()
    return {
        "sources": list(table.index),
        "encoders": list(table.columns),
        "rows": table.to_numpy().tolist(),
    }


def _saturation(corpus: Corpus) -> dict[str, Any]:
    vmaf = corpus.table["vmaf"].to_numpy()
    low, high = int((vmaf == 0).sum()), int((vmaf == 100).sum())
    return {
        "n_at_0": low,
        "n_at_100": high,
        "share_at_0": low / len(vmaf),
        "share_at_100": high / len(vmaf),
    }


def _constant_columns(corpus: Corpus) -> list[dict[str, Any]]:
    """Return codec-block columns that never change: training learns nothing from them."""
    block = corpus.codec_block()
    low, high = block.min(axis=0), block.max(axis=0)
    return [
        {"column": name, "value": float(value)}
        for name, value, constant in zip(schema.codec_block_layout(), low, low == high, strict=True)
        if constant
    ]


# --- coverage in words ----------------------------------------------------------------------------


def _slots(names: Iterable[str], counts: dict[str, int] | None = None) -> str:
    return ", ".join(f"`{n}`" + (f" ({counts[n]:,} rows)" if counts else "") for n in names)


def _lift_sentence(families: list[str]) -> str:
    found = counted(len(families), "codec family", "codec families")
    listed = f"{found} ({', '.join(families)})"
    if len(families) < MIN_FAMILIES:
        return (
            f"The multi-codec lift floor (ADR-0235) is not measurable: it needs {MIN_FAMILIES} "
            f"codec families and this corpus has {listed}."
        )
    return f"The multi-codec lift (ADR-0235) is measurable: this corpus has {listed}."


def _untrained_sentence() -> str:
    return (
        "A prediction for a slot with zero rows is answered by the codec-blind network inside the "
        "graph: it uses the six features alone, and was never checked on that encoder's output."
    )


def coverage_statement(corpus: Corpus) -> str:
    """Return the coverage caveat as Markdown, worked out from the rows.

    It names the slots with rows and those without. A corpus of ``*_nvenc`` rows alone gets the
    NVENC-only caveat; any other has its hardware slots without rows named. Both say what answers
    for an untrained slot and whether the multi-codec lift can be measured. Synthetic rows are
    named as such before all else.
    """
    counts = corpus.rows_per_slot()
    trained = corpus.encoders()
    empty = [name for name in NEWEST_VOCAB if not counts[name]]
    parts = []
    if corpus.synthetic:
        parts.append("**Synthetic rows.** Rows of this corpus are made up: no encoder made them.")
    if all(name.endswith("_nvenc") for name in trained):
        parts.append(
            "**NVENC-only caveat.** Every training row is of an NVIDIA encoder "
            f"({_slots(trained)})."
        )
    parts.append(
        f"**{len(trained)} of {len(counts)} slots have training rows:** {_slots(trained, counts)}."
    )
    if empty:
        parts.append(
            f"**{len(empty)} slot{'s have' if len(empty) > 1 else ' has'} zero rows:** "
            f"{_slots(empty)}."
        )
        hardware = [name for name in empty if ADAPTERS[name].hardware]
        if hardware:
            rest = f"{len(hardware)} of them are hardware encoders: {_slots(hardware)}."
            parts.append("All are hardware encoders." if hardware == empty else rest)
        parts.append(_untrained_sentence())
    parts.append(_lift_sentence(codec_families(trained)))
    return "\n\n".join(parts)


# --- the teacher ----------------------------------------------------------------------------------


def teacher_check(corpus: Corpus) -> dict[str, Any]:
    """Compare each row's VMAF with the teacher's formula of its features.

    Returns
    -------
    dict
        status : "measured" or "not applicable"; reason : why not, else None; teacher; tolerance;
        n_rows, n_disagree, max_abs_difference : counts and VMAF points, None where not applicable;
        cells : list of {src, encoder, preset, quality, n_rows, max_abs_difference} that hold rows
        which differ by more than `tolerance`, the largest difference first.
    """
    teacher = corpus.taught_by
    result: dict[str, Any] = {
        "status": MEASURED,
        "reason": None,
        "teacher": teacher.name,
        "tolerance": TEACHER_TOLERANCE,
        "n_rows": None,
        "n_disagree": None,
        "max_abs_difference": None,
        "cells": [],
    }
    if teacher.formula is None:
        why = f"{teacher.name} is no formula of the six features"
        return result | {"status": NOT_APPLICABLE, "reason": why}
    if corpus.shape != "frame":
        why = "the score of pooled features is not the pooled score: the formula holds per frame"
        return result | {"status": NOT_APPLICABLE, "reason": why}
    table = corpus.table
    expected = teacher.formula(table[list(teacher.features)].to_numpy())
    difference = np.abs(expected - table["vmaf"].to_numpy())
    wrong = difference > TEACHER_TOLERANCE
    cells = (
        table.loc[wrong, ["src", "encoder", "preset", "quality"]]
        .assign(difference=difference[wrong])
        .groupby(["src", "encoder", "preset", "quality"])["difference"]
        .agg(n_rows="size", max_abs_difference="max")
        .reset_index()
        .sort_values("max_abs_difference", ascending=False, kind="stable")
    )
    return result | {
        "n_rows": len(table),
        "n_disagree": int(wrong.sum()),
        "max_abs_difference": float(difference.max()),
        "cells": _records(cells),
    }
