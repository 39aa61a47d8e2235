# ruff: noqa: T201 (a command prints)
"""``make bench``: how fast the parts are on this machine, as ratios where something can compare.

Prints Markdown, and writes ``benchmarks/results.json`` and the figures of ``docs/benchmarks.md``.
``--quick`` runs every section on next to nothing, to see that they run; it writes only where told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import report
from benchmarks.report import ROOT, Section, ratio
from fr_lib.errors import FrError, InputError, say

if TYPE_CHECKING:
    import numpy as np

    from fr_lib.corpus import Corpus
    from fr_lib.encode import Cell, CellStore
    from fr_lib.train import Job, Recipe

CORPUS = ROOT / "data" / "corpus.jsonl.gz"


@dataclass(frozen=True)
class Scale:
    """How much is measured; the defaults are the whole benchmark."""

    keep_every: int = 1
    repeats: int = 3
    textbook_epochs: int = 6
    textbook_folds: int = 2
    whole_epochs: int = 200
    few_epochs: int = 40
    models: tuple[int, ...] = (1, 9, 45, 135)
    training_rows: tuple[int, ...] = (5_000, 50_000, 500_000)
    models_of_rows: int = 32
    file_rows: tuple[int, ...] = (8_000, 200_000)
    latency_runs: int = 2_000
    large_batch: int = 65_536
    large_runs: int = 20
    clips: int = 4
    clip: str = "size=640x360:rate=25"
    frames: int = 48
    qualities: tuple[str, ...] = ("libx264=18,26,34,42", "libaom-av1=25,45")
    presets: tuple[str, ...] = ("libx264=veryslow", "libaom-av1=6")
    imports: int = 5
    warm_starts: bool = True


QUICK = Scale(
    keep_every=20,
    repeats=1,
    textbook_epochs=1,
    textbook_folds=1,
    whole_epochs=1,
    few_epochs=1,
    models=(1, 3),
    training_rows=(500, 1_000),
    models_of_rows=2,
    file_rows=(400, 800),
    latency_runs=20,
    large_batch=256,
    large_runs=3,
    clips=1,
    clip="size=160x96:rate=25",
    frames=6,
    qualities=("libx264=30,40",),
    presets=(),
    imports=1,
    warm_starts=False,
)


@dataclass
class Setup:
    """What the sections share."""

    scale: Scale
    device: str
    run_dir: Path | None

    @cached_property
    def corpus(self) -> Corpus:
        """The shipped corpus, or one in so many of its rows."""
        from fr_lib.corpus import load_corpus

        corpus = load_corpus(CORPUS)
        kept = corpus.table.iloc[:: self.scale.keep_every].reset_index(drop=True)
        return replace(corpus, table=kept)

    @cached_property
    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Input table and target of the shipped corpus."""
        from fr_lib.evaluate import input_table

        return input_table(self.corpus), self.corpus.target()

    def recipe(self, epochs: int) -> Recipe:
        """Return ADR-0319's recipe, real rows alone, with another number of epochs."""
        from fr_lib.train import Recipe

        return Recipe(epochs=epochs)

    def folds(self, seeds: Sequence[int] = (0,)) -> list[Job]:
        """Return the jobs of the shipping arm, one per held-out source and seed."""
        from fr_lib.arms import ARMS, SHIPPED_ARM
        from fr_lib.train import Job

        groups = self.corpus.groups()
        kept = [groups != name for name in self.corpus.sources()]
        return [Job(rows, ARMS[SHIPPED_ARM].columns, seed) for seed in seeds for rows in kept]

    def train(self, jobs: Sequence[Job], epochs: int) -> None:
        """Train `jobs` on the shipped corpus, and forget the models."""
        from fr_lib.train import train_many

        train_many(*self.inputs, jobs, self.recipe(epochs), self.device)


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each call; they take turns, so that a busy minute hits all."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            taken[name].append(seconds(call))
    return {name: median(values) for name, values in taken.items()}


# --- a..d: training -------------------------------------------------------------------------------


