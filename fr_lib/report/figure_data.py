"""The data behind each figure of the book, as a table that any program opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fr_lib.report.tables import shipped_first, transfer_matrix
from fr_lib.runs import RunDir, find


def _coverage(run: RunDir) -> pd.DataFrame:
    facts = run.read("audit.json")["coverage"]
    return pd.DataFrame(facts["rows"], facts["sources"], facts["encoders"]).rename_axis("src")


def _ladders(run: RunDir) -> pd.DataFrame:
    steps = run.corpus().table.groupby(["encoder", "quality", "src"])["vmaf"]
    return steps.agg(["size", "mean", "min", "max"]).rename(columns={"size": "rows"})


def _lift(run: RunDir) -> pd.DataFrame:
    differences = {
        f"{pair['metric']}, {pair['arm']} minus {pair['baseline']}": pair["per_source"]
        for pair in run.read("loso.json")["paired"]
    }
    return pd.DataFrame(differences).rename_axis("src")


def _folds(run: RunDir) -> pd.DataFrame:
    return run.read_table("folds.parquet").set_index("held_out")


def _transfer_rmse(facts: Mapping[str, Any]) -> pd.DataFrame:
    answers = {name: transfer_matrix(facts, name, "rmse") for name in ("ours", "reference")}
    return pd.concat(answers, names=["answer", "trained_on"])


def _transfer_bias(facts: Mapping[str, Any]) -> pd.DataFrame:
    return transfer_matrix(facts, "ours", "bias")


def _outside(groups: str) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    def table(facts: Mapping[str, Any]) -> pd.DataFrame:
        rows = [
            {"recipe": recipe, "arm": arm} | group
            for recipe in shipped_first(facts)
            for arm, report in facts["recipes"][recipe]["arms"].items()
            for group in report["stress"][groups]
        ]
        return pd.DataFrame(rows).set_index("recipe")

    return table


def _another(facts: Mapping[str, Any]) -> pd.DataFrame:
    rows = [
        {"teacher": teacher} | {k: v for k, v in row.items() if k != "against_map"}
        for teacher, found in facts["teachers"].items()
        for row in found["predictors"]
    ]
    return pd.DataFrame(rows).set_index("teacher")


def _by(index: str, key: str) -> Callable[[Mapping[str, Any]], pd.DataFrame]:
    return lambda facts: pd.DataFrame(facts[key]).set_index(index)


@dataclass(frozen=True)
class FigureData:
    """Where the table behind a figure comes from.

    Attributes
    ----------
    title : str
        What the figure shows.
    chapter : str
        Notebook that draws it.
    make : callable or str
        From the run, or from the stored result `evidence`, to the table; or the file of the run
        that is the table.
    evidence : str or None
    """

    title: str
    chapter: str
    make: Callable[[Any], pd.DataFrame] | str
    evidence: str | None = None


_FOLDS = "02_loso"
FIGURES: Mapping[str, FigureData] = {
    "coverage": FigureData("Training rows per source and encoder", "01_corpus_audit", _coverage),
    "ladders": FigureData("VMAF over quality, and its distribution", "01_corpus_audit", _ladders),
    "lift": FigureData("What the codec block adds, per held-out source", _FOLDS, _lift),
    "per_source_plcc": FigureData("PLCC per held-out source", _FOLDS, _folds),
    "per_source_rmse": FigureData("RMSE per held-out source", _FOLDS, _folds),
    "fold_grid": FigureData("Predicted against true VMAF, every fold", _FOLDS, "oof.parquet"),
    "residuals": FigureData("Residuals over VMAF", _FOLDS, "oof.parquet"),
    "transfer_rmse": FigureData(
        "RMSE on codecs that were not trained on", "05_transfer", _transfer_rmse, "transfer"
    ),
    "transfer_bias": FigureData(
        "Bias on codecs that were not trained on", "05_transfer", _transfer_bias, "transfer"
    ),
    "transfer_ladders": FigureData(
        "Ladders of codecs seen and unseen", "05_transfer", _by("src", "ladders"), "transfer"
    ),
    "ablation": FigureData(
        "What each choice of the recipe is worth",
        "06_ceiling_and_ablation",
        _by("choice", "rows"),
        "ablation",
    ),
    "outside_kinds": FigureData(
        "Errors by kind of distortion", "07_outside_the_corpus", _outside("kinds"), "beyond"
    ),
    "outside_bins": FigureData(
        "Errors by VMAF, stress set", "07_outside_the_corpus", _outside("bins"), "beyond"
    ),
    "outside_widths": FigureData(
        "Errors by picture width", "07_outside_the_corpus", _outside("widths"), "beyond"
    ),
    "another_teacher": FigureData(
        "Another teacher's scores read off these rows", "08_another_teacher", _another, "another"
    ),
}


def figure_tables(run: RunDir) -> dict[str, pd.DataFrame | str]:
    """Return the table behind each figure that a chapter of the run shows, by the figure's name.

    A name of a file stands for a table that the run holds already.
    """
    found = {}
    for name, data in FIGURES.items():
        drawn = any((run / "figures").glob(f"{name}.*"))
        if not drawn or not (run / "notebooks" / f"{data.chapter}.ipynb").is_file():
            continue
        facts = find(run, data.evidence) if data.evidence else run
        if facts is not None:
            found[name] = data.make if isinstance(data.make, str) else data.make(facts)
    return found
