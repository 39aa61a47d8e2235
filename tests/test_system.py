"""What the operating system refuses and interrupts, for every command of the command line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chain import ROOT, hopeless_table, tree
from modelkit import make_folder
from stopping import WAITING, whole_run

from fr_lib.__main__ import main
from fr_lib.corpus import write_table
from fr_lib.errors import InputError
from fr_lib.files import refuse_inside, write_bytes
from fr_lib.schema import CANONICAL_6
from fr_lib.system import end_children, sole_writer, stoppable

LOG = '{"frames": [{"metrics": {%s}}]}'


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Good inputs of every command: a corpus, a model folder that is a run's too, and a file."""
    folder = tmp_path_factory.mktemp("here")
    write_table(hopeless_table(), folder / "rows.jsonl")
    make_folder(folder / "run" / "model")
    (folder / "file").write_text("a file where a folder should be")
    return folder


def arguments(command: str, here: Path, odd: str, into: str) -> list[str]:
    """Return a command line with `odd` as what is read, and `into` as what is written."""
    clip = ["--source", odd or str(here / "file")]
    return {
        "run": ["--corpus", odd or str(here / "rows.jsonl"), "--run-dir", into, "--no-book"],
        "corpus": [*clip, "--encoder", "libx264", "--quality", "30", "--out", f"{into}.jsonl"],
        "stress": [*clip, "--out", f"{into}.parquet"],
        "release": ["--run-dir", odd or str(here / "run"), "--model-dir", into],
        "verify": ["--model-dir", odd],
        "predict": ["--encoder", "libx264", "--quality", "30", odd],
    }[command]


READERS = ("run", "corpus", "stress", "release", "verify", "predict")


