"""Two runs as a page that needs nothing else, and as lines for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fr_lib.errors import InputError, counted, say, text
from fr_lib.evaluate import BOOTSTRAP_DRAWS, compare_runs
from fr_lib.files import not_a_file, write_bytes
from fr_lib.report.names import cell_text
from fr_lib.runs import RunDir

_TEMPLATE = Path(__file__).resolve().parent.parent / "data" / "compare.html"
_LABEL = {"rmse": "RMSE", "plcc": "PLCC"}
# A value, and a difference: PLCC lies so close to 1 that its differences need another form.
_FORMS = {"rmse": (".4f", "+.4f"), "plcc": (".7f", "+.1e")}
# Per cent of the track on either side of its middle.
_REACH = 46.0


def write_comparison(a: str | Path, b: str | Path, out: str | Path | None = None) -> list[str]:
    """Compare two finished runs, write the page, and return the lines that say what came out.

    Parameters
    ----------
    a, b : path-like
        Run directories; differences are `b` minus `a`.
    out : path-like, optional
        Default: ``compare-A-B.html`` beside the second run.

    Raises
    ------
    InputError, ArtefactError
        As in :func:`fr_lib.evaluate.compare.compare_runs`, or if the page would be written into a
        run or over a folder. Nothing is written then.
    """
    runs = RunDir(a), RunDir(b)
    names = [run.run_id for run in runs]
    page = Path(out) if out else runs[1].path.parent / f"compare-{names[0]}-{names[1]}.html"
    for run in runs:
        if page.resolve().is_relative_to(run.path.resolve()):
            found = f"{page} lies in the run {run.path}"
            raise InputError(say("--out", found, "a page outside both runs", "name another"))
    if page.suffix != ".html":
        raise InputError(say("--out", str(page), "*.html", "name it so"))
    if page.exists() and (fault := not_a_file(page)):
        raise InputError(say("--out", f"{page} is {fault}", "a file, or none yet", "name another"))
    facts = compare_runs(*runs)
    write_bytes(page, comparison_page(facts).encode())
    return [*comparison_lines(facts), f"page:  {page}"]


def _shown(value: float | None, form: str) -> str:
    return text(value, form, "not finite")


def _sentence(metric: Mapping[str, Any]) -> str:
    """Return the finding of a metric: means, difference, interval, and what it says."""
    if metric["mean"] is None:
        return str(metric["says"])
    plain, signed = _FORMS[metric["metric"]]
    interval = ""
    if metric["low"] is not None:
        low, high = (_shown(metric[key], signed) for key in ("low", "high"))
        interval = f" (95 % interval {low} to {high})"
    return (
        f"{_shown(metric['a'], plain)} and {_shown(metric['b'], plain)} over "
        f"{counted(metric['pairs'], 'source')} in common, {_shown(metric['mean'], signed)}"
        f"{interval}: {metric['says']}"
    )


def _verdict(run: Mapping[str, Any]) -> str:
    return ("passed" if run["passed"] else "failed") + (", synthetic" if run["synthetic"] else "")


def comparison_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what a terminal shows of a comparison."""
    a, b = facts["runs"]
    lines = [f"A: {a['name']} (gate {_verdict(a)}), B: {b['name']} (gate {_verdict(b)})"]
    lines += [f"{_LABEL[m['metric']]}:  {_sentence(m)}" for m in facts["metrics"]]
    differ = sum(not pair["same_rows"] for pair in facts["sources"])
    if differ:
        lines.append(f"rows:  differ in {differ} of {len(facts['sources'])} pairs")
    for side, names in zip("AB", facts["only"], strict=True):
        if names:
            lines.append(f"only {side}: {', '.join(names)}")
    for clause in facts["clauses"]:
        if clause["changed"]:
            lines.append(f"gate:  {clause['name']}: {' -> '.join(clause['status'])}")
    for key in ("data", "parameters", "software"):
        found = [f"{row['name']} {row['a']} -> {row['b']}" for row in facts[key]]
        lines.append(f"{key}: {'; '.join(found) or 'the same'}")
    return lines


def comparison_page(facts: Mapping[str, Any]) -> str:
    """Return a comparison as one HTML page without anything to fetch."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
        finalize=lambda value: Markup(cell_text(value)) if isinstance(value, str) else value,
    )
    stress = [
        {"name": f"RMSE, {what} (VMAF points)"} | _sides(facts["stress"], key, ".4f")
        for key, what in (("rmse", "stress set"), ("worst", "worst cell of the stress set"))
    ]
    values = {
        "names": [run["name"] for run in facts["runs"]],
        "verdicts": [_verdict(run) for run in facts["runs"]],
        "metrics": [_drawn(metric, facts["sources"]) for metric in facts["metrics"]],
        "other_rows": sum(not pair["same_rows"] for pair in facts["sources"]),
        "draws": f"{BOOTSTRAP_DRAWS:,}",
        "only": facts["only"],
        "clauses": [clause | {"shown": [*_statuses(clause)]} for clause in facts["clauses"]],
        "changes": [
            ("Outside the corpus", stress),
            ("Parameters that differ", facts["parameters"]),
            ("Data that differ", facts["data"]),
            ("Software that differs", facts["software"]),
        ],
    }
    return environment.from_string(_TEMPLATE.read_text()).render(values)


def _sides(pair: list[Mapping[str, Any]], key: str, form: str) -> dict[str, str]:
    return {side: _shown(found[key], form) for side, found in zip("ab", pair, strict=True)}


def _statuses(clause: Mapping[str, Any]) -> Iterator[str]:
    for status, value in zip(clause["status"], clause["value"], strict=True):
        yield status if value is None else f"{status}, {value:.7g}"


def _drawn(metric: Mapping[str, Any], pairs: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a metric with its rows: figures as text, and places on a track around zero."""
    name, more = metric["metric"], metric["more_is_better"]
    plain, signed = _FORMS[name]
    differences = [pair[f"{name}_difference"] for pair in pairs]
    ends = [metric[key] for key in ("low", "high") if metric[key] is not None]
    reach = max((abs(d) for d in [*differences, *ends] if math.isfinite(d)), default=0.0) or 1.0

    def place(value: float | None) -> float | None:
        lacks = value is None or not math.isfinite(value)
        return None if lacks else round(50 + _REACH * value / reach, 2)

    def kind(value: float | None) -> str:
        return "same" if not value else "better" if (value > 0) == more else "worse"

    rows = [
        {
            "source": pair["source"],
            "difference": _shown(pair[f"{name}_difference"], signed),
            "a": _shown(pair[f"{name}_a"], plain),
            "b": _shown(pair[f"{name}_b"], plain),
            "at": place(pair[f"{name}_difference"]),
            "is": kind(pair[f"{name}_difference"]),
            "rows": f"{pair['n_val_a']:,}"
            if pair["same_rows"]
            else f"{pair['n_val_a']:,} and {pair['n_val_b']:,}, not the same",
        }
        for pair in pairs
    ]
    low, high = (place(metric[key]) for key in ("low", "high"))
    return {
        "label": _LABEL[name],
        "sentence": _sentence(metric),
        "pairs": metric["pairs"],
        "scale": f"{format(-reach, signed)} to {format(reach, signed)}, {metric['unit']}",
        "rows": rows,
        "difference": _shown(metric["mean"], signed),
        "mean_a": _shown(metric["a"], plain),
        "mean_b": _shown(metric["b"], plain),
        "at": place(metric["mean"]),
        "is": kind(metric["mean"]),
        "band": None if low is None or high is None else (low, round(high - low, 2)),
    }
