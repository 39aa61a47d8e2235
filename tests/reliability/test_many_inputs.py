"""Every bad input of each kind, 20,000 generated ones, and files that unpack to gigabytes."""

from __future__ import annotations

import resource

import pytest
from hostile import Case, corpus_cases, packed
from hostile_logs import log_cases
from mutants import corpus_mutant, judge_corpus, judge_log, log_mutant
from test_hostile import check_corpus, check_log

pytestmark = pytest.mark.reliability
EACH = 250
MUTANTS = range(0, 10_000, EACH)


@pytest.mark.parametrize("case", corpus_cases(), ids=str)
def test_every_bad_corpus(case, tmp_path):
    check_corpus(case, tmp_path)


@pytest.mark.parametrize("case", log_cases(), ids=str)
def test_every_bad_log(case, tmp_path):
    check_log(case, tmp_path)


@pytest.mark.parametrize("first", MUTANTS)
def test_generated_corpora(first, tmp_path):
    for seed in range(first, first + EACH):
        judge_corpus(corpus_mutant(seed), tmp_path, audit=True)


@pytest.mark.parametrize("first", MUTANTS)
def test_generated_logs(first, tmp_path):
    for seed in range(first, first + EACH):
        judge_log(log_mutant(seed), tmp_path)


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (b"\n", "lines are blank"),
        (b" ", "longer than 1,048,576 bytes"),
        (b"\0", "longer than 1,048,576 bytes"),
        (b"{}\n", "no known column in"),
        (b'{"src": "a"}\n', "that unpack to"),
        (b"7\n", "and more; allowed"),
        (b"\xff\n", "and more; allowed"),
    ],
    ids=ascii,
)
def test_a_gigabyte_is_not_unpacked(unit, message, tmp_path):
    """What comes out is refused after some megabytes of it: the process grows by less than 200."""
    data = packed(unit, (1 << 30) // len(unit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    check_corpus(Case("nothing", "a gigabyte", "rows.jsonl.gz", data, message), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_gigabyte_of_blank_lines_as_it_is(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as stream:
        for _ in range(1024):
            stream.write(b"\n" * (1 << 20))
    from fr_lib.corpus import load_corpus
    from fr_lib.errors import CorpusError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorpusError, match="lines are blank"):
        load_corpus(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