def refused(command: str, words: list[str], capsys) -> str:
    """Run a command that has to end with 2 and one line; return that line."""
    assert main([command, *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert "Traceback" not in said[0]
    return said[0]


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("odd", ["a\0b", "a" * 5000, "x/" * 3000, "\udcff", "/proc/self/mem/x"])
def test_a_path_that_no_file_can_have(command, odd, here, tmp_path, capsys):
    line = refused(command, arguments(command, here, odd, str(tmp_path / "out")), capsys)
    assert odd[:5] in line or repr(odd)[1:5] in line
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("command", ["run", "release"])
@pytest.mark.parametrize("into", ["/proc/none", "{here}/file", "{here}/file/x", "y" * 300])
def test_a_place_that_cannot_be_written_to(command, into, here, capsys):
    before = tree(here)
    refused(command, arguments(command, here, "", into.format(here=here)), capsys)
    assert tree(here) == before


@pytest.mark.parametrize("at", ["@a\0b", "@bytes", "@itself"])
def test_a_file_of_arguments_that_is_none(at, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bytes").write_bytes(b"\xff\xfe\0")
    Path("itself").write_text("@itself")
    assert "@file" in refused("run", [at], capsys)


def test_a_full_disk_leaves_what_was_there(here, tmp_path, capsys):
    """A limit on the size of a file stands in for the disk."""
    target = tmp_path / "tiny"
    shutil.copytree(here / "run" / "model", target)
    before = tree(target)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        line = refused("release", arguments("release", here, "", str(target)), capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in line
    assert tree(target) == before


# --- what is read, and what would be lost


@pytest.mark.parametrize("name", ["corpus.parquet", "model/rows.jsonl", "book/rows.jsonl"])
def test_a_run_does_not_remove_its_own_corpus(name, here, tmp_path, capsys):
    run = tmp_path / "run"
    (run / name).parent.mkdir(parents=True)
    write_bytes(run / name, (here / "rows.jsonl").read_bytes())
    before = tree(run)
    line = refused("run", arguments("run", here, str(run / name), str(run)), capsys)
    assert line.startswith(f"--corpus: {run / name} ")
    assert "which this command writes anew" in line
    assert tree(run) == before


def test_a_run_does_not_remove_the_logs_it_is_to_score(tmp_path, capsys):
    log = tmp_path / "run" / "model" / "log.json"
    features = dict.fromkeys([*CANONICAL_6], 0.5)
    write_bytes(log, (LOG % json.dumps(features)[1:-1]).encode())
    words = ["--smoke", "--run-dir", str(tmp_path / "run"), "--set", f"logs={log.parent}/*.json"]
    assert refused("run", words, capsys).startswith(f"--set logs: {log} lies in ")
    assert tree(tmp_path) == {"run/model/log.json": tree(tmp_path)["run/model/log.json"]}


@pytest.mark.parametrize("name", ["c.jsonl", "c.provenance.json", "c.jsonl.cells/x.mkv"])
@pytest.mark.parametrize("option", ["--source", "--manifest"])
def test_a_maker_does_not_write_over_what_it_reads(option, name, tmp_path, capsys):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("[]")
    (tmp_path / "clip.mkv").touch()
    words = ["--source", str(tmp_path / "clip.mkv"), option, str(own), "--out"]
    words += [str(tmp_path / "c.jsonl"), "--encoder", "libx264", "--quality", "30"]
    assert refused("corpus", words, capsys).startswith(f"{option}: {own} ")
    assert own.read_text() == "[]"


def test_an_input_beside_what_is_written_is_fine(tmp_path):
    refuse_inside([("--corpus", tmp_path / "model2" / "x")], [tmp_path / "model"])
    (tmp_path / "link").symlink_to(tmp_path / "model")
    with pytest.raises(InputError, match=r"--corpus: .* lies in"):
        refuse_inside([("--corpus", tmp_path / "link" / "x")], [tmp_path / "model"])


# --- one writer


def test_a_second_writer_is_refused_or_waits(tmp_path):
    lock = tmp_path / "lock"
    (tmp_path / "lock").touch()  # left by a process that was killed
    holds = (
        "import sys; from pathlib import Path; from fr_lib.system import sole_writer\n"
        "with sole_writer('x', Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", holds, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "held\n"
    with (
        pytest.raises(InputError, match="rows: another process writes here"),
        sole_writer("rows", lock),
    ):
        pass
    heard = []

    def waiting(line: str) -> None:
        heard.append(line)
        first.stdin.close()  # lets the other end

    with sole_writer("rows", lock, waiting):
        assert first.wait() == 0
    assert heard == ["rows: waiting until another process that writes here has ended"]
    assert not lock.exists()
    first.stdout.close()


# --- signals and readers that go away


@pytest.fixture
def heeded(number):
    """Let the signal do what it does by default, also where the tests run under ``nohup``."""
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    yield
    signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unwinds_once_and_all_is_as_before(number, heeded):
    before = signal.getsignal(number)

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)  # passed over

    with stoppable(), pytest.raises(KeyboardInterrupt) as stopped:
        interrupted()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) is before


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_children_end_with_theirs_and_older_ones_stay():
    import psutil

    def started(code: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    wait = "import time; time.sleep(600)"
    older = started(wait)
    known = psutil.Process().children()
    parent = started(
        "import subprocess, sys\n"
        f"print(subprocess.Popen([sys.executable, '-c', {wait!r}]).pid, flush=True); {wait}"
    )
    grandchild = int(parent.stdout.readline())
    end_children(known)
    assert not psutil.pid_exists(grandchild) or (
        psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    )
    assert older.poll() is None
    older.kill()
    for process in (older, parent):
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("where", "code", "heard"),
    [
        ("{whole} | true", 0, ""),
        ("{whole} > /dev/full", 2, "No space left on device"),
        ("{none} 2>&1 >/dev/null | true", 2, ""),
    ],
)
def test_nobody_reads_or_nothing_can_be_written(where, code, heard, here):
    """A command whose reader has gone ends quietly, with its own exit code if it was done."""
    where = where.format(whole=here / "run" / "model", none=here / "none")
    line = f"set -o pipefail; {sys.executable} -m fr_lib verify --model-dir {where}"
    ended = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert heard in ended.stderr
    assert len(ended.stderr.splitlines()) == bool(heard)


def test_a_run_that_is_told_to_end_leaves_nothing_at_work(tmp_path):
    """While its notebook has a process of its own; `make reliability` has the other signals."""
    import psutil

    with whole_run(tmp_path, WAITING) as run:
        family = run.wait_for("at work")
        assert len(family) == 3
        run.process.terminate()
        _, errors = run.process.communicate(timeout=60)
    assert run.process.returncode == 143
    assert errors.splitlines()[-1] == "stopped by SIGTERM; finished work is kept"
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert run.left_over() == []
