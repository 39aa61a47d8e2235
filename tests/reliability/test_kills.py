"""Commands killed at every stage of their work: whatever is left is whole, and the next mends it.

A command runs in a fork of this process, which counts how often it touches the file system (files
opened to be written, renames, removals, folders, processes started). It is run once to the end,
then killed at touches spread over all of them, so that no window between two renames is missed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from chain import ROOT, hopeless_table
from modelkit import make_folder
from stopping import TRAINING, whole_run

from fr_lib.__main__ import main
from fr_lib.corpus import write_table
from fr_lib.encode import default_ffmpeg
from fr_lib.files import read_json
from fr_lib.pipeline import declared_parameters
from fr_lib.release import verify
from fr_lib.runs import STEPS

pytestmark = pytest.mark.reliability
TOUCHES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "subprocess.Popen")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def forked(work: Callable[[], int], log: Path, stop_at: int = 0, number: int = 9) -> int:
    """Return the exit code of `work` in a fork, as `subprocess` has it; touches go to `log`."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 99
    try:
        touched = 0

        def count(event: str, details: tuple) -> None:
            nonlocal touched
            if event in TOUCHES or (event == "open" and (details[2] or 0) & WRITING):
                touched += 1
                if touched == stop_at:
                    os.kill(os.getpid(), number)

        with log.with_suffix(".said").open("w") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.addaudithook(count)
        code = work()
        stop_at, total = 0, touched
        log.write_text(str(total))
        sys.stderr.flush()
    finally:
        os._exit(code)


def spread(work: Callable[[], int], log: Path, points: int) -> list[int]:
    """Run `work` to its end and return touches spread over all of them."""
    assert forked(work, log) == 0, log.with_suffix(".said").read_text()
    total = int(log.read_text())
    assert total >= points
    return sorted({*np.linspace(1, total, points).round().astype(int).tolist()})


def killed(work: Callable[[], int], log: Path, at: int, number: int) -> None:
    code = forked(work, log, at, number)
    assert code == (-9 if number == signal.SIGKILL else 128 + number), (at, code)
    said = log.with_suffix(".said").read_text()
    assert "Traceback" not in said
    assert "PASSED" not in said


def test_a_killed_release_leaves_the_old_folder_or_the_new_one(tmp_path):
    for name, seed in (("old", 1), ("run/model", 2)):
        made = lambda n=name, s=seed: bool(make_folder(tmp_path / n, seed=s)) - 1  # noqa: E731
        assert forked(made, tmp_path / "log") == 0
    tiny = tmp_path / "tiny"
    words = ["release", "--run-dir", str(tmp_path / "run"), "--model-dir", str(tiny)]

    def fresh() -> None:
        shutil.rmtree(tiny, ignore_errors=True)
        shutil.copytree(tmp_path / "old", tiny)

    fresh()
    models = {(tmp_path / n / "fr_regressor_v3.onnx").read_bytes() for n in ("old", "run/model")}
    points = spread(lambda: main(words), tmp_path / "log", 24)
    for k, at in enumerate(points):
        fresh()
        killed(lambda: main(words), tmp_path / "log", at, (signal.SIGKILL, signal.SIGTERM)[k % 2])
        assert verify(tiny) == [], at
        assert (tiny / "fr_regressor_v3.onnx").read_bytes() in models
        if k % 6 == 0:
            assert forked(lambda: main(words), tmp_path / "log") == 0
            assert verify(tiny) == []
    assert forked(lambda: main(words), tmp_path / "log") == 0
    assert {p.name for p in tmp_path.iterdir()} == {"old", "run", "tiny", "log", "log.said"}
    print(f"release: {len(points)} kill points")  # noqa: T201 - for docs/reliability.md


def test_a_killed_maker_loses_no_cell(tmp_path):
    clip = tmp_path / "clip.mkv"
    subprocess.run(
        [
            *(default_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=192x144"),
            *("-frames:v", "2", "-pix_fmt", "yuv420p", "-c:v", "ffv1", str(clip)),
        ],
        check=True,
    )
    out = tmp_path / "out" / "c.jsonl"

    def make() -> int:
        words = ["--source", str(clip), "--encoder", "libx264", "--quality", "20,40"]
        return main(["corpus", *words, "--threads", "1", "--out", str(out)])

    points = spread(make, tmp_path / "log", 16)
    whole = finished(out)
    assert len(whole) == 4
    for k, at in enumerate(points):
        shutil.rmtree(out.parent)
        killed(make, tmp_path / "log", at, (signal.SIGKILL, signal.SIGTERM)[k % 2])
        kept = finished(out)
        assert forked(make, tmp_path / "log") == 0
        assert kept <= finished(out) == whole, at
        # A dot begins the name of what a killed process had not finished writing.
        assert {p.name for p in out.parent.glob("[!.]*")} == {"c.jsonl", "c.provenance.json"}
    print(f"corpus: {len(points)} kill points")  # noqa: T201


def finished(out: Path) -> set[tuple]:
    """Return the rows that are safe on disk: in the corpus, or in the file of a finished cell."""
    import json

    texts = out.read_text().splitlines() if out.is_file() else []
    rows = [json.loads(text) for text in texts]
    for part in out.with_name("c.jsonl.cells").glob("[!.]*.json"):
        rows += json.loads(part.read_text())
    return {(r["src"], r["encoder"], r["cq"], r["frame_index"], r["vmaf"]) for r in rows}


def test_killed_notebooks_leave_a_folder_that_the_next_run_makes_whole(tmp_path, monkeypatch):
    """Their code in one process after another, without kernels, in the same run directory."""
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(ROOT)
    write_table(hopeless_table(), tmp_path / "rows.jsonl")

    def notebooks(run_dir: Path) -> int:
        given = {"corpus": str(tmp_path / "rows.jsonl"), "run_dir": str(run_dir), "epochs": 1}
        given |= {"recipe_name": "adr0319", "stop_on_fail": False, "device": "cpu"}
        for name in STEPS:
            spaces: dict = {}
            declared = declared_parameters(name)
            for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells:
                if cell.cell_type == "code":
                    exec(cell.source, spaces)
                    if "parameters" in cell.metadata.get("tags", []):
                        spaces |= {k: given.get(k, v) for k, v in declared.items()}
        return 0

    clean, run = tmp_path / "clean" / "run", tmp_path / "killed" / "run"
    points = spread(lambda: notebooks(clean), tmp_path / "log", 16)
    for at in points:
        assert forked(lambda: notebooks(run), tmp_path / "log", at) == -9
        assert not (run / "model").exists() or verify(run / "model") == []
    assert forked(lambda: notebooks(run), tmp_path / "log") == 0
    for name in ("audit.json", "loso.json", "gate.json"):
        assert read_json(run / name, made_by="") == read_json(clean / name, made_by="")
    assert verify(run / "model") == []
    print(f"notebooks: {len(points)} kill points")  # noqa: T201


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["kernel", "training"])
def test_a_run_stopped_while_processes_train_leaves_none(number, moment, tmp_path):
    with whole_run(tmp_path, TRAINING) as run:
        family = run.wait_for(moment)
        assert len(family) >= (4 if moment == "training" else 2)
        os.kill(run.process.pid, number)
        _, errors = run.process.communicate(timeout=60)
    assert run.process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert psutil.wait_procs(family, timeout=30)[1] == []
    if number != signal.SIGKILL:
        assert "finished work is kept" in errors.splitlines()[-1]
        assert run.left_over() == []
