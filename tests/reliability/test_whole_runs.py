"""Both row shapes in every kind of file, from the corpus to its book."""

from __future__ import annotations

import pytest
from chain import per_encode, python
from test_book import LEFTOVER, Page, pages

from fr_lib.corpus import SUFFIXES, synthetic_table, write_table

pytestmark = pytest.mark.reliability


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("shape", ["frame", "encode"])
def test_a_corpus_runs_to_its_book(shape, suffix, tmp_path):
    table = synthetic_table(["libx264", "libsvtav1"], range(10, 50, 4), sources=3, frames=4, seed=2)
    corpus = tmp_path / f"rows{suffix}"
    write_table(per_encode(table) if shape == "encode" else table, corpus)
    arguments = ("--corpus", corpus, "--run-dir", tmp_path / "run", "--set", "epochs=1")
    done = python("fr_lib", "run", *arguments, path=tmp_path / "run")
    assert done.code in (0, 1), done.err
    assert "Traceback" not in done.err
    assert done.json("audit.json")["identity"]["shape"] == shape
    assert done.page().is_file()
    for path in pages(done):
        assert not LEFTOVER.search(str(Page(path))), path.name
