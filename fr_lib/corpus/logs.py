"""libvmaf's JSON logs: the six features of each frame, and the scores that the log carries."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fr_lib.corpus.strict import kind_of, parse_json, shown
from fr_lib.errors import ArtefactError, InputError, say
from fr_lib.files import not_a_file
from fr_lib.schema import CANONICAL_6, FIXED_POINT

# Beyond this no feature is real, and float32 would end in infinities inside the network.
MOST = 1e4

# A string, which stays what it is, or a number that libvmaf wrote as C prints it.
# One that does not end reaches to the end: each further quote would look for its own for ever.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|(-?)\b(?:(nan)|inf)\b', re.DOTALL)


@dataclass(frozen=True)
class Log:
    """What one log holds.

    Attributes
    ----------
    path : str
    features : (N, 6) float64
        Raw libvmaf units, order ``CANONICAL_6``.
    scores : dict of str to (N,) float64
        The log's own scores by name: every metric that begins with "vmaf". NaN where a frame has
        none.
    """

    path: str
    features: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def vmaf(self) -> np.ndarray | None:
        """The score named ``vmaf``; None unless every frame has one."""
        own = self.scores.get("vmaf")
        return None if own is None or np.isnan(own).any() else own


def read_log(path: str | Path) -> Log:
    """Read libvmaf's JSON log (``log_fmt=json``), of any age.

    The fixed-point extractors' names (``integer_adm2``) come before the floating-point ones'
    (``adm2``). NaN and infinities outside the six features and the score are nobody's business, and
    neither is a byte order mark.

    Raises
    ------
    ArtefactError
        If the file is missing, is no file or not JSON.
    InputError
        If it is not a libvmaf log, has no frames, or a frame lacks a feature that is a number; the
        message names both.
    """
    path = Path(path)
    if fault := not_a_file(path):
        raise ArtefactError(_no_log(path, "missing" if fault == "no such file" else fault))
    try:
        data = path.read_bytes()
        log = _parse(data.decode("utf-8-sig"))
    except (OSError, ValueError) as broken:
        kind = "JSON" if isinstance(broken, OSError) else kind_of(data[:4096])
        why = f"broken JSON ({shown(broken)})" if kind == "JSON" else f"{kind}, not JSON"
        raise ArtefactError(_no_log(path, why)) from None
    frames = log.get("frames") if isinstance(log, dict) else None
    if not isinstance(frames, list) or not frames:
        raise InputError(_no_log(path, "no frames"))
    metrics = [f.get("metrics") if isinstance(f, dict) else None for f in frames]
    features = np.array(
        [
            [_feature(m, name, f"{path} frame {number}") for name in CANONICAL_6]
            for number, m in enumerate(metrics)
        ]
    )
    return Log(str(path), features, _scores(metrics))


def _no_log(path: Path, found: str) -> str:
    return say(str(path), found, "a JSON log of libvmaf", "run libvmaf with log_fmt=json")


def _parse(text: str) -> Any:
    """Parse JSON that may hold ``nan`` and ``inf``, as C prints them and libvmaf writes them."""
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return parse_json(_TOKEN.sub(_as_python_reads_it, text))


def _as_python_reads_it(token: re.Match[str]) -> str:
    if token[0].startswith('"'):
        return token[0]
    return "NaN" if token[2] else f"{token[1]}Infinity"


def _scores(metrics: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Return the scores of a log whose frames are all sound."""
    names = dict.fromkeys(key for m in metrics for key in m if key.startswith("vmaf"))
    # A score that is no number becomes NaN by way of None.
    columns = {name: [_number(m, name) for m in metrics] for name in names}
    found = {name: np.array(column, dtype=np.float64) for name, column in columns.items()}
    return {name: column for name, column in found.items() if not np.isnan(column).all()}


def _number(metrics: Any, key: str) -> float | None:
    """Return a metric if it is a number that can be one, else None."""
    value = metrics.get(key) if isinstance(metrics, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # A comparison, as float() overflows on an integer of hundreds of digits; false for NaN.
    return float(value) if -MOST <= value <= MOST else None


def _feature(metrics: Any, name: str, where: str) -> float:
    """Return one feature of one frame, under libvmaf's integer or float name."""
    names = (f"{FIXED_POINT}{name}", name)
    for key in names:
        if (value := _number(metrics, key)) is not None:
            return value
    raw = [metrics[key] for key in names if isinstance(metrics, dict) and key in metrics]
    raise InputError(
        say(
            where,
            f"{name} is {shown(raw[0])}" if raw else f"no {name}",
            f"{' or '.join(names)} in each frame's metrics, a number up to {MOST:g}",
            "run libvmaf with a vmaf_v0.6.1 model, which logs all six features",
        )
    )