def textbook(setup: Setup, jobs: Sequence[Job], epochs: int, threads: int) -> None:
    """Train one fold after another as a tutorial has it: DataLoader, nn.Module, autograd, Adam."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from fr_lib.train import N_FEATURES, Scaler, new_model

    recipe = setup.recipe(epochs)
    table, target = setup.inputs
    usual = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for job in jobs:
            x, y = table[job.rows][:, list(job.columns)], target[job.rows]
            x[:, :N_FEATURES] = Scaler.fit(x[:, :N_FEATURES])(x[:, :N_FEATURES])
            data = TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
            loader = DataLoader(data, batch_size=recipe.batch, shuffle=True)
            model = new_model(len(job.columns), recipe, job.seed)
            adam = torch.optim.Adam(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
            for _ in range(epochs):
                for features, vmaf in loader:
                    adam.zero_grad()
                    loss = torch.nn.functional.mse_loss(model(features).squeeze(1), vmaf)
                    loss.backward()
                    adam.step()
    finally:
        torch.set_num_threads(usual)


def training_loop(setup: Setup) -> Section:
    """Compare the textbook loop with ``train_many``."""
    import torch

    from fr_lib.train import keep_processes

    scale, jobs, threads = setup.scale, setup.folds(), torch.get_num_threads()
    few, whole = jobs[: scale.textbook_folds], scale.whole_epochs
    loops = {
        "textbook loop": partial(textbook, setup, few, scale.textbook_epochs, threads),
        "textbook loop, one torch thread": partial(textbook, setup, few, scale.textbook_epochs, 1),
    }
    ours = partial(setup.train, jobs, whole)
    # Neither side pays for lazy imports, which happen once.
    textbook(setup, few[:1], 1, threads)
    setup.train(jobs[:1], 1)
    taken = medians(loops | {"train_many": ours}, scale.repeats)
    with keep_processes():
        ours()
        kept = median(seconds(ours) for _ in range(scale.repeats))
    rows = [
        _training_row(name, len(few), scale.textbook_epochs, taken[name], (len(jobs), whole))
        for name in loops
    ]
    for name, value in (
        ("train_many", taken["train_many"]),
        ("train_many, processes kept", kept),
    ):
        rows.append(_training_row(name, len(jobs), whole, value, (len(jobs), whole)))
    times = {row["what"]: row["whole recipe, s"] for row in rows}
    # The faster of the two, whichever it is on this machine.
    loop = min(times[name] for name in loops)
    what = "ADR-0319's recipe, all folds: train_many against the textbook loop"
    return Section(
        "The training loop",
        "ADR-0319's recipe, which learns from real rows alone; what the recipe that ships takes "
        "is in section h. "
        f"The textbook loop trains one fold after another (`DataLoader`, batch "
        f"{setup.recipe(1).batch}, shuffled; `nn.Module`, autograd, `torch.optim.Adam`) on the "
        f"CPU, with torch's default of {threads} threads and with one. `train_many` (device "
        f"{setup.device}) trains all {len(jobs)} folds for all {whole} epochs. To keep this short "
        f"the loop runs {scale.textbook_epochs} epochs of {len(few)} folds, and *whole recipe* "
        f"scales that to {len(jobs)} folds and {whole} epochs; `train_many` is not scaled, and "
        f"includes the start of its processes. In turns in one run, median of {scale.repeats}. "
        "The last row was measured afterwards, in a block of `keep_processes` where they ran "
        "already. The ratios take the faster loop. Rows: the shipped corpus, "
        f"{len(setup.corpus.table):,}.",
        rows,
        [
            ratio(what, loop / times["train_many"], "at least 30, 50 wished"),
            ratio(
                "the same, its processes kept from an earlier call",
                loop / times["train_many, processes kept"],
            ),
        ],
    )


def _training_row(
    what: str, folds: int, epochs: int, taken: float, whole: tuple[int, int]
) -> dict[str, Any]:
    each = taken / folds / epochs
    return {
        "what": what,
        "folds": folds,
        "epochs": epochs,
        "seconds": taken,
        "ms per fold and epoch": 1e3 * each,
        "whole recipe, s": each * whole[0] * whole[1],
    }


def number_of_models(setup: Setup) -> Section:
    """Measure what a model costs in the company of others."""
    from fr_lib.train import keep_processes

    scale = setup.scale
    one_seed = len(setup.folds())
    jobs = setup.folds(range(-(-max(scale.models) // one_seed)))
    rows = []
    with keep_processes():
        setup.train(jobs[:one_seed], scale.few_epochs)
        for n in scale.models:
            taken = seconds(partial(setup.train, jobs[:n], scale.few_epochs))
            each = 1e3 * taken / n / scale.few_epochs
            rows.append({"models": n, "seconds": taken, "ms per model and epoch": each})
    first, last = rows[0], rows[-1]
    return Section(
        "Number of models",
        f"`train_many` (device {setup.device}), ADR-0319's recipe, folds of the shipped corpus "
        f"and then further seeds, {scale.few_epochs} epochs, once each, processes already "
        "started.",
        rows,
        [
            ratio(
                f"a model alone against one of {last['models']}, time per model",
                first["ms per model and epoch"] / last["ms per model and epoch"],
            )
        ],
    )


def number_of_rows(setup: Setup) -> Section:
    """Measure training at a fixed number of steps on ever more rows."""
    import numpy as np

    from benchmarks.resample import resampled
    from fr_lib.arms import ARMS, SHIPPED_ARM
    from fr_lib.evaluate import input_table
    from fr_lib.train import Job, train_many

    models, largest = setup.scale.models_of_rows, max(setup.scale.training_rows)
    rows = []
    for count in setup.scale.training_rows:
        corpus = replace(setup.corpus, table=resampled(setup.corpus.table, count, 10, 0))
        table, target, epochs = input_table(corpus), corpus.target(), largest // count
        every = np.ones(count, dtype=bool)
        jobs = [Job(every, ARMS[SHIPPED_ARM].columns, seed) for seed in range(models)]
        recipe = setup.recipe(epochs)
        taken = seconds(partial(train_many, table, target, jobs, recipe, setup.device))
        rows.append(
            {
                "rows": count,
                "epochs": epochs,
                "steps": epochs * -(-count // recipe.batch),
                "seconds": taken,
                "rows per second": models * epochs * count / taken,
            }
        )
    return Section(
        "Number of rows",
        f"`train_many` (device {setup.device}), ADR-0319's recipe, {models} models that each see "
        "all rows, as many epochs as make the number of steps alike; once each, the start of "
        "processes included. The rows are synthetic: drawn from the shipped corpus with "
        "replacement, with noise on the features. "
        "A row counts once per model and epoch.",
        rows,
        [
            ratio(
                f"{rows[-1]['rows']:,} rows against {rows[0]['rows']:,}, rows per second",
                rows[-1]["rows per second"] / rows[0]["rows per second"],
            )
        ],
    )


def number_of_seeds(setup: Setup) -> Section:
    """Compare five seeds of all folds with one."""
    from fr_lib.train import keep_processes

    scale = setup.scale
    jobs = {n: setup.folds(range(n)) for n in (1, 5)}
    calls = {str(n): partial(setup.train, many, scale.few_epochs) for n, many in jobs.items()}
    # To start them is a larger part of what one seed takes, and would flatter the ratio.
    with keep_processes():
        setup.train(jobs[1], 1)
        taken = medians(calls, scale.repeats)
    rows = [
        {
            "seeds": n,
            "models": len(many),
            "epochs": scale.few_epochs,
            "seconds": taken[str(n)],
            "ms per model and epoch": 1e3 * taken[str(n)] / len(many) / scale.few_epochs,
        }
        for n, many in jobs.items()
    ]
    return Section(
        "Five seeds against one",
        f"`train_many` (device {setup.device}), ADR-0319's recipe, all folds of the shipped "
        f"corpus, {scale.few_epochs} epochs, processes already started, in turns, median of "
        f"{scale.repeats}. One seed keeps the cores busy already: see *ms per model and epoch*.",
        rows,
        [ratio("five seeds of all folds against one", taken["5"] / taken["1"], "at most 3")],
    )


# --- e, f: files and inference --------------------------------------------------------------------


def loader_and_audit(setup: Setup) -> Section:
    """Measure reading and checking corpus files, and the audit."""
    from benchmarks.resample import as_file_rows, resampled
    from fr_lib.corpus import audit_corpus, load_corpus, write_table

    audit_corpus(setup.corpus)
    scale, rows = setup.scale, []
    with tempfile.TemporaryDirectory() as folder:
        for count in scale.file_rows:
            table = as_file_rows(resampled(setup.corpus.table, count, 20, 0))
            calls: dict[str, Callable[[], object]] = {}
            for name, suffix in (("JSONL.gz", ".jsonl.gz"), ("Parquet", ".parquet")):
                path = Path(folder, f"{count}{suffix}")
                write_table(table, path)
                calls[f"load {name}"] = partial(load_corpus, path)
            calls["audit"] = partial(audit_corpus, load_corpus(path))
            taken = medians(calls, scale.repeats)
            rows.append(
                {"rows": count} | {f"{name}, rows/s": count / s for name, s in taken.items()}
            )
    last = rows[-1]
    return Section(
        "Loader and audit",
        "`load_corpus` (all checks included) and `audit` on synthetic rows of 20 sources, drawn "
        "from the shipped corpus with replacement; files are in the page cache, libraries are "
        f"loaded; in turns, median of {scale.repeats}.",
        rows,
        [
            ratio(
                f"loading {last['rows']:,} rows, Parquet against JSONL.gz",
                last["load Parquet, rows/s"] / last["load JSONL.gz, rows/s"],
            )
        ],
    )


def inference(setup: Setup) -> Section:
    """Measure onnxruntime on the shipped graph."""
    import numpy as np

    from fr_lib.release import open_session
    from fr_lib.schema import MODEL_ID
    from fr_lib.train import Scaler

    scale, corpus = setup.scale, setup.corpus
    path = ROOT / "model" / "tiny" / f"{MODEL_ID}.onnx"
    model = path.read_bytes()
    features, block = corpus.features(), corpus.codec_block()
    features = Scaler.fit(features)(features)
    rows = []
    for threads in sorted({1, os.cpu_count() or 1}):
        session = open_session(model, threads)
        for batch, runs in ((1, scale.latency_runs), (scale.large_batch, scale.large_runs)):
            pick = np.arange(batch) % len(features)
            fed = {"features": features[pick], "codec_block": block[pick]}
            call = partial(session.run, ["vmaf"], fed)
            for _ in range(1 + runs // 10):
                call()
            taken = np.array([seconds(call) for _ in range(runs)])
            rows.append(
                {
                    "threads": threads,
                    "batch": batch,
                    "median ms": 1e3 * float(np.median(taken)),
                    "p95 ms": 1e3 * float(np.quantile(taken, 0.95)),
                    "rows per second": batch / float(np.median(taken)),
                }
            )
    return Section(
        "Inference",
        f"onnxruntime on the CPU, the released `{path.relative_to(ROOT)}`; real rows of the "
        "shipped corpus, repeated; "
        f"{scale.latency_runs:,} calls at batch 1 and {scale.large_runs} at batch "
        f"{scale.large_batch:,} after a tenth as many to warm up; rows per second at the median.",
        rows,
        [
            ratio(
                f"rows per second at batch {scale.large_batch:,} against batch 1, one thread",
                rows[1]["rows per second"] / rows[0]["rows per second"],
            )
        ],
    )


# --- g: corpus making -----------------------------------------------------------------------------


def corpus_maker(setup: Setup) -> Section:
    """Compare two Dask workers with one on a grid of single-threaded encoders."""
    from fr_lib.encode import build_grid, default_ffmpeg, find_sources

    scale, ffmpeg = setup.scale, default_ffmpeg()
    encoders = [entry.partition("=")[0] for entry in scale.qualities]
    with tempfile.TemporaryDirectory() as folder:
        clips = [generated_clip(setup, ffmpeg, Path(folder), i) for i in range(scale.clips)]
        sources = find_sources(clips)
        cells = build_grid(sources, encoders, scale.qualities, scale.presets, threads=1)
        rows = [_grid_row(cells, workers, Path(folder), ffmpeg) for workers in (1, 2)]
    each = [row["cells per hour"] for row in rows]
    return Section(
        "Corpus maker",
        f"{len(cells)} cells of {len(clips)} generated clips (FFmpeg's `testsrc2`, {scale.clip}, "
        f"{scale.frames} frames), {' '.join(scale.qualities)}, presets "
        f"{' '.join(scale.presets) or 'as by default'}, FFmpeg with `-threads 1`; encode, "
        "decode, check and score, through Dask in processes of this machine. Timed from "
        "the moment that the workers are up until the last cell is stored, once each; "
        "the whole call also starts and ends them and writes the corpus file.",
        rows,
        [ratio("two Dask workers against one", each[1] / each[0], "at least 1.7")],
    )


def generated_clip(setup: Setup, ffmpeg: str, folder: Path, number: int) -> str:
    """Make a lossless clip with FFmpeg's test source, another one for each number."""
    path = folder / f"generated_{number}.mkv"
    source = f"testsrc2={setup.scale.clip},trim=start_frame={50 * number},setpts=PTS-STARTPTS"
    command = [ffmpeg, "-v", "error", "-nostdin", "-f", "lavfi", "-i", source]
    command += ["-frames:v", str(setup.scale.frames), "-pix_fmt", "yuv420p", "-c:v", "ffv1"]
    subprocess.run([*command, str(path)], check=True)
    return str(path)


