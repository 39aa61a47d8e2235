"""Many cells: the grid, finished cells kept on disk, corpus and provenance made of them."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from fr_lib.corpus import SUFFIXES, TEACHERS, Teacher, load_corpus, read_table, write_table
from fr_lib.encode.cell import Cell, run_cell
from fr_lib.encode.clips import Source, clip_origins, decode_y4m
from fr_lib.encode.ffmpeg import ffmpeg_version, probe_encoder
from fr_lib.encode.vmaf import SCORED_BY
from fr_lib.errors import EncodeError, FrError, InputError, say
from fr_lib.files import sha256_of, write_bytes, write_json
from fr_lib.schema import ADAPTERS, adapter

# How many times smaller an encoder may get the picture.
SHRINKS = ("2", "3", "4")
# What a file made before there were sizes lacks, and what its rows then are.
SIZES = {"src_scale": 1.0, "enc_scale": 1.0}
CELL_KEY = ("src", "encoder", "preset", "cq", *SIZES)


def _cell_folder(out: Path) -> Path:
    """Return where finished cells wait for the rest of them."""
    return out.with_name(f"{out.name}.cells")


def per_name(
    values: Iterable[str], names: Sequence[str], option: str, named_by: str
) -> dict[str, list[str]]:
    """Read ``A,B`` (for all) and ``name=A,B`` (for one) into lists per name.

    A value for one name replaces what is given for all. `named_by` is the option that brings names.

    Examples
    --------
    >>> per_name(["30", "libvvenc=28,40"], ["libx264", "libvvenc"], "--quality", "--encoder")
    {'libx264': ['30'], 'libvvenc': ['28', '40']}
    """
    general: list[str] = []
    own: dict[str, list[str]] = {}
    for value in values:
        name, equals, rest = value.rpartition("=")
        if equals and name not in names:
            if named_by == "--encoder":
                adapter(name)
            raise InputError(
                say(
                    option,
                    f"{value!r}, but {name} is not asked for",
                    ", ".join(names),
                    f"add {named_by} {name} or drop the value",
                )
            )
        (own.setdefault(name, []) if equals else general).extend(rest.split(","))
    return {name: own.get(name, general) for name in names}


def build_grid(
    sources: Sequence[Source],
    encoders: Sequence[str],
    quality: Iterable[str],
    preset: Iterable[str] = (),
    every: int = 1,
    threads: int | None = None,
    teachers: Sequence[Teacher] = (SCORED_BY,),
) -> list[Cell]:
    """Return every cell of the grid, each checked against its encoder's adapter.

    A quality value may be followed by ``/2``, ``/3`` or ``/4``: the encoder then gets a picture
    that many times smaller.

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
    qualities = per_name(quality, encoders, "--quality", "--encoder")
    presets = per_name(preset, encoders, "--preset", "--encoder")
    cells = []
    for encoder in encoders:
        unit = ADAPTERS[encoder]
        if not qualities[encoder]:
            raise InputError(
                say(encoder, "no quality value", f"{unit.lo}..{unit.hi}", "give --quality")
            )
        for text in qualities[encoder]:
            for name in presets[encoder] or [unit.default_preset]:
                value, shrink = _quality(text, encoder)
                unit.command(value, name)
                what = (encoder, name, value, every, threads, shrink, tuple(teachers))
                cells += [Cell(s, *what) for s in sources]
    # Source by source: one reference at a time is decoded to scratch space.
    order = {source: i for i, source in enumerate(sources)}
    return sorted(dict.fromkeys(cells), key=lambda c: order[c.source])


def at_scales(sources: Sequence[Source], scales: Iterable[str]) -> list[Source]:
    """Return each source at each of its sizes, ``F,...`` for all or ``name=F,...`` for one.

    Raises
    ------
    InputError
        If a scale is not from 0.25 to 4, or its name is no source's.
    """
    names = [source.name for source in sources]
    wanted = per_name(scales, names, "--scale", "--source")
    return [
        replace(source, scale=scale)
        for source in sources
        for scale in dict.fromkeys(map(_scale, wanted[source.name] or ["1"]))
    ]


def _scale(text: str) -> float:
    if re.fullmatch(r"\d(\.\d+)?", text) and 0.25 <= float(text) <= 4:
        return float(text)
    raise InputError(say("--scale", repr(text), "0.25..4", "give how many times as wide"))


