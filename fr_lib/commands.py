"""What each command does, given its arguments: bad input is an FrError, the rest an exit code."""

from __future__ import annotations

import argparse
import glob
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TextIO

from fr_lib.errors import InputError, counted, printable, say
from fr_lib.files import not_a_file, refuse_inside
from fr_lib.system import sole_writer


def tell(line: str) -> None:
    """Print a line, or nothing once nobody reads any more: work goes on to its own exit code."""
    try:
        print(printable(line, keep="\n"))
    except BrokenPipeError:
        drop(sys.stdout)


def warn(line: str) -> None:
    """Print a line where errors go."""
    print(printable(line, keep="\n"), file=sys.stderr)


def drop(stream: TextIO) -> None:
    """Let nothing be written to a stream any more, by Python at the exit neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def run(args: argparse.Namespace) -> int:
    """Run the notebooks and build the book."""
    from fr_lib.pipeline import PROFILES, parse_settings, run_all, smoke_corpus
    from fr_lib.runs import RunDir

    run_dir = args.run_dir
    if run_dir is None:
        run_dir = "runs/smoke" if args.smoke else "runs/shipped"
    settings = dict(PROFILES[args.profile]) | parse_settings(
        args.set, run_dir=run_dir, corpus=args.corpus
    )
    run = RunDir(run_dir)
    if not args.smoke and (fault := not_a_file(args.corpus)):
        raise InputError(say(args.corpus, fault, "a corpus file", "check --corpus"))
    logs = [("--set logs", path) for path in glob.glob(settings.get("logs", ""))]
    refuse_inside([("--corpus", args.corpus)] * (not args.smoke) + logs, run.removed())
    with run.sole():
        corpus = str(smoke_corpus(run)) if args.smoke else args.corpus
        shorter = {"epochs": 30} if args.smoke else {}
        settings = shorter | settings | {"corpus": corpus, "run_dir": str(run.path)}
        tell(f"corpus {corpus}, run directory {run.path}")
        return run_all(run, settings, not args.no_book, tell)


def corpus(args: argparse.Namespace) -> int:
    """Encode and score clips into a corpus."""
    from fr_lib.corpus import teacher_of
    from fr_lib.encode import (
        at_scales,
        build_grid,
        default_ffmpeg,
        ffmpeg_version,
        find_sources,
        make_corpus,
        usable_encoders,
        work_here,
        write_provenance,
        written_beside,
    )

    if args.workers is None and args.scheduler is None:
        work = work_here
    else:
        from fr_lib.encode import on_cluster

        work = on_cluster(args.workers, args.scheduler, tell)
    ffmpeg = args.ffmpeg or default_ffmpeg()
    raw = {k: getattr(args, k) for k in ("width", "height", "pix_fmt", "fps")}
    teachers = tuple(dict.fromkeys(map(teacher_of, args.teacher or [None])))
    grid_of = (args.encoder, args.quality, args.preset, args.every, args.threads, teachers)
    build_grid([], *grid_of)
    sources = at_scales(find_sources(args.source, args.manifest, raw), args.scale)
    ffmpeg_version(ffmpeg)
    out = Path(args.out)
    refuse_inside(_inputs(args), written_beside(out))
    versions = usable_encoders(ffmpeg, args.encoder, tell)
    cells = [cell for cell in build_grid(sources, *grid_of) if cell.encoder in versions]
    with _sole_maker(out):
        encoded, failures = make_corpus(cells, out, ffmpeg, tell, work)
        # A clip that cannot be used fails in each of its cells, and is told once.
        for failure in dict.fromkeys(failures):
            warn(f"failed: {failure}")
        if out.is_file():
            command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
            provenance = write_provenance(out, cells, versions, ffmpeg, command, args.manifest)
            tell(f"{encoded} cells encoded, {len(failures)} failed; {out}, {provenance}")
    return 2 if failures else 0


def _inputs(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the files that a maker reads, each with its option."""
    manifest = [args.manifest] if args.manifest else []
    return [("--source", clip) for clip in args.source] + [("--manifest", m) for m in manifest]


@contextmanager
def _sole_maker(out: Path) -> Iterator[None]:
    """Let two makers of one file work one after the other: the second takes up what is there."""
    if out.exists() and (fault := not_a_file(out)):
        raise InputError(say("--out", f"{out} is {fault}", "a file, or none yet", "name another"))
    out.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(out, out.with_name(f"{out.name}.lock"), wait=warn):
        yield


def collect(args: argparse.Namespace) -> int:
    """Make a corpus of logs."""
    from fr_lib.corpus import collect, written_by_collect

    out = Path(args.out)
    inputs = [("--table", args.table)] if args.table else []
    refuse_inside(inputs, written_by_collect(out))
    command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
    with _sole_maker(out):
        made = collect(out, command, args.table, args.pattern, args.workers)
    files = ", ".join(map(str, made.files))
    without = counted(made.left_out, "frame")
    tell(f"{made.rows:,} rows, {without} without a score left out; {files}")
    return 0