class _Stamped:
    """A cell store that notes when each cell arrived."""

    def __init__(self, store: CellStore) -> None:
        self.store, self.times = store, list[float]()

    def put(self, key: tuple, rows: list[dict]) -> None:
        """Store the rows of one finished cell."""
        self.store.put(key, rows)
        self.times.append(time.perf_counter())


def _grid_row(cells: Sequence[Cell], workers: int, folder: Path, ffmpeg: str) -> dict[str, Any]:
    from fr_lib.encode import make_corpus, on_cluster

    ready: list[float] = []
    stores: list[_Stamped] = []
    # The cluster reports once, when its workers are there.
    work = on_cluster(workers, report=lambda line: ready.append(time.perf_counter()))

    def stamped(todo: Sequence[Cell], store: CellStore, program: str) -> list[str]:
        stores.append(_Stamped(store))
        return work(todo, stores[0], program)

    out = folder / f"with_{workers}.jsonl.gz"
    start = time.perf_counter()
    _, failures = make_corpus(cells, out, ffmpeg, report=lambda line: None, work=stamped)
    whole = time.perf_counter() - start
    if failures:
        raise InputError("\n".join(failures))
    taken = stores[0].times[-1] - ready[0]
    return {
        "workers": workers,
        "cells": len(cells),
        "seconds": taken,
        "cells per hour": 3600 * len(cells) / taken,
        "whole call, s": whole,
    }


