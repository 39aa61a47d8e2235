"""The corpus maker on real Dask clusters of this machine, one of whose workers is killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dask
import pandas as pd
import psutil
import pytest
from distributed import Client, LocalCluster

from fr_lib.__main__ import main
from fr_lib.corpus import read_table
from fr_lib.encode import (
    build_grid,
    default_ffmpeg,
    ffmpeg_version,
    find_sources,
    grid,
    make_corpus,
    on_cluster,
)
from fr_lib.encode.grid import look_around, refuse_unfit
from fr_lib.encode.store import CELL_KEY
from fr_lib.errors import EncodeError, InputError
from fr_lib.files import ROOT

FFMPEG = default_ffmpeg()
FRAMES = 8
# Workers of these clusters start from a process that has imported all that they need; those of the
# command, which has tests of its own, as it starts them.
FORKED = {"distributed.worker.multiprocessing-method": "forkserver"}


def make_clip(path: Path, pattern: str, size: str = "128x96") -> Path:
    source = f"{pattern}=size={size}:rate=25"
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(FRAMES)]
    subprocess.run([*command, "-c:v", "ffv1", "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


def quiet(_: str) -> None:
    """Take a report and say nothing."""


def grid_of(*clips: Path, encoders=("libx264",), quality="20,30,40", **options):
    return build_grid(find_sources([str(c) for c in clips]), encoders, [quality], **options)


def on(cluster: LocalCluster, report=quiet):
    return on_cluster(scheduler=cluster.scheduler_address, report=report)


# Refuses to encode pictures of that width.
NO_32 = """case "$*" in *-c:v\\ libx264*)
  for word; do
    case $word in *.y4m) if head -c 40 "$word" | grep -q W32; then echo no >&2; exit 1; fi;; esac
  done;;