def stress(args: argparse.Namespace) -> int:
    """Distort and score clips into a stress set."""
    from fr_lib.encode import (
        clip_rate,
        default_ffmpeg,
        ffmpeg_version,
        find_sources,
        make_stress,
        plan,
        write_stress_provenance,
        written_beside,
    )

    out = Path(args.out)
    if out.suffix != ".parquet":
        raise InputError(say("--out", args.out, "*.parquet", "name it so"))
    ffmpeg = args.ffmpeg or default_ffmpeg()
    ffmpeg_version(ffmpeg)
    clips = find_sources(args.source, args.manifest)
    refuse_inside(_inputs(args), written_beside(out))
    cells = plan(clips, {clip.name: clip_rate(ffmpeg, clip) for clip in clips})
    with _sole_maker(out):
        table, failures = make_stress(cells, out, ffmpeg)
        for failure in failures:
            warn(f"failed: {failure}")
        if table is None:
            tell(f"{len(failures)} of {len(cells)} cells failed; the others are kept beside {out}")
            return 2
        command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
        provenance = write_stress_provenance(out, table, clips, command, args.manifest)
    tell(f"{len(cells)} cells, {len(table):,} rows; {out}, {provenance}")
    return 0


def _portable(argument: str) -> str:
    """Return an argument without folders that exist on this machine alone."""
    path = Path(argument)
    outside = path.is_absolute() or ".." in path.parts
    return path.name if outside and path.is_file() else argument


def release(args: argparse.Namespace) -> int:
    """Put a run's model into a model folder."""
    from fr_lib.release import publish, publish_formula
    from fr_lib.runs import RunDir, keep

    run = RunDir(args.run_dir)
    how = {"dry_run": args.dry_run, "sign": args.sign}
    with nullcontext() if args.dry_run else run.at_rest():
        tell(publish(run / "model", args.model_dir, **how))
        tell(publish_formula(args.model_dir, **how))
        for path in [] if args.dry_run else keep(run):
            tell(f"kept {path}")
    return 0


def verify(args: argparse.Namespace) -> int:
    """Verify a model folder."""
    from fr_lib.release import verdicts

    if bool(args.signer) != bool(args.issuer):
        raise InputError(say("--signer, --issuer", "one alone", "both or neither", "name both"))
    if not Path(args.model_dir).is_dir():
        raise InputError(
            say(args.model_dir, "no such folder", "a model folder", "check --model-dir")
        )
    failed = False
    for verdict in verdicts(args.model_dir, args.id, args.signer, args.issuer):
        failed = failed or bool(verdict.problems)
        word = counted(len(verdict.problems), "problem") if verdict.problems else "verified"
        tell(f"{verdict.name}: {word}")
        for note in verdict.notes:
            tell(note)
        for problem in verdict.problems:
            warn(problem)
    if not failed:
        tell(f"{args.model_dir}: {args.id or 'every row of the registry'} verified")
    return 1 if failed else 0


def translate(args: argparse.Namespace) -> int:
    """Make the translations into other teachers from a corpus."""
    from fr_lib.release import publish_translations

    how = {"dry_run": args.dry_run, "sign": args.sign}
    for line in publish_translations(args.corpus, args.teacher, args.model_dir, **how):
        tell(line)
    return 0


def predict(args: argparse.Namespace) -> int:
    """Score logs, a line of JSON each."""
    from fr_lib.release import Predictor, Translator, predict_logs, translate_logs

    if args.teacher:
        translator = Translator.load(args.model_dir, args.teacher)
        rows = translate_logs(translator, args.log, args.encoder, args.src_scale, args.frames)
    elif args.quality is None:
        raise InputError(say("predict", "no --quality", "a quality value", "name it"))
    else:
        asked = (args.encoder, args.quality, args.preset, args.frames)
        rows = predict_logs(Predictor.load(args.model_dir), args.log, *asked)
    for row in rows:
        per_frame = row.pop("per_frame", [])
        tell(json.dumps(row, allow_nan=False))
        for frame in per_frame:
            tell(json.dumps({"file": row["file"]} | frame, allow_nan=False))
    return 0


def compare(args: argparse.Namespace) -> int:
    """Hold two runs against each other."""
    from fr_lib.report import write_comparison

    for line in write_comparison(args.first, args.second, args.out):
        tell(line)
    return 0


def publish(args: argparse.Namespace) -> int:
    """Make a folder for a static host of a run."""
    from fr_lib.report import publish_book

    for line in publish_book(args.run_dir, args.out):
        tell(line)
    return 0
