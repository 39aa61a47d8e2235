"""The chapters: which notebooks there are, in the order of the run and of the book.

What is said here of a notebook is said nowhere else: run directory, command line, table of contents
and tests ask this list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fr_lib.corpus import V061, formula_applies


def _needs_nothing(audit: Mapping[str, Any]) -> str | None:
    return None


def _needs_two_encoders(audit: Mapping[str, Any]) -> str | None:
    two = len(audit["trained_slots"]) >= 2
    return None if two else "transfer needs rows of two encoders or more"


def _needs_a_formula(audit: Mapping[str, Any]) -> str | None:
    check = audit["teacher_check"]
    if formula_applies(check):
        return None
    return f"the teacher is no formula here, {check['reason']}"


# Whose scores the chapter on another teacher reads off rows of the first.
ANOTHER = ("vmaf_v1.0.16_3d0h", "vmaf_v1.0.16_5d0h")


def _needs_other_teachers(audit: Mapping[str, Any]) -> str | None:
    scored_by = audit["identity"]["scored_by"]
    lacking = [name for name in (V061.name, *ANOTHER) if name not in scored_by]
    if not lacking:
        return None
    return f"the rows were not all scored by {' and '.join(lacking)} too"


@dataclass(frozen=True)
class Chapter:
    """One notebook.

    Attributes
    ----------
    name : str
        Of its file, without suffix; names sort in the order of the run.
    reads, writes : tuple of str
        Files of the run directory. What it writes makes stale what later chapters wrote.
    evidence : str or None
        Name of the stored result that it shows. Such a chapter runs in a profile that measures, or
        where a stored result fits the run; one without runs always.
    refuses : callable
        From the contents of ``audit.json`` to why this corpus has no such chapter, else None.
    """

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...] = ()
    evidence: str | None = None
    refuses: Callable[[Mapping[str, Any]], str | None] = _needs_nothing


_ROWS = ("corpus.parquet", "audit.json")
CHAPTERS = (
    Chapter("01_corpus_audit", (), _ROWS),
    Chapter("02_loso", _ROWS, ("loso.json", "folds.parquet", "oof.parquet", "networks.pt")),
    Chapter(
        "03_gate",
        (*_ROWS, "loso.json", "folds.parquet", "networks.pt"),
        ("outside.json", "gate.json"),
    ),
    Chapter(
        "04_export",
        (*_ROWS, "loso.json", "networks.pt", "outside.json", "gate.json"),
        ("export.json",),
    ),
    Chapter("05_transfer", (*_ROWS, "loso.json"), evidence="transfer", refuses=_needs_two_encoders),
    Chapter("06_ceiling_and_ablation", (*_ROWS, "loso.json"), evidence="ablation"),
    Chapter(
        "07_outside_the_corpus",
        (*_ROWS, "loso.json", "networks.pt", "outside.json"),
        evidence="beyond",
        refuses=_needs_a_formula,
    ),
    Chapter(
        "08_another_teacher",
        (*_ROWS, "loso.json"),
        evidence="another",
        refuses=_needs_other_teachers,
    ),
)
# The steps of a run; the chapters of evidence come after them.
STEPS = tuple(chapter.name for chapter in CHAPTERS if not chapter.evidence)
# File of the run directory, and the notebook that writes it.
ARTEFACTS = {file: chapter.name for chapter in CHAPTERS for file in chapter.writes}
# Pages of the book that stand beside the run, in their order.
PAGES = ("explorer", "limits", "published", "own_corpus", "downloads", "glossary")
