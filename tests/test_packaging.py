"""What surrounds the code: pins, make targets, module order, and what must not be in the tree."""

from __future__ import annotations

import ast
import gzip
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from chain import BROWSERS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fr_lib"
UNTRACKED = {".git", ".venv", "runs", "_build", "__pycache__", ".ipynb_checkpoints"}
UNTRACKED |= {".pytest_cache", ".ruff_cache", ".hypothesis", "fr_regressor.egg-info"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lines: list[str]) -> dict[str, str]:
    """Return name -> version of lines that are exact pins; anything else fails the test."""
    found = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line)
        assert match, f"not an exact pin: {line!r}"
        assert canonical(match[1]) not in found, f"pinned twice: {match[1]}"
        found[canonical(match[1])] = match[2]
    return found


@pytest.fixture(scope="module")
def locked() -> dict[str, str]:
    return pins((ROOT / "requirements.lock").read_text().splitlines())


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def direct(project) -> dict[str, str]:
    groups = project["project"]["optional-dependencies"].values()
    return pins(project["project"]["dependencies"] + [pin for group in groups for pin in group])


def tracked() -> list[Path]:
    """Return the files that git tracks or would track; all files where this is no checkout."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and (ROOT / ".git").exists():
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [p for p in ROOT.rglob("*") if not {*p.relative_to(ROOT).parts} & UNTRACKED]
    return sorted(p for p in paths if p.is_file())


def text_of(path: Path) -> str:
    """Return a file's bytes as text, unpacked if need be; models are searched too."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return data.decode("latin-1")


# --- pins


def test_pyproject_pins_what_the_lock_pins(direct, locked):
    assert direct == {name: locked.get(name) for name in direct}


def test_environment_yml_names_the_same_pins(direct):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pins(pip) == direct


def test_torch_is_pinned_without_a_build_tag(locked):
    assert re.fullmatch(r"\d+\.\d+\.\d+", locked["torch"])


def test_the_build_uses_the_locked_setuptools(project, locked):
    assert project["build-system"]["requires"] == [f"setuptools=={locked['setuptools']}"]


def imports(path: Path) -> Iterator[str]:
    """Yield every absolute module name that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_everything_imported_is_a_direct_dependency(direct):
    distributions = packages_distributions()
    ours = {"fr_lib", "tests", "benchmarks", *(p.stem for p in (ROOT / "tests").glob("*.py"))}
    files = [*PACKAGE.glob("*.py"), *(ROOT / "tests").glob("*.py")]
    top = {name.split(".")[0] for path in files for name in imports(path)}
    foreign = top - ours - set(sys.stdlib_module_names)
    undeclared = {n for n in foreign if not {*map(canonical, distributions.get(n, []))} & {*direct}}
    assert not undeclared


# --- make and the command line


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def prose() -> list[Path]:
    return [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "book").glob("*.md")]


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text()
    assert "make book" in readme
    assert "make test" in readme


def test_make_commands_in_the_documents_are_targets():
    named = {
        (path.name, target)
        for path in prose()
        for code in re.findall(r"```.*?```|`[^`]+`", path.read_text(), re.DOTALL)
        for target in re.findall(r"\bmake ([a-z]+)", code)
    }
    assert named
    assert {entry for entry in named if entry[1] not in targets()} == set()


def test_make_lists_every_target_with_a_sentence():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make ([a-z]+) +\S", shown.stdout, re.MULTILINE)) == targets()


def test_an_old_python_is_refused_with_a_sentence(tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    ended = subprocess.run(
        ["make", "test", "PYTHON=false"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "Python >= 3.11 is needed" in ended.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("target", ["corpus", "stress"])
def test_without_a_folder_of_clips_make_refuses_with_a_sentence(target, tmp_path):
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    ended = subprocess.run(
        ["make", target], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert f"make {target}: FOOTAGE='' is no folder" in ended.stderr
    assert "give FOOTAGE=dir" in ended.stderr


def make_browser(programs: Path, **texts: str) -> subprocess.CompletedProcess[str]:
    """Run ``make browser`` where nothing is installed but programs of these names and texts."""
    programs.mkdir()
    for name, text in texts.items():
        (programs / name.replace("_", "-")).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name.replace("_", "-")).chmod(0o755)
    return subprocess.run(
        [shutil.which("make"), "-s", "browser"],
        cwd=ROOT,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("name", BROWSERS)
def test_any_browser_that_the_tests_would_take_is_enough(name, tmp_path):
    ended = make_browser(tmp_path / "bin", **{name: "exit 1"})
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize("has_shell", [True, False])
def test_without_a_browser_the_shell_is_installed_or_chromium(has_shell, tmp_path):
    """Ubuntu has no package of the shell."""
    fails = "" if has_shell else '; case "$*" in *headless-shell*) exit 100;; esac'
    log = tmp_path / "log"
    ended = make_browser(tmp_path / "bin", id="echo 0", apt_get=f'echo "$*" >> "{log}"{fails}')
    assert ended.returncode == 0, ended.stderr
    asked = [line.split()[-1] for line in log.read_text().splitlines()[1:]]
    assert asked == ["chromium-headless-shell", "chromium"][: 2 - has_shell]


def test_where_nothing_can_be_installed_a_sentence_says_so(tmp_path):
    ended = make_browser(tmp_path / "none")
    assert ended.returncode == 2
    assert "no Chromium, and no apt-get to install it" in ended.stderr
    ended = make_browser(tmp_path / "user", id="echo 1000", apt_get="exit 0")
    assert ended.returncode == 2
    assert "no root; run: sudo apt-get install chromium" in ended.stderr
    ended = make_browser(tmp_path / "broken", id="echo 0", apt_get="exit 100")
    assert ended.returncode == 2


def fr_lib(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fr_lib", *args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )


def test_commands_in_the_documents_and_the_makefile_exist():
    known = fr_lib("--help").stdout
    named = {
        command
        for path in [ROOT / "Makefile", *prose()]
        for command in re.findall(r"-m fr_lib ([a-z]+)", path.read_text())
    }
    assert {command for command in named if not re.search(rf"\b{command}\b", known)} == set()


# --- imports


HEAVY = ("torch", "pandas", "matplotlib", "sklearn", "onnxruntime", "papermill")


def loaded(code: str, of: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter; return which of the modules it has loaded."""
    code = f"import sys\n{code}\nprint(*[m for m in {of!r} if m in sys.modules], file=sys.stderr)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return ended.stderr.split()


