"""Synthetic rows: shape, span, labels, and the two committed fixtures made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fr_lib.corpus import V061, load_corpus, synthetic_table, vmaf_from_features, write_table
from fr_lib.corpus.synthetic import MAX_SOURCES, source_names
from fr_lib.errors import InputError
from fr_lib.schema import ADAPTERS, CANONICAL_6, NEWEST_VOCAB

DATA = Path(__file__).parent / "data"


def nvenc_only():
    return synthetic_table(
        ["h264_nvenc", "hevc_nvenc"], [8, 19, 29, 39, 49], sources=4, frames=12, seed=20
    )


def sixteen_rows():
    """Four rows of each of four encoders: the third frame of source i at quality i."""
    table = synthetic_table(
        ["libx264", "h264_nvenc", "libsvtav1", "hevc_videotoolbox"],
        [15, 25, 35, 45],
        sources=4,
        frames=3,
        seed=16,
    )
    third = table[table["frame_index"] == 2]
    return third[third.groupby("encoder").cumcount() % 5 == 0]


FIXTURES = {"nvenc_only.jsonl": nvenc_only, "sixteen_rows.jsonl": sixteen_rows}


@pytest.mark.parametrize("name", FIXTURES)
def test_fixture_is_what_its_call_makes(name, tmp_path):
    # To make a fixture again: write_table(FIXTURES[name](), DATA / name)
    write_table(FIXTURES[name](), tmp_path / name)
    assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_nvenc_fixture_loads_whole():
    corpus = load_corpus(DATA / "nvenc_only.jsonl")
    assert len(corpus.table) == 4 * 2 * 5 * 12
    assert corpus.dropped == []
    assert corpus.notes == ["Synthetic, not the work of any real encoder: 480 rows."]


def test_sixteen_row_fixture_has_four_rows_per_encoder():
    corpus = load_corpus(DATA / "sixteen_rows.jsonl")
    assert {n: c for n, c in corpus.rows_per_slot().items() if c} == {
        "libx264": 4,
        "h264_nvenc": 4,
        "libsvtav1": 4,
        "hevc_videotoolbox": 4,
    }
    assert len(corpus.sources()) == 4
    assert corpus.table["quality"].nunique() == 4


def test_rows_are_in_the_per_frame_form_and_labelled():
    table = synthetic_table(["libx265"], [30], sources=2, frames=3, seed=1)
    assert list(table) == [
        "src", "encoder", "preset", "cq", "frame_index", "vmaf", *CANONICAL_6, "teacher",
        "synthetic",
    ]  # fmt: skip
    assert table["src"].str.startswith("synthetic_").all()
    assert table["synthetic"].all()
    assert set(table["teacher"]) == {V061.name}
    assert set(table["preset"]) == {"medium"}
    assert table["frame_index"].tolist() == [0, 1, 2] * 2


def test_scores_are_the_teachers_on_the_written_features():
    table = synthetic_table(NEWEST_VOCAB, [2, 25, 50], sources=3, frames=5, seed=2)
    features = table[list(CANONICAL_6)]
    assert (features == features.round(6)).all(axis=None)
    expected = vmaf_from_features(features.to_numpy())
    assert np.abs(expected - table["vmaf"]).max() <= 5.1e-7


@pytest.mark.parametrize("encoder", NEWEST_VOCAB)
def test_spans_vmaf_and_falls_with_worse_quality(encoder):
    rules = ADAPTERS[encoder]
    qualities = np.linspace(rules.lo, rules.hi, 6).round().tolist()
    table = synthetic_table([encoder], qualities, sources=12, frames=6, seed=3)
    means = table.groupby("cq")["vmaf"].mean()
    assert means.min() < 20
    assert means.max() > 97
    assert table["vmaf"].max() == 100
    falling = means if rules.higher_is_better else means[::-1]
    assert falling.is_monotonic_increasing


def test_motion_belongs_to_the_source_and_starts_at_zero():
    table = synthetic_table(["libx264", "libvvenc"], [20, 40], sources=3, frames=8, seed=4)
    per_frame = table.groupby(["src", "frame_index"])["motion2"].nunique()
    assert (per_frame == 1).all()
    assert (table["motion2"][table["frame_index"] == 0] == 0).all()
    assert (table["motion2"][table["frame_index"] > 0] > 0).all()


def test_seed_decides_the_rows():
    def make(seed):
        return synthetic_table(["libaom-av1"], [10, 60], sources=2, frames=4, seed=seed)

    pd.testing.assert_frame_equal(make(5), make(5))
    assert not make(5).equals(make(6))


def test_names_are_unique_up_to_the_limit():
    assert len(set(source_names(MAX_SOURCES))) == MAX_SOURCES


@pytest.mark.parametrize("count", [0, MAX_SOURCES + 1])
def test_counts_beyond_the_limit_are_refused(count):
    with pytest.raises(InputError, match="synthetic sources"):
        source_names(count)


def test_bad_arguments_are_refused():
    with pytest.raises(InputError, match="did you mean 'libx264'"):
        synthetic_table(["libx2644"], [20], sources=1, frames=1, seed=0)
    with pytest.raises(InputError, match=r"quality 52; allowed: 0\.\.51"):
        synthetic_table(["libx264"], [52], sources=1, frames=1, seed=0)
    with pytest.raises(InputError, match="synthetic frames"):
        synthetic_table(["libx264"], [20], sources=1, frames=0, seed=0)
