"""One source under two names: each sign alone, both sides of its limit, and the groups."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from tiny import renamed, rows_of

from fr_lib.corpus import audit_corpus, load_corpus
from fr_lib.corpus.twins import (
    duplicate_sources,
    nearness,
    source_groups,
    source_stem,
    title_groups,
)
from fr_lib.files import ROOT

SHIPPED = ROOT / "data" / "corpus.jsonl.gz"


def with_copy(table, share):
    """Add a fourth source that repeats the first one in this share of its rows."""
    first = table[table["src"] == table["src"].iloc[0]].copy()
    changed = first.index[: round(len(first) * (1 - share))]
    first.loc[changed, "adm2"] -= 0.01
    return pd.concat([table, first.assign(src="another name")], ignore_index=True)


@pytest.mark.parametrize(("share", "found"), [(1.0, True), (0.5, True), (0.375, False)])
def test_copy_under_another_name_is_found_by_its_rows(share, found, load):
    # Two frames, so that one value of motion2 is too few for a sign of its own.
    table = with_copy(rows_of(qualities=[20, 27, 33, 40], frames=2), share)
    pairs = duplicate_sources(load(table))
    expected = {
        "a": "another name", "b": table["src"].iloc[0], "signs": ["rows"],
        "equal_rows": round(8 * share), "common_rows": 8,
    }  # fmt: skip
    assert pairs == ([expected] if found else [])


def test_share_counts_the_points_that_both_have(load):
    """A copy with one quality value in common is a copy, however much else either has."""
    table = rows_of(qualities=[20, 30, 40])
    first = table[table["src"] == table["src"].iloc[0]].assign(src="another name")
    first["cq"] = first["cq"].replace({20: 21, 30: 31})
    pairs = duplicate_sources(load(pd.concat([table, first], ignore_index=True)))
    assert [(p["equal_rows"], p["common_rows"]) for p in pairs] == [(4, 4)]


@pytest.mark.parametrize(("frames", "signs"), [(3, []), (4, [["motion"]])])
def test_equal_motion_gives_a_clip_away_at_other_points(frames, signs, load):
    """Three values (four frames, as the first has no motion) are needed; two can be chance."""
    table = rows_of(frames=frames)
    first = table[table["src"] == table["src"].iloc[0]].assign(src="another name")
    first["cq"] += 1
    pairs = duplicate_sources(load(pd.concat([table, first], ignore_index=True)))
    assert [pair["signs"] for pair in pairs] == signs


@pytest.mark.parametrize(("equal", "found"), [(5, True), (4, False)])
def test_half_of_the_motion_values_must_be_equal(equal, found, load):
    table = rows_of(encoders=["libx264"], frames=11)
    first = table[table["src"] == table["src"].iloc[0]].assign(
        src="another name", encoder="libx265"
    )
    first.loc[first["frame_index"] > equal, "motion2"] += 0.5
    pairs = duplicate_sources(load(pd.concat([table, first], ignore_index=True)))
    assert [pair["signs"] for pair in pairs] == ([["motion"]] if found else [])


def test_no_motion_is_no_equal_motion(load):
    table = rows_of(frames=8).assign(motion2=0.0)
    assert duplicate_sources(load(table)) == []


def test_one_clip_under_two_spellings(load):
    table = renamed(rows_of(), "BBB", "bbb_1080p_29.97fps.YUV", "Tennis")
    pairs = duplicate_sources(load(table))
    assert [(p["a"], p["b"], p["signs"], p["equal_rows"]) for p in pairs] == [
        ("BBB", "bbb_1080p_29.97fps.YUV", ["name"], 0)
    ]


def test_equal_source_digests(load):
    table = renamed(rows_of(), "Fox", "Tennis", "Crowd")
    digests = {"Fox": "aa", "Tennis": "bb", "Crowd": "aa"}
    pairs = duplicate_sources(load(table.assign(src_sha256=table["src"].map(digests))))
    assert [(p["a"], p["b"], p["signs"]) for p in pairs] == [("Crowd", "Fox", ["src_sha256"])]


def test_unstamped_digests_are_not_equal(load):
    table = renamed(rows_of(), "Fox", "Tennis", "Crowd")
    digests = {"Fox": "aa", "Tennis": None, "Crowd": None}
    assert duplicate_sources(load(table.assign(src_sha256=table["src"].map(digests)))) == []


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("BBB", "bbb"),
        ("BBB.yuv", "bbb"),
        ("BigBuckBunny_25fps.yuv", "bigbuckbunny"),
        ("crowd_run_1080p50.y4m", "crowdrun"),
        ("CrowdRun", "crowdrun"),
        ("Netflix_Crosswalk_4096x2160_60fps_10bit_420.y4m", "netflixcrosswalk"),
        ("foreman_cif", "foreman"),
        ("clip-29_97fps", "clip"),
        ("ElFuente1", "elfuente1"),
        ("1080p.y4m", "1080p"),
        ("4k", "4k"),
        ("___", "___"),
    ],
)
def test_stem(name, stem):
    assert source_stem(name) == stem


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["ElFuente1", "ElFuente2", "Tennis"], [["ElFuente1", "ElFuente2"]]),
        (["Tennis", "Tennis_2.mkv"], [["Tennis", "Tennis_2.mkv"]]),
        (["clip1", "clip2", "src01", "src02"], []),
        (["a1", "a2"], []),
        (["frame_000123", "frame_000124"], []),
        (["BBB", "BBB.yuv"], []),
        (["old_town", "old_town_cross"], []),
    ],
)
def test_titles(names, titles):
    assert [t["sources"] for t in title_groups(names)] == titles


def test_groups_join_twins_and_titles_in_a_chain(load):
    table = renamed(
        rows_of(sources=5), "ElFuente1", "ElFuente2_25fps.yuv", "elfuente2", "Tennis", "Fox"
    )
    groups = source_groups(load(table))
    assert groups["ElFuente1"] == groups["ElFuente2_25fps.yuv"] == groups["elfuente2"]
    assert (groups["Tennis"], groups["Fox"]) == ("Tennis", "Fox")
    report = audit_corpus(load(table))
    assert report["source_groups"] == groups
    assert {s["src"]: s["group"] for s in report["sources"]} == groups


def test_group_takes_the_common_start_of_its_names(load):
    groups = source_groups(load(renamed(rows_of(), "ElFuente1", "ElFuente2", "Tennis")))
    assert groups == {"ElFuente1": "ElFuente", "ElFuente2": "ElFuente", "Tennis": "Tennis"}


def test_group_names_never_collide(load):
    table = renamed(rows_of(sources=5), "Net_A", "Net_B", "Net_C", "Net_D", "Net")
    digests = dict(zip(["Net_A", "Net_B", "Net_C", "Net_D", "Net"], "11223", strict=True))
    groups = source_groups(load(table.assign(src_sha256=table["src"].map(digests))))
    assert groups == {
        "Net_A": "Net_A", "Net_B": "Net_A", "Net_C": "Net_C", "Net_D": "Net_C", "Net": "Net",
    }  # fmt: skip


# --- one clip's frames under several names --------------------------------------------------------


def cut(corpus, source, parts):
    """Deal a source's frames out to names that say nothing, without the digest that would tell."""
    table = corpus.table.drop(columns="src_sha256")
    rows = table["src"] == source
    place = table.loc[rows, "frame_index"].rank(method="dense").astype(int)
    table.loc[rows, "src"] = place.map(lambda i: ["alpha", "kiwi", "zebra"][parts(i)])
    return dataclasses.replace(corpus, table=table)


