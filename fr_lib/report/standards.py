"""What others read by machine: a card for the Hugging Face Hub, Croissant, CITATION.cff.

Every value comes from the run's files. `huggingface_hub` and `mlcroissant` judge the results in the
tests; nothing here needs them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fr_lib
from fr_lib.arms import SHIPPED_ARM
from fr_lib.files import ROOT, sha256_of
from fr_lib.report.first_screen import PASSED

# What the Hub calls a number made of a row of numbers.
_TASK = "tabular-regression"
_CROISSANT = "http://mlcommons.org/croissant/1.0"
# The context of Croissant 1.0, as the specification has it.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "dct": "http://purl.org/dc/terms/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "conformsTo": "dct:conformsTo",
} | {
    term: f"cr:{term}"
    for term in (
        "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format "
        "includes isLiveDataset jsonPath key md5 parentField path recordSet references regex "
        "repeated replace samplingRate separator source subField transform"
    ).split()
}
_FEATURE = "raw libvmaf units, as libvmaf gives it for this frame"
_COLUMNS = {
    "src": "reference clip; rows of one are held out together",
    "encoder": "FFmpeg's name of the encoder",
    "preset": "the encoder's own preset",
    "preset_ordinal": "the preset as 0 (fastest) to 9 (slowest)",
    "quality": "the encoder's own quality value (crf, qp, cq, ...)",
    "frame_index": "frame of the clip, the first is 0",
    "vmaf": "score of the teacher, VMAF points, 0 to 100",
    "teacher": "the model of libvmaf whose score `vmaf` is",
    "adm2": _FEATURE,
    "vif_scale0": _FEATURE,
    "vif_scale1": _FEATURE,
    "vif_scale2": _FEATURE,
    "vif_scale3": _FEATURE,
    "motion2": _FEATURE,
    "enc_bytes": "size of the whole encode, bytes",
    "enc_time_ms": "how long the encode took on a busy machine, milliseconds",
    "src_sha256": "hash of the reference clip's file",
    "ffmpeg_version": "what encoded and scored",
    "libvmaf_version": "what scored",
    "width": "of the reference, pixels",
    "height": "of the reference, pixels",
    "src_scale": "size of the reference as a multiple of the clip's own",
    "enc_scale": "size of the picture that the encoder got, as a multiple of the reference's",
    "cell": "one distortion of one reference",
    "content": "clip or generated picture",
    "kind": "family of the distortion",
    "distortion": "what was done, in words",
    "recipe": "filter graph or encoder options that did it",
    "src_graph": "filter graph that makes the reference",
    "fps": "frames a second",
}


@dataclass(frozen=True)
class Table:
    """A Parquet file of rows that the Croissant file describes."""

    path: Path
    description: str


def authors() -> str:
    """Return who made this, as the book names them."""
    import yaml

    return yaml.safe_load((ROOT / "book" / "_config.yml").read_text())["author"]


# --- the Hugging Face Hub -------------------------------------------------------------------------


def _yaml(data: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=100)


def _measured(*metrics: tuple[str, str, float | None]) -> list[dict[str, Any]]:
    """Return (type, name, value) as the Hub has it, without those that were not measured."""
    return [
        {"type": kind, "value": value, "name": name}
        for kind, name, value in metrics
        if value is not None and math.isfinite(value)
    ]


def _results(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the results of the model index: held-out sources, then the stress set."""
    audit = values["audit"]
    own = values["loso"]["arms"][SHIPPED_ARM]["summary"]
    corpus = {
        "type": audit["identity"]["name"],
        "name": f"{audit['identity']['name']}, one source left out at a time",
        "revision": audit["corpus_sha256"],
    }
    yield {
        "task": {"type": _TASK, "name": "VMAF of a frame"},
        "dataset": corpus,
        "metrics": _measured(
            ("pearsonr", "mean PLCC over held-out sources", own["mean_plcc"]),
            ("pearsonr", "PLCC of the worst held-out source", own["min_plcc"]),
            ("spearmanr", "mean SROCC over held-out sources", own["mean_srocc"]),
            ("rmse", "mean RMSE over held-out sources, VMAF points", own["mean_rmse"]),
            ("rmse", "RMSE of the worst held-out source, VMAF points", own["max_rmse"]),
        ),
    }
    if not values["formula_applies"]:
        return  # the stress set has scores of another teacher
    stress = values["outside"]["arms"][SHIPPED_ARM]["stress"]
    yield {
        "task": {"type": _TASK, "name": "VMAF of a frame"},
        "dataset": {"type": "stress.parquet", "name": "stress set, never trained on"},
        "metrics": _measured(
            ("rmse", "RMSE over all rows, VMAF points", stress["rmse"]),
            ("rmse", "RMSE of the worst cell, VMAF points", stress["worst_cell"]["rmse"]),
        ),
    }


