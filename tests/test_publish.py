"""A finished run as a folder for a static host: what is in it, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from chain import Done, linked, tree

from fr_lib import __version__
from fr_lib.__main__ import main
from fr_lib.files import write_bytes


def publish(run: Path, out: Path) -> int:
    return main(["publish", "--run-dir", str(run), "--out", str(out)])


@pytest.fixture
def run(smoke, tmp_path) -> Path:
    """A copy of a finished run with its book."""
    return linked(smoke.path, tmp_path / "runs")


def test_a_published_folder_is_listed_whole_with_version_and_verdict(run, smoke, tmp_path, capsys):
    out = tmp_path / "public"
    assert publish(run, out) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["version"] == __version__
    assert (manifest["run_id"], manifest["verdict"]) == ("smoke", "synthetic")
    assert manifest["corpus_sha256"] == smoke.json("audit.json")["corpus_sha256"]
    listed = {name: entry["sha256"] for name, entry in manifest["files"].items()}
    there = tree(out)
    assert listed == {name: there[name] for name in there if name != "manifest.json"}
    assert {"index.html", ".nojekyll", "files/README.md", "files/CITATION.cff"} <= {*listed}
    assert {"files/croissant.json", "files/fr_regressor_v3.onnx"} <= {*listed}
    assert not [name for name in listed if name.startswith("_sources")]
    assert "gate synthetic" in capsys.readouterr().out


def test_every_link_of_a_published_page_leads_somewhere(run, tmp_path):
    out = tmp_path / "public"
    assert publish(run, out) == 0
    for page in (*out.glob("*.html"), *out.glob("notebooks/*.html")):
        for href in re.findall(r'(?:href|src)="([^"#?]+)[^"]*"', page.read_text()):
            if not re.match(r"[a-z]+:", href):
                assert (page.parent / href).exists(), f"{page.name}: {href}"


def test_publishing_again_leaves_nothing_of_the_old(run, tmp_path):
    out = tmp_path / "public"
    assert publish(run, out) == 0
    before = tree(out)
    (out / "old.html").write_text("old")
    assert publish(run, out) == 0
    assert tree(out) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_run_whose_gate_failed_is_published_as_that(hopeless, tmp_path):
    run, out = linked(hopeless.path, tmp_path / "runs"), tmp_path / "public"
    assert publish(run, out) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    failed = [c["name"] for c in hopeless.json("gate.json")["clauses"] if c["status"] == "fail"]
    assert manifest["verdict"] == "failed"
    assert {*manifest["failed_clauses"]} <= {*failed}
    assert manifest["failed_clauses"]


def no_export(run: Path) -> None:
    (run / "export.json").unlink()


def no_book(run: Path) -> None:
    shutil.rmtree(run / "book")


def half_a_book(run: Path) -> None:
    shutil.rmtree(run / "book" / "_build" / "html" / "files")


def altered_file(run: Path) -> None:
    write_bytes(run / "book" / "_build" / "html" / "files" / "oof.parquet", b"other")


def other_results(run: Path) -> None:
    """The run went on after its book was built."""
    facts = json.loads((run / "gate.json").read_text())
    write_bytes(run / "gate.json", json.dumps(facts).encode())


def altered_model(run: Path) -> None:
    for folder in (run / "model", run / "book" / "_build" / "html" / "files"):
        write_bytes(folder / "fr_regressor_v3.onnx", b"other")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (no_export, "no finished run"),
        (no_book, "no book"),
        (half_a_book, "no book"),
        (altered_file, "oof.parquet"),
        (other_results, "gate.json"),
        (altered_model, "fr_regressor_v3.onnx"),
    ],
)
def test_a_half_made_run_is_not_published(run, tmp_path, harm, said, capsys):
    out = tmp_path / "public"
    harm(run)
    assert publish(run, out) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_what_is_not_ours_is_not_replaced(run, tmp_path, capsys):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "manifest.json").write_text('{"kind": "something else"}')
    before = tree(tmp_path)
    (tmp_path / "file").write_text("")
    for out in (theirs, tmp_path / "file", run / "public", run.parent, run):
        assert publish(run, out) == 2
        assert "--out" in capsys.readouterr().err
    (tmp_path / "file").unlink()
    assert tree(tmp_path) == before


def test_a_refused_run_leaves_what_was_published_before(run, tmp_path):
    out = tmp_path / "public"
    assert publish(run, out) == 0
    before = tree(out)
    altered_file(run)
    assert publish(run, out) == 2
    assert tree(out) == before


def test_the_sources_of_pages_are_not_published(smoke: Done, run, tmp_path):
    """They hold the paths of the machine that ran the notebooks."""
    out = tmp_path / "public"
    assert publish(run, out) == 0
    assert not list(out.rglob("*.ipynb"))
