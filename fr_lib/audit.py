"""Evidence about a corpus that needs no model: coverage, saturation, teacher, twins.

Everything is counted from the rows and comes back as plain JSON values, so that the card can quote
it without a number typed by hand.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib import schema
from fr_lib.corpus import Corpus
from fr_lib.files import read_json, sha256_of
from fr_lib.schema import ADAPTERS, CANONICAL_6, ENCODER_VOCAB_V3, TEACHER
from fr_lib.teacher import vmaf_from_features

# libvmaf's log has six decimals, which costs 2e-4 at most; fifty times that is another score.
TEACHER_TOLERANCE = 1e-2
TWIN_SHARE = 0.5
MIN_FAMILIES = 3

_CELL = ["src", "encoder"]
_POINT = ["encoder", "preset", "quality", "frame_index"]


def audit(corpus: Corpus) -> dict[str, Any]:
    """Return what the corpus is and what it covers, as values that JSON can hold.

    Parameters
    ----------
    corpus : Corpus

    Returns
    -------
    dict
        identity : sha256, shape, name, n_rows_read, n_rows_kept, dropped, notes, teacher.
        sources : list of {src, group, n_rows, vmaf_min, vmaf_mean, vmaf_max, n_qualities}.
        cells : the same per source and encoder, with quality_min, quality_max, n_qualities.
        rows_per_slot : rows of each of the 16 slots; trained_slots, empty_slots : their names.
        families : coding standards with rows; lift_measurable : at least three of them.
        coverage : {sources, encoders, rows}, rows[i][j] = rows of source i and slot j.
        coverage_statement : see :func:`coverage_statement`.
        saturation : rows and share at VMAF exactly 0 and exactly 100.
        constant_columns : list of {column, value} of the codec block (default normalisation).
        teacher_check : see :func:`teacher_check`.
        duplicates : see :func:`duplicate_sources`; titles : see :func:`title_groups`.
        source_groups : see :func:`source_groups`.
    """
    slots = corpus.rows_per_slot()
    pairs = duplicate_sources(corpus)
    titles = title_groups(corpus.sources())
    groups = _merge(corpus.sources(), pairs, titles)
    families = codec_families(corpus)
    return {
        "identity": _identity(corpus),
        "sources": _source_rows(corpus, groups),
        "cells": _cell_rows(corpus),
        "rows_per_slot": slots,
        "trained_slots": [name for name, count in slots.items() if count],
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
    return made if made["corpus"]["sha256"] == sha256_of(corpus_file) else None


def codec_families(corpus: Corpus) -> list[str]:
    """Return the coding standards with rows (of h264, hevc, av1, vvc), sorted."""
    return sorted({ADAPTERS[name].standard for name in corpus.table["encoder"].unique()})


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
    }


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
    found = f"{len(families)} codec famil{'y' if len(families) == 1 else 'ies'}"
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
    trained = [name for name in ENCODER_VOCAB_V3 if counts[name]]
    empty = [name for name in ENCODER_VOCAB_V3 if not counts[name]]
    parts = []
    if "synthetic" in corpus.table and corpus.table["synthetic"].eq(True).any():
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
            which = "All" if len(hardware) == len(empty) else f"{len(hardware)} of them"
            parts.append(f"{which} are hardware encoders: {_slots(hardware)}.")
        parts.append(_untrained_sentence())
    parts.append(_lift_sentence(codec_families(corpus)))
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
    result: dict[str, Any] = {
        "status": "measured",
        "reason": None,
        "teacher": TEACHER,
        "tolerance": TEACHER_TOLERANCE,
        "n_rows": None,
        "n_disagree": None,
        "max_abs_difference": None,
        "cells": [],
    }
    if corpus.teacher not in (None, TEACHER):
        why = f"{corpus.teacher} is no formula of the six features"
        return result | {"status": "not applicable", "reason": why}
    if corpus.shape != "frame":
        why = "the score of pooled features is not the pooled score: the formula holds per frame"
        return result | {"status": "not applicable", "reason": why}
    table = corpus.table
    expected = vmaf_from_features(table[list(CANONICAL_6)].to_numpy())
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


# --- one source under two names -------------------------------------------------------------------

_EXTENSION = re.compile(
    r"\.(y4m|yuv|rgb|mp4|mkv|mov|webm|avi|ts|m2ts|mxf|264|265|h264|h265|hevc|ivf|obu|vvc|266)$"
)
# Marks of a rendition at the end of a file name, with the separator before them.
_RENDITION = re.compile(
    r"[_\-. ](\d{3,4}x\d{3,4}|\d{3,4}[pi]\d{0,3}|[248]k|uhd|fhd|hd|q?cif|4cif|"
    r"\d{1,3}([._]\d{1,3})?fps|\d{1,3}hz|(yuv)?4[024][024](p|p\d\d(le|be)?)?|\d{1,2}bits?)$"
)
# Words that number clips rather than name a title.
# fmt: off
_GENERIC = frozenset((
    "src", "source", "clip", "video", "vid", "seq", "sequence", "sample",
    "test", "ref", "reference", "scene", "shot", "content", "file", "movie",
    "synthetic", "item", "part", "segment", "chunk", "take", "original",
))
# fmt: on
_PART = re.compile(r"^(?P<title>.*[a-z])\d{1,2}$")


def source_stem(name: str) -> str:
    """Return what is left of a source's name: no case, extension, size, rate, format, separators.

    Examples
    --------
    >>> source_stem("Crowd_Run_1080p50_29.97fps.Y4M")
    'crowdrun'
    """
    stem = _EXTENSION.sub("", name.strip().lower())
    shorter = _RENDITION.sub("", stem)
    while shorter != stem:
        stem, shorter = shorter, _RENDITION.sub("", shorter)
    return re.sub(r"[\W_]+", "", stem) or name


def _title(name: str) -> str | None:
    """Return the stem without a part number of one or two digits; None where it names no title."""
    stem = source_stem(name)
    part = _PART.match(stem)
    title = part["title"] if part else stem
    return None if len(title) < 3 or title in _GENERIC else title


def title_groups(sources: Iterable[str]) -> list[dict[str, Any]]:
    """Return sources that look like parts of one title, such as ElFuente1 and ElFuente2.

    Two or more names whose stems differ only in a trailing number of one or two digits. Numbering
    without a title (``clip1``, ``src02``) does not count.

    Returns
    -------
    list of dict
        ``{"title": stem, "sources": [names]}``, sorted.
    """
    named: dict[str, list[str]] = {}
    for name in sorted(sources):
        title = _title(name)
        if title:
            named.setdefault(title, []).append(name)
    return [
        {"title": title, "sources": names}
        for title, names in sorted(named.items())
        if len({source_stem(name) for name in names}) > 1
    ]


def duplicate_sources(corpus: Corpus) -> list[dict[str, Any]]:
    """Return pairs of sources that seem to be one clip under two names.

    A clip under two names is trained on and held out in one fold, which flatters that fold. Three
    signs: half or more of the rows that both have (same encoder, preset, quality, frame) are equal
    in all six features and VMAF; the names have one stem; the stamped `src_sha256` is equal.

    Returns
    -------
    list of dict
        ``{"a", "b", "signs": ["rows"|"name"|"src_sha256", ...], "equal_rows": int,
        "common_rows": int}``, sorted by name. The two counts are 0 for a pair without equal rows.
    """
    equal = _equal_row_pairs(corpus)
    signs: dict[tuple[str, str], list[str]] = {}
    for pair, (same, common) in equal.items():
        if same >= TWIN_SHARE * common:
            signs.setdefault(pair, []).append("rows")
    stems = pd.Series({name: source_stem(name) for name in corpus.sources()})
    for pair in _pairs_sharing(stems):
        signs.setdefault(pair, []).append("name")
    if "src_sha256" in corpus.table:
        stamped = corpus.table[["src", "src_sha256"]].dropna().drop_duplicates()
        for pair in _pairs_sharing(stamped.set_index("src")["src_sha256"]):
            signs.setdefault(pair, []).append("src_sha256")
    return [
        {
            "a": a,
            "b": b,
            "signs": found,
            "equal_rows": equal.get((a, b), (0, 0))[0],
            "common_rows": equal.get((a, b), (0, 0))[1],
        }
        for (a, b), found in sorted(signs.items())
    ]


def _pairs_sharing(values: pd.Series) -> set[tuple[str, str]]:
    """Return sorted pairs of index names that have one value in common."""
    names_of = values.groupby(values).groups.values()
    return {
        pair
        for names in names_of
        for pair in itertools.combinations(sorted(set(names)), 2)
    }  # fmt: skip


def _hashes(table: pd.DataFrame, columns: list[str]) -> np.ndarray:
    # -0.0 == 0.0, but they hash apart; adding 0.0 makes both the latter.
    plain = {c: table[c] + 0.0 if table[c].dtype == "float64" else table[c] for c in columns}
    return pd.util.hash_pandas_object(pd.DataFrame(plain), index=False).to_numpy()


def _equal_row_pairs(corpus: Corpus) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (equal rows, common rows) of each pair of sources with an equal row."""
    table = corpus.table
    names = corpus.sources()
    source = table["src"].map({name: i for i, name in enumerate(names)}).to_numpy()
    equal = _shared_counts(source, _hashes(table, [*_POINT, *CANONICAL_6, "vmaf"]), len(names))
    first, second = np.nonzero(np.triu(equal, k=1))
    if not len(first):
        return {}
    # The rest of the corpus is left out: a full grid shares all its points with every source.
    involved = np.isin(source, np.union1d(first, second))
    common = _shared_counts(source[involved], _hashes(table[involved], _POINT), len(names))
    return {
        (names[i], names[j]): (int(equal[i, j]), int(common[i, j]))
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    }


