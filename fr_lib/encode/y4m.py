"""Y4M files: what they hold, by header and length, and the luma of a frame."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

# Y4M colour family: FFmpeg's pixel format, and by how much chroma is smaller.
_COLOURS = {"420": ("yuv420p", 2, 2), "422": ("yuv422p", 2, 1), "444": ("yuv444p", 1, 1)}
# FFmpeg turns any other format (RGB, gray, NV12, ...) into the nearest of these.
Y4M_FORMATS = "|".join(f"{p}{d}" for d in ("", "10le", "12le") for p, _, _ in _COLOURS.values())


@dataclass(frozen=True)
class Raster:
    """What a Y4M file holds: size, FFmpeg's name of the pixel format, frame count."""

    width: int
    height: int
    pix_fmt: str
    frames: int

    @property
    def depth(self) -> int:
        """Bits of a sample."""
        return int(re.sub(r".*p(\d*)(le)?$", r"\1", self.pix_fmt) or 8)

    def shrunk(self, divisor: int) -> Raster:
        """Return the raster of a picture that many times smaller, in whole samples of chroma."""
        width, height = (side // divisor // 2 * 2 for side in (self.width, self.height))
        return replace(self, width=width, height=height) if divisor > 1 else self


class Layout(NamedTuple):
    """Bytes of the file's header, of each frame, and of the line that begins a frame."""

    raster: Raster
    head: int
    frame: int
    line: int


def deep(pix_fmt: str) -> str:
    """Return a format with at least 10 bits.

    Examples
    --------
    >>> deep("yuv420p"), deep("yuv444p12le")
    ('yuv420p10le', 'yuv444p12le')
    """
    return f"{pix_fmt}10le" if pix_fmt.endswith("p") else pix_fmt


def y4m_layout(path: Path) -> Layout | None:
    """Return where a Y4M file has its frames; None if it is none, or has a colour that we lack.

    The colour tag also says where chroma samples sit (``420mpeg2``, ``420jpeg``); encoders drop
    that, and luma, which is all that VMAF sees, does not depend on it.
    """
    with path.open("rb") as stream:
        if stream.read(10) != b"YUV4MPEG2 ":
            return None
        stream.seek(0)
        header = stream.readline()
        line = stream.readline()
    fields = {chr(part[0]): part[1:].decode() for part in header.split()[1:]}
    width, height, colour = int(fields["W"]), int(fields["H"]), fields.get("C", "420")
    if colour[:3] not in _COLOURS:
        return None
    family, chroma_w, chroma_h = _COLOURS[colour[:3]]
    chroma = 2 * -(-width // chroma_w) * -(-height // chroma_h)
    bits = re.search(r"p(\d\d)$", colour)
    frame = (width * height + chroma) * (2 if bits else 1) + len(line)
    frames = (path.stat().st_size - len(header)) // frame
    raster = Raster(width, height, family + (f"{bits[1]}le" if bits else ""), frames)
    return Layout(raster, len(header), frame, len(line))


def read_y4m(path: Path) -> Raster:
    """Read size, pixel format and number of frames of a Y4M file that FFmpeg wrote for us."""
    return y4m_layout(path).raster


def luma(path: Path, layout: Layout, frame: int) -> np.ndarray:
    """Return the luma of one frame, (height, width), as it is stored."""
    raster = layout.raster
    kind = np.dtype("<u2" if raster.depth > 8 else "u1")
    samples = np.fromfile(
        path,
        kind,
        raster.width * raster.height,
        offset=layout.head + frame * layout.frame + layout.line,
    )
    return samples.reshape(raster.height, raster.width)
