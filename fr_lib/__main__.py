"""The command line: ``python -m fr_lib run | corpus | stress | release | verify | predict``.

Exit codes: 0 done or shipped, 1 gate failed or verification failed, 2 bad input, usage or machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fr_lib.errors import FrError, InputError, counted, printable, say
from fr_lib.files import not_a_file

DEFAULT_CORPUS = "data/corpus.jsonl.gz"
MODEL_DIR = "model/tiny"


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
    if args.smoke:
        settings = {"epochs": 60} | settings | {"corpus": str(smoke_corpus(run))}
    elif fault := not_a_file(args.corpus):
        raise InputError(say(args.corpus, fault, "a corpus file", "check --corpus"))
    else:
        settings = settings | {"corpus": args.corpus}
    settings["run_dir"] = str(run.path)
    print(printable(f"corpus {settings['corpus']}, run directory {run.path}"))
    return run_all(run, settings, book=not args.no_book)


def _corpus(args: argparse.Namespace) -> int:
    from fr_lib.encode import (
        build_grid,
        default_ffmpeg,
        ffmpeg_version,
        find_sources,
        make_corpus,
        usable_encoders,
        work_here,
        write_provenance,
    )

    if args.workers is None and args.scheduler is None:
        work = work_here
    else:
        from fr_lib.encode import on_cluster

        work = on_cluster(args.workers, args.scheduler)
    ffmpeg = args.ffmpeg or default_ffmpeg()
    raw = {k: getattr(args, k) for k in ("width", "height", "pix_fmt", "fps")}
    grid_of = (args.encoder, args.quality, args.preset, args.every, args.threads)
    build_grid([], *grid_of)
    sources = find_sources(args.source, args.manifest, raw)
    ffmpeg_version(ffmpeg)
    versions = usable_encoders(ffmpeg, args.encoder, print)
    cells = [cell for cell in build_grid(sources, *grid_of) if cell.encoder in versions]
    out = Path(args.out)
    encoded, failures = make_corpus(cells, out, ffmpeg, work=work)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if out.is_file():
        command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
        provenance = write_provenance(out, cells, versions, ffmpeg, command, args.manifest)
        print(f"{encoded} cells encoded, {len(failures)} failed; {out}, {provenance}")
    return 2 if failures else 0


def _stress(args: argparse.Namespace) -> int:
    from fr_lib.encode import (
        clip_rate,
        default_ffmpeg,
        ffmpeg_version,
        find_sources,
        make_stress,
        plan,
        write_stress_provenance,
    )

    out = Path(args.out)
    if out.suffix != ".parquet":
        raise InputError(say("--out", args.out, "*.parquet", "name it so"))
    ffmpeg = args.ffmpeg or default_ffmpeg()
    ffmpeg_version(ffmpeg)
    clips = find_sources(args.source, args.manifest)
    cells = plan(clips, {clip.name: clip_rate(ffmpeg, clip) for clip in clips})
    table, failures = make_stress(cells, out, ffmpeg)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if table is None:
        print(f"{len(failures)} of {len(cells)} cells failed; the others are kept beside {out}")
        return 2
    command = ["python", "-m", "fr_lib", *map(_portable, sys.argv[1:])]
    provenance = write_stress_provenance(out, table, clips, command, args.manifest)
    print(f"{len(cells)} cells, {len(table):,} rows; {out}, {provenance}")
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
    print(publish(run / "model", args.model_dir, **how))
    print(publish_formula(args.model_dir, **how))
    for path in [] if args.dry_run else keep(run):
        print(f"kept {path}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from fr_lib.release import verdicts

    if bool(args.signer) != bool(args.issuer):
        raise InputError(say("--signer, --issuer", "one alone", "both or neither", "name both"))
    failed = False
    for verdict in verdicts(args.model_dir, args.id, args.signer, args.issuer):
        failed = failed or bool(verdict.problems)
        word = counted(len(verdict.problems), "problem") if verdict.problems else "verified"
        print(f"{verdict.name}: {word}")
        for note in verdict.notes:
            print(note)
        for problem in verdict.problems:
            print(problem, file=sys.stderr)
    if not failed:
        print(f"{args.model_dir}: {args.id or 'every row of the registry'} verified")
    return 1 if failed else 0


def _predict(args: argparse.Namespace) -> int:
    from fr_lib.release import Predictor, predict_logs

    predictor = Predictor.load(args.model_dir)
    asked = (args.encoder, args.quality, args.preset, args.frames)
    for row in predict_logs(predictor, args.log, *asked):
        per_frame = row.pop("per_frame", [])
        print(json.dumps(row, allow_nan=False))
        for frame in per_frame:
            print(json.dumps({"file": row["file"]} | frame, allow_nan=False))
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
        help="values for all encoders, or for the one named",
    )
    corpus.add_argument("--preset", action="append", default=[], metavar="[NAME=]P,...")
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
    release.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    release.add_argument(
        "--dry-run", action="store_true", help="show the difference, write and sign nothing"
    )
    release.add_argument(
        "--sign",
        action="store_true",
        help="sign the models with cosign (Sigstore), which must be on PATH",
    )
    release.set_defaults(do=_release)

    verify = commands.add_parser("verify", help="check a model folder and its registry")
    verify.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    verify.add_argument("--id", help="check this row alone")
    verify.add_argument("--signer", help="identity that has to have signed, where a row is signed")
    verify.add_argument("--issuer", help="who vouched for that identity, as cosign wants it")
    verify.set_defaults(do=_verify)

    predict = commands.add_parser("predict", help="score libvmaf logs")
    predict.add_argument("--encoder", required=True)
    predict.add_argument("--quality", type=float, required=True)
    predict.add_argument("--preset")
    predict.add_argument("--model-dir", default=MODEL_DIR, help="default: %(default)s")
    predict.add_argument("--frames", action="store_true", help="a line for each frame too")
    predict.add_argument("log", nargs="+", help="libvmaf log, JSON")
    predict.set_defaults(do=_predict)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        return args.do(args)
    except FrError as refused:
        print(printable(str(refused), keep="\n"), file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished work is kept", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
