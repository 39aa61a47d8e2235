"""One cell of the grid: encode a clip with one encoder at one quality value, check, score."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fr_lib.corpus import Teacher
from fr_lib.encode.clips import KERNEL, Source, check_alignment, decode_y4m
from fr_lib.encode.ffmpeg import CONTAINER, _threads, ffmpeg_version, run_ffmpeg
from fr_lib.encode.shift import check_shift
from fr_lib.encode.vmaf import LIBVMAF_NAMES, SCORED_BY, score, see_banding
from fr_lib.encode.y4m import Raster, deep
from fr_lib.errors import EncodeError, say
from fr_lib.schema import CANONICAL_6, adapter

# libvvenc 1.15.0-dev at times ends with success and an empty file; the next try is whole.
ATTEMPTS = 24


@dataclass(frozen=True)
class Cell:
    """One encode of the grid.

    Attributes
    ----------
    source : Source
    encoder, preset : str
    quality : float
    every : int
        Keep frames 0, every, 2 * every, ...
    threads : int or None
        What FFmpeg gives to encoder, decoder and scoring; None leaves that to FFmpeg.
    shrink : int
        How many times smaller the encoder gets the picture; what it made is brought back to the
        reference's size before it is scored, as a player does.
    teachers : tuple of Teacher
        Who score it; the rows are stamped with the first.
    """

    source: Source
    encoder: str
    preset: str
    quality: float
    every: int = 1
    threads: int | None = None
    shrink: int = 1
    teachers: tuple[Teacher, ...] = (SCORED_BY,)

    @property
    def name(self) -> str:
        """What a message calls the cell."""
        sizes = f" x{self.source.scale:g}" if self.source.scale != 1 else ""
        sizes += f" /{self.shrink}" if self.shrink > 1 else ""
        return f"{self.source.name} {self.encoder} {self.preset} {self.quality:g}{sizes}"

    @property
    def key(self) -> tuple[str, str, str, float, float, float]:
        """What identifies the cell's rows in a corpus file."""
        sizes = (float(self.source.scale), 1.0 / self.shrink)
        return (self.source.name, self.encoder, self.preset, float(self.quality), *sizes)


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
        If FFmpeg fails, or if the encode's frames, their order in time, size or format differ from
        the reference's.
    """
    where = cell.name
    _refuse_too_small(cell, raster)
    encoded, decoded = scratch / f"encode{CONTAINER}", scratch / "decoded.y4m"
    coded = raster.shrunk(cell.shrink)
    coded = replace(coded, pix_fmt=adapter(cell.encoder).pix_fmt or coded.pix_fmt)
    elapsed_ms = _encode(cell, ffmpeg, reference, coded, encoded, where)
    wanted = raster
    if see_banding(cell.teachers):
        wanted = replace(raster, pix_fmt=deep(raster.pix_fmt))
    size = (raster.width, raster.height) if cell.shrink > 1 else None
    got = decode_y4m(ffmpeg, encoded, decoded, wanted.pix_fmt, cell.threads, size)
    check_alignment(where, wanted, got)
    check_shift(where, reference, decoded)
    frames, libvmaf = score(
        *(ffmpeg, reference, decoded, scratch, where, cell.threads, cell.teachers, coded)
    )
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
    taught_by, *others = cell.teachers
    stamp = {
        "width": raster.width,
        "height": raster.height,
        "src_scale": cell.source.scale,
        "enc_scale": 1.0 / cell.shrink,
        "enc_bytes": encoded.stat().st_size,
        "enc_time_ms": elapsed_ms,
        "teacher": taught_by.name,
        "ffmpeg_version": ffmpeg_version(ffmpeg),
        "libvmaf_version": libvmaf,
        "src_sha256": cell.source.sha256,
    }
    return [
        {**shared, "frame_index": index, "vmaf": frame[taught_by.name]}
        | {name: frame[LIBVMAF_NAMES[name]] for name in CANONICAL_6}
        | {other.name: frame[other.name] for other in others}
        | stamp
        for index, frame in enumerate(frames)
        if index % cell.every == 0
    ]


def _refuse_too_small(cell: Cell, raster: Raster) -> None:
    """Raise EncodeError for a picture of which libvmaf would die."""
    most = max(cell.teachers, key=lambda teacher: teacher.least_side)
    if min(raster.width, raster.height) < most.least_side:
        raise EncodeError(
            say(
                cell.name,
                f"{raster.width}x{raster.height} pixels",
                f"at least {most.least_side} a side, which {most.name} needs",
                "take a larger clip, a larger --scale or another --teacher",
            )
        )


def _encode(
    cell: Cell, ffmpeg: str, reference: Path, coded: Raster, encoded: Path, where: str
) -> int:
    """Encode and return the wall time in ms; an encode without any packet is tried again."""
    command = [*adapter(cell.encoder).command(cell.quality, cell.preset), *_threads(cell.threads)]
    if cell.shrink > 1:
        command += ["-vf", f"scale={coded.width}:{coded.height}:{KERNEL}"]
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
