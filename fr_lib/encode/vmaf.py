"""Score an encode against its reference with libvmaf, by one teacher or by several in one pass."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fr_lib.corpus import V061, Teacher
from fr_lib.encode.ffmpeg import _threads, run_ffmpeg
from fr_lib.encode.y4m import Y4M_FORMATS, Raster, deep
from fr_lib.errors import EncodeError, say
from fr_lib.schema import CANONICAL_6, FIXED_POINT

# The teacher that makers of rows score with and stamp them with, unless they are told otherwise.
SCORED_BY = V061
LIBVMAF_NAMES = {name: f"{FIXED_POINT}{name}" for name in CANONICAL_6}

# No character that means something in FFmpeg's filter graphs.
_PLAIN = re.compile(r"[^\\':,;\[\]]+")


def score(
    ffmpeg: str,
    reference: Path,
    encoded: Path,
    scratch: Path,
    where: str = "scoring",
    threads: int | None = None,
    teachers: Sequence[Teacher] = (SCORED_BY,),
    coded: Raster | None = None,
) -> tuple[list[dict], str]:
    """Score Y4M against Y4M.

    Parameters
    ----------
    ffmpeg : str
    reference, encoded : Path
        Y4M files of equal frame count and size.
    scratch : Path
        Folder for libvmaf's log.
    where : str
        What an error names.
    threads : int, optional
        Of libvmaf; default: one for each core. The scores do not depend on it.
    teachers : sequence of Teacher
        Where one sees banding, both pictures are brought to 10 bits first, as the documentation of
        VMAF v1 asks; that of 8-bit pictures is exact and changes no score of the others.
    coded : Raster, optional
        What the encoder coded, told to teachers that see banding; default: as `encoded` is.

    Returns
    -------
    frames : list of dict
        Per frame, the features under libvmaf's own names, and each teacher's score under its name.
    version : str
        libvmaf's version, from its log.

    Raises
    ------
    EncodeError
        If FFmpeg or libvmaf fails, as with clips of a few pixels.
    """
    # VMAF v0.6.1 brings the six features, whoever else is asked.
    models = "|".join(_model(teacher, coded) for teacher in dict.fromkeys((V061, *teachers)))
    with _plainly_named(scratch) as folder:
        path = Path(folder, "libvmaf.json")
        options = f"model='{models}':log_fmt=json:log_path='{path}'"
        options += f":n_threads={threads or os.cpu_count()}"
        run_ffmpeg(
            ffmpeg,
            *("-loglevel", "error", "-i", str(encoded), "-i", str(reference)),
            *("-lavfi", f"{_pictures(teachers)}libvmaf={options}", *_threads(threads)),
            *("-f", "null", "-"),
            where=where,
        )
        if not path.is_file():
            # FFmpeg ends well where libvmaf refuses the size that the encoder coded.
            raise EncodeError(
                say(where, "libvmaf wrote no log", "pictures it can score", "take a larger size")
            )
        log = json.loads(path.read_text())
    return [frame["metrics"] for frame in log["frames"]], log["version"]


def see_banding(teachers: Sequence[Teacher]) -> bool:
    """Return whether any of them asks for pictures of 10 bits."""
    return any(teacher.sees_banding for teacher in teachers)


def _model(teacher: Teacher, coded: Raster | None) -> str:
    """Return libvmaf's description of one model, escaped for a filter's option."""
    parts = [f"version={teacher.name}", f"name={teacher.name}"]
    if teacher.sees_banding and coded is not None:
        parts += [
            f"cambi.enc_width={coded.width}",
            f"cambi.enc_height={coded.height}",
            f"cambi.enc_bitdepth={coded.depth}",
        ]
    return r"\:".join(parts)


def _pictures(teachers: Sequence[Teacher]) -> str:
    """Return what brings both pictures to 10 bits, if a teacher asks for that."""
    if not see_banding(teachers):
        return ""
    formats = "|".join(name for name in Y4M_FORMATS.split("|") if deep(name) == name)
    return f"[0:v]format={formats}[encode];[1:v]format={formats}[reference];[encode][reference]"


@contextmanager
def _plainly_named(scratch: Path) -> Iterator[str]:
    """Return `scratch`, or a folder for libvmaf's log that needs no escaping in a filter graph."""
    if _PLAIN.fullmatch(str(scratch)):
        yield str(scratch)
        return
    places = [p for p in ("/dev/shm", "/var/tmp", "/tmp") if os.access(p, os.W_OK)]
    with tempfile.TemporaryDirectory(prefix="fr_vmaf_", dir=next(iter(places), None)) as folder:
        yield folder
