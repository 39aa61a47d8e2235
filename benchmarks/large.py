# ruff: noqa: T201 (a command prints)
"""Does a corpus of millions of rows fit: load, audit and leave-one-source-out, with peak memory.

Makes a synthetic Parquet file in a temporary folder (rows of the shipped corpus, drawn with
replacement, with noise), takes it through the library, and adds the figures to
``benchmarks/results.json`` and ``docs/benchmarks.md``. Ends with 1 if memory exceeded the limit.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.bench import CORPUS
from benchmarks.report import Section, ratio
from fr_lib.errors import FrError, InputError, say

if TYPE_CHECKING:
    from fr_lib.corpus import Corpus

KEY = "large"


def peak_gib() -> float:
    """Return the largest resident memory of this process so far, GiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts in bytes.
    return kib / (2**30 if sys.platform == "darwin" else 2**20)


class Family:
    """Watches the memory of this process and its children while the block runs.

    Resident memory, shared pages counted twice.
    """

    def __init__(self, every: float = 0.25):
        self.peak, self.every = 0.0, every
        self._done = threading.Event()

    def __enter__(self) -> Family:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._done.wait(self.every):
            total = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    total += process.memory_info().rss
            self.peak = max(self.peak, total / 2**30)

    def peak_gib(self) -> float:
        """Return the largest sum seen so far, at least the largest of this process alone."""
        return max(self.peak, peak_gib())


@dataclass
class Steps:
    """Steps one after another, each with its time and the peak of memory after it."""

    n_rows: int
    family: Family
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, step: str, call: Callable[[], Any]) -> Any:
        """Run a step and return its result."""
        start = time.perf_counter()
        result = call()
        taken = time.perf_counter() - start
        self.rows.append(
            {
                "step": step,
                "seconds": taken,
                "rows per second": self.n_rows / taken,
                "peak so far, this process, GiB": peak_gib(),
                "peak so far, all processes, GiB": self.family.peak_gib(),
            }
        )
        print(f"{step}: {taken:.1f} s, peak {self.family.peak_gib():.2f} GiB", flush=True)
        return result


def write_large(path: Path, rows: int, sources: int) -> None:
    """Write the synthetic corpus source by source, so that making it takes little memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks.resample import as_file_rows, resampled_sources
    from fr_lib.corpus import load_corpus

    table = load_corpus(CORPUS).table
    writer = None
    try:
        for source in resampled_sources(table, rows, sources, seed=0):
            part = pa.Table.from_pandas(as_file_rows(source), preserve_index=False)
            writer = writer or pq.ParquetWriter(path, part.schema)
            writer.write_table(part)
    finally:
        if writer:
            writer.close()


def leave_out(corpus: Corpus, arm: str, folds: int | None, family: Family) -> None:
    """Run LOSO with one epoch, all folds or the first few."""
    from fr_lib.arms import ARMS
    from fr_lib.evaluate import input_table, run_loso
    from fr_lib.train import Job, Recipe, train_many

    recipe = Recipe(epochs=1)
    if folds is None:
        run_loso(corpus, recipe, [0], [arm], device="cpu", progress=progress(family))
        return
    groups = corpus.groups()
    jobs = [Job(groups != name, ARMS[arm].columns, 0) for name in corpus.sources()[:folds]]
    train_many(input_table(corpus), corpus.target(), jobs, recipe, "cpu", progress(family))


def progress(family: Family) -> Callable[[str, float], None]:
    """Return what prints every twentieth part of a training."""
    shown = 0.0

    def show(message: str, share: float) -> None:
        nonlocal shown
        if share - shown >= 0.05:
            shown = share
            print(f"  {100 * share:.0f} %, peak {family.peak_gib():.2f} GiB", flush=True)

    return show


def measure(args: argparse.Namespace, family: Family) -> Section:
    """Make, load, audit, leave out; return the figures."""
    from fr_lib.corpus import audit_corpus, load_corpus

    steps = Steps(args.rows, family)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "large.parquet")
        steps("make the file", partial(write_large, path, args.rows, args.sources))
        size = path.stat().st_size / 2**20
        corpus = steps("load", partial(load_corpus, path))
    steps("audit", partial(audit_corpus, corpus))
    folds = args.sources if args.folds is None else args.folds
    what = f"LOSO, 1 epoch, arm {args.arm}, {folds} folds"
    if args.folds is not None:
        what = f"training of {folds} of {args.sources} folds, 1 epoch, arm {args.arm}"
    steps(what, partial(leave_out, corpus, args.arm, args.folds, family))
    trained = steps.rows[-1]
    trained["rows per second"] = folds * args.rows * (1 - 1 / args.sources) / trained["seconds"]
    return Section(
        f"Large corpora: {args.rows:,} rows of {args.sources} sources",
        f"CPU. The rows are synthetic: drawn from the shipped corpus with replacement, with noise "
        f"on the features and VMAF by its formula; the Parquet file has {size:,.0f} MiB. Memory is "
        "the peak up to the end of the step: of this process by `ru_maxrss`, and of it with the "
        "processes that train as the sum of their resident memory, looked at every "
        f"{family.every} s (pages that they share count once for each). In the last step a row "
        "counts once per fold.",
        steps.rows,
        [
            ratio(
                f"{args.rows:,} rows x {args.sources} sources, {what}: peak memory, GiB",
                family.peak_gib(),
                f"at most {args.limit_gib:g}",
            )
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--arm", default="v3", help="v1, v2 or v3; default: %(default)s")
    parser.add_argument("--folds", type=int, help="train so many folds; default: all, with scores")
    parser.add_argument("--limit-gib", type=float, default=8.0, help="default: %(default)s")
    report.add_files(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return 1 if memory exceeded the limit, 2 for bad input."""
    args = _parser().parse_args(arguments)
    try:
        if not args.rows >= args.sources >= 2:
            raise InputError(
                say("--rows, --sources", f"{args.rows}, {args.sources}", "rows >= sources >= 2", "")
            )
        with Family() as family:
            section = report.measured(partial(measure, args, family))
        print(report.section_text(KEY, section))
        if not args.print_only:
            report.save({KEY: section}, args.results, args.page)
    except FrError as refused:
        print(refused, file=sys.stderr)
        return refused.exit_code
    return 1 if family.peak_gib() > args.limit_gib else 0


if __name__ == "__main__":
    sys.exit(main())