# --- h, i: where the user waits -------------------------------------------------------------------


def book_time(setup: Setup) -> Section:
    """Show where the time of ``make book`` goes."""
    if setup.run_dir:
        named = setup.run_dir.name
        return _book_section(setup.run_dir, None, f"the run `{named}` as it lies in its folder")
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "bench")
        command = [sys.executable, "-m", "fr_lib", "run", "--run-dir", str(run_dir)]
        taken = seconds(partial(subprocess.run, command, cwd=ROOT, check=True, capture_output=True))
        return _book_section(run_dir, taken, "a run made for this, with the shipped corpus")


def _book_section(run_dir: Path, whole: float | None, what: str) -> Section:
    import nbformat

    paths = sorted((run_dir / "notebooks").glob("[0-9]*.ipynb"))
    page = run_dir / "book" / "_build" / "html" / "index.html"
    if not paths or not page.is_file():
        raise InputError(
            say(
                str(run_dir), "no finished run with a book", "one", "leave out --run-dir to make it"
            )
        )
    notebooks = {path.stem: nbformat.read(path, as_version=4) for path in paths}
    rows = [_notebook_row(name, notebook) for name, notebook in notebooks.items()]
    overhead = max(row["kernel and imports"] for row in rows)
    times = [n.metadata["papermill"] for n in notebooks.values()]
    first = min(datetime.fromisoformat(t["start_time"]) for t in times).timestamp()
    last = max(datetime.fromisoformat(t["end_time"]) for t in times).timestamp()
    written = page.stat().st_mtime
    rows.append(_rest("book", written - last))
    total = written - first if whole is None else whole
    rows.append(_rest("in between, start and end", total - sum(row["seconds"] for row in rows)))
    rows.append(_rest("all", total))
    return Section(
        "Where the time of make book goes",
        f"Seconds, of {what}: papermill's own durations of notebooks and cells, and from the last "
        "notebook's end to the written front page for the book. *Computation* is all code cells "
        "but the imports; *kernel and imports* is the rest of the notebook's time. A run that lies "
        "in its folder was made at another time, under a load that is not known.",
        rows,
        [
            ratio("make book, minutes", total / 60, "at most 5"),
            ratio("a notebook's seconds beyond its computation, worst", overhead, "under 3"),
        ],
    )