def front_matter(values: Mapping[str, Any]) -> str:
    """Return the metadata block of the Hub's README.md, with its two lines of dashes.

    Parameters
    ----------
    values : mapping
        As :func:`fr_lib.report.book.page_values` gives them.
    """
    card, row = values["card"], values["export"]["row"]
    tags = ["vmaf", "video-quality", "full-reference", "onnx"]
    state = values["state"]
    results = [result for result in _results(values) if result["metrics"]]
    data = {
        "license": "other",
        "license_name": row["license"].lower(),
        "license_link": "LICENSE",
        "library_name": "onnx",
        "pipeline_tag": _TASK,
        "tags": [*tags, *([] if state == PASSED else [f"gate-{state}", "not-for-scoring"])],
        "metrics": sorted({m["type"] for result in results for m in result["metrics"]}),
        "model-index": [{"name": card["id"], "results": results}],
    }
    return f"---\n{_yaml(data)}---\n"


# --- citation -------------------------------------------------------------------------------------


def citation(values: Mapping[str, Any], released: str | None) -> str:
    """Return CITATION.cff (version 1.2.0 of that format) for the model of a run.

    Parameters
    ----------
    values : mapping
        As :func:`fr_lib.report.book.page_values` gives them.
    released : str or None
        Day of the run, YYYY-MM-DD.
    """
    card, row = values["card"], values["export"]["row"]
    data = {
        "cff-version": "1.2.0",
        "message": "If you use this model, please cite it as below.",
        "type": "software",
        "title": f"{card['id']}: {row['description']}",
        "authors": [{"name": authors()}],
        "version": fr_lib.__version__,
        "date-released": released,
        "commit": card["run_provenance"]["git_revision"],
        "license": row["license"],
        "keywords": ["VMAF", "video quality", "full-reference metric"],
        "identifiers": [
            {"type": "other", "value": f"sha256:{card['sha256']}", "description": card["onnx"]},
            {"type": "other", "value": f"run:{values['gate']['run_id']}", "description": "run"},
        ],
    }
    return _yaml({key: value for key, value in data.items() if value is not None})


# --- Croissant ------------------------------------------------------------------------------------


def _data_type(kind: Any) -> str:
    import pyarrow.types as types

    if types.is_boolean(kind):
        return "sc:Boolean"
    if types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if types.is_floating(kind) else "sc:Text"


def _described(column: str) -> str:
    """Return what a column holds; scores of further teachers stand in columns of their names."""
    score = "score of this model of libvmaf" if column.startswith("vmaf_") else "as in the file"
    return _COLUMNS.get(column, score)


def _record_set(table: Table) -> dict[str, Any]:
    """Return the columns of a file as Croissant's fields."""
    import pyarrow.parquet as parquet

    name = table.path.stem
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": table.description,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column.name}",
                "name": f"{name}/{column.name}",
                "description": _described(column.name),
                "dataType": _data_type(column.type),
                "source": {
                    "fileObject": {"@id": table.path.name},
                    "extract": {"column": column.name},
                },
            }
            for column in parquet.read_schema(table.path)
        ],
    }


def croissant(
    values: Mapping[str, Any],
    tables: list[Table],
    released: str | None,
    licence: str | None,
) -> dict[str, Any]:
    """Return the Croissant 1.0 description of corpus and stress set, which lie beside it.

    Parameters
    ----------
    values : mapping
        As :func:`fr_lib.report.book.page_values` gives them.
    tables : list of Table
    released : str or None
        Day of the run, YYYY-MM-DD.
    licence : str or None
        SPDX name, where it is known: whose corpus it is says what others may do with it.
    """
    card, identity = values["card"], values["audit"]["identity"]
    data = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _CROISSANT,
        "name": f"{card['id']} data",
        "description": (
            f"Rows that {card['id']} was trained on and judged by, from {identity['name']} "
            f"(sha256 {values['audit']['corpus_sha256']}): measurements of encodes, no pictures."
        ),
        "version": fr_lib.__version__,
        "datePublished": released,
        "license": licence and f"https://spdx.org/licenses/{licence}.html",
        "creator": {"@type": "sc:Organization", "name": authors()},
        "citeAs": f"{authors()}, {card['id']} {fr_lib.__version__}, model sha256 {card['sha256']}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": table.path.name,
                "name": table.path.name,
                "description": table.description,
                "contentUrl": table.path.name,
                "contentSize": f"{table.path.stat().st_size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": sha256_of(table.path),
            }
            for table in tables
        ],
        "recordSet": [_record_set(table) for table in tables],
    }
    return {key: value for key, value in data.items() if value is not None}
