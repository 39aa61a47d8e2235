"""Logs become a corpus: read in processes, kept until all are sound, written in one step."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fr_lib.corpus.kept import FRAME, Part, keep, kept_file, table_of, text_of
from fr_lib.corpus.listing import OPTIONAL, TEXT, WHOLE, Entry, match_files, read_list, report
from fr_lib.corpus.logs import NOT_NAMED, SAME_TEACHER
from fr_lib.corpus.rows import SUFFIXES
from fr_lib.corpus.teachers import V061
from fr_lib.errors import FrError, InputError, counted, say
from fr_lib.files import atomic_path, sha256_of, write_json
from fr_lib.schema import ADAPTERS, CANONICAL_6
from fr_lib.worker import Crew, WorkerDied

# Logs that a process reads, or that one member of gzip and one row group hold, at a time. The
# bytes of a corpus depend on it, and on nothing of the machine.
BATCH = 64
# Starting a process takes as long as reading some hundred logs.
_WORTH_A_PROCESS = 400
_MOST_FAULTS = 1000


@dataclass(frozen=True)
class Collected:
    """What came of a list of logs.

    Attributes
    ----------
    rows : int
    left_out : int
        Frames without a score.
    files : list of Path
        That were written.
    """

    rows: int
    left_out: int
    files: list[Path]


def written_by_collect(out: Path) -> list[Path]:
    """Return what :func:`collect` writes anew: the corpus, its provenance, logs kept meanwhile.

    Raises
    ------
    InputError
        If `out` has not the suffix of a table.
    """
    suffix = next((s for s in SUFFIXES if out.name.endswith(s)), None)
    if suffix is None:
        raise InputError(say("--out", str(out), f"*{', *'.join(SUFFIXES)}", "name it so"))
    provenance = f"{out.name.removesuffix(suffix)}.provenance.json"
    return [out, out.with_name(provenance), out.with_name(f"{out.name}.logs")]


def collect(
    out: str | Path,
    command: Sequence[str],
    table: str | None = None,
    pattern: str | None = None,
    workers: int | None = None,
) -> Collected:
    """Make a per-frame corpus of logs, and the provenance beside it.

    Logs that were read stay in ``<out>.logs`` until the corpus is written, so that a call that was
    interrupted, or that found a fault, does not read them again.

    Parameters
    ----------
    out : path of a .jsonl, .jsonl.gz or .parquet file
    command : sequence of str
        The command line, word by word, for the provenance.
    table, pattern : str
        One of the two: see :func:`read_list` and :func:`match_files`.
    workers : int, optional
        Processes; default: one per core, and none where there are few logs. The rows do not depend
        on it.

    Raises
    ------
    InputError
        With every fault of the list and of its logs; neither corpus nor provenance is written.
    """
    out, provenance, folder = written_by_collect(Path(out))
    entries, faults = read_list(table) if table else match_files(pattern)
    where = str(table or pattern)
    if not entries and not faults:
        raise InputError(say(where, "no lines", "a log in each", "add them"))
    with _crew(workers, len(entries)) as crew:
        facts = _read(entries, folder, crew)
        scored, wrong = _scored(entries, facts)
        if faults := faults + wrong:
            raise _refused(where, faults, folder)
        entries, facts, scored = _in_order(entries, facts, scored)
        parts = _parts(entries, facts, scored, folder)
        left_out = sum(f["scores"][s.score]["lacking"] for f, s in zip(facts, scored, strict=True))
        rows = sum(f["frames"] for f in facts) - left_out
        with atomic_path(out) as temporary:
            _write(parts, temporary, crew)
    origin = {"table": {"file": Path(table).name, "sha256": sha256_of(table)}} if table else {}
    about = _about(entries, facts, scored) | (origin or {"pattern": pattern})
    corpus = {"file": out.name, "sha256": sha256_of(out), "rows": rows}
    write_json(provenance, {"corpus": corpus, "command": shlex.join(command)} | about)
    shutil.rmtree(folder)
    return Collected(rows, left_out, [out, provenance])


def _refused(where: str, faults: list[str], folder: Path) -> InputError:
    more = len(faults) - _MOST_FAULTS
    listed = faults[:_MOST_FAULTS] + ([f"and {more:,} more"] if more > 0 else [])
    kept = sum(1 for _ in folder.glob("*.arrow"))
    note = f" ({counted(kept, 'log')} read and kept in {folder} for the next try)" if kept else ""
    return report(where, listed, note)


# --- processes ------------------------------------------------------------------------------------


@contextmanager
def _crew(workers: int | None, logs: int) -> Iterator[Crew | None]:
    """Give the processes that the work is worth; None: it is done in this one."""
    from joblib import cpu_count

    if workers is not None and workers < 1:
        raise InputError(say("--workers", str(workers), "1 or more", "give a whole number"))
    size = workers or min(cpu_count(), math.ceil(logs / _WORTH_A_PROCESS))
    if size <= 1:
        yield None
        return
    crew = Crew(size)
    try:
        yield crew
    except WorkerDied:
        raise FrError(
            say("--workers", "a process was killed", "processes that live to the end",
                "free memory and run it again: finished logs are kept")
        ) from None  # fmt: skip
    finally:
        crew.stop()


def _mapped(
    crew: Crew | None, function: Callable[..., Any], tasks: Sequence[tuple], what: str
) -> Iterator[Any]:
    """Yield what `function` returns for each task, in order, a few tasks ahead of who takes it."""
    from tqdm import tqdm

    with tqdm(total=sum(len(task[0]) for task in tasks), unit="log", desc=what) as bar:
        if crew is None:
            for task in tasks:
                yield function(*task)
                bar.update(len(task[0]))
            return
        ahead: list[Future] = []
        waiting = iter(tasks)
        for task in tasks:
            while len(ahead) < 8 and (following := next(waiting, None)):
                ahead.append(crew.submit(function, *following))
            yield ahead.pop(0).result()
            bar.update(len(task[0]))


def _batches(items: Sequence[Any]) -> list[Sequence[Any]]:
    return [items[i : i + BATCH] for i in range(0, len(items), BATCH)]


def _read(entries: list[Entry], folder: Path, crew: Crew | None) -> list[dict[str, Any] | str]:
    folder.mkdir(parents=True, exist_ok=True)
    tasks = [([entry.path for entry in batch], folder) for batch in _batches(entries)]
    try:
        return [facts for part in _mapped(crew, keep, tasks, "read logs") for facts in part]
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


# --- whose scores ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Scored:
    """The score of a log that is the target, whose it is, and those of others by teacher."""

    score: str
    teacher: str
    how: str
    others: dict[str, str]


def _scored(
    entries: list[Entry], facts: list[dict[str, Any] | str]
) -> tuple[list[_Scored], list[str]]:
    """Return whose scores the logs hold, and a fault for each where that cannot be."""
    scored, faults = [], []
    for entry, found in zip(entries, facts, strict=True):
        judged = found if isinstance(found, str) else _teachers(entry, found["scores"])
        if isinstance(judged, str):
            faults.append(f"{entry.where}: {judged}")
        else:
            scored.append(judged)
    teachers = {s.teacher for s in scored}
    if not faults and len(teachers) > 1:
        for entry, one in zip(entries, scored, strict=True):
            if one.teacher != scored[0].teacher:
                found = f"its teacher is {one.teacher}, the first line's {scored[0].teacher}"
                faults.append(say(entry.where, found, "one teacher", "make another corpus of it"))
    return scored, faults


def _teachers(entry: Entry, scores: Mapping[str, Mapping[str, Any]]) -> _Scored | str:
    """Return whose score is the target of one log, and what else it holds; or what is wrong."""
    known = {name: _known(facts) for name, facts in scores.items()}
    given = entry.more.get("teacher")
    wanted = given or known.get("vmaf") or V061.name
    score = next((name for name, teacher in known.items() if teacher == wanted), None)
    if given and score is None and "vmaf" in known and known["vmaf"] is None:
        score = "vmaf"  # nobody else's
    if score is None:
        found = f"no score of {wanted} (it has {', '.join(scores) or 'none'})"
        if not given and "vmaf" in scores:
            found = f"score vmaf is {scores['vmaf']['off']:.3f} off the formula of {V061.name}"
        todo = "name its teacher in a column teacher"
        return say(entry.listed, found, "a score whose teacher is known", todo)
    off = scores[score]["off"]
    if wanted == V061.name and off > SAME_TEACHER:
        found = f"score {score} is {off:.3f} off the formula of {wanted}"
        return say(entry.listed, found, f"up to {SAME_TEACHER:g}", "name its teacher")
    how = "table" if given else "log" if scores[score]["named"] else "formula"
    others = {t: name for name, t in known.items() if t is not None and t != wanted}
    return _Scored(score, wanted, how, others)


def _known(facts: Mapping[str, Any]) -> str | None:
    """Return the teacher of a score where it is known: by its name, or by the formula."""
    return facts["named"] or (V061.name if facts["off"] <= SAME_TEACHER else None)


# --- rows -----------------------------------------------------------------------------------------


def _in_order(*lists: list) -> tuple[list, ...]:
    """Sort the entries as the corpus maker does, and what belongs to them with them."""
    order = sorted(range(len(lists[0])), key=lambda i: lists[0][i].key)
    return tuple([one[i] for i in order] for one in lists)


def _parts(
    entries: list[Entry], facts: list[dict[str, Any]], scored: list[_Scored], folder: Path
) -> list[Part]:
    given = {name for entry in entries for name in entry.more} | {"teacher"}
    if any(found["version"] for found in facts):
        given.add("libvmaf_version")
    names = [name for name in OPTIONAL if name in given]
    teachers = sorted({teacher for one in scored for teacher in one.others})
    whole = all(isinstance(entry.quality, int) for entry in entries)
    parts = []
    for entry, found, one in zip(entries, facts, scored, strict=True):
        more = {"libvmaf_version": found["version"]} | entry.more | {"teacher": one.teacher}
        before = {
            "src": entry.src,
            "encoder": entry.encoder,
            "preset": entry.preset,
            "cq": entry.quality if whole else float(entry.quality),
        }
        after = {name: more.get(name) for name in names}
        others = {teacher: one.others.get(teacher) for teacher in teachers}
        kept = kept_file(folder, found["sha256"])
        parts.append(Part(kept, before, after, one.score, others))
    return parts


def _write(parts: list[Part], path: Path, crew: Crew | None) -> None:
    batches = _batches(parts)
    if path.name.endswith(".parquet"):
        import pyarrow.parquet as pq

        schema = _schema(parts)
        with pq.ParquetWriter(path, schema) as writer:
            for batch in _mapped(None, table_of, [(b, schema) for b in batches], "write rows"):
                writer.write_table(batch)
        return
    packed = path.name.endswith(".gz")
    with path.open("wb") as stream:
        for text in _mapped(crew, text_of, [(b, packed) for b in batches], "write rows"):
            stream.write(text)


def _schema(parts: list[Part]) -> Any:
    import pyarrow as pa

    kinds = {TEXT: pa.string(), WHOLE: pa.int64()}
    first = parts[0]
    types = {name: pa.string() for name in first.before}
    types["cq"] = pa.int64() if isinstance(first.before["cq"], int) else pa.float64()
    types |= {FRAME: pa.int64()} | dict.fromkeys(("vmaf", *CANONICAL_6), pa.float64())
    types |= {name: kinds.get(OPTIONAL[name], pa.float64()) for name in first.after}
    times = [part.after.get("enc_time_ms") for part in parts]
    if "enc_time_ms" in types and all(isinstance(t, int | None) for t in times):
        types["enc_time_ms"] = pa.int64()
    return pa.schema(types | dict.fromkeys(first.others, pa.float64()))


# --- provenance -----------------------------------------------------------------------------------


def _about(
    entries: list[Entry], facts: list[dict[str, Any]], scored: list[_Scored]
) -> dict[str, Any]:
    """Return what the provenance says of clips, encoders and logs; what nobody told is null."""
    versions = {e.more["ffmpeg_version"] for e in entries if "ffmpeg_version" in e.more}
    libvmaf = {
        e.more.get("libvmaf_version", f["version"]) for e, f in zip(entries, facts, strict=True)
    }
    contents = {entry.src: entry.more.get("src_sha256") for entry in entries}
    unknown = {"repo": None, "path": None, "commit": None, "licence": None}
    encoders: dict[str, list[Entry]] = {}
    for entry in entries:
        encoders.setdefault(entry.encoder, []).append(entry)
    return {
        "teacher": scored[0].teacher,
        "ffmpeg_version": ", ".join(sorted(versions)) or NOT_NAMED,
        "libvmaf_version": sorted(libvmaf - {None}) or [NOT_NAMED],
        "frames_kept": "those that the logs have and that have a score",
        "sources": [{"name": n, "sha256": s} | unknown for n, s in contents.items()],
        "encoders": [
            {
                "encoder": encoder,
                "version": NOT_NAMED,
                "presets": sorted({e.preset for e in own}),
                "quality_option": ADAPTERS[encoder].quality_flags[0],
                "quality": sorted({e.quality for e in own}),
            }
            for encoder, own in encoders.items()
        ],
        "logs": [
            {
                "file": entry.listed,
                "sha256": found["sha256"],
                "form": found["form"],
                "src": entry.src,
                "encoder": entry.encoder,
                "preset": entry.preset,
                "quality": entry.quality,
                "frames": found["frames"],
                "frames_without_score": found["scores"][one.score]["lacking"],
                "score": one.score,
                "teacher_by": one.how,
            }
            for entry, found, one in zip(entries, facts, scored, strict=True)
        ],
    }
