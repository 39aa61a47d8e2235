"""The command line: ``python -m fr_lib corpus | collect | stress | run | release | ...``.

Exit codes: 0 done or shipped, 1 gate failed or verification failed, 2 bad input, usage or machine,
130, 129 and 143 interrupted by Ctrl-C, SIGHUP and SIGTERM, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO

from fr_lib.errors import PATHS, FrError, InputError, counted, printable, say
from fr_lib.files import not_a_file, refuse_inside
from fr_lib.system import end_children, sole_writer, stoppable

DEFAULT_CORPUS = "data/corpus.jsonl.gz"
MODEL_DIR = "model/tiny"
# As a shell reports a process that SIGPIPE has ended.
NOBODY_READS = 141


def _tell(line: str) -> None:
    """Print a line, or nothing once nobody reads any more: work goes on to its own exit code."""
    try:
        print(printable(line, keep="\n"))
    except BrokenPipeError:
        _drop(sys.stdout)


def _warn(line: str) -> None:
    print(printable(line, keep="\n"), file=sys.stderr)


def _drop(stream: TextIO) -> None:
    """Let nothing be written to a stream any more, by Python at the exit neither."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(args: argparse.Namespace) -> int:
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
        _tell(f"corpus {corpus}, run directory {run.path}")
        return run_all(run, settings, not args.no_book, _tell)


def _corpus(args: argparse.Namespace) -> int:
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

        work = on_cluster(args.workers, args.scheduler, _tell)
    ffmpeg = args.ffmpeg or default_ffmpeg()
    raw = {k: getattr(args, k) for k in ("width", "height", "pix_fmt", "fps")}
    teachers = tuple(dict.fromkeys(map(teacher_of, args.teacher or [None])))
    grid_of = (args.encoder, args.quality, args.preset, args.every, args.threads, teachers)
    build_grid([], *grid_of)
    sources = at_scales(find_sources(args.source, args.manifest, raw), args.scale)
    ffmpeg_version(ffmpeg)
    out = Path(args.out)
    refuse_inside(_inputs(args), written_beside(out))
    versions = usable_encoders(ffmpeg, args.encoder, _tell)
    cells = [cell for cell in build_grid(sources, *grid_of) if cell.encoder in versions]
    with _sole_maker(out):
        encoded, failures = make_corpus(cells, out, ffmpeg, _tell, work)
        # A clip that cannot be used fails in each of its cells, and is told once.
        for failure in dict.fromkeys(failures):
            _warn(f"failed: {failure}")
        if out.is_file():
            command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
            provenance = write_provenance(out, cells, versions, ffmpeg, command, args.manifest)
            _tell(f"{encoded} cells encoded, {len(failures)} failed; {out}, {provenance}")
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
    with sole_writer(out, out.with_name(f"{out.name}.lock"), wait=_warn):
        yield


def _collect(args: argparse.Namespace) -> int:
    from fr_lib.corpus import collect, written_by_collect

    out = Path(args.out)
    inputs = [("--table", args.table)] if args.table else []
    refuse_inside(inputs, written_by_collect(out))
    command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
    with _sole_maker(out):
        made = collect(out, command, args.table, args.pattern, args.workers)
    files = ", ".join(map(str, made.files))
    without = counted(made.left_out, "frame")
    _tell(f"{made.rows:,} rows, {without} without a score left out; {files}")
    return 0


def _stress(args: argparse.Namespace) -> int:
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
            _warn(f"failed: {failure}")
        if table is None:
            _tell(f"{len(failures)} of {len(cells)} cells failed; the others are kept beside {out}")
            return 2
        command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
        provenance = write_stress_provenance(out, table, clips, command, args.manifest)
    _tell(f"{len(cells)} cells, {len(table):,} rows; {out}, {provenance}")
    return 0


def _portable(argument: str) -> str:
    """Return an argument without folders that exist on this machine alone."""
    path = Path(argument)
    outside = path.is_absolute() or ".." in path.parts
    return path.name if outside and path.is_file() else argument


def _release(args: argparse.Namespace) -> int:
    from fr_lib.release import publish, publish_formula
    from fr_lib.runs import RunDir, keep

    run = RunDir(args.run_dir)
    how = {"dry_run": args.dry_run, "sign": args.sign}
    with nullcontext() if args.dry_run else run.at_rest():
        _tell(publish(run / "model", args.model_dir, **how))
        _tell(publish_formula(args.model_dir, **how))
        for path in [] if args.dry_run else keep(run):
            _tell(f"kept {path}")
    return 0


def _verify(args: argparse.Namespace) -> int:
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
        _tell(f"{verdict.name}: {word}")
        for note in verdict.notes:
            _tell(note)
        for problem in verdict.problems:
            _warn(problem)
    if not failed:
        _tell(f"{args.model_dir}: {args.id or 'every row of the registry'} verified")
    return 1 if failed else 0