@pytest.fixture(scope="module")
def shipped():
    return load_corpus(SHIPPED)


@pytest.mark.parametrize("source", ["BigBuckBunny", "CartoonKid", "Foreman", "RedTreeDrive"])
def test_frames_dealt_out_to_two_names_are_found_and_nothing_else(source, shipped):
    pairs = duplicate_sources(cut(shipped, source, lambda i: i % 2))
    assert [(pair["a"], pair["b"], pair["signs"]) for pair in pairs] == [
        ("alpha", "kiwi", ["frames"])
    ]


def test_frames_dealt_out_to_three_names_are_found_and_nothing_else(shipped):
    pairs = duplicate_sources(cut(shipped, "ConcertLightsNight", lambda i: i % 3))
    assert [(pair["a"], pair["b"], pair["signs"]) for pair in pairs] == [
        ("alpha", "kiwi", ["frames"]),
        ("alpha", "zebra", ["frames"]),
        ("kiwi", "zebra", ["frames"]),
    ]


@pytest.mark.parametrize("source", ["FlowerTimelapse", "MarathonCrowd", "ScrollingText"])
def test_a_clip_cut_in_two_is_found(source, shipped):
    pairs = duplicate_sources(cut(shipped, source, lambda i: i > 4))
    assert [(pair["a"], pair["b"], pair["signs"]) for pair in pairs] == [
        ("alpha", "kiwi", ["frames"])
    ]


