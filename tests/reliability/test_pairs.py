"""Two commands in one place at once: no row is lost, nothing is mixed, no verdict is another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chain import ROOT, hopeless_table
from modelkit import make_folder
from stopping import WAITING, whole_run

from fr_lib.corpus import write_table
from fr_lib.encode import default_ffmpeg
from fr_lib.files import sha256_of
from fr_lib.release import Predictor, publish, verify
from fr_lib.runs.rundir import LOCK

pytestmark = pytest.mark.reliability


def started(*words: str | Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=600)
    assert "Traceback" not in err
    return process.returncode, out, err


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("clips")
    for name, picture in (("one", "testsrc2"), ("two", "smptebars")):
        made = [default_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", f"{picture}=size=192x144"]
        made += ["-frames:v", "2", "-pix_fmt", "yuv420p", "-c:v", "ffv1"]
        subprocess.run([*made, str(folder / f"{name}.mkv")], check=True)
    return {name: folder / f"{name}.mkv" for name in ("one", "two")}


def maker(clip: Path, quality: str, out: Path) -> subprocess.Popen:
    words = ["--source", clip, "--encoder", "libx264", "--quality", quality, "--out", out]
    return started("fr_lib", "corpus", *words)


@pytest.mark.parametrize(
    ("first", "second", "rows"),
    [
        (("one", "20,40"), ("two", "20,40"), 8),
        (("one", "20,30"), ("one", "40,50"), 8),
        (("one", "20,30"), ("one", "20,30"), 4),
    ],
    ids=["other clips", "other quality", "the same"],
)
def test_two_makers_of_one_corpus_lose_no_row(first, second, rows, clips, tmp_path):
    out = tmp_path / "c.jsonl"
    both = [maker(clips[name], quality, out) for name, quality in (first, second)]
    assert [ended(one)[0] for one in both] == [0, 0]
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({(r["src"], r["cq"], r["frame_index"]) for r in found}) == len(found) == rows
    made = json.loads((tmp_path / "c.provenance.json").read_text())
    assert made["corpus"]["sha256"] == sha256_of(out)
    assert {p.name for p in tmp_path.iterdir()} == {"c.jsonl", "c.provenance.json"}


def test_a_maker_takes_up_what_a_killed_one_left(clips, tmp_path):
    out = tmp_path / "c.jsonl"
    first = maker(clips["one"], "20,25,30,35,40,45", out)
    while not [*tmp_path.glob("c.jsonl.cells/[!.]*")]:
        time.sleep(0.01)
    second = maker(clips["one"], "20,25,30,35,40,45", out)
    first.kill()
    assert ended(first)[0] == -9
    code, said, _ = ended(second)
    assert code == 0
    assert "6 cells, 0 already" not in said
    assert len(out.read_text().splitlines()) == 12


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_two_releases_into_one_folder_leave_one_of_them(seed, tmp_path):
    tiny = tmp_path / "tiny"
    make_folder(tiny, seed=0)
    names = {}
    for k in (seed, seed + 1):
        folder = make_folder(tmp_path / f"run{k}" / "model", seed=k)
        names[k] = sha256_of(folder / "fr_regressor_v3.onnx")
    both = {
        k: started("fr_lib", "release", "--run-dir", tmp_path / f"run{k}", "--model-dir", tiny)
        for k in names
    }
    codes = {}
    for k, process in both.items():
        codes[k], out, err = ended(process)
        assert codes[k] == 0 or (codes[k] == 2 and "another process writes here" in err)
        assert (names[k][:12] in out) or codes[k] == 2
    assert 0 in codes.values()
    assert verify(tiny) == []
    assert sha256_of(tiny / "fr_regressor_v3.onnx") in {names[k] for k in codes}


def test_readers_see_one_of_two_models_while_they_are_released_in_turns(tmp_path):
    for k in (0, 1):
        make_folder(tmp_path / f"m{k}", seed=k)
    publish(tmp_path / "m0", tmp_path / "tiny")
    turns = (
        "import sys; from fr_lib.release import publish\n"
        "for turn in range(100): publish(sys.argv[1 + turn % 2], sys.argv[3])"
    )
    names = [str(tmp_path / name) for name in ("m1", "m0", "tiny")]
    with subprocess.Popen([sys.executable, "-c", turns, *names], cwd=ROOT) as releases:
        seen = []
        while releases.poll() is None:
            assert verify(tmp_path / "tiny") == []
            seen.append(Predictor.load(tmp_path / "tiny").card["sha256"])
    assert releases.returncode == 0
    assert len(seen) > len(set(seen)) == 2


@pytest.mark.parametrize("other", ["run", "notebook", "release"])
def test_a_run_at_work_keeps_others_out_of_its_folder(other, tmp_path):
    with whole_run(tmp_path, WAITING) as run:
        run.wait_for("at work")
        before = sorted(p.name for p in (tmp_path / "run").rglob("*"))
        write_table(hopeless_table(), tmp_path / "good.jsonl")
        where = ["--run-dir", tmp_path / "run"]
        words = {
            "run": ["fr_lib", "run", "--corpus", tmp_path / "good.jsonl", *where],
            "release": ["fr_lib", "release", *where, "--model-dir", tmp_path / "tiny"],
            "notebook": [
                *("papermill", "notebooks/01_corpus_audit.ipynb", tmp_path / "out.ipynb"),
                *("-p", "corpus", tmp_path / "good.jsonl", "-p", "run_dir", tmp_path / "run"),
            ],
        }[other]
        second = started(*words)
        out, err = second.communicate(timeout=600)
        assert second.returncode == (1 if other == "notebook" else 2)
        assert "another process writes here" in err
        assert "PASSED" not in out
        if other != "notebook":
            assert len(err.splitlines()) == 1
        assert sorted(p.name for p in (tmp_path / "run").rglob("*")) == before
        assert LOCK in before
        os.kill(run.process.pid, signal.SIGTERM)
        run.process.communicate(timeout=60)
