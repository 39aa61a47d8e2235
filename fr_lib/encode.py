"""Make a corpus: encode real clips with real encoders and score them with libvmaf.

One *cell* is one source, encoder, preset and quality value. Its encode is decoded back to the
reference's size and pixel format, checked frame for frame, and scored by the teacher; every kept
frame becomes one row. Both sides go to libvmaf as Y4M, whose frames carry no time stamps: frame i
meets frame i, and an encode that lost frames is an error, never a low score.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fr_lib.corpus import SUFFIXES, read_table, write_table
from fr_lib.errors import EncodeError, FrError, InputError, say
from fr_lib.files import read_json, sha256_of, write_bytes, write_json
from fr_lib.schema import ADAPTERS, CANONICAL_6, TEACHER, adapter

LIBVMAF_NAMES = {name: f"integer_{name}" for name in CANONICAL_6}
# MP4 for every encoder: libvvenc in Matroska starts late and loses frames when decoded.
CONTAINER = ".mp4"
# What each software encoder says about its version, in its log or in its own bitstream.
_VERSION_PATTERNS = (
    rb"x265 \(build \d+\) - ([^:\s]+)",
    rb"SVT-AV1 Encoder Lib (\S+)",
    rb"libvvenc version: (\S+)",
    rb"libaom-av1 @ \w+\] (v\S+)",
    rb"x264 - (core \d+(?: r\d+ \w+)?)",
)
# libvvenc 1.15.0-dev at times ends with success and an empty file; the next try is whole.
ATTEMPTS = 24
CELL_KEY = ("src", "encoder", "preset", "cq")


@dataclass(frozen=True)
class Source:
    """A reference clip: its name in the corpus, its file, and how FFmpeg must read it."""

    name: str
    path: str
    sha256: str
    input_options: tuple[str, ...] = ()


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


def default_ffmpeg() -> str:
    """Return the FFmpeg that travels in the imageio-ffmpeg wheel."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def run_ffmpeg(ffmpeg: str, *args: str, where: str) -> subprocess.CompletedProcess[bytes]:
    """Run FFmpeg without questions; EncodeError with its first messages if it fails."""
    done = subprocess.run(
        [ffmpeg, "-hide_banner", "-nostdin", "-y", *args], capture_output=True, check=False
    )
    if done.returncode:
        # The cause comes first, what follows from it after; addresses mean nothing to a reader.
        log = re.sub(r" @ 0x[0-9a-f]+", "", done.stderr.decode(errors="replace"))
        lines = log.strip().splitlines() or ["no message"]
        raise EncodeError(
            say(where, " | ".join(lines[:3]), "an FFmpeg run that succeeds", "see FFmpeg's message")
        )
    return done


def ffmpeg_version(ffmpeg: str) -> str:
    """Return the version FFmpeg reports; EncodeError if it is not FFmpeg with libvmaf."""
    try:
        text = subprocess.run(
            [ffmpeg, "-version"], capture_output=True, check=False, text=True
        ).stdout
    except OSError as broken:
        raise EncodeError(
            say(ffmpeg, f"cannot be run ({broken.strerror})", "an FFmpeg binary", "check --ffmpeg")
        ) from None
    found = re.match(r"ffmpeg version (\S+)", text)
    if not found:
        raise EncodeError(say(ffmpeg, "not FFmpeg", "an FFmpeg binary", "check --ffmpeg"))
    if "--enable-libvmaf" not in text:
        raise EncodeError(
            say(ffmpeg, "built without libvmaf", "--enable-libvmaf", "use another --ffmpeg")
        )
    return found[1]