def _rest(step: str, taken: float) -> dict[str, Any]:
    return {"step": step, "seconds": taken, "computation": None, "kernel and imports": None}


def _notebook_row(name: str, notebook: Any) -> dict[str, Any]:
    code = [c for c in notebook.cells if c.cell_type == "code" and c.source.strip()]
    # Their imports are one cell, the first (docs/CONTRIBUTING.md).
    computation = sum(c.metadata["papermill"]["duration"] or 0.0 for c in code[1:])
    whole = notebook.metadata["papermill"]["duration"]
    return {
        "step": name,
        "seconds": whole,
        "computation": computation,
        "kernel and imports": whole - computation,
    }


def start_time(setup: Setup) -> Section:
    """Measure what a command costs before it does anything, and those that should do little."""
    with tempfile.TemporaryDirectory() as folder:
        score = ["predict", "--encoder", "libx264", "--quality", "23", _one_frame(setup, folder)]
        commands = {
            "python, nothing": ["-c", "pass"],
            "import numpy, onnxruntime": ["-c", "import numpy, onnxruntime"],
            "import fr_lib": ["-c", "import fr_lib"],
            "python -m fr_lib --help": ["-m", "fr_lib", "--help"],
            "python -m fr_lib verify": ["-m", "fr_lib", "verify"],
            "python -m fr_lib predict": ["-m", "fr_lib", *score],
            "import fr_lib.corpus.load": ["-c", "import fr_lib.corpus.load"],
            "import fr_lib.evaluate.loso": ["-c", "import fr_lib.evaluate.loso"],
            "import fr_lib.train.many (torch)": ["-c", "import fr_lib.train.many"],
        }
        calls: dict[str, Callable[[], object]] = {
            name: partial(
                subprocess.run, [sys.executable, *words], cwd=ROOT, check=True, capture_output=True
            )
            for name, words in commands.items()
        }
        for call in calls.values() if setup.scale.warm_starts else ():
            call()
        taken = medians(calls, setup.scale.imports)
    least = taken["import numpy, onnxruntime"]
    against = "against importing numpy and onnxruntime"
    return Section(
        "Start time",
        "Whole processes, compiled files and page cache warm, in turns, median of "
        f"{setup.scale.imports}. `verify` checks `model/tiny`, `predict` scores one frame.",
        [{"command": f"`{name}`", "seconds": value} for name, value in taken.items()],
        [
            ratio("import fr_lib, seconds", taken["import fr_lib"], "under 1"),
            ratio("python -m fr_lib --help, seconds", taken["python -m fr_lib --help"], "under 1"),
            *(
                ratio(f"{name} {against}", taken[f"python -m fr_lib {name}"] / least, "at most 3")
                for name in ("verify", "predict")
            ),
        ],
    )