esac"""


def program(path: Path, first: str) -> str:
    """Write an FFmpeg that does something first; return its path."""
    path.write_text(f'#!/bin/sh\n{first}\nexec "{FFMPEG}" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    return [
        make_clip(folder / "Pattern.mkv", "testsrc2"),
        make_clip(folder / "Fractal.mkv", "mandelbrot"),
    ]


@pytest.fixture(scope="module")
def cells(clips):
    quality = "18,30,42"
    return grid_of(*clips, encoders=["libx264", "libx265"], quality=quality, every=2)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def cluster(scratch) -> Iterator[LocalCluster]:
    with (
        dask.config.set(FORKED | {"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(scratch),
            silence_logs="CRITICAL",
        ) as running,
    ):
        yield running


@pytest.fixture
def client(cluster) -> Iterator[Client]:
    """Take a look at the workers, all of which live."""
    with Client(cluster) as looking:
        looking.wait_for_workers(2, timeout=60)
        yield looking


def left_in(scratch: Path) -> list[Path]:
    return [p for p in scratch.rglob("*") if p.suffix in (".y4m", ".mp4")]


# --- a worker is killed ---------------------------------------------------------------------------


def test_a_killed_worker_costs_no_row_and_doubles_none(cells, cluster, client, scratch, tmp_path):
    out = tmp_path / "killed.jsonl.gz"
    victim = next(iter(client.run(os.getpid).values()))
    finished_when_killed = []

    def kill() -> None:
        cells_done = tmp_path / "killed.jsonl.gz.cells"
        while len(list(cells_done.glob("[!.]*"))) < 4:
            time.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        finished_when_killed.append(len(list(cells_done.glob("[!.]*"))))

    killer = threading.Thread(target=kill)
    killer.start()
    said: list[str] = []
    returned = make_corpus(cells, out, FFMPEG, said.append, on(cluster, said.append))
    killer.join()

    assert 4 <= finished_when_killed[0] < len(cells)
    assert returned == (len(cells), [])
    assert said[:2] == [
        f"12 cells, 0 already in {out}, 12 to encode",
        f"workers: 2, scheduler: {cluster.scheduler_address}",
    ]
    assert said[2].startswith("dashboard: http://127.0.0.1:")
    found = read_table(out)
    key = [*CELL_KEY, "frame_index"]
    assert len(found) == len(cells) * FRAMES / 2
    assert not found.duplicated(key).any()
    alone = tmp_path / "alone.jsonl.gz"
    assert make_corpus(cells, alone, FFMPEG, quiet) == (len(cells), [])
    pd.testing.assert_frame_equal(
        found.drop(columns="enc_time_ms"), read_table(alone).drop(columns="enc_time_ms")
    )
    client.wait_for_workers(2, timeout=60)
    assert victim not in client.run(os.getpid).values()
    assert left_in(scratch) == []


def test_a_cell_that_kills_every_worker_takes_no_other_cell_along(clips, cluster, tmp_path):
    deadly = program(tmp_path / "ffmpeg", 'case "$*" in *"-crf 33"*) kill -9 $PPID;; esac')
    todo = grid_of(clips[0], quality="33,34,35")
    encoded, failures = make_corpus(todo, tmp_path / "c.jsonl", deadly, quiet, on(cluster))
    assert encoded == 2
    assert failures == [
        "Pattern libx264 medium 33: every worker that tried it died; allowed: a worker that lives; "
        "see the workers' logs; memory is the usual cause"
    ]
    assert sorted(set(read_table(tmp_path / "c.jsonl")["cq"])) == [34, 35]


# --- cells that fail ------------------------------------------------------------------------------


def test_a_failing_cell_is_tried_once_and_reported_as_without_a_cluster(clips, cluster, tmp_path):
    tiny = make_clip(tmp_path / "Tiny.mkv", "testsrc2", "32x32")
    log = tmp_path / "log"
    logged = program(tmp_path / "ffmpeg", f'echo "$*" >> "{log}"\n{NO_32}')
    todo = grid_of(tiny, clips[0], encoders=["libx264"], quality="30,40", threads=3)
    unlogged = program(tmp_path / "other", NO_32)
    alone = make_corpus(todo, tmp_path / "alone.jsonl", unlogged, quiet)
    assert make_corpus(todo, tmp_path / "c.jsonl", logged, quiet, on(cluster)) == alone
    assert alone[0] == 2
    assert [f.split(":")[0] for f in alone[1]] == [
        "Tiny libx264 medium 30",
        "Tiny libx264 medium 40",
    ]
    lines = log.read_text().splitlines()
    encodes = [line for line in lines if "-c:v libx264" in line]
    assert len(encodes) == len(todo)
    assert all("-crf" in line and "-threads 3" in line for line in encodes)
    # What decodes and what scores is bounded too: a worker is a core.
    for step in ("yuv4mpegpipe", "libvmaf="):
        found = [line for line in lines if step in line]
        assert len(found) >= len(todo) // 2
        assert all("-threads 3" in line for line in found)


def test_a_broken_clip_costs_its_own_cells_only(clips, cluster, scratch, tmp_path):
    broken = tmp_path / "Broken.mkv"
    broken.write_text("no clip at all")
    todo = grid_of(broken, clips[0], quality="30,40")
    encoded, failures = make_corpus(todo, tmp_path / "c.jsonl", FFMPEG, quiet, on(cluster))
    assert encoded == 2
    assert len(failures) == 2
    assert all("Broken.mkv: " in failure for failure in failures)
    assert left_in(scratch) == []


def test_a_worker_that_finds_other_content_at_the_path_scores_nothing(clips, cluster, tmp_path):
    [cell] = grid_of(clips[0], quality="30")
    other = replace(cell, source=replace(cell.source, sha256="0" * 64))
    encoded, failures = make_corpus([other], tmp_path / "c.jsonl", FFMPEG, quiet, on(cluster))
    assert encoded == 0
    assert failures[0].startswith("Pattern libx264 medium 30: ")
    assert "has other content on a worker" in failures[0]
    assert list(tmp_path.iterdir()) == []


# --- workers that do not fit ----------------------------------------------------------------------


def test_workers_that_agree_are_accepted():
    refuse_unfit({}, "9.0")
    refuse_unfit({"tcp://a:1": ("9.0", []), "tcp://b:1": ("9.0", [])}, "9.0")


def test_each_fault_is_named_once_with_the_workers_that_have_it():
    found = {f"tcp://{n}:1": ("8.1", []) for n in "abcde"}
    found |= {"tcp://x:1": ("9.0", ["a.mkv: none"]), "tcp://y:1": ("7.0", ["a.mkv: none"])}
    found |= {"tcp://z:1": (None, ["ffmpeg: cannot be run"])}
    with pytest.raises(InputError) as caught:
        refuse_unfit(found, "9.0")
    assert str(caught.value).splitlines() == [
        "tcp://a:1, tcp://b:1, tcp://c:1 and 2 more: FFmpeg 8.1: mixed versions; allowed: 9.0; "
        "give all workers the same one",
        "tcp://x:1, tcp://y:1: a.mkv: none",
        "tcp://y:1: FFmpeg 7.0: mixed versions; allowed: 9.0; give all workers the same one",
        "tcp://z:1: ffmpeg: cannot be run",
    ]


def test_a_worker_looks_for_ffmpeg_and_for_the_clips(clips, tmp_path):
    there, nowhere = str(clips[0]), str(tmp_path / "none")
    assert look_around(FFMPEG, [there]) == (ffmpeg_version(FFMPEG), [])
    version, faults = look_around(nowhere, [there, nowhere])
    assert version is None
    assert [fault.split(";")[0] for fault in faults] == [
        f"{nowhere}: cannot be run (No such file or directory)",
        f"{nowhere}: no such file",
    ]


def test_a_cluster_of_mixed_ffmpegs_encodes_nothing(clips, cluster, client, tmp_path):
    text = "ffmpeg version 0.1 --enable-libvmaf"
    mixed = program(tmp_path / "ffmpeg", f'[ "$OLD" ] && {{ echo "{text}"; exit; }}')
    odd = min(client.run(os.getpid))

    def age(old: str) -> None:
        os.environ["OLD"] = old

    client.run(age, "yes", workers=[odd])
    try:
        with pytest.raises(InputError) as caught:
            make_corpus(grid_of(clips[0]), tmp_path / "c.jsonl", mixed, quiet, on(cluster))
    finally:
        client.run(age, "", workers=[odd])
    assert str(caught.value) == (
        f"{odd}: FFmpeg 0.1: mixed versions; allowed: {ffmpeg_version(FFMPEG)}; "
        "give all workers the same one"
    )
    assert not (tmp_path / "c.jsonl").exists()


def test_a_worker_without_this_package_is_named(clips, cluster, client, tmp_path):
    odd = min(client.run(os.getpid))

    def forget(name: str) -> None:
        sys.modules[name] = None

    def recall(name: str) -> None:
        del sys.modules[name]

    client.run(forget, "fr_lib.encode.grid", workers=[odd])
    try:
        with pytest.raises(InputError, match=f"^{odd}: cannot run fr_lib "):
            make_corpus(grid_of(clips[0]), tmp_path / "c.jsonl", FFMPEG, quiet, on(cluster))
    finally:
        client.run(recall, "fr_lib.encode.grid", workers=[odd])


# --- schedulers -----------------------------------------------------------------------------------


def test_without_work_no_scheduler_is_asked(clips, tmp_path):
    todo = grid_of(clips[0], quality="30")
    make_corpus(todo, tmp_path / "c.jsonl", FFMPEG, quiet)
    nowhere = on_cluster(scheduler="tcp://127.0.0.1:1", report=quiet)
    assert make_corpus(todo, tmp_path / "c.jsonl", FFMPEG, quiet, nowhere) == (0, [])


@pytest.mark.parametrize("address", ["tcp://", "127.0.0.1", "http://127.0.0.1:8786", "no:where"])
def test_what_is_no_address_is_refused(cells, tmp_path, address):
    work = on_cluster(scheduler=address, report=quiet)
    with pytest.raises(InputError, match="no Dask scheduler answers"):
        make_corpus(cells, tmp_path / "c.jsonl", FFMPEG, quiet, work)


def test_a_server_that_never_answers_is_refused(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        work = on_cluster(scheduler=f"tcp://127.0.0.1:{silent.getsockname()[1]}", report=quiet)
        with pytest.raises(InputError, match=r"no Dask scheduler answers there within 0\.3 s"):
            make_corpus(cells, tmp_path / "c.jsonl", FFMPEG, quiet, work)


def test_a_scheduler_without_workers_is_refused(cells, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "WORKERS_S", 0.3)
    said: list[str] = []
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as empty,
        pytest.raises(InputError, match=r"no worker joined within 0\.3 s"),
    ):
        make_corpus(cells, tmp_path / "c.jsonl", FFMPEG, quiet, on(empty, said.append))
    assert said == [f"waiting up to 0.3 s for a worker at {empty.scheduler_address}"]


@pytest.mark.parametrize("workers", [None, 0, -1])
def test_a_cluster_without_workers_is_refused(workers):
    with pytest.raises(InputError, match=r"--workers: .*; allowed: 1 or more"):
        on_cluster(workers)


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(threads):
    with pytest.raises(InputError, match=f"--threads: {threads}; allowed: 1 or more"):
        build_grid([], ["libx264"], ["30"], threads=threads)


# --- command line ---------------------------------------------------------------------------------


def living_in(session: int) -> list[str]:
    """Return the processes of a session, once those that are ending have had their time."""
    for _ in range(100):
        alive = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(str(process))
        if not alive:
            break
        time.sleep(0.1)
    return alive


def start(*arguments: object, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fr_lib", "corpus", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_workers_are_an_option_of_the_command(clips, tmp_path):
    (tmp_path / "t").mkdir()
    out = tmp_path / "c.parquet"
    asked = ["--source", clips[0], "--encoder", "libx264", "--quality", "30,40"]
    with start(
        *asked,
        *("--workers", 2, "--threads", 1, "--out", out),
        env=os.environ | {"TMPDIR": str(tmp_path / "t")},
    ) as running:
        told, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert "workers: 2, scheduler: tcp://127.0.0.1:" in told
    assert "dashboard: http://127.0.0.1:" in told
    assert "2 cells encoded, 0 failed" in told
    assert len(read_table(out)) == 2 * FRAMES
    assert list((tmp_path / "t").iterdir()) == []
    facts = json.loads((tmp_path / "c.provenance.json").read_text())
    assert "--workers 2 --threads 1" in facts["command"]


def test_ctrl_c_keeps_finished_cells_and_ends_all_processes(clips, tmp_path):
    (tmp_path / "t").mkdir()
    out, done = tmp_path / "c.jsonl", tmp_path / "c.jsonl.cells"
    # More than two workers finish before a busy machine lets this process look again.
    quality = [f"{quarter / 4:g}" for quarter in range(40, 200)]
    with start(
        *("--source", clips[0], "--encoder", "libx264", "--quality", ",".join(quality)),
        *("--workers", 2, "--out", out),
        env=os.environ | {"TMPDIR": str(tmp_path / "t")},
        start_new_session=True,
        # A shell's background job ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        while running.poll() is None and not list(done.glob("[!.]*")):
            time.sleep(0.02)
        # As from a terminal: to all of them.
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "interrupted; finished work is kept"
    assert "Traceback" not in errors
    assert 1 <= len(read_table(out)) / FRAMES < len(quality)
    assert list((tmp_path / "t").iterdir()) == []
    assert living_in(running.pid) == []


def test_a_scheduler_that_is_not_there_costs_one_line(clips, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(grid, "CONNECT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    asked = ["corpus", "--source", clips[0], "--encoder", "libx264", "--quality", "30"]
    address = f"tcp://127.0.0.1:{port}"
    code = main([*map(str, asked), "--scheduler", address, "--out", str(tmp_path / "c.jsonl")])
    assert code == 2
    assert capsys.readouterr().err == (
        f"--scheduler {address}: no Dask scheduler answers there within 0.3 s; "
        "allowed: tcp://host:port of a running one; "
        "start one with `dask scheduler`, or use --workers\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_lost_scheduler_keeps_finished_cells(clips, tmp_path):
    done = tmp_path / "c.jsonl.cells"
    todo = grid_of(clips[0], quality=",".join(map(str, range(10, 50))))
    with dask.config.set(FORKED):
        lost = LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path / "t"),
            silence_logs="CRITICAL",
        )

    def close() -> None:
        while not list(done.glob("[!.]*")):
            time.sleep(0.01)
        lost.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(EncodeError, match=r"scheduler: lost; .*finished cells are kept"):
        make_corpus(todo, tmp_path / "c.jsonl", FFMPEG, quiet, on(lost))
    closer.join()
    assert 1 <= len(read_table(tmp_path / "c.jsonl")) / FRAMES < len(todo)


def test_without_a_cluster_dask_is_not_loaded(clips, tmp_path):
    code = (
        "import sys; from fr_lib.__main__ import main; code = main(sys.argv[1:]);"
        "assert code == 0; assert not {'dask', 'distributed'} & set(sys.modules)"
    )
    asked = ["corpus", "--source", clips[0], "--encoder", "libx264", "--quality", "30"]
    arguments = [*map(str, asked), "--out", str(tmp_path / "c.jsonl")]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True)
