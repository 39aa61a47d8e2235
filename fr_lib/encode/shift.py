"""An encode whose frames come early or late: the count is right, and every score is wrong.

An encoder or a muxer that loses the first frame and repeats the last keeps the number of frames.
libvmaf then compares each frame with its neighbour. So the encode's luma is held against the
reference's at shifts of -2 to 2 frames, on a few small pictures.

A cell is refused when a shifted match has less than half of the squared error that there is without
a shift. Half is far from what sound encodes do: of 24 clips at the coarsest qualities, where
pictures are repeated rather than coded, the lowest ratio was 0.84 (libsvtav1 at crf 63), and
most lay above 1. A still clip has the same error at every shift, and one that moves by less than
the encode's own error nearly the same. Such cells are never refused, and a shift there goes unseen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fr_lib.encode.y4m import Layout, luma, y4m_layout
from fr_lib.errors import EncodeError, say

MOST_SHIFT = 2
CLEARLY_BETTER = 0.5
# Squared steps of 8 bits; what lies below is rounding, whatever its ratio.
LEAST_ERROR = 0.5
_PLACES = 8  # frames of the encode that are looked at
_SIDE = 72  # pixels that the shorter side is brought to


def shift_errors(reference: Path, encode: Path) -> dict[int, float]:
    """Return the mean squared error of luma by shift, in steps of 8 bits.

    Parameters
    ----------
    reference, encode : Path
        Y4M files of equal size and frame count.

    Returns
    -------
    dict
        At shift s, frame t of the encode is held against frame t + s of the reference. Shifts are
        fewer for a clip of less than five frames.
    """
    ours, theirs = y4m_layout(encode), y4m_layout(reference)
    frames = ours.raster.frames
    most = min(MOST_SHIFT, (frames - 1) // 2)
    places = np.unique(np.linspace(most, frames - 1 - most, _PLACES).round().astype(int))
    errors: dict[int, list[float]] = {shift: [] for shift in range(-most, most + 1)}
    for place in places:
        own = _small(encode, ours, place)
        for shift, found in errors.items():
            found.append(np.mean((own - _small(reference, theirs, place + shift)) ** 2))
    return {shift: float(np.mean(found)) for shift, found in errors.items()}


def _small(path: Path, layout: Layout, frame: int) -> np.ndarray:
    """Return a frame's luma in steps of 8 bits, averaged over squares."""
    picture = luma(path, layout, frame)
    side = max(1, min(picture.shape) // _SIDE)
    height, width = (length // side for length in picture.shape)
    squares = picture[: height * side, : width * side].reshape(height, side, width, side)
    return squares.mean(axis=(1, 3)) / 2 ** (layout.raster.depth - 8)


def check_shift(where: str, reference: Path, encode: Path) -> None:
    """Raise EncodeError where the frames of an encode match earlier or later ones clearly better.

    Parameters
    ----------
    where : str
        What the error names.
    reference, encode : Path
        Y4M files of equal size and frame count.

    Raises
    ------
    EncodeError
        If a shift of one or two frames leaves less than half of the error.
    """
    errors = shift_errors(reference, encode)
    best = min(errors, key=errors.get)
    if errors[0] > LEAST_ERROR and errors[best] < CLEARLY_BETTER * errors[0]:
        raise EncodeError(
            say(
                where,
                f"frames match the reference's {abs(best)} {'later' if best > 0 else 'earlier'} "
                f"(squared error {errors[best]:.3g} against {errors[0]:.3g} in place)",
                "every frame in its place",
                "the encode lost or repeated frames; it is not scored",
            )
        )