def _one_frame(setup: Setup, folder: str) -> str:
    """Write libvmaf's log of one frame of the corpus; return its path."""
    from fr_lib.schema import CANONICAL_6

    row = setup.corpus.table.iloc[0]
    metrics = {name: float(row[name]) for name in CANONICAL_6}
    log = Path(folder, "log.json")
    log.write_text(json.dumps({"frames": [{"frameNum": 0, "metrics": metrics}]}))
    return str(log)


SECTIONS: dict[str, Callable[[Setup], Section]] = {
    "a": training_loop,
    "b": number_of_models,
    "c": number_of_rows,
    "d": number_of_seeds,
    "e": loader_and_audit,
    "f": inference,
    "g": corpus_maker,
    "h": book_time,
    "i": start_time,
}


def chosen(only: str | None) -> list[str]:
    """Return the keys in ``a,f``, all where none are given; InputError for an unknown one."""
    keys = [key.strip() for key in only.split(",")] if only else list(SECTIONS)
    unknown = sorted(set(keys) - set(SECTIONS))
    if unknown:
        listed = ", ".join(f"{key} ({call.__name__})" for key, call in SECTIONS.items())
        raise InputError(say("--only", ", ".join(unknown), listed, "name some of these"))
    return keys


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench", description=__doc__)
    listed = ", ".join(f"{key} {call.__name__}" for key, call in SECTIONS.items())
    parser.add_argument("--only", metavar="a,f,...", help=f"some sections: {listed}")
    parser.add_argument("--quick", action="store_true", help="see that it runs; not a measurement")
    parser.add_argument("--device", default="cpu", help="of train_many; default: %(default)s")
    parser.add_argument("--run-dir", type=Path, help="h: a run that lies there; default: make one")
    parser.add_argument("--results", type=Path, help="JSON; default: benchmarks/results.json")
    parser.add_argument("--page", type=Path, help="Markdown; default: docs/benchmarks.md")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; return the exit code."""
    args = _parser().parse_args(arguments)
    results = args.results or (None if args.quick else report.RESULTS)
    page = args.page or (None if args.quick else report.PAGE)
    setup = Setup(QUICK if args.quick else Scale(), args.device, args.run_dir)
    done: dict[str, dict[str, Any]] = {}
    try:
        for key in chosen(args.only):
            done[key] = report.measured(partial(SECTIONS[key], setup), quick=args.quick)
            print(report.section_text(key, done[key]), flush=True)
            # After each one, so that an interrupted benchmark keeps what it has.
            report.save(done, results, page)
    except FrError as refused:
        print(refused, file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        print("interrupted; finished sections are kept", file=sys.stderr)
        return 130
    print(report.headline(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
