"""The stress set as a table: frames that no encoder of the corpus grid made, never trained on.

Small on purpose: whoever measures a model with it needs the rows, not their maker
(:mod:`fr_lib.encode.stress`), which needs FFmpeg.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from fr_lib.corpus.rows import read_table
from fr_lib.errors import InputError, say
from fr_lib.files import ROOT
from fr_lib.schema import CANONICAL_6, VMAF_RANGE

STRESS_SET = ROOT / "data" / "stress.parquet"

CONTENTS = ("clip", "generated")
# Families of distortion; what exactly was done is in `distortion` (words) and `recipe` (FFmpeg's).
KINDS = (
    "identical",
    "blur",
    "noise",
    "contrast",
    "brightness",
    "sharpening",
    "rescaling",
    "shift",
    "frozen frames",
    "colour",
    "bit depth",
    "mixed",
    "other picture",
    "encode",
)
TEXT = ("cell", "src", "content", "kind", "distortion", "recipe")
NUMBERS = ("width", "height", "fps", "frame_index", "vmaf", *CANONICAL_6)
STAMPS = ("teacher", "ffmpeg_version", "libvmaf_version", "src_sha256", "src_graph")
COLUMNS = (*TEXT, *NUMBERS, *STAMPS)


def read_stress(path: str | Path = STRESS_SET) -> pd.DataFrame:
    """Read and check a stress set.

    Parameters
    ----------
    path : path of a .parquet, .jsonl or .jsonl.gz file

    Returns
    -------
    DataFrame
        One row per frame, in the file's order: cell, src, content, kind, distortion, recipe (str),
        width, height (int64, pixels), fps (float64), frame_index (int64, 0 is the first frame
        scored), vmaf (float64, 0..100), the columns of ``CANONICAL_6`` (float64, raw libvmaf
        units), teacher, ffmpeg_version, libvmaf_version (str), src_sha256 (str; null where content
        is generated) and src_graph (str; the filter graph that gives the reference, in front of
        which a clip is read).

    Raises
    ------
    InputError
        If the file is missing, is not a table, has no rows, lacks a column, or a row is faulty; the
        message lists every fault.
    """
    table = read_table(path, COLUMNS)
    missing = [name for name in COLUMNS if name not in table]
    faults = [f"missing {', '.join(missing)}"] if missing else _row_faults(table)
    if faults or not len(table):
        raise InputError(
            say(
                str(path),
                "; ".join(faults) or "no rows",
                "a stress set with finite numbers and VMAF in 0..100",
                "make it again with `make stress`",
            )
        )
    return table[list(COLUMNS)]


def _row_faults(table: pd.DataFrame) -> list[str]:
    """Return one phrase per kind of fault in the rows."""
    faults = []
    for name in TEXT:
        if not table[name].map(lambda value: isinstance(value, str)).all():
            faults.append(f"{name} is not text")
    for name in NUMBERS:
        if not pd.api.types.is_numeric_dtype(table[name]):
            faults.append(f"{name} is not a number")
        elif not np.isfinite(table[name]).all():
            faults.append(f"{name} is not finite")
        elif name == "vmaf" and not table[name].between(*VMAF_RANGE).all():
            faults.append("vmaf outside 0..100")
    for name, allowed in (("content", CONTENTS), ("kind", KINDS)):
        unknown = sorted(set(table[name].astype(str)).difference(allowed))
        if unknown:
            faults.append(f"unknown {name} {', '.join(unknown)}")
    if table[["cell", "frame_index"]].astype(str).duplicated().any():
        faults.append("a frame of a cell twice")
    return faults
