"""Figures with the circumstances of their measuring: a JSON file, and Markdown made of it."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

from fr_lib.errors import ArtefactError, say
from fr_lib.files import ROOT, read_json, write_bytes, write_json

RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_PACKAGES = ("numpy", "pandas", "pyarrow", "torch", "onnxruntime", "distributed")


@dataclass(frozen=True)
class Section:
    """One measurement: how it was made, its table, and the ratios that the project is held to.

    Attributes
    ----------
    title : str
    how : str
        What was timed, with the numbers that this run used.
    rows : list of dict
        Cells by column; all rows have the same columns.
    ratios : list of {"what", "value", "aim"}
        `aim` is text, empty where there is none.
    """

    title: str
    how: str
    rows: list[dict[str, Any]]
    ratios: list[dict[str, Any]] = field(default_factory=list)


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which files a command writes, if any."""
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--print-only", action="store_true", help="write no file")


def ratio(what: str, value: float, aim: str = "") -> dict[str, Any]:
    """Return an entry of ``Section.ratios``."""
    return {"what": what, "value": value, "aim": aim}


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, memory, system and versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "blas": _blas(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _PACKAGES},
    }


def _blas() -> str:
    """Return which matrix kernels numpy chose for this processor; they decide training's speed."""
    import numpy  # noqa: F401 (what is not loaded is not listed)

    # scipy brings one of its own: whether it is loaded by now is no property of the machine.
    found = [
        i
        for i in threadpool_info()
        if i["user_api"] == "blas" and "scipy.libs" not in i["filepath"]
    ]
    return ", ".join(
        f"{i['internal_api']} {i['version']} with {i.get('architecture')} kernels" for i in found
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def measured(measure: Callable[[], Section], *, quick: bool = False) -> dict[str, Any]:
    """Run a measurement and return its section with date, duration and load average.

    `quick` marks one whose figures mean nothing.
    """
    load, start = os.getloadavg()[0], time.perf_counter()
    section = asdict(measure())
    return section | {
        # JSON files here have sorted keys, and a table's columns have an order.
        "columns": list(section["rows"][0]),
        "quick": quick,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(time.perf_counter() - start, 1),
        "load_average": [round(load, 2), round(os.getloadavg()[0], 2)],
    }


def save(
    sections: Mapping[str, dict[str, Any]], results: Path | None, page: Path | None
) -> dict[str, Any]:
    """Put sections into the results file and the page, and return all results.

    Sections that were not measured now stay as they are, unless another machine measured them.
    Nothing is written where no file is named.
    """
    here = machine()
    kept = {}
    if results and results.is_file():
        before = read_json(results, made_by="make bench")
        kept = before["sections"] if before["machine"] == here else {}
    found = {"machine": here, "sections": kept | dict(sections)}
    if results:
        write_json(results, found)
    if page:
        write_bytes(page, between_markers(page, render(found)).encode())
    return found


def between_markers(page: Path, block: str) -> str:
    """Return the text of `page` with `block` between its markers."""
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ArtefactError(
            say(str(page), "markers are missing", f"{BEGIN} ... {END}, once", "put them back")
        )
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n{END}{rest.split(END)[1]}"


def render(found: Mapping[str, Any]) -> str:
    """Return all results as Markdown."""
    sections = dict(sorted(found["sections"].items()))
    parts = [_machine_text(found["machine"]), headline(sections)]
    parts += [section_text(key, section) for key, section in sections.items()]
    return "\n".join(parts)


def _machine_text(here: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in sorted(here["versions"].items()))
    return (
        f"Machine: {here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB memory, "
        f"{here['system']}; {here['blas']}; {versions}.\n"
    )


def headline(sections: Mapping[str, dict[str, Any]]) -> str:
    """Return the ratios of all sections as one table."""
    rows = [
        {
            "ratio": r["what"],
            "measured": f"**{shown(r['value'])}**",
            "aim": r["aim"],
            "section": key,
        }
        for key, section in sections.items()
        for r in section["ratios"]
    ]
    return table_text(rows, ["ratio", "measured", "aim", "section"])


def section_text(key: str, section: Mapping[str, Any]) -> str:
    """Return one section: title, table, how, when and under which load."""
    before, after = section["load_average"]
    smoke = "**A smoke of the benchmark itself, not a measurement.** " * section["quick"]
    table = table_text(section["rows"], section["columns"])
    return (
        f"### {key}. {section['title']}\n\n{table}\n{section['how']}\n\n"
        f"{smoke}Measured {section['date']} in {shown(section['seconds'])} s; load average over "
        f"one minute {before} before, {after} after.\n"
    )


def table_text(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Return rows as a Markdown table with these columns."""
    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row[name]) for name in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def shown(value: Any) -> str:
    """Return a cell's text: whole numbers with separators, others to three significant digits."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
