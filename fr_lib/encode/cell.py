"""One cell of the grid: encode a clip with one encoder at one quality value, check, score."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fr_lib.corpus import V061
from fr_lib.encode.clips import Raster, Source, check_alignment, decode_y4m
from fr_lib.encode.ffmpeg import CONTAINER, _threads, ffmpeg_version, run_ffmpeg
from fr_lib.errors import EncodeError, say
from fr_lib.schema import CANONICAL_6, FIXED_POINT, adapter

# The teacher that makers of rows score with and stamp them with.
SCORED_BY = V061
LIBVMAF_NAMES = {name: f"{FIXED_POINT}{name}" for name in CANONICAL_6}
# libvvenc 1.15.0-dev at times ends with success and an empty file; the next try is whole.
ATTEMPTS = 24

# No character that means something in FFmpeg's filter graphs.
_PLAIN = re.compile(r"[^\\':,;\[\]]+")


@dataclass(frozen=True)
class Cell:
    """One encode of the grid; `every` keeps frames 0, every, 2 * every, ...

    `threads` is what FFmpeg gives to encoder, decoder and scoring; None leaves that to FFmpeg.
    """

    source: Source
    encoder: str
    preset: str
    quality: float
    every: int = 1
    threads: int | None = None

    @property
    def name(self) -> str:
        """What a message calls the cell."""
        return f"{self.source.name} {self.encoder} {self.preset} {self.quality:g}"

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What identifies the cell's rows in a corpus file."""
        return (self.source.name, self.encoder, self.preset, float(self.quality))


def score(
    ffmpeg: str,
    reference: Path,
    encoded: Path,
    scratch: Path,
    where: str = "scoring",
    threads: int | None = None,
) -> tuple[list[dict], str]:
    """Score Y4M against Y4M with the teacher.

    Parameters
    ----------
    ffmpeg : str
    reference, encoded : Path
        Y4M files of equal frame count, size and pixel format.
    scratch : Path
        Folder for libvmaf's log.
    where : str
        What an error names.
    threads : int, optional
        Of FFmpeg; default: what it chooses. The scores do not depend on it.

    Returns
    -------
    frames : list of dict
        Per frame, libvmaf's own names and values.
    version : str
        libvmaf's version, from its log.

    Raises
    ------
    EncodeError
        If FFmpeg or libvmaf fails, as with clips of a few pixels.
    """
    import logging

    from ffmpeg_quality_metrics import FfmpegQualityMetrics, FfmpegQualityMetricsError

    # It wants ffprobe to compare the two inputs, which check_alignment has done already.
    logging.getLogger("ffmpeg-quality-metrics").setLevel(logging.ERROR)
    with _plainly_named(scratch) as logs:
        run = FfmpegQualityMetrics(
            str(reference),
            str(encoded),
            ffmpeg_path=ffmpeg,
            # One rate for both, so that it need not look for them; no score has a use for it.
            framerate=25.0,
            threads=threads or 0,
            tmp_dir=logs,
            keep_tmp_files=True,
        )
        try:
            frames = run.calculate(["vmaf"], {"model_path": SCORED_BY.model_file})["vmaf"]
        except (FfmpegQualityMetricsError, RuntimeError) as broken:
            last = str(broken).strip().splitlines()[-1].strip()
            raise EncodeError(
                say(
                    where,
                    f"libvmaf failed ({last})",
                    "a clip libvmaf can score",
                    "try a larger clip",
                )
            ) from None
        log = json.loads(Path(run.temp_files["libvmaf"]).read_text())
        return frames, log["version"]


@contextmanager
def _plainly_named(scratch: Path) -> Iterator[str]:
    """Return `scratch`, or a folder for libvmaf's log that needs no escaping in a filter graph.

    The library that builds the graph escapes nothing in the log's path.
    """
    if _PLAIN.fullmatch(str(scratch)):
        yield str(scratch)
        return
    places = [p for p in ("/dev/shm", "/var/tmp", "/tmp") if os.access(p, os.W_OK)]
    with tempfile.TemporaryDirectory(prefix="fr_vmaf_", dir=next(iter(places), None)) as folder:
        yield folder


def run_cell(cell: Cell, ffmpeg: str, scratch: Path, reference: Path, raster: Raster) -> list[dict]:
    """Encode, decode, check and score one cell; return its corpus rows.

    Parameters
    ----------
    cell : Cell
    ffmpeg : str
    scratch : Path
        An empty folder of the cell's own; the caller removes it.
    reference : Path
        The source as Y4M.
    raster : Raster
        Of `reference`.

    Raises
    ------
    EncodeError
        If FFmpeg fails, or if the encode's frames, size or format differ from the reference's.
    """
    where = cell.name
    encoded, decoded = scratch / f"encode{CONTAINER}", scratch / "decoded.y4m"
    elapsed_ms = _encode(cell, ffmpeg, reference, encoded, where)
    got = decode_y4m(ffmpeg, encoded, decoded, raster.pix_fmt, cell.threads)
    check_alignment(where, raster, got)
    frames, libvmaf = score(ffmpeg, reference, decoded, scratch, where, cell.threads)
    if len(frames) != raster.frames:
        raise EncodeError(
            say(where, f"{len(frames)} frames scored", f"{raster.frames}", "check FFmpeg")
        )
    shared = {
        "src": cell.source.name,
        "encoder": cell.encoder,
        "preset": cell.preset,
        "cq": cell.quality,
    }
    stamp = {
        "enc_bytes": encoded.stat().st_size,
        "enc_time_ms": elapsed_ms,
        "teacher": SCORED_BY.name,
        "ffmpeg_version": ffmpeg_version(ffmpeg),
        "libvmaf_version": libvmaf,
        "src_sha256": cell.source.sha256,
    }
    return [
        {**shared, "frame_index": index, "vmaf": frame["vmaf"]}
        | {name: frame[LIBVMAF_NAMES[name]] for name in CANONICAL_6}
        | stamp
        for index, frame in enumerate(frames)
        if index % cell.every == 0
    ]


def _encode(cell: Cell, ffmpeg: str, reference: Path, encoded: Path, where: str) -> int:
    """Encode and return the wall time in ms; an encode without any packet is tried again."""
    command = [*adapter(cell.encoder).command(cell.quality, cell.preset), *_threads(cell.threads)]
    for _ in range(ATTEMPTS):
        started = time.perf_counter()
        run_ffmpeg(
            ffmpeg,
            *("-loglevel", "error", "-i", str(reference), "-an", *command, str(encoded)),
            where=where,
        )
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        if _has_packets(ffmpeg, encoded):
            return elapsed_ms
    raise EncodeError(
        say(
            where,
            f"{ATTEMPTS} encodes without a single packet",
            "one packet per frame",
            "try another quality value or another FFmpeg",
        )
    )


def _has_packets(ffmpeg: str, encoded: Path) -> bool:
    command = [ffmpeg, "-hide_banner", "-nostdin", "-i", str(encoded), "-map", "0:v:0"]
    done = subprocess.run(
        [*command, "-c", "copy", "-f", "framecrc", "-"], capture_output=True, check=False
    )
    return any(not line.startswith(b"#") for line in done.stdout.splitlines())
