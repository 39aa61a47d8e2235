"""Logs as libvmaf writes them, made up by the thousand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

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
