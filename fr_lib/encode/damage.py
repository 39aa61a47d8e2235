"""What is wrong with a clip, by what FFmpeg says while it decodes it.

FFmpeg hides most damage: it fills in what is missing, goes on and ends well. So a clip is decoded
with ``-xerror``, which stops at a damaged packet or picture, and the log is read, since some damage
(a checksum that is wrong, a file cut short) is only told there.
"""

from __future__ import annotations

import re
from pathlib import Path

from fr_lib.encode.ffmpeg import call_ffmpeg
from fr_lib.encode.y4m import y4m_layout
from fr_lib.errors import EncodeError, say

_LOUD = ("-xerror", "-nostats", "-loglevel", "repeat+level+verbose")
# Every filter graph begins with this line, and a picture of another kind begins a new one.
_PICTURE = re.compile(r"\[graph [^\]]*\] \[verbose\] w:(\d+) h:(\d+) pixfmt:(\w+)")
# Before this line FFmpeg probes all streams, those that are not decoded later among them.
_DECODING = "[info] Stream mapping:"
_DECODER = re.compile(r"-> #0:0 \((\w+) \((\S+)\) ->")
# What follows from an error, as each part of FFmpeg ends, is of no help.
_ERROR = re.compile(r"\[(?:error|fatal)\] (?!Task finished|Terminating thread)")
_SHOWN = 2  # the cause comes first


def decode_soundly(ffmpeg: str, *args: str, where: str) -> None:
    """Run FFmpeg on a clip; refuse one that is damaged or changes its pictures on the way.

    Parameters
    ----------
    ffmpeg : str
    *args : str
        Input, map, filters and output; one video stream.
    where : str
        The clip's path.

    Raises
    ------
    EncodeError
        If FFmpeg fails or tells of an error, or if size or pixel format change.
    """
    done = call_ffmpeg(ffmpeg, *_LOUD, *args)
    # An address means nothing to a reader.
    log = re.sub(r" @ 0x[0-9a-f]+", "", done.stderr.decode(errors="replace"))
    _refuse_change(where, log)
    errors = _errors_of_clip(log)
    if errors:
        raise EncodeError(
            say(
                where,
                f"damaged or cut short (FFmpeg: {_first(errors)})",
                "a clip that FFmpeg decodes without an error",
                "take a sound copy, or write the sound part to a new file",
            )
        )
    if done.returncode:
        errors = [line for line in log.splitlines() if _ERROR.search(line)] or ["no message"]
        raise EncodeError(
            say(where, _first(errors), "an FFmpeg run that succeeds", "see FFmpeg's message")
        )


def _refuse_change(where: str, log: str) -> None:
    kinds = list(dict.fromkeys(_PICTURE.findall(log)))
    if len(kinds) > 1:
        seen = ", then ".join(f"{width}x{height} {pix_fmt}" for width, height, pix_fmt in kinds)
        raise EncodeError(
            say(
                where,
                f"pictures change in mid-stream: {seen}",
                "one size and one pixel format",
                "cut the clip where they change, and give one part",
            )
        )


def _errors_of_clip(log: str) -> list[str]:
    """Return the errors of reading the file, and those of the video's decoder."""
    probing, _, decoding = log.partition(_DECODING)
    found = _DECODER.search(decoding)
    decoder = "|".join(re.escape(name) for name in found.groups()) if found else "$^"
    reading = re.compile(r"^\[in#0\S*\]")
    own = re.compile(rf"^\[(?:in#0\S*|vist#\S*|{decoder})\]")
    return [
        line
        for part, tags in ((probing, reading), (decoding, own))
        for line in part.splitlines()
        if tags.match(line) and _ERROR.search(line)
    ]


def _first(errors: list[str]) -> str:
    told = [re.sub(r"^(\[[^\]]*\] )+", "", line) for line in errors]
    return " | ".join(list(dict.fromkeys(told))[:_SHOWN])


def refuse_cut_y4m(path: Path) -> None:
    """Raise EncodeError for a Y4M clip whose last frame is cut short; FFmpeg is content with it."""
    layout = y4m_layout(path)
    if layout and (path.stat().st_size - layout.head) % layout.frame:
        raise EncodeError(
            say(
                str(path),
                "damaged or cut short (its last frame is not whole)",
                "Y4M of whole frames",
                "take a sound copy",
            )
        )