def test_parts_share_one_group(shipped):
    groups = source_groups(cut(shipped, "ConcertLightsNight", lambda i: i % 3))
    assert groups["alpha"] == groups["kiwi"] == groups["zebra"]
    assert len(set(groups.values())) == 24


def test_a_clip_whose_parts_met_other_encoders_is_found_by_motion(shipped):
    table = shipped.table.drop(columns="src_sha256")
    other = (table["src"] == "Foreman") & (table["encoder"] == "libx265")
    table.loc[other, "src"] = "renamed"
    pairs = duplicate_sources(dataclasses.replace(shipped, table=table))
    assert [(pair["a"], pair["b"], pair["signs"]) for pair in pairs] == [
        ("Foreman", "renamed", ["motion"])
    ]


def test_two_cells_in_common_are_too_few(shipped):
    dealt = cut(shipped, "Foreman", lambda i: i % 2)
    dealt = dataclasses.replace(dealt, table=dealt.table.query("src_scale == 1.5"))
    apart = (dealt.table["src"] == "alpha") & (dealt.table["encoder"] != "libx264")
    few = dealt.table[~apart]
    values = sorted(few.loc[few["src"] == "alpha", "quality"].unique(), reverse=True)

    def signs(n):
        left = few[(few["src"] != "alpha") | few["quality"].isin(values[:n])]
        return [p["signs"] for p in duplicate_sources(dataclasses.replace(dealt, table=left))]

    assert (signs(2), signs(3)) == ([], [["frames"]])


def grid(shift):
    """A line of frames one apart in one feature; the other source's lie `shift` further on."""
    frames = np.zeros((40, 6))
    frames[:, 0] = np.arange(40) + shift
    return frames


@pytest.mark.parametrize(("shift", "ratio"), [(0.5, 0.5), (0.25, 0.25), (60.0, 41.0)])
def test_nearness_of_two_lines(shift, ratio):
    """Inside the line the nearest is `shift` away; from beyond its end, 21 to 60, 41 as median."""
    assert nearness([grid(0)], [grid(shift)]) == pytest.approx(
        ratio, abs=0.5 if shift > 40 else 0.01
    )


def test_cells_that_tell_nothing_are_left_out():
    flat = np.ones((10, 6))
    assert np.isnan(nearness([flat], [flat]))
    assert nearness([flat, grid(0)], [flat, grid(0.5)]) == pytest.approx(0.5, abs=0.01)


def test_synthetic_rows_have_no_sign_of_frames(shipped):
    dealt = cut(shipped, "Foreman", lambda i: i % 3)
    labelled = dataclasses.replace(dealt, table=dealt.table.assign(synthetic=True))
    assert duplicate_sources(labelled) == []