def _translate(args: argparse.Namespace) -> int:
    from fr_lib.release import publish_translations

    how = {"dry_run": args.dry_run, "sign": args.sign}
    for line in publish_translations(args.corpus, args.teacher, args.model_dir, **how):
        _tell(line)
    return 0


def _predict(args: argparse.Namespace) -> int:
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
        _tell(json.dumps(row, allow_nan=False))
        for frame in per_frame:
            _tell(json.dumps({"file": row["file"]} | frame, allow_nan=False))
    return 0


def _compare(args: argparse.Namespace) -> int:
    from fr_lib.report import write_comparison

    for line in write_comparison(args.first, args.second, args.out):
        _tell(line)
    return 0


def _publish(args: argparse.Namespace) -> int:
    from fr_lib.report import publish_book

    for line in publish_book(args.run_dir, args.out):
        _tell(line)
    return 0


def _settings_help() -> str:
    from fr_lib.runs import PARAMETERS

    return "\n".join(
        f"  {name}: {known.meaning}; {known.allowed}"
        for name, known in PARAMETERS.items()
        if not known.instead
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m fr_lib", description=__doc__, fromfile_prefix_chars="@"
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    run = commands.add_parser(
        "run",
        help="corpus -> notebooks -> model and book",
        epilog=f"parameters for --set:\n{_settings_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--corpus", default=DEFAULT_CORPUS, help="default: %(default)s")
    run.add_argument("--run-dir", help="default: runs/shipped, or runs/smoke with --smoke")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a notebook parameter, see below; may be repeated",
    )
    run.add_argument("--smoke", action="store_true", help="a small synthetic corpus, in seconds")
    run.add_argument(
        "--profile",
        choices=("quick", "full"),
        default="quick",
        help="full: five seeds, transfer and ablation are measured (some minutes)",
    )
    run.add_argument("--no-book", action="store_true", help="stop after the notebooks")
    run.set_defaults(do=_run)

    corpus = commands.add_parser(
        "corpus", help="encode and score clips into a corpus", fromfile_prefix_chars="@"
    )
    corpus.add_argument("--source", action="append", required=True, metavar="CLIP")
    corpus.add_argument("--encoder", action="append", required=True, metavar="NAME")
    corpus.add_argument(
        "--quality",
        action="append",
        required=True,
        metavar="[NAME=]Q,...",
        help="values for all encoders, or for the one named; 63/2 gives the encoder a picture of "
        "half the width and height, which is brought back before it is scored",
    )
    corpus.add_argument("--preset", action="append", default=[], metavar="[NAME=]P,...")
    corpus.add_argument(
        "--scale",
        action="append",
        default=[],
        metavar="[CLIP=]F,...",
        help="sizes at which each clip, or the one named, is taken, as multiples of its own; "
        "default: 1",
    )
    corpus.add_argument(
        "--teacher",
        action="append",
        metavar="NAME",
        help="a model of libvmaf; several score each encode in one run, and the rows are stamped "
        "with the first; default: vmaf_v0.6.1",
    )
    corpus.add_argument("--every", type=int, default=1, help="keep every N-th frame")
    corpus.add_argument("--out", required=True, help="X.jsonl, X.jsonl.gz or X.parquet")
    corpus.add_argument("--manifest", help="JSON list with name and sha256 of the clips")
    corpus.add_argument("--ffmpeg", help="default: the FFmpeg of the imageio-ffmpeg package")
    corpus.add_argument("--width", type=int, help="of raw YUV sources")
    corpus.add_argument("--height", type=int, help="of raw YUV sources")
    corpus.add_argument("--pix-fmt", help="of raw YUV sources, e.g. yuv420p")
    corpus.add_argument("--fps", help="of raw YUV sources, e.g. 25 or 30000/1001")
    corpus.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="FFmpeg's -threads for each step of a cell; default: its choice. Some encoders give "
        "other bits with other numbers, so name one where machines differ in cores",
    )
    where = corpus.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="N processes on this machine through Dask; default: one cell after another",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="a running Dask scheduler, tcp://host:port; sources and FFmpeg must be at the same "
        "paths on every worker (a shared file system)",
    )
    corpus.set_defaults(do=_corpus)

    collect = commands.add_parser("collect", help="make a corpus of logs from elsewhere")
    listed = collect.add_mutually_exclusive_group(required=True)
    listed.add_argument(
        "--table",
        metavar="FILE",
        help="CSV with a header or JSON lines, a log in each: path, src, encoder, quality; where "
        "known preset, teacher, enc_bytes, enc_time_ms, ffmpeg_version, libvmaf_version, "
        "src_sha256, width, height",
    )
    listed.add_argument(
        "--pattern",
        help="path with such columns in braces: logs/{src}_{encoder}_{preset}_{quality}.xml",
    )
    collect.add_argument("--out", required=True, help="X.jsonl, X.jsonl.gz or X.parquet")
    collect.add_argument(
        "--workers", type=int, metavar="N", help="processes; default: one per core"
    )
    collect.set_defaults(do=_collect)

    stress = commands.add_parser(
        "stress", help="distort clips and generated pictures into a stress set"
    )
    stress.add_argument("--source", action="append", required=True, metavar="CLIP")
    stress.add_argument("--manifest", help="JSON list with name and sha256 of the clips")
    stress.add_argument("--ffmpeg", help="default: the FFmpeg of the imageio-ffmpeg package")
    stress.add_argument("--out", default="data/stress.parquet", help="default: %(default)s")
    stress.set_defaults(do=_stress)

    release = commands.add_parser("release", help="put a run's model into a model folder")
    release.add_argument("--run-dir", required=True)
    _may_write_models(release)
    release.set_defaults(do=_release)

    verify = commands.add_parser("verify", help="check a model folder and its registry")
    verify.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    verify.add_argument("--id", help="check this row alone")
    verify.add_argument("--signer", help="identity that has to have signed, where a row is signed")
    verify.add_argument("--issuer", help="who vouched for that identity, as cosign wants it")
    verify.set_defaults(do=_verify)

    translate = commands.add_parser(
        "translate", help="make the models that estimate another teacher from VMAF v0.6.1's rows"
    )
    translate.add_argument("--corpus", default=DEFAULT_CORPUS, help="default: %(default)s")
    translate.add_argument(
        "--teacher",
        action="append",
        metavar="NAME",
        help="may be repeated; default: vmaf_v1.0.16_3d0h and vmaf_v1.0.16_5d0h",
    )
    _may_write_models(translate)
    translate.set_defaults(do=_translate)

    predict = commands.add_parser("predict", help="score logs of libvmaf")
    predict.add_argument("--encoder", required=True)
    predict.add_argument("--quality", type=float, help="needed without --teacher")
    predict.add_argument("--preset")
    predict.add_argument(
        "--teacher",
        metavar="NAME",
        help="estimate this model of libvmaf from the log's features, with a measured interval "
        "(vmaf_v1.0.16_3d0h, vmaf_v1.0.16_5d0h); quality and preset have no part in that",
    )
    predict.add_argument(
        "--src-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="with --teacher: by how much the source was scaled up before it was encoded; "
        "default: 1, its own size",
    )
    predict.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    predict.add_argument("--frames", action="store_true", help="a line for each frame too")
    predict.add_argument(
        "log",
        nargs="+",
        help="of libvmaf (JSON, XML or CSV) or ffmpeg-quality-metrics (JSON or CSV), plain or gzip",
    )
    predict.set_defaults(do=_predict)

    compare = commands.add_parser("compare", help="two finished runs, source by source")
    compare.add_argument("first", metavar="RUN_A", help="a run directory")
    compare.add_argument("second", metavar="RUN_B", help="another; differences are B minus A")
    compare.add_argument("--out", help="default: compare-A-B.html beside the second run")
    compare.set_defaults(do=_compare)

    publish = commands.add_parser("publish", help="a run's book and files for a static host")
    publish.add_argument("--run-dir", required=True)
    publish.add_argument("--out", required=True, help="new, empty, or published before")
    publish.set_defaults(do=_publish)
    return parser


