"""The files that a reader of the book takes along, in one folder beside its pages.

The folder is complete in itself: uploaded as it is, it is a repository of the Hugging Face Hub.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fr_lib.corpus import STRESS_SET
from fr_lib.files import ROOT, read_json, sha256_of, write_json
from fr_lib.report.figure_data import FIGURES, figure_tables
from fr_lib.report.standards import Table, citation, croissant, front_matter
from fr_lib.report.values import FORMULA
from fr_lib.runs import RunDir
from fr_lib.schema import MODEL_ID, adapter, codec_block

FILES = "files"
SUMS = "SHA256SUMS"
OURS = ROOT / "data" / "corpus.provenance.json"

# File of the run, its group, and what it is.
_OF_RUN = (
    (f"model/{MODEL_ID}.onnx", "model", "the network, with its codec-blind twin in the same graph"),
    (f"model/{MODEL_ID}.json", "model", "sidecar: scaler, vocabulary, training range, verdict"),
    ("model/registry.json", "model", "registry row of the model"),
    ("model/registry.schema.json", "model", "schema of the registry"),
    ("oof.parquet", "evidence", "prediction of each row by networks that never saw its source"),
    ("folds.parquet", "evidence", "metrics of every fold, arm and seed"),
    ("gate.json", "evidence", "clauses and verdict"),
    ("loso.json", "evidence", "held-out sources: metrics, intervals, paired differences"),
    ("outside.json", "evidence", "stress set and exchanged codec blocks"),
    ("audit.json", "evidence", "what the corpus covers"),
    ("export.json", "evidence", "facts of the exported file, parity, example"),
    ("corpus.parquet", "data", "the checked rows of the corpus"),
)


def released_on(run: RunDir) -> str | None:
    """Return the day on which the model of a run was exported, YYYY-MM-DD, if papermill noted it.

    It stands in the executed notebook and in none of the results, which are the same each time.
    """
    noted = run.noted("04_export").get("end_time")
    return noted and str(noted)[:10]


def example_block(values: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the columns of the card's example in the codec block that are not zero."""
    example = values["export"]["example"]
    codec = adapter(example["encoder"])
    ordinal = codec.preset_ordinal(example["preset"] or codec.default_preset)
    block = codec_block([example["encoder"]], [ordinal], [example["quality"]])[0]
    return [(int(at), round(float(block[at]), 7)) for at in block.nonzero()[0]]


def _placed(source: Path, target: Path) -> None:
    """Let a file be in a second place; a corpus may be large, so without a second copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def put_files(
    run: RunDir, folder: Path, values: Mapping[str, Any], render: Callable[[str, Any], str]
) -> dict[str, Any]:
    """Write the folder of downloads of a run.

    Parameters
    ----------
    run : RunDir
    folder : Path
        Made here.
    values : mapping
        As :func:`fr_lib.report.book.page_values` gives them.
    render : callable
        Fills a page: :func:`fr_lib.report.book.render_page`.

    Returns
    -------
    dict
        For pages: ``downloads``, records with href (from the book's first page), name, group,
        what, bytes and sha256; ``figure_data``, records with figure, title, chapter and href.
    """
    folder.mkdir(parents=True)
    found = [*_copies(run, folder), *_data(run, folder, values), *_cards(folder, values, render)]
    downloads = [_record(folder, *entry) for entry in found]
    lines = [f"{record['sha256']}  {record['name']}\n" for record in downloads]
    figures = list(_figures(run, folder))
    for name in sorted({r["file"] for r in figures if r["file"].startswith("figures/")}):
        lines.append(f"{sha256_of(folder / name)}  {name}\n")
    (folder / SUMS).write_text("".join(lines))
    return {"downloads": downloads, "figure_data": figures}


def stale_files(run: RunDir, folder: Path) -> list[str]:
    """Return the names in a folder of downloads that are missing, altered, or not the run's."""
    listed = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
    sums = {name: digest for digest, name in listed}
    stale = [
        name
        for name, digest in sums.items()
        if not (folder / name).is_file() or sha256_of(folder / name) != digest
    ]
    for source, *_ in _OF_RUN:
        name = Path(source).name
        if not (run / source).is_file() or sums.get(name) != sha256_of(run / source):
            stale.append(name)
    return sorted({*stale})


def _record(folder: Path, name: str, group: str, what: str) -> dict[str, Any]:
    path = folder / name
    return {
        "name": name,
        "href": f"{FILES}/{name}",
        "group": group,
        "what": what,
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
    }


def _copies(run: RunDir, folder: Path) -> Iterator[tuple[str, str, str]]:
    for source, group, what in _OF_RUN:
        name = Path(source).name
        _placed(run / source, folder / name)
        yield name, group, what
    shutil.copyfile(FORMULA, folder / FORMULA.name)
    yield FORMULA.name, "model", "VMAF v0.6.1 itself: its formula, for whoever has the six features"


def _data(run: RunDir, folder: Path, values: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Put stress set, provenance and their Croissant description beside the corpus."""
    if values["made"]:
        write_json(folder / "corpus.provenance.json", values["made"])
        yield (
            "corpus.provenance.json",
            "data",
            "clips, licences, encoders, command of the corpus",
        )
    shutil.copyfile(STRESS_SET, folder / STRESS_SET.name)
    yield STRESS_SET.name, "data", "the stress set: frames that no encoder of the corpus made"
    provenance = STRESS_SET.with_suffix(".provenance.json")
    shutil.copyfile(provenance, folder / provenance.name)
    yield provenance.name, "data", "clips, pictures, versions and command of the stress set"
    tables = [
        Table(folder / "corpus.parquet", "the checked rows of the corpus, one a frame or encode"),
        Table(folder / STRESS_SET.name, "the stress set, one row a frame, never trained on"),
    ]
    ours = read_json(OURS, made_by="a checkout of the project")["corpus"]["sha256"]
    known = values["audit"]["corpus_sha256"] == ours
    licence = values["export"]["row"]["license"] if known else None
    day = released_on(run)
    write_json(folder / "croissant.json", croissant(values, tables, day, licence))
    yield "croissant.json", "data", "Croissant description of both tables"
    (folder / "CITATION.cff").write_text(citation(values, day))
    yield "CITATION.cff", "card", "how to cite this model"


def _cards(
    folder: Path, values: Mapping[str, Any], render: Callable[[str, Any], str]
) -> Iterator[tuple[str, str, str]]:
    page = (ROOT / "book" / "templates" / "hub.md").read_text()
    text = render(page, {**values, "block": example_block(values)})
    (folder / "README.md").write_text(front_matter(values) + text)
    yield "README.md", "card", "model card for the Hugging Face Hub"
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    yield "LICENSE", "card", "licence of model and code"


def _figures(run: RunDir, folder: Path) -> Iterator[dict[str, str]]:
    """Write a CSV file per table behind the figures; one that a file of the run is, is linked."""
    for name, table in figure_tables(run).items():
        file = table if isinstance(table, str) else f"figures/{name}.csv"
        if isinstance(table, pd.DataFrame):
            (folder / "figures").mkdir(exist_ok=True)
            table.to_csv(folder / file)
        yield {
            "figure": name,
            "title": FIGURES[name].title,
            "chapter": FIGURES[name].chapter,
            "file": file,
            "href": f"{FILES}/{file}",
        }
