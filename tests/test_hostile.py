"""Bad corpora and logs: each is refused in words or loses its bad row alone, and writes nothing.

All of them, and generated ones by the thousand, are in ``tests/reliability``.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hostile import GOOD, Case, corpus_cases, some
from hostile_logs import FRAMES, log_cases
from mutants import corpus_mutant, judge_corpus, judge_log, log_mutant

from fr_lib.__main__ import main
from fr_lib.corpus import load_corpus, read_log
from fr_lib.errors import ArtefactError, CorpusError, InputError
from fr_lib.schema import CANONICAL_6

CORPORA, LOGS = range(40), range(160)


def check_corpus(case: Case, folder) -> None:
    path = folder / case.file
    path.write_bytes(case.data)
    if case.message is not None:
        with pytest.raises(CorpusError) as refused:
            load_corpus(path)
        assert case.message in str(refused.value)
        assert len(str(refused.value)) < 10_000
    else:
        corpus = load_corpus(path)
        lost = [{"reason": case.reason, "count": 1, "examples": [GOOD + 1]}]
        assert corpus.dropped == (lost if case.reason else [])
        assert len(corpus.table) == GOOD
    assert os.listdir(folder) == [case.file]


def check_log(case: Case, folder) -> None:
    path = folder / case.file
    path.write_bytes(case.data)
    if case.message is not None:
        with pytest.raises((InputError, ArtefactError)) as refused:
            read_log(path)
        assert case.message in str(refused.value)
        assert len(str(refused.value)) < 1000
    else:
        assert read_log(path).features.shape == (FRAMES, len(CANONICAL_6))
    assert os.listdir(folder) == [case.file]


@pytest.mark.parametrize("case", some(corpus_cases()), ids=str)
def test_a_bad_corpus(case, tmp_path):
    check_corpus(case, tmp_path)


@pytest.mark.parametrize("case", some(log_cases(), 18), ids=str)
def test_a_bad_log(case, tmp_path):
    check_log(case, tmp_path)


def test_the_bad_inputs_are_distinct():
    corpora, logs = corpus_cases(), log_cases()
    assert len({(case.file, case.data) for case in corpora}) == len(corpora) > 500
    assert len({case.data for case in logs}) == len(logs) > 150


def test_generated_corpora_are_refused_in_words_or_sound(tmp_path):
    outcomes = {judge_corpus(corpus_mutant(seed), tmp_path) for seed in CORPORA}
    assert outcomes == {"refused", "rows dropped", "whole"}


def test_generated_logs_are_refused_in_words_or_sound(tmp_path):
    outcomes = {judge_log(log_mutant(seed), tmp_path) for seed in LOGS}
    assert outcomes == {"refused", "whole"}


# --- paths that are no files ----------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path):
    """Return paths that are no files, with what they are called."""
    (tmp_path / "folder.jsonl").mkdir()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    (tmp_path / "circle.jsonl").symlink_to("circle.jsonl")
    return {
        tmp_path / "folder.jsonl": "a folder",
        tmp_path / "pipe.jsonl": "a named pipe",
        tmp_path / "zero.jsonl": "a device",
        tmp_path / "circle.jsonl": "no file can have this path",
        tmp_path / ("x" * 300 + ".jsonl"): "no file can have this path",
        tmp_path / "a\0b.jsonl": "no file can have this path",
    }


def test_what_is_no_file_is_called_what_it_is(odd):
    for path, kind in odd.items():
        with pytest.raises(InputError, match=f": {kind}") as refused:
            load_corpus(path)
        assert "no such file" not in str(refused.value)
        with pytest.raises(ArtefactError, match=f": {kind}"):
            read_log(path)


def test_the_command_ends_with_2_at_what_is_no_file(odd, tmp_path, capsys):
    for path, kind in odd.items():
        ended = main(
            ["run", "--corpus", str(path), "--run-dir", str(tmp_path / "run"), "--no-book"]
        )
        told = capsys.readouterr().err
        assert (ended, told.count("\n")) == (2, 1)
        assert kind in told or "has a NUL" in told
    assert not (tmp_path / "run").exists()


def test_an_index_that_is_steps_alone_is_the_column_it_is(tmp_path, load):
    """Pandas stores ``RangeIndex`` as first, last and step, in no column at all."""
    import pandas as pd
    from hostile import good_rows

    table = pd.DataFrame(good_rows()).drop(columns="frame_index")
    table.index = pd.RangeIndex(7, 7 + 2 * GOOD, 2, name="frame_index")
    table.to_parquet(tmp_path / "steps.parquet")
    assert load_corpus(tmp_path / "steps.parquet").table["frame_index"].tolist() == [7, 9, 11]


def test_folders_named_like_columns_give_no_column(tmp_path):
    import pandas as pd
    from hostile import good_rows

    folder = tmp_path / "src=other" / "vmaf=3"
    folder.mkdir(parents=True)
    pd.DataFrame(good_rows()).to_parquet(folder / "rows.parquet")
    table = load_corpus(folder / "rows.parquet").table
    assert table["src"].tolist() == ["Tennis"] * GOOD
    assert np.array_equal(table["vmaf"], [88.5] * GOOD)