def test_import_of_the_package_loads_nothing_heavy():
    assert loaded("import fr_lib", HEAVY) == []


def test_help_does_not_load_torch():
    code = """
import runpy
sys.argv = ["fr_lib", "--help"]
try:
    runpy.run_module("fr_lib", run_name="__main__")
except SystemExit as done:
    assert not done.code"""
    assert loaded(code, tuple(name for name in HEAVY if name != "pandas")) == []


def test_reading_a_notebook_builds_no_grammar():
    """The grammar of IRIs is made anew by each process that loads jsonschema 4.25 or 4.26.

    It takes longer than all else in most commands, kernels and builds, and nothing here asks it.
    """
    assert loaded("import nbformat, papermill", ("lark", "rfc3987_syntax")) == []


# --- the tree

# In pieces, so that this file does not contain what it looks for.
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "download.pytorch" + ".org", "anaconda" + ".org")
ABSOLUTE = re.compile(r"(?<![\w.}/~$)-])/(?:home|root|work|Users|tmp|mnt|opt|srv)" + r"/\w")


def test_no_file_names_a_path_of_a_machine():
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        for match in ABSOLUTE.finditer(text_of(path))
    }
    assert not found


def test_no_file_names_a_registry_host():
    found = {
        f"{path.relative_to(ROOT)}: {host}"
        for path in tracked()
        for host in HOSTS
        if host in text_of(path)
    }
    assert not found


@pytest.mark.parametrize(
    ("text", "is_path"),
    [
        ("at /" + "home/me/clip.mkv", True),
        ('"/' + "tmp/x", True),
        ("https://host.example/home/page", False),
        ("data/work/clip", False),
        ("runs/tmp/x", False),
    ],
)
def test_what_counts_as_a_path_of_a_machine(text, is_path):
    assert bool(ABSOLUTE.search(text)) == is_path


def test_no_tracked_file_is_over_three_megabytes():
    assert [p.name for p in tracked() if p.stat().st_size > 3_000_000] == []


def test_the_licence_is_the_one_pyproject_names(project):
    assert project["project"]["license"] == "BSD-2-Clause-Patent"
    assert (ROOT / "LICENSE").read_text().startswith("BSD-2-Clause-Patent")
