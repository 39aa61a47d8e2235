"""The guide and the workflow for CI: what they call exists, and says what they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
import yaml

from fr_lib.__main__ import _parser
from fr_lib.files import ROOT
from fr_lib.pipeline import declared_parameters, parse_settings

GUIDES = ROOT / "docs" / "guides"
WORKFLOW = yaml.safe_load((GUIDES / "ci-workflow.yml").read_text())
GUIDE = (GUIDES / "ci.md").read_text()
STEPS = WORKFLOW["jobs"]["card"]["steps"]


def script(name: str) -> str:
    (found,) = [step["run"] for step in STEPS if step.get("name") == name]
    return found


def commands(text: str, module: str) -> list[list[str]]:
    """Return the arguments of each call of a module in a text, up to what the shell would take."""
    lines = re.findall(rf"\.venv/bin/python -m {module} ([^\n|&`]+)", text)
    return [shlex.split(line) for line in lines]


def test_every_command_of_guide_and_workflow_is_one_of_ours():
    texts = [GUIDE, *(step.get("run", "") for step in STEPS)]
    called = [words for text in texts for words in commands(text, "fr_lib")]
    assert {words[0] for words in called} == {"run", "publish", "compare"}
    for words in called:
        args = _parser().parse_args(words)
        parse_settings(getattr(args, "set", []))
    for setting in re.findall(r"--set (\S+=\w+)", GUIDE):
        assert parse_settings([setting])


def test_every_notebook_of_the_guide_has_the_parameters_it_is_given():
    called = commands(GUIDE, "papermill")
    assert len(called) == 4
    for words in called:
        name = words[0].removeprefix("notebooks/").removesuffix(".ipynb")
        given = {words[at + 1] for at, word in enumerate(words) if word == "-p"}
        assert "run_dir" in given
        assert given <= {*declared_parameters(name)}


def test_the_workflow_has_the_keys_that_github_asks_for():
    # YAML 1.1 reads the key "on" as true.
    assert {"name", True, "jobs"} <= {*WORKFLOW}
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step.get("uses", "a/b@v1"))
    (cached,) = [step["with"] for step in STEPS if "cache@" in step.get("uses", "")]
    named = re.findall(r"'([^']+)'", cached["key"])
    assert named
    assert all((ROOT / name).is_file() for name in named)
    assert re.search(rf"^\$\(READY\): {' '.join(named)}$", (ROOT / "Makefile").read_text(), re.M)


def bash(text: str, tmp_path, **environment: str) -> tuple[int, str]:
    """Run a step as GitHub does; return its exit code and what it put out for later steps."""
    out = tmp_path / "output"
    out.touch()
    ended = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text],
        cwd=ROOT,
        env=os.environ | {"GITHUB_OUTPUT": str(out)} | environment,
        capture_output=True,
        check=False,
    )
    return ended.returncode, out.read_text()


def test_bad_input_stops_the_workflow_at_once(tmp_path):
    text = script("Corpus to book").replace(".venv/bin/python", shlex.quote(sys.executable))
    assert "-m fr_lib run" in text
    missing, run_dir = tmp_path / "none.jsonl", tmp_path / "ci"
    code, put_out = bash(text, tmp_path, CORPUS=str(missing), RUN=str(run_dir))
    assert (code, put_out) == (1, "code=2\n")
    assert not run_dir.exists()


@pytest.mark.parametrize(("ends", "stops", "last"), [(0, 0, 0), (1, 0, 1), (130, 1, 130)])
def test_a_verdict_is_kept_until_the_book_is_stored(ends, stops, last, tmp_path):
    text = re.sub(r"\.venv/bin/python -m fr_lib[^|]+", f"(exit {ends}) ", script("Corpus to book"))
    code, put_out = bash(text, tmp_path)
    assert (code, put_out) == (stops, f"code={ends}\n")
    told = script("Verdict of the gate").replace("${{ steps.run.outputs.code }}", str(ends))
    assert bash(told, tmp_path)[0] == last
    names = [step.get("name") for step in STEPS]
    assert names[-1] == "Verdict of the gate"
    assert names.index("Corpus to book") < names.index("Book, files and verdict")