def _quality(text: str, encoder: str) -> tuple[int | float, int]:
    """Return a quality value, and how many times smaller the picture is."""
    number, _, shrink = text.partition("/")
    try:
        value = float(number)
        if shrink and shrink not in SHRINKS:
            raise ValueError
    except ValueError:
        unit = ADAPTERS[encoder]
        allowed = f"{unit.lo}..{unit.hi}, or such a number followed by /2, /3 or /4"
        raise InputError(
            say(f"{encoder} --quality", repr(text), allowed, "give a number")
        ) from None
    return int(value) if value.is_integer() else value, int(shrink or 1)


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
        self.out = _table_file(Path(out))
        self.folder = _cell_folder(self.out)
        self.table = self._read()
        lacking = {*CELL_KEY, "frame_index", "src_sha256"}.difference(self.table, SIZES)
        if len(self.table) and lacking:
            raise InputError(
                say(
                    str(out),
                    f"its rows have no {', '.join(sorted(lacking))}",
                    "a corpus made by this command",
                    "write to another --out",
                )
            )
        if len(self.table):
            # Refuses columns that no merge could make sense of.
            load_corpus(self.out)

    def _read(self) -> pd.DataFrame:
        table = read_table(self.out) if self.out.is_file() else pd.DataFrame()
        older = {name: one for name, one in SIZES.items() if name not in table}
        return table.assign(**older) if len(table) else table

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
        have = {(*key[:3], *map(float, key[3:])) for key in keys}
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
        teachers = [t.name for t in cells[0].teachers] if cells else []
        stamps = [*self.table.get("teacher", pd.Series(dtype=object)).unique()]
        others = [name for name in TEACHERS if name in self.table]
        if teachers and (stamps != teachers[:1] or not {*teachers[1:]} <= {*self.table}):
            raise InputError(
                say(
                    str(self.out),
                    f"it holds scores of {', '.join([*stamps, *others])}",
                    f"those of {', '.join(teachers)}",
                    "name the same --teacher or write to another --out",
                )
            )
        step = self.table.loc[self.table["frame_index"] > 0, "frame_index"].min()
        if cells and step == step and step != cells[0].every:
            raise InputError(
                say(
                    str(self.out),
                    f"it keeps {'every frame' if step == 1 else f'one frame in {step:g}'}",
                    f"--every {step:g} for this file",
                    "use the same value or another --out",
                )
            )

    def put(self, key: tuple, rows: list[dict]) -> None:
        """Store the rows of one finished cell."""
        write_bytes(self._file(key), json.dumps(rows).encode())

    def collect(self) -> pd.DataFrame:
        """Merge finished cells into the corpus file as it is now, and remove the cell folder."""
        self.table = self._read()
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
        "teacher": cells[0].teachers[0].name,
        "scored_by": [teacher.name for teacher in cells[0].teachers],
        "ffmpeg_version": ffmpeg_version(ffmpeg),
        "libvmaf_version": sorted(table["libvmaf_version"].unique().tolist()),
        "sources": clip_origins(_clips(cells), manifest),
        "scales": _scales(cells),
        "encoders": [
            {
                "encoder": encoder,
                "version": version,
                "presets": sorted({c.preset for c in cells if c.encoder == encoder}),
                "quality_option": ADAPTERS[encoder].quality_flags[0],
                "quality": sorted({c.quality for c in cells if c.encoder == encoder}),
                "shrunk": _shrunk(cells, encoder),
                "options": ADAPTERS[encoder].command(
                    next(c for c in cells if c.encoder == encoder).quality,
                    next(c for c in cells if c.encoder == encoder).preset,
                ),
            }
            for encoder, version in versions.items()
        ],
        "frames_kept": f"0, {cells[0].every}, {2 * cells[0].every}, ... of every clip",
    }
    target = _provenance_path(out)
    write_json(target, facts)
    return target


def _clips(cells: Sequence[Cell]) -> list[Source]:
    return list(dict.fromkeys(replace(c.source, scale=1.0) for c in cells))


def _scales(cells: Sequence[Cell]) -> dict[str, list[float]]:
    """Return the scales of each clip, by which it was resized before anything else."""
    found: dict[str, set[float]] = {}
    for cell in cells:
        found.setdefault(cell.source.name, set()).add(cell.source.scale)
    return {name: sorted(scales) for name, scales in found.items()}


def _shrunk(cells: Sequence[Cell], encoder: str) -> list[dict[str, float]]:
    """Return at which quality values the encoder got a picture how many times smaller."""
    own = {(c.quality, c.shrink) for c in cells if c.encoder == encoder and c.shrink > 1}
    return [{"quality": quality, "divisor": divisor} for quality, divisor in sorted(own)]


def _table_file(out: Path) -> Path:
    if not out.name.endswith(SUFFIXES):
        raise InputError(say("--out", str(out), f"*{', *'.join(SUFFIXES)}", "name it so"))
    return out


def _provenance_path(out: Path) -> Path:
    stem = next((out.name.removesuffix(s) for s in SUFFIXES if out.name.endswith(s)), out.name)
    return out.with_name(f"{stem}.provenance.json")


def written_beside(out: Path) -> list[Path]:
    """Return what the makers of a corpus or a stress set write over or remove.

    Raises
    ------
    InputError
        If `out` has not the suffix of a table.
    """
    return [_table_file(out), _cell_folder(out), _provenance_path(out)]