def _shared_counts(source: np.ndarray, keys: np.ndarray, n_sources: int) -> np.ndarray:
    """Count the keys that each two sources share: (n_sources, n_sources) int64."""
    from scipy import sparse

    codes, uniques = pd.factorize(keys)
    shared = np.bincount(codes, minlength=len(uniques))[codes] > 1
    ones = np.ones(int(shared.sum()), dtype=np.int64)
    incidence = sparse.csr_array(
        (ones, (source[shared], codes[shared])), shape=(n_sources, len(uniques))
    )
    # A key is unique within its source, since the loader drops duplicates.
    return (incidence @ incidence.T).toarray()


# --- groups for evaluation ------------------------------------------------------------------------


def source_groups(corpus: Corpus) -> dict[str, str]:
    """Return source -> group: twins and parts of one title share a group, others are their own.

    Hold out by these instead of by source where a source's relatives would give it away.
    """
    sources = corpus.sources()
    return _merge(sources, duplicate_sources(corpus), title_groups(sources))


def _merge(
    sources: list[str], pairs: list[dict[str, Any]], titles: list[dict[str, Any]]
) -> dict[str, str]:
    group = {name: {name} for name in sources}
    links = [(pair["a"], pair["b"]) for pair in pairs]
    links += [pair for title in titles for pair in itertools.pairwise(title["sources"])]
    for a, b in links:
        joined = group[a] | group[b]
        group.update(dict.fromkeys(joined, joined))
    return {name: _group_name(group[name], set(sources)) for name in sources}


def _group_name(members: set[str], sources: set[str]) -> str:
    """Return what the members' names, and no others, begin with; else the first of them."""
    alike = itertools.takewhile(lambda chars: len(set(chars)) == 1, zip(*members, strict=False))
    common = "".join(chars[0] for chars in alike).rstrip("_-. ")
    # Were another source to begin so too, two groups could come out under one name.
    shared = any(name.startswith(common) for name in sources - members)
    return min(members) if shared or len(common) < 3 else common