def probe_encoder(ffmpeg: str, encoder: str) -> str:
    """Encode two generated frames and return the encoder's version ("not reported" if silent).

    Raises
    ------
    EncodeError
        If this machine cannot run `encoder`; the message carries FFmpeg's own reason.
    """
    unit = adapter(encoder)
    command = unit.command((unit.lo + unit.hi) // 2, unit.default_preset)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, f"probe{CONTAINER}")
        done = subprocess.run(
            [
                *(ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "verbose"),
                *("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-frames:v", "2"),
                *(*command, str(out)),
            ],
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise EncodeError(
                say(
                    encoder,
                    f"cannot run here ({_reason(done.stderr, encoder)})",
                    f"a machine with {unit.hardware or 'software'} support for it",
                    "leave it out or run it where it works",
                )
            )
        evidence = done.stderr + out.read_bytes()
    versions = [m[1].decode() for p in _VERSION_PATTERNS if (m := re.search(p, evidence))]
    return versions[0] if versions else "not reported"


def _reason(log: bytes, encoder: str) -> str:
    """Pick the line of an FFmpeg log that says why `encoder` did not open."""
    lines = [
        line.strip() for line in log.decode(errors="replace").splitlines() if "@ 0x" not in line
    ]
    own = re.findall(rf"\[(?:{re.escape(encoder)}|AMF) @ \w+\] (.*)", log.decode(errors="replace"))
    own = [text for text in own if re.search("cannot|error|fail|no |not ", text, re.IGNORECASE)]
    unknown = re.search(rb"Unknown encoder '.*'", log)
    if unknown:
        return unknown[0].decode()
    return own[0] if own else (lines[-1] if lines else "no message")


# Y4M colour family: FFmpeg's pixel format, and by how much chroma is smaller.
_Y4M_COLOURS = {"420": ("yuv420p", 2, 2), "422": ("yuv422p", 2, 1), "444": ("yuv444p", 1, 1)}
# FFmpeg turns any other format (RGB, gray, NV12, ...) into the nearest of these.
_Y4M_FORMATS = "|".join(
    f"{p}{d}" for d in ("", "10le", "12le") for p, _, _ in _Y4M_COLOURS.values()
)


@dataclass(frozen=True)
class Raster:
    """What a Y4M file holds: size, FFmpeg's name of the pixel format, frame count."""

    width: int
    height: int
    pix_fmt: str
    frames: int


def read_y4m(path: Path) -> Raster:
    """Read size, pixel format and number of frames of a Y4M file from its header and length.

    The colour tag also says where chroma samples sit (``420mpeg2``, ``420jpeg``); encoders drop
    that, and luma, which is all that VMAF sees, does not depend on it.
    """
    with path.open("rb") as stream:
        header = stream.readline()
        frame_header = stream.readline()
    fields = {chr(part[0]): part[1:].decode() for part in header.split()[1:]}
    width, height, colour = int(fields["W"]), int(fields["H"]), fields["C"]
    family, chroma_w, chroma_h = _Y4M_COLOURS[colour[:3]]
    chroma = 2 * -(-width // chroma_w) * -(-height // chroma_h)
    deep = re.search(r"p(\d\d)$", colour)
    size = (width * height + chroma) * (2 if deep else 1) + len(frame_header)
    frames = (path.stat().st_size - len(header)) // size
    return Raster(width, height, family + (f"{deep[1]}le" if deep else ""), frames)


def decode_y4m(
    ffmpeg: str,
    source: Source | Path,
    out: Path,
    pix_fmt: str | None = None,
    threads: int | None = None,
) -> Raster:
    """Decode the first video stream, each frame once and none twice, to a Y4M file.

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

    Returns
    -------
    Raster

    Raises
    ------
    EncodeError
        If FFmpeg cannot read the clip, or finds no frame in it.
    """
    options = source.input_options if isinstance(source, Source) else ()
    path = source.path if isinstance(source, Source) else str(source)
    run_ffmpeg(
        ffmpeg,
        *("-loglevel", "error", *_threads(threads), *options, "-i", path, "-map", "0:v:0"),
        *("-vf", f"format={pix_fmt or _Y4M_FORMATS},setparams=range=limited"),
        *("-fps_mode", "passthrough"),
        *("-strict", "-1", "-f", "yuv4mpegpipe", str(out)),
        where=path,
    )
    raster = read_y4m(out)
    if raster.frames == 0:
        raise EncodeError(say(path, "no frames", "at least one frame", "check the clip"))
    return raster


def _threads(number: int | None) -> tuple[str, ...]:
    """Return FFmpeg's option for what comes next on its command line, an input or an output."""
    return ("-threads", str(number)) if number else ()


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
    run = FfmpegQualityMetrics(
        str(reference),
        str(encoded),
        ffmpeg_path=ffmpeg,
        # One rate for both, so that it need not look for them; a frame's score has no use for it.
        framerate=25.0,
        threads=threads or 0,
        tmp_dir=str(scratch),
        keep_tmp_files=True,
    )
    try:
        frames = run.calculate(["vmaf"], {"model_path": f"{TEACHER}.json"})["vmaf"]
    except (FfmpegQualityMetricsError, RuntimeError) as broken:
        last = str(broken).strip().splitlines()[-1].strip()
        raise EncodeError(
            say(where, f"libvmaf failed ({last})", "a clip libvmaf can score", "try a larger clip")
        ) from None
    log = json.loads(Path(run.temp_files["libvmaf"]).read_text())
    return frames, log["version"]


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
        "teacher": TEACHER,
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


def _raw_options(path: str, raw: Mapping[str, object]) -> tuple[str, ...]:
    if Path(path).suffix.lower() not in (".yuv", ".raw"):
        return ()
    lacking = [
        f"--{k.replace('_', '-')}" for k in ("width", "height", "pix_fmt", "fps") if not raw.get(k)
    ]
    if lacking:
        raise InputError(
            say(
                path,
                "raw video without a description",
                "width, height, format and rate",
                f"give {' '.join(lacking)}",
            )
        )
    # Without -xerror FFmpeg is content when the last frame is cut short: a wrong description.
    return (
        *("-xerror", "-f", "rawvideo", "-pixel_format", str(raw["pix_fmt"])),
        *("-video_size", f"{raw['width']}x{raw['height']}", "-framerate", str(raw["fps"])),
    )


def per_encoder(
    values: Iterable[str], encoders: Sequence[str], option: str
) -> dict[str, list[str]]:
    """Read ``A,B`` (for every encoder) and ``encoder=A,B`` (for one) into lists per encoder.

    A value for one encoder replaces what is given for all.

    Examples
    --------
    >>> per_encoder(["30", "libvvenc=28,40"], ["libx264", "libvvenc"], "--quality")
    {'libx264': ['30'], 'libvvenc': ['28', '40']}
    """
    general: list[str] = []
    own: dict[str, list[str]] = {}
    for value in values:
        name, equals, rest = value.rpartition("=")
        if equals and name not in encoders:
            adapter(name)
            raise InputError(
                say(
                    option,
                    f"{value!r}, but {name} is not asked for",
                    ", ".join(encoders),
                    f"add --encoder {name} or drop the value",
                )
            )
        (own.setdefault(name, []) if equals else general).extend(rest.split(","))
    return {encoder: own.get(encoder, general) for encoder in encoders}


def build_grid(
    sources: Sequence[Source],
    encoders: Sequence[str],
    quality: Iterable[str],
    preset: Iterable[str] = (),
    every: int = 1,
    threads: int | None = None,
) -> list[Cell]:
    """Return every cell of the grid, each checked against its encoder's adapter.

    Raises
    ------
    InputError
        For an unknown encoder or preset, a quality value out of range, or none at all.
    """
    for encoder in encoders:
        adapter(encoder)
    for option, number in (("--every", every), ("--threads", threads)):
        if number is not None and number < 1:
            raise InputError(say(option, str(number), "1 or more", "give a positive whole number"))
    qualities = per_encoder(quality, encoders, "--quality")
    presets = per_encoder(preset, encoders, "--preset")
    cells = []
    for encoder in encoders:
        unit = ADAPTERS[encoder]
        if not qualities[encoder]:
            raise InputError(
                say(encoder, "no quality value", f"{unit.lo}..{unit.hi}", "give --quality")
            )
        for text in qualities[encoder]:
            for name in presets[encoder] or [unit.default_preset]:
                value = _quality(text, encoder)
                unit.command(value, name)
                cells += [Cell(s, encoder, name, value, every, threads) for s in sources]
    # Source by source: one reference at a time is decoded to scratch space.
    order = {source.name: i for i, source in enumerate(sources)}
    return sorted(dict.fromkeys(cells), key=lambda c: order[c.source.name])


def _quality(text: str, encoder: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        unit = ADAPTERS[encoder]
        raise InputError(
            say(f"{encoder} --quality", repr(text), f"{unit.lo}..{unit.hi}", "give a number")
        ) from None
    return int(value) if value.is_integer() else value


def usable_encoders(
    ffmpeg: str, encoders: Sequence[str], report: Callable[[str], None]
) -> dict[str, str]:
    """Probe each encoder once; report one line for each that cannot run; return name -> version.

    Raises
    ------
    EncodeError
        If none can run: the one encoder's reason, or all of their names.
    """
    versions: dict[str, str] = {}
    failures = []
    for encoder in encoders:
        try:
            versions[encoder] = probe_encoder(ffmpeg, encoder)
        except EncodeError as unable:
            failures.append(unable)
    if not versions:
        if len(failures) == 1:
            raise failures[0]
        raise EncodeError("\n".join(map(str, failures)))
    for failure in failures:
        report(f"left out: {failure}")
    return versions


class CellStore:
    """The corpus file and, beside it while work goes on, one file per finished cell.

    Each cell's rows are renamed into ``<out>.cells/`` in one step, so a cell is there whole or not
    at all. :meth:`collect` puts them into the corpus file, sorted by cell.

    Raises
    ------
    InputError
        If `out` is no corpus file, or a corpus without the columns that tell cells apart.
    """

    def __init__(self, out: str | Path) -> None:
        self.out = Path(out)
        if not self.out.name.endswith(SUFFIXES):
            raise InputError(say("--out", str(out), f"*{', *'.join(SUFFIXES)}", "name it so"))
        self.folder = self.out.with_name(self.out.name + ".cells")
        self.table = read_table(self.out) if self.out.is_file() else pd.DataFrame()
        lacking = {*CELL_KEY, "frame_index", "src_sha256"}.difference(self.table)
        if len(self.table) and lacking:
            raise InputError(
                say(
                    str(out),
                    f"its rows have no {', '.join(sorted(lacking))}",
                    "a corpus made by this command",
                    "write to another --out",
                )
            )

    def _file(self, key: tuple) -> Path:
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        return self.folder / f"{digest}.json"

    def done(self, cells: Sequence[Cell]) -> set[tuple]:
        """Return the keys of `cells` that need no work, after taking in what a killed run left.

        Raises
        ------
        InputError
            If the corpus file holds a source of the same name but with other content, or the same
            cell with other frames kept.
        """
        self.collect()
        if not len(self.table):
            return set()
        self._refuse_other_content(cells)
        keys = self.table[list(CELL_KEY)].drop_duplicates().itertuples(index=False, name=None)
        have = {(s, e, p, float(q)) for s, e, p, q in keys}
        return {c.key for c in cells if c.key in have}

    def _refuse_other_content(self, cells: Sequence[Cell]) -> None:
        known = dict(self.table[["src", "src_sha256"]].drop_duplicates().itertuples(index=False))
        for source in {c.source for c in cells}:
            if known.get(source.name, source.sha256) != source.sha256:
                raise InputError(
                    say(
                        str(self.out),
                        f"it holds another clip named {source.name}",
                        "one content per name",
                        "rename the clip or write to another --out",
                    )
                )
        step = self.table.loc[self.table["frame_index"] > 0, "frame_index"].min()
        if cells and step == step and step != cells[0].every:
            raise InputError(
                say(
                    str(self.out),
                    f"it keeps every {step:g}. frame",
                    f"--every {step:g} for this file",
                    "use the same value or another --out",
                )
            )

    def put(self, key: tuple, rows: list[dict]) -> None:
        """Store the rows of one finished cell."""
        write_bytes(self._file(key), json.dumps(rows).encode())

    def collect(self) -> pd.DataFrame:
        """Merge finished cells into the corpus file and remove the cell folder."""
        parts = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        # A dot begins the name of a file that a killed process had not finished.
        whole = [part for part in parts if not part.name.startswith(".")]
        rows = [row for part in whole for row in json.loads(part.read_text())]
        if rows:
            table = pd.concat([self.table, pd.DataFrame(rows)], ignore_index=True)
            keys = [*CELL_KEY, "frame_index"]
            self.table = table.drop_duplicates(keys).sort_values(keys, ignore_index=True)
            write_table(self.table, self.out)
        for part in parts:
            part.unlink()
        if self.folder.is_dir():
            self.folder.rmdir()
        return self.table


def progress(total: int):
    """Return the bar of cells done, rate and time left."""
    from tqdm import tqdm

    return tqdm(total=total, unit="cell", desc="encode and score")


def work_here(cells: Sequence[Cell], store: CellStore, ffmpeg: str) -> list[str]:
    """Work through `cells` one after another in this process; return one line per failure."""
    failures: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="fr_corpus_") as scratch,
        progress(len(cells)) as bar,
    ):
        for source in dict.fromkeys(c.source for c in cells):
            own = [c for c in cells if c.source == source]
            failures += _work_source(own, store, ffmpeg, Path(scratch), bar)
    return failures


def make_corpus(
    cells: Sequence[Cell],
    out: str | Path,
    ffmpeg: str,
    report: Callable[[str], None] = print,
    work: Callable[[Sequence[Cell], CellStore, str], list[str]] = work_here,
) -> tuple[int, list[str]]:
    """Work through `cells`, skip what `out` already holds, and leave a valid file whatever happens.

    `work` puts the rows of each finished cell into the store and returns one line per failure.

    Returns
    -------
    encoded : int
        Cells encoded by this call.
    failures : list of str
        One line per cell that failed; the other cells are kept.

    Raises
    ------
    InputError
        If `out` cannot hold these cells; nothing has been encoded then.
    """
    store = CellStore(out)
    done = store.done(cells)
    todo = [c for c in cells if c.key not in done]
    report(f"{len(cells)} cells, {len(done)} already in {out}, {len(todo)} to encode")
    try:
        failures = work(todo, store, ffmpeg) if todo else []
    finally:
        store.collect()
    return len(todo) - len(failures), failures


def _work_source(
    cells: Sequence[Cell], store: CellStore, ffmpeg: str, scratch: Path, bar
) -> list[str]:
    reference = scratch / "reference.y4m"
    try:
        raster = decode_y4m(ffmpeg, cells[0].source, reference, threads=cells[0].threads)
    except FrError as broken:
        bar.update(len(cells))
        return [str(broken)] * len(cells)
    failures = []
    for cell in cells:
        bar.set_postfix_str(f"{cell.source.name} {cell.encoder} {cell.quality:g}")
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            try:
                store.put(cell.key, run_cell(cell, ffmpeg, Path(folder), reference, raster))
            except EncodeError as broken:
                failures.append(str(broken))
        bar.update()
    reference.unlink()
    return failures


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


def write_provenance(
    out: Path,
    cells: Sequence[Cell],
    versions: Mapping[str, str],
    ffmpeg: str,
    command: Sequence[str],
    manifest: str | None = None,
) -> Path:
    """Write ``<name>.provenance.json`` beside ``<name>.jsonl.gz``: what made the corpus.

    Parameters
    ----------
    out : Path
        The corpus file.
    cells : sequence of Cell
        The grid, at least one cell of each encoder in `versions`.
    versions : mapping
        Encoder to version, as :func:`usable_encoders` returns it.
    ffmpeg : str
    command : sequence of str
        The command line, word by word.
    manifest : str, optional
        Where the clips come from; what it does not say is null.

    Returns
    -------
    Path
        Of the file written.
    """
    table = read_table(out)
    facts = {
        "corpus": {"file": out.name, "sha256": sha256_of(out), "rows": len(table)},
        "command": shlex.join(command),
        "teacher": TEACHER,
        "ffmpeg_version": ffmpeg_version(ffmpeg),
        "libvmaf_version": sorted(table["libvmaf_version"].unique().tolist()),
        "sources": clip_origins(list(dict.fromkeys(c.source for c in cells)), manifest),
        "encoders": [
            {
                "encoder": encoder,
                "version": version,
                "presets": sorted({c.preset for c in cells if c.encoder == encoder}),
                "quality_option": ADAPTERS[encoder].quality_flags[0],
                "quality": sorted({c.quality for c in cells if c.encoder == encoder}),
                "options": ADAPTERS[encoder].command(
                    next(c for c in cells if c.encoder == encoder).quality,
                    next(c for c in cells if c.encoder == encoder).preset,
                ),
            }
            for encoder, version in versions.items()
        ],
        "frames_kept": f"0, {cells[0].every}, {2 * cells[0].every}, ... of every clip",
    }
    suffix = next(s for s in SUFFIXES if out.name.endswith(s))
    target = out.with_name(out.name.removesuffix(suffix) + ".provenance.json")
    write_json(target, facts)
    return target
