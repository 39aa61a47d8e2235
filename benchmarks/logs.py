# ruff: noqa: T201 (a command prints)
"""How long ``collect`` takes for thousands of logs, and how much memory.

Makes logs as libvmaf writes them in a temporary folder (random features, scores by the formula),
collects them by the command, and adds the figures to ``benchmarks/results.json`` and
``docs/benchmarks.md``. Ends with 1 if time or memory exceeded its limit.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.large import Family
from benchmarks.report import Section, ratio
from fr_lib.corpus import vmaf_from_features
from fr_lib.schema import CANONICAL_6

# What stands in a log beside the six features, before and after them.
BESIDE = ("aim", "adm3", "adm_scale0", "adm_scale1", "adm_scale2", "adm_scale3")
NAMES = [*(f"integer_{name}" for name in (*BESIDE, *CANONICAL_6)), "integer_motion3", "vmaf"]


def log_text(form: str, seed: int, frames: int) -> str:
    """Return a log of random frames whose score is the formula's, rounded as libvmaf rounds."""
    rng = np.random.default_rng(seed)
    features = np.round(rng.uniform(0.4, 0.99, (frames, 6)), 6)
    features[:, 5] = np.round(rng.uniform(0, 9, frames), 6)
    score = vmaf_from_features(features)
    beside = rng.uniform(0, 1, (frames, len(BESIDE)))
    table = np.column_stack([beside, features, features[:, 5], score])
    rows = [[f"{value:.6f}" for value in row] for row in table.tolist()]
    if form == "csv":
        lines = [f"Frame,{','.join(NAMES)},"]
        lines += [f"{i},{','.join(row)}," for i, row in enumerate(rows)]
        return "\n".join(lines) + "\n"
    if form == "xml":
        frames_ = "".join(
            f'    <frame frameNum="{i}" '
            + " ".join(f'{n}="{v}"' for n, v in zip(NAMES, row, strict=True))
            + " />\n"
            for i, row in enumerate(rows)
        )
        head = '<VMAF version="3.0.0">\n  <params qualityWidth="640" qualityHeight="360" />\n'
        fps = f'  <fyi fps="{200 + seed / 7:.2f}" />\n'
        return f"{head}{fps}  <frames>\n{frames_}  </frames>\n</VMAF>\n"
    blocks = []
    for i, row in enumerate(rows):
        metrics = ",\n".join(f'        "{n}": {v}' for n, v in zip(NAMES, row, strict=True))
        opened = f'    {{\n      "frameNum": {i},\n      "metrics": {{\n'
        blocks.append(f"{opened}{metrics}\n      }}\n    }}")
    head = f'{{\n  "version": "3.0.0",\n  "fps": {200 + seed / 7:.2f},\n  "frames": [\n'
    return head + ",\n".join(blocks) + '\n  ],\n  "pooled_metrics": {}\n}\n'


def write_logs(folder: Path, count: int, frames: int, forms: tuple[str, ...] = ("json",)) -> Path:
    """Write so many logs and the table that lists them; return the table."""
    (folder / "logs").mkdir(parents=True)
    lines = [["path", "src", "encoder", "quality", "preset", "enc_bytes"]]
    for i in range(count):
        form = forms[i % len(forms)]
        path = folder / "logs" / f"{i:05}.{form}"
        path.write_text(log_text(form, i, frames))
        lines.append(
            [f"logs/{path.name}", f"clip{i // 52:03}", "h264_nvenc", i % 52, "p5", 9000 + i]
        )
    table = folder / "table.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    return table


def measure(args: argparse.Namespace, family: Family) -> Section:
    """Make logs, collect them into each kind of file; return the figures."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        table = write_logs(Path(folder, "box"), args.logs, args.frames)
        size = sum(path.stat().st_size for path in table.parent.glob("logs/*"))
        for suffix in (".parquet", ".jsonl.gz"):
            out = Path(folder, f"mine{suffix}")
            start = time.perf_counter()
            command = ["-m", "fr_lib", "collect", "--table", str(table), "--out", str(out)]
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            taken = time.perf_counter() - start
            rows.append(
                {
                    "file": suffix,
                    "seconds": taken,
                    "logs per second": args.logs / taken,
                    "MiB written": out.stat().st_size / 2**20,
                    "peak so far, all processes, GiB": family.peak_gib(),
                }
            )
    most = max(row["seconds"] for row in rows)
    what = f"collect of {args.logs:,} logs of {args.frames} frames"
    return Section(
        f"Logs: {args.logs:,} of {args.frames} frames",
        f"JSON logs of {size / 2**20:,.0f} MiB in all, by the command, start of its processes and "
        "provenance included. Memory is the largest sum of the resident memory of all processes.",
        rows,
        [
            ratio(f"{what}: seconds", most, f"at most {args.limit_s:g}"),
            ratio(f"{what}: peak memory, GiB", family.peak_gib(), f"at most {args.limit_gib:g}"),
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logs", description=__doc__)
    parser.add_argument("--logs", type=int, default=10_000)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--limit-s", type=float, default=60.0, help="default: %(default)s")
    parser.add_argument("--limit-gib", type=float, default=2.0, help="default: %(default)s")
    report.add_files(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if time or memory exceeded its limit."""
    args = _parser().parse_args(arguments)
    with Family() as family:
        section = report.measured(partial(measure, args, family))
    print(report.section_text("logs", section))
    if not args.print_only:
        report.save({"logs": section}, args.results, args.page)
    seconds = max(row["seconds"] for row in section["rows"])
    return 1 if seconds > args.limit_s or family.peak_gib() > args.limit_gib else 0


if __name__ == "__main__":
    sys.exit(main())