def _may_write_models(command: argparse.ArgumentParser) -> None:
    """Add the options of a command that puts models into a folder."""
    command.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    command.add_argument(
        "--dry-run", action="store_true", help="show the difference, write and sign nothing"
    )
    command.add_argument(
        "--sign",
        action="store_true",
        help="sign the models with cosign (Sigstore), which must be on PATH",
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    try:
        args = _parser().parse_args(arguments)
    except (ValueError, RecursionError) as unread:  # by @file
        raise InputError(
            say("@file", str(unread), "a text file, one argument a line", "mend it")
        ) from None
    for value in vars(args).values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and re.search("[\0\ud800-\udfff]", text):
                found = f"{text!r} has a NUL or is not UTF-8"
                raise InputError(say("command line", found, "text", "name it differently"))
    return args


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with stoppable():
        code = NOBODY_READS
        try:
            args = _parse(arguments)
            code = args.do(args)
            sys.stdout.flush()
            return code
        except FrError as refused:
            return _end(str(refused), refused.exit_code)
        except KeyboardInterrupt as stopped:
            end_children()
            number = signal.Signals(stopped.args[0] if stopped.args else signal.SIGINT)
            word = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
            return _end(f"{word}; finished work is kept", 128 + number)
        except BrokenPipeError:
            # What was done is done, and its exit code stands.
            return _end("", code)
        except OSError as refused:
            where = str(refused.filename or "this machine")
            return _end(say(where, refused.strerror or str(refused), PATHS, "mend that"), 2)


def _end(line: str, code: int) -> int:
    """Say a last line where somebody can hear it; leave nothing to fail once more at the exit."""
    with suppress(OSError):
        print(printable(line, keep="\n"), end="\n" if line else "", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop(stream)
    return code


if __name__ == "__main__":
    sys.exit(main())
