"""Make the stress set: distort what no encoder of the corpus grid made, and score it.

Contents (clips at other sizes, standing still or racing, and generated pictures) meet distortions
in a fixed order, so that each distortion is seen on several contents and each content with several
distortions. References and distorted pictures go to libvmaf as Y4M, as the corpus maker's do.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fr_lib.corpus import KINDS, TEACHER_TOLERANCE, write_table
from fr_lib.encode.clips import Source, check_alignment, clip_origins, decode_y4m
from fr_lib.encode.ffmpeg import CONTAINER, ffmpeg_version, run_ffmpeg
from fr_lib.encode.vmaf import LIBVMAF_NAMES, SCORED_BY, score
from fr_lib.encode.y4m import read_y4m
from fr_lib.errors import EncodeError, InputError, say
from fr_lib.files import sha256_of, write_bytes, write_json
from fr_lib.schema import ADAPTERS, CANONICAL_6

# Every group of shuffled frames goes into it whole; large pictures are cut to half.
FRAMES, FRAMES_LARGE, LARGE = 24, 12, 1280
WIDTHS = (320, 640, 1280, 480, 960, 1920)
PER_CONTENT = 9


@dataclass(frozen=True)
class Distortion:
    """What is done to a reference: a filter graph, or an encode (`encoder` names it)."""

    kind: str
    words: str
    filters: str = "null"
    encoder: str | None = None
    quality: float = 0.0
    preset: str = ""

    @property
    def recipe(self) -> str:
        """The exact filter graph or encoder options."""
        if self.encoder is None:
            return self.filters
        return shlex.join(ADAPTERS[self.encoder].command(self.quality, self.preset))


def _family(kind: str, words: str, filters: str, values: Sequence[Any]) -> list[Distortion]:
    return [Distortion(kind, words.format(v), filters.format(v)) for v in values]


def _encodes() -> list[Distortion]:
    """Return very low and very high quality encodes, with presets that the corpus has not."""
    plan = (
        ("libx264", "veryfast", (1, 16, 36, 51)),
        ("libx265", "superfast", (4, 40, 51)),
        ("libsvtav1", "10", (12, 45, 63)),
        ("libaom-av1", "8", (8, 63)),
        ("libvvenc", "faster", (20, 63)),
    )
    return [
        Distortion("encode", f"{encoder} {preset} at {q}", "", encoder, q, preset)
        for encoder, preset, qualities in plan
        for q in qualities
    ]


def distortions() -> list[Distortion]:
    """Return every distortion, mild and strong, in a fixed order."""
    wrap = "format=yuv444p,{},format=yuv420p"
    families = [
        [Distortion("identical", "none")],
        _family("blur", "gaussian, sigma {}", "gblur=sigma={}", (0.6, 1.2, 2.5, 5, 10)),
        _family("blur", "box, radius {}", "boxblur={}:1", (1, 4)),
        _family("noise", "strength {}", "noise=alls={}:allf=t:all_seed=7", (4, 12, 30, 70)),
        _family("contrast", "times {}", "eq=contrast={}", (0.4, 0.75, 0.92, 1.15, 1.6)),
        _family("brightness", "plus {}", "eq=brightness={}", (-0.25, -0.06, 0.04, 0.2)),
        _family("brightness", "gamma {}", "eq=gamma={}", (0.6, 1.5)),
        _family("sharpening", "amount {}", "unsharp=5:5:{}", (0.4, 1.2, 3)),
        *(
            _family(
                "rescaling",
                f"{kernel}, down and up by {{0}}",
                f"scale=trunc(iw/{{0}}/2)*2:trunc(ih/{{0}}/2)*2:flags={kernel},"
                f"scale={{{{size}}}}:flags={kernel}",
                factors,
            )
            for kernel, factors in (
                ("bilinear", (2, 4, 8)),
                ("bicubic", (2, 3, 6)),
                ("lanczos", (2, 4)),
                ("neighbor", (2, 4)),
            )
        ),
        _family(
            "shift",
            "{} pixels to the right",
            wrap.format("pad=iw+{0}:ih:{0}:0,crop=iw-{0}:ih:0:0"),
            (1, 2),
        ),
        _family(
            "shift", "{} pixel down", wrap.format("pad=iw:ih+{0}:0:{0},crop=iw:ih-{0}:0:0"), (1,)
        ),
        [
            Distortion("frozen frames", words, f"shuffleframes={order}")
            for words, order in (
                ("every second", "0 0"),
                ("three of four", "0 0 0 0"),
                ("one of six", "0 1 2 2 4 5"),
                ("all", " ".join(["0"] * FRAMES_LARGE)),
            )
        ],
        _family("colour", "saturation {}", "eq=saturation={}", (0, 1.8)),
        _family("bit depth", "luma in steps of {}", "lutyuv=y=floor(val/{0})*{0}", (8, 32, 64)),
        [
            Distortion(
                "mixed", "blur and noise", "gblur=sigma=1.5,noise=alls=20:allf=t:all_seed=7"
            ),
            Distortion(
                "mixed", "sharpening and noise", "unsharp=5:5:2,noise=alls=8:allf=t:all_seed=7"
            ),
            Distortion("mixed", "contrast and blur", "eq=contrast=1.3,gblur=sigma=0.8"),
            Distortion("mixed", "averaged with the next frame", "tmix=frames=2"),
            Distortion("mixed", "fading to black", "fade=out:0:24"),
            Distortion("other picture", "mirrored", "hflip"),
            Distortion("other picture", "upside down", "vflip"),
        ],
        _encodes(),
    ]
    return [d for family in families for d in family]


@dataclass(frozen=True)
class Content:
    """A reference: a clip or a generated picture, at a width, still, as it is, or racing.

    `graph` is a lavfi source for generated content; `source` is the clip otherwise. `filters` come
    before the scaling.
    """

    name: str
    width: int
    fps: str
    source: Source | None = None
    graph: str = ""
    filters: str = "null"

    @property
    def frames(self) -> int:
        """How many frames are kept."""
        return FRAMES_LARGE if self.width >= LARGE else FRAMES


_TEXT = "drawtext=text='The quick brown fox 0123456789':fontcolor=black:fontsize=h/14:x=w/20:y="
# Generated pictures: name, lavfi source at {size} and {rate}, width, height, rate.
_GENERATED = (
    ("flat", "color=gray:size={size}:rate={rate}", 640, 360, 25),
    (
        "gradient",
        # Colours that are not given are drawn anew in each run, whatever the seed.
        "gradients=size={size}:rate={rate}:seed=3:speed=0.02:c0=0x204080:c1=0xf0c060",
        1280,
        720,
        30,
    ),
    ("test card", "testsrc2=size={size}:rate={rate}", 960, 540, 60),
    ("fractal", "mandelbrot=size={size}:rate={rate}:start_scale=1", 480, 270, 24),
    ("cells", "life=size={size}:rate={rate}:seed=5:mold=10:ratio=0.2,format=yuv420p", 320, 180, 50),
    ("static noise", "color=gray:size={size}:rate={rate},noise=alls=90:all_seed=5", 640, 360, 30),
    (
        "live noise",
        "color=gray:size={size}:rate={rate},noise=alls=90:allf=t:all_seed=5,gblur=sigma=1.5",
        640,
        360,
        60,
    ),
    (
        "text, still",
        "color=white:size={size}:rate={rate}," + ",".join(f"{_TEXT}h*{k}/10" for k in range(1, 9)),
        1920,
        1080,
        25,
    ),
    (
        "text, scrolling",
        "color=white:size={size}:rate={rate},"
        + ",".join(f"{_TEXT}h*{k}/10" for k in range(1, 9))
        + ",scroll=v=0.02",
        1280,
        720,
        60,
    ),
    ("bars, racing", "smptebars=size={size}:rate={rate},scroll=h=0.06", 640, 360, 50),
    ("bars, crawling", "smptebars=size={size}:rate={rate},scroll=h=0.004", 1920, 1080, 24),
    ("test card, racing", "testsrc2=size={size}:rate={rate},scroll=h=0.03:v=0.02", 960, 540, 30),
    ("test card, fading", "testsrc2=size={size}:rate={rate},fade=in:0:24", 480, 270, 25),
)


def contents(clips: Sequence[Source], rates: dict[str, str]) -> list[Content]:
    """Return all references: every clip at one width, some still, some racing, and generated ones.

    Parameters
    ----------
    clips : sequence of Source
    rates : dict
        Frame rate of each clip by name.
    """
    plain = [
        Content(f"{c.name} {WIDTHS[k % len(WIDTHS)]}", WIDTHS[k % len(WIDTHS)], rates[c.name], c)
        for k, c in enumerate(clips)
    ]
    still = [
        Content(f"{c.name} still", 640, rates[c.name], c, filters="loop=loop=-1:size=1:start=5")
        for c in clips[::4]
    ]
    racing = [
        Content(
            f"{c.name} racing",
            480,
            rates[c.name],
            c,
            # Every frame is far from the one before: forwards by five, mirrored every other time.
            filters="loop=loop=-1:size=40,framestep=5,hflip=enable='mod(n,2)'",
        )
        for c in clips[1::4]
    ]
    generated = [
        Content(name, width, str(rate), graph=graph.format(size=f"{width}x{height}", rate=rate))
        for name, graph, width, height, rate in _GENERATED
    ]
    return [*plain, *still, *racing, *generated]


@dataclass(frozen=True)
class StressCell:
    """One content with one distortion."""

    content: Content
    distortion: Distortion

    @property
    def name(self) -> str:
        """Its name in the set."""
        return f"{self.content.name}: {self.distortion.kind}, {self.distortion.words}"

    @property
    def origin(self) -> dict[str, Any]:
        """What its rows say of it, all of them alike."""
        content, distortion = self.content, self.distortion
        return {
            "cell": self.name,
            "src": content.source.name if content.source else content.name,
            "content": "clip" if content.source else "generated",
            "kind": distortion.kind,
            "distortion": distortion.words,
            "recipe": distortion.recipe,
            "src_graph": content.graph or content.filters,
            "fps": float(content.fps),
            "src_sha256": content.source.sha256 if content.source else None,
        }

    def made(self, row: dict[str, Any]) -> bool:
        """Say whether a row was made by this very cell."""
        return self.origin.items() <= row.items()


def plan(clips: Sequence[Source], rates: dict[str, str]) -> list[StressCell]:
    """Return every cell; content by content, each with the next distortions in turn."""
    every = distortions()
    # A step that shares no factor with the length visits all of them before one comes again.
    step = next(s for s in range(7, len(every)) if np.gcd(s, len(every)) == 1)
    return [
        StressCell(content, every[(k * PER_CONTENT + i) * step % len(every)])
        for k, content in enumerate(contents(clips, rates))
        for i in range(PER_CONTENT)
    ]


def clip_rate(ffmpeg: str, clip: Source) -> str:
    """Return the frame rate that FFmpeg reports of a clip, such as "29.97"."""
    log = run_ffmpeg(ffmpeg, "-i", clip.path, "-frames:v", "1", "-f", "null", "-", where=clip.path)
    found = re.search(rb"([\d.]+) fps", log.stderr)
    if not found:
        raise InputError(say(clip.path, "no frame rate", "a video clip", "check --source"))
    return found[1].decode()


def _reference(ffmpeg: str, content: Content, folder: Path) -> Path:
    """Write the reference of a content as Y4M."""
    where = ("-f", "lavfi", "-i", content.graph)
    if content.source is not None:
        decoded = folder / "clip.y4m"
        decode_y4m(ffmpeg, content.source, decoded, "yuv420p", threads=1)
        where = ("-i", str(decoded))
    out = folder / "reference.y4m"
    size = f"scale={content.width}:trunc(ih*{content.width}/iw/2)*2:flags=lanczos"
    filters = f"{content.filters},{size if content.source else 'null'},format=yuv420p"
    run_ffmpeg(
        ffmpeg,
        *("-loglevel", "error", "-threads", "1", *where, "-vf", filters),
        *("-fps_mode", "passthrough", "-frames:v", str(content.frames)),
        *("-f", "yuv4mpegpipe", str(out)),
        where=content.name,
    )
    return out


def _distorted(ffmpeg: str, cell: StressCell, reference: Path, folder: Path) -> Path:
    """Write the distorted pictures of a cell as Y4M."""
    out, raster = folder / "distorted.y4m", read_y4m(reference)
    distortion = cell.distortion
    if distortion.encoder is None:
        filters = distortion.filters.format(size=f"{raster.width}:{raster.height}")
        run_ffmpeg(
            ffmpeg,
            *("-loglevel", "error", "-threads", "1", "-i", str(reference)),
            *("-vf", f"{filters},format=yuv420p", "-fps_mode", "passthrough"),
            *("-f", "yuv4mpegpipe", str(out)),
            where=cell.name,
        )
    else:
        encoded = folder / f"encode{CONTAINER}"
        command = ADAPTERS[distortion.encoder].command(distortion.quality, distortion.preset)
        run_ffmpeg(
            ffmpeg,
            *("-loglevel", "error", "-i", str(reference), *command, "-threads", "1", str(encoded)),
            where=cell.name,
        )
        decode_y4m(ffmpeg, encoded, out, raster.pix_fmt, threads=1)
    check_alignment(cell.name, raster, read_y4m(out))
    return out


def run_stress_cell(cell: StressCell, ffmpeg: str, reference: Path, folder: Path) -> list[dict]:
    """Distort, check and score one cell; return its rows.

    Raises
    ------
    EncodeError
        If FFmpeg fails, frames or sizes differ, or a score is not the teacher's formula's.
    """
    raster = read_y4m(reference)
    frames, libvmaf = score(
        ffmpeg, reference, _distorted(ffmpeg, cell, reference, folder), folder, cell.name, 1
    )
    shared = cell.origin | {
        "width": raster.width,
        "height": raster.height,
        "teacher": SCORED_BY.name,
        "ffmpeg_version": ffmpeg_version(ffmpeg),
        "libvmaf_version": libvmaf,
    }
    rows = [
        shared
        | {"frame_index": index, "vmaf": frame[SCORED_BY.name]}
        | {name: frame[LIBVMAF_NAMES[name]] for name in CANONICAL_6}
        for index, frame in enumerate(frames)
    ]
    _check_teacher(cell.name, pd.DataFrame(rows))
    return rows


def _check_teacher(where: str, rows: pd.DataFrame) -> None:
    expected = SCORED_BY.formula(rows[list(SCORED_BY.features)].to_numpy())
    worst = float(np.abs(expected - rows["vmaf"]).max())
    if not worst <= TEACHER_TOLERANCE:
        raise EncodeError(
            say(
                where,
                f"libvmaf and the formula of {SCORED_BY.name} differ by {worst:.3g}",
                f"{TEACHER_TOLERANCE:g}",
                "use an FFmpeg whose libvmaf has that model",
            )
        )


def make_stress(
    cells: Sequence[StressCell], out: Path, ffmpeg: str
) -> tuple[pd.DataFrame | None, list[str]]:
    """Work through cells, keeping each finished one beside `out` until all are there.

    Parameters
    ----------
    cells : sequence of StressCell
    out : Path
        A ``.parquet`` file, written when every cell is done.
    ffmpeg : str

    Returns
    -------
    table : DataFrame or None
        The rows, if no cell failed.
    failures : list of str
        One line per failed cell.
    """
    from tqdm import tqdm

    store = out.with_name(out.name + ".cells")
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fr_stress_") as name, tqdm(cells, unit="cell") as bar:
        scratch, current = Path(name), None
        for number, cell in enumerate(bar):
            done = store / f"{number:04d}.json"
            if done.is_file() and cell.made(json.loads(done.read_text())[0]):
                continue
            try:
                if cell.content != current:
                    reference = _reference(ffmpeg, cell.content, scratch)
                    current = cell.content
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    rows = run_stress_cell(cell, ffmpeg, reference, Path(folder))
                write_bytes(done, json.dumps(rows).encode())
            except EncodeError as broken:
                failures.append(str(broken))
    if failures:
        return None, failures
    files = sorted(store.glob("[0-9]*.json"))[: len(cells)]
    table = pd.DataFrame([row for file in files for row in json.loads(file.read_text())])
    write_table(table, out)
    for file in store.iterdir():
        file.unlink()
    store.rmdir()
    return table, []


def write_stress_provenance(
    out: Path,
    table: pd.DataFrame,
    clips: Sequence[Source],
    command: Sequence[str],
    manifest: str | None,
) -> Path:
    """Write ``<name>.provenance.json`` beside the set: clips, versions, what was done how often."""
    once = table.drop_duplicates("cell")
    target = out.with_name(out.name.removesuffix(".parquet") + ".provenance.json")
    write_json(
        target,
        {
            "stress": {"file": out.name, "sha256": sha256_of(out), "rows": len(table)},
            "command": shlex.join(command),
            "teacher": SCORED_BY.name,
            "ffmpeg_version": sorted(table["ffmpeg_version"].unique()),
            "libvmaf_version": sorted(table["libvmaf_version"].unique()),
            "cells": len(once),
            "cells_by_kind": {k: int((once["kind"] == k).sum()) for k in KINDS},
            "sources": clip_origins(clips, manifest),
            "generated": {
                src: graph
                for src, graph in once.loc[
                    once["content"] == "generated", ["src", "src_graph"]
                ].itertuples(index=False)
            },
        },
    )
    return target
