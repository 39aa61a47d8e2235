"""Rows of vmaf-tune: its preset words, and rows without features."""

from __future__ import annotations

import json
import re

import pytest
from test_corpus import FEATURES, encode_row, faults_of

from fr_lib.corpus import load_corpus
from fr_lib.corpus.presets import NOT_MAPPED, VMAF_TUNE, native_preset
from fr_lib.files import ROOT
from fr_lib.schema import ADAPTERS

# All words, fastest first, and what each encoder gets for them; "-" where none of its own.
WORDS = "ultrafast superfast veryfast faster fast medium slow slower slowest veryslow placebo"
RAN = {
    "nvenc": "p1 p1 p1 p2 p3 p4 p5 p6 p7 - p7",
    "amf": "speed speed speed speed speed balanced quality quality quality - quality",
    "videotoolbox": "- - - - - default default default - default -",
    "libaom-av1": "- 8 7 6 5 4 3 2 1 - 0",
    "libsvtav1": "- - 13 11 9 7 5 3 1 - 0",
    "libvvenc": "faster faster faster faster fast medium slow slower slower - slower",
    "qsv": "- - veryfast faster fast medium slow slower - veryslow -",
    "libx264": "ultrafast superfast veryfast faster fast medium slow slower - veryslow placebo",
}
RAN["libx265"] = RAN["libx264"]


@pytest.fixture
def save(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.mark.parametrize("encoder", ADAPTERS)
def test_each_word_is_the_preset_that_ran(encoder):
    ran = RAN[encoder if encoder in RAN else encoder.rpartition("_")[2]]
    for word, preset in zip(WORDS.split(), ran.split(), strict=True):
        found = native_preset(encoder, word)
        if preset == "-":
            assert found not in ADAPTERS[encoder].presets
        else:
            assert found == preset
            assert preset in ADAPTERS[encoder].presets


def test_an_encoders_own_preset_is_never_taken_for_a_word():
    for encoder, words in VMAF_TUNE.items():
        assert not set(words) & set(ADAPTERS[encoder].presets)
        assert not set(words) & set(NOT_MAPPED.get(encoder, {}))


def test_words_are_read_with_a_note(save):
    rows = [
        encode_row(encoder="h264_nvenc", preset=word, crf=20 + i)
        for i, word in enumerate(("medium", "slow", "p4", "medium"))
    ]
    corpus = load_corpus(save([*rows, encode_row(encoder="libsvtav1", preset="medium")]))
    assert corpus.table["preset"].tolist() == ["p4", "p5", "p4", "p4", "7"]
    assert corpus.table["preset_ordinal"].iloc[:2].tolist() == [5.0, 6.0]
    assert corpus.notes == [
        "h264_nvenc: 2 rows with preset 'medium'; as in vmaf-tune, 'p4' was taken.",
        "h264_nvenc: 1 row with preset 'slow'; as in vmaf-tune, 'p5' was taken.",
        "libsvtav1: 1 row with preset 'medium'; as in vmaf-tune, '7' was taken.",
    ]


def test_two_words_of_one_preset_are_one_encode(save):
    rows = [encode_row(encoder="h264_nvenc", preset=word) for word in ("ultrafast", "veryfast")]
    corpus = load_corpus(save(rows))
    assert len(corpus.table) == 1
    assert corpus.dropped[0]["reason"] == "duplicate key (the first row is kept)"


def test_what_cannot_be_mapped_is_named_by_row(save):
    rows = [
        encode_row(),
        encode_row(encoder="hevc_videotoolbox", preset="fast"),
        encode_row(encoder="libaom-av1", preset="ultrafast"),
        encode_row(encoder="av1_nvenc", preset="veryslow"),
    ]
    assert faults_of(save(rows)) == [
        "hevc_videotoolbox preset: 'fast', in vmaf-tune -realtime 1, which is no preset; "
        "allowed: default; name one of these [1 row (row 2)]",
        "libaom-av1 preset: 'ultrafast', in vmaf-tune -cpu-used 9, which FFmpeg's libaom-av1 does "
        "not take; allowed: 0 1 2 3 4 5 6 7 8; name one of these [1 row (row 3)]",
        "av1_nvenc preset: 'veryslow'; allowed: p1 p2 p3 p4 p5 p6 p7; name one of these "
        "[1 row (row 4)]",
    ]


def test_means_that_are_all_zero_are_no_features(save):
    zeros = {f"{name}_mean": 0.0 for name in FEATURES}
    still = {f"{name}_mean": 0.0 for name in ("motion2", "adm2")}
    rows = [encode_row(), encode_row(crf=30, **zeros), encode_row(crf=40, **still)]
    corpus = load_corpus(save([*rows, encode_row(crf=45, **zeros)]))
    dropped = {"reason": "all six means are 0", "count": 2, "examples": [2, 4]}
    assert corpus.dropped == [dropped]
    assert corpus.table["quality"].tolist() == [23, 40]


def test_the_guide_has_the_table():
    text = (ROOT / "docs" / "guides" / "own-corpus.md").read_text()
    head, _, *lines = re.findall(r"^\|.*\|$", text.split("## Rows of vmaf-tune")[1], re.M)[:13]
    encoders = [name.strip() for name in head.strip("|").split("|")[1:]]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[0] for row in table] == [f"`{word}`" for word in WORDS.split()]
    columns = list(zip(*table, strict=True))[1:]
    for encoder, column in zip(encoders, columns, strict=True):
        assert " ".join(column) == RAN[encoder.removeprefix("*_")]
    assert {name.removeprefix("*_") for name in encoders} == {*RAN} - {"qsv", "libx264", "libx265"}
