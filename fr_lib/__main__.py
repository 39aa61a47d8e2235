"""The command line: ``python -m fr_lib corpus | collect | stress | run | release | ...``.

Exit codes: 0 done or shipped, 1 gate failed or verification failed, 2 bad input, usage or machine,
130, 129 and 143 interrupted by Ctrl-C, SIGHUP and SIGTERM, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
from contextlib import suppress

from fr_lib import commands
from fr_lib.errors import PATHS, FrError, InputError, printable, say
from fr_lib.system import end_children, stoppable

DEFAULT_CORPUS = "data/corpus.jsonl.gz"
MODEL_DIR = "model/tiny"
# As a shell reports a process that SIGPIPE has ended.
NOBODY_READS = 141


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
    subparsers = parser.add_subparsers(required=True, metavar="command")

    run = subparsers.add_parser(
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
    run.set_defaults(do=commands.run)

    corpus = subparsers.add_parser(
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
    corpus.set_defaults(do=commands.corpus)

    collect = subparsers.add_parser("collect", help="make a corpus of logs from elsewhere")
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
    collect.set_defaults(do=commands.collect)

    stress = subparsers.add_parser(
        "stress", help="distort clips and generated pictures into a stress set"
    )
    stress.add_argument("--source", action="append", required=True, metavar="CLIP")
    stress.add_argument("--manifest", help="JSON list with name and sha256 of the clips")
    stress.add_argument("--ffmpeg", help="default: the FFmpeg of the imageio-ffmpeg package")
    stress.add_argument("--out", default="data/stress.parquet", help="default: %(default)s")
    stress.set_defaults(do=commands.stress)

    release = subparsers.add_parser("release", help="put a run's model into a model folder")
    release.add_argument("--run-dir", required=True)
    _may_write_models(release)
    release.set_defaults(do=commands.release)

    verify = subparsers.add_parser("verify", help="check a model folder and its registry")
    verify.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    verify.add_argument("--id", help="check this row alone")
    verify.add_argument("--signer", help="identity that has to have signed, where a row is signed")
    verify.add_argument("--issuer", help="who vouched for that identity, as cosign wants it")
    verify.set_defaults(do=commands.verify)

    translate = subparsers.add_parser(
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
    translate.set_defaults(do=commands.translate)

    predict = subparsers.add_parser("predict", help="score logs of libvmaf")
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
    predict.set_defaults(do=commands.predict)

    compare = subparsers.add_parser("compare", help="two finished runs, source by source")
    compare.add_argument("first", metavar="RUN_A", help="a run directory")
    compare.add_argument("second", metavar="RUN_B", help="another; differences are B minus A")
    compare.add_argument("--out", help="default: compare-A-B.html beside the second run")
    compare.set_defaults(do=commands.compare)

    publish = subparsers.add_parser("publish", help="a run's book and files for a static host")
    publish.add_argument("--run-dir", required=True)
    publish.add_argument("--out", required=True, help="new, empty, or published before")
    publish.set_defaults(do=commands.publish)
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
            commands.drop(stream)
    return code


if __name__ == "__main__":
    sys.exit(main())
