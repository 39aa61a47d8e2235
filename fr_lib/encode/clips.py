"""Clips: found, described, decoded to Y4M, and compared frame by frame with what came of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fr_lib.encode.damage import decode_soundly, refuse_cut_y4m
from fr_lib.encode.ffmpeg import _threads, run_ffmpeg
from fr_lib.encode.y4m import Y4M_FORMATS, Raster, read_y4m
from fr_lib.errors import EncodeError, InputError, say
from fr_lib.files import read_json, sha256_of


@dataclass(frozen=True)
class Source:
    """A reference clip: its name in the corpus, its file, and how FFmpeg must read it.

    At a `scale` other than 1 the clip is resized before anything else is done with it.
    """

    name: str
    path: str
    sha256: str
    input_options: tuple[str, ...] = ()
    scale: float = 1.0


# How pictures are resized, up and down.
KERNEL = "flags=bicubic"


def decode_y4m(
    ffmpeg: str,
    source: Source | Path,
    out: Path,
    pix_fmt: str | None = None,
    threads: int | None = None,
    size: tuple[int, int] | None = None,
) -> Raster:
    """Decode the first video stream, each frame once and none twice, to a Y4M file.

    An attached picture, such as cover art, is no video stream. A clip has to be sound, with
    pictures of one kind; an encode is held against its reference later.

    Samples are kept as they are and labelled "limited range", on both sides. Some encoders
    (libvvenc) drop the label "full"; FFmpeg would then stretch one side to meet the other before
    libvmaf sees it, and score the encode of a full-range clip far too high.

    Parameters
    ----------
    ffmpeg : str
    source : Source or Path
        A clip, or an encode.
    out : Path
    pix_fmt : str, optional
        Pixel format of the result; default: the source's, or the nearest that Y4M has.
    threads : int, optional
        Of the decoder; default: what FFmpeg chooses. The result does not depend on it.
    size : tuple of int, optional
        Width and height of the result; default: the source's, at its scale.

    Returns
    -------
    Raster

    Raises
    ------
    EncodeError
        If FFmpeg cannot read the clip, finds it damaged or without any frame, or if its size or
        pixel format change.
    """
    options = source.input_options if isinstance(source, Source) else ()
    path = source.path if isinstance(source, Source) else str(source)
    formats = pix_fmt or Y4M_FORMATS
    command = (
        # A capital V leaves attached pictures out.
        *(*_threads(threads), *options, "-i", path, "-map", "0:V:0"),
        *("-vf", f"{_resized(source, size)}format={formats},setparams=range=limited"),
        *("-fps_mode", "passthrough"),
        *("-strict", "-1", "-f", "yuv4mpegpipe", str(out)),
    )
    if isinstance(source, Source):
        if not options:
            refuse_cut_y4m(Path(path))
        decode_soundly(ffmpeg, *command, where=path)
    else:
        run_ffmpeg(ffmpeg, "-loglevel", "error", *command, where=path)
    raster = read_y4m(out)
    if raster.frames == 0:
        raise EncodeError(say(path, "no frames", "at least one frame", "check the clip"))
    return raster


def _resized(source: Source | Path, size: tuple[int, int] | None) -> str:
    """Return the filter that brings a picture to its size, or nothing."""
    if size:
        return f"scale={size[0]}:{size[1]}:{KERNEL},"
    scale = source.scale if isinstance(source, Source) else 1.0
    sides = ":".join(f"round({side}*{scale:g}/2)*2" for side in ("iw", "ih"))
    return "" if scale == 1 else f"scale={sides}:{KERNEL},"


def check_alignment(where: str, reference: Raster, encode: Raster) -> None:
    """Raise EncodeError unless both have the same frame count, size and pixel format."""
    if encode != reference:
        raise EncodeError(
            say(
                where,
                f"decoded to {_describe(encode)}",
                _describe(reference),
                "the encode does not match its reference frame for frame; it is not scored",
            )
        )


def _describe(raster: Raster) -> str:
    return f"{raster.frames} frames {raster.width}x{raster.height} {raster.pix_fmt}"


def find_sources(
    paths: Sequence[str], manifest: str | None = None, raw: Mapping[str, object] | None = None
) -> list[Source]:
    """Hash the clips and name them: by the manifest's name, else by the file's stem.

    Parameters
    ----------
    paths : sequence of str
    manifest : str, optional
        JSON list of objects with at least ``name`` and ``sha256``.
    raw : mapping, optional
        ``width height pix_fmt fps`` of raw YUV input.

    Raises
    ------
    InputError
        For a missing file, an incomplete raw description, two clips of one name, or a manifest that
        is none.
    """
    known = _read_manifest(manifest)
    sources = []
    for path in paths:
        if not Path(path).is_file():
            raise InputError(say(path, "no such file", "a clip FFmpeg reads", "check --source"))
        digest = sha256_of(path)
        options = _raw_options(path, raw or {})
        name = known[digest]["name"] if digest in known else Path(path).stem
        sources.append(Source(name, path, digest, options))
    names = [s.name for s in sources]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise InputError(
            say("--source", f"two clips named {twice[0]}", "one name per clip", "rename one")
        )
    return sources


def _read_manifest(manifest: str | None) -> dict[str, dict]:
    """Return the manifest's objects by sha256; none without a manifest."""
    if manifest is None:
        return {}
    clips = read_json(manifest, made_by="whoever owns the clips")
    try:
        return {clip["sha256"]: clip for clip in clips if clip["name"]}
    except (KeyError, TypeError):
        raise InputError(
            say(manifest, "not a manifest", "a list of objects with name and sha256", "mend it")
        ) from None


# How raw video is described; whether there is such a pixel format, FFmpeg knows.
_RAW = {
    "width": r"[1-9]\d{0,4}",
    "height": r"[1-9]\d{0,4}",
    "pix_fmt": r"[a-z]\w*",
    "fps": r"(?=[\d.]*[1-9])\d+(\.\d+)?(/0*[1-9]\d*)?",
}


def _raw_options(path: str, raw: Mapping[str, object]) -> tuple[str, ...]:
    if Path(path).suffix.lower() not in (".yuv", ".raw"):
        return ()
    wrong = {
        f"--{key.replace('_', '-')}": raw.get(key)
        for key, form in _RAW.items()
        if not re.fullmatch(form, str(raw.get(key, "")), re.ASCII)
    }
    if wrong:
        found = ", ".join(
            f"{option} {value}" for option, value in wrong.items() if value is not None
        )
        raise InputError(
            say(
                path,
                f"raw video with {found}" if found else "raw video without a description",
                "width and height in pixels, a pixel format, a rate such as 30000/1001",
                f"give {' '.join(wrong)}",
            )
        )
    # Without -xerror FFmpeg is content when the last frame is cut short: a wrong description.
    return (
        *("-xerror", "-f", "rawvideo", "-pixel_format", str(raw["pix_fmt"])),
        *("-video_size", f"{raw['width']}x{raw['height']}", "-framerate", str(raw["fps"])),
    )


_ORIGIN = (
    *("repo", "path", "commit", "licence", "source_sha256", "source_start_frame", "source_filter"),
    *("width", "height", "fps_exact", "frames", "description"),
)


def clip_origins(sources: Sequence[Source], manifest: str | None) -> list[dict]:
    """Return name, sha256 and origin of clips; what the manifest does not say is null."""
    clips = _read_manifest(manifest)
    return [
        {"name": s.name, "sha256": s.sha256}
        | {key: clips.get(s.sha256, {}).get(key) for key in _ORIGIN}
        for s in sources
    ]
