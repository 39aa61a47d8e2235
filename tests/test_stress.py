"""The stress set: its plan, its maker on real FFmpeg, its reader, and the file that ships."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fr_lib.__main__ import main
from fr_lib.corpus import KINDS, STRESS_SET, V061, read_stress, vmaf_from_features, write_table
from fr_lib.corpus.stress_set import COLUMNS
from fr_lib.encode import (
    clip_rate,
    default_ffmpeg,
    find_sources,
    make_stress,
    plan,
    stress,
    write_stress_provenance,
)
from fr_lib.encode.clips import Source, decode_y4m
from fr_lib.encode.stress import (
    FRAMES,
    Content,
    Distortion,
    StressCell,
    contents,
    distortions,
    run_stress_cell,
)
from fr_lib.errors import EncodeError, InputError
from fr_lib.files import sha256_of
from fr_lib.schema import CANONICAL_6

FFMPEG = default_ffmpeg()
FEATURES = list(CANONICAL_6)
CARD = Content("card", 176, "25", graph="testsrc2=size=176x144:rate=25")
STILL = Content("still card", 176, "50", graph="smptebars=size=176x144:rate=50")
NONE = Distortion("identical", "none")
BLUR = Distortion("blur", "gaussian, sigma 2", "gblur=sigma=2")
SHARPER = Distortion("sharpening", "amount 3", "unsharp=5:5:3")
CELLS = [
    StressCell(CARD, NONE),
    StressCell(CARD, BLUR),
    StressCell(CARD, SHARPER),
    StressCell(CARD, Distortion("rescaling", "by 4", "scale=44:36,scale={size}")),
    StressCell(CARD, Distortion("frozen frames", "all", "shuffleframes=" + " ".join("0" * 12))),
    StressCell(CARD, Distortion("encode", "worst", "", "libx264", 51, "veryfast")),
    StressCell(STILL, BLUR),
]


def clips(count: int) -> list[Source]:
    return [Source(f"clip{k}", f"clip{k}.mkv", f"{k:064d}") for k in range(count)]


def plan_of(count: int) -> list[StressCell]:
    sources = clips(count)
    return plan(sources, {s.name: "25" for s in sources})


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("stress") / "s.parquet"
    table, failures = make_stress(CELLS, out, FFMPEG)
    assert failures == []
    return out, table


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    return read_stress()


@pytest.fixture(scope="module")
def provenance() -> dict:
    return json.loads(STRESS_SET.with_name("stress.provenance.json").read_text())


@pytest.fixture
def clip(tmp_path) -> Path:
    path = tmp_path / "Pattern.mkv"
    source = ("-f", "lavfi", "-i", "testsrc2=size=176x144:rate=30000/1001", "-frames:v", "30")
    subprocess.run(
        [FFMPEG, "-v", "error", *source, "-c:v", "ffv1", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )
    return path


# --- the plan


def test_the_plan_is_the_same_each_time():
    assert plan_of(5) == plan_of(5)


@pytest.mark.parametrize("count", [1, 5, 24])
def test_no_two_cells_have_one_name(count):
    names = [cell.name for cell in plan_of(count)]
    assert len(set(names)) == len(names)


def test_every_distortion_and_content_is_used_with_a_few_clips():
    cells = plan_of(8)
    assert {cell.distortion for cell in cells} == set(distortions())
    assert {cell.distortion.kind for cell in cells} == set(KINDS)
    used = {cell.content for cell in cells}
    assert used == set(contents(clips(8), {c.name: "25" for c in clips(8)}))


def test_a_cell_without_an_encoder_says_its_graph_and_one_with_says_its_options():
    assert StressCell(CARD, BLUR).origin["recipe"] == "gblur=sigma=2"
    assert CELLS[5].origin["recipe"] == "-c:v libx264 -preset veryfast -crf 51"


@pytest.mark.parametrize(
    "content",
    [pytest.param(content, id=content.name) for content in contents([], {})],
)
def test_generated_pictures_are_the_same_each_time(content):
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", content.graph, "-frames:v", "3"]
    runs = [
        subprocess.run(
            [*command, "-pix_fmt", "yuv420p", "-f", "md5", "-"], capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


# --- the maker


def test_a_made_set_is_read_back_whole(made):
    out, table = made
    assert [p.name for p in out.parent.iterdir()] == ["s.parquet"]
    again = read_stress(out)
    assert again["cell"].unique().tolist() == [cell.name for cell in CELLS]
    assert again.groupby("cell")["frame_index"].apply(list).tolist() == [[*range(FRAMES)]] * 7
    assert set(zip(again["width"], again["height"], strict=True)) == {(176, 144)}
    assert dict(zip(again["src"], again["fps"], strict=True)) == {"card": 25, "still card": 50}
    assert set(again["teacher"]) == {V061.name}
    assert set(again["content"]) == {"generated"}
    assert again["src_sha256"].isna().all()
    assert (again.loc[again["src"] == "card", "src_graph"] == CARD.graph).all()
    np.testing.assert_array_equal(again[FEATURES], table[FEATURES])


def test_scores_follow_what_was_done(made):
    mean = made[1].groupby("cell")["vmaf"].mean()
    same, blurred, sharper, rescaled, frozen, encoded, _ = (mean[cell.name] for cell in CELLS)
    assert same > 97
    assert blurred < 60
    assert rescaled < same
    assert frozen < same - 20
    assert encoded < same - 20
    assert sharper > blurred


def test_a_still_picture_has_no_motion_and_a_moving_one_has(made):
    motion = made[1].groupby("src")["motion2"]
    assert motion.max()["still card"] == 0
    assert motion.median()["card"] > 0.5


def test_made_rows_agree_with_the_formula(made):
    formula = vmaf_from_features(made[1][FEATURES].to_numpy())
    assert np.abs(formula - made[1]["vmaf"]).max() < 1e-3


def test_two_runs_give_the_same_bytes(made, tmp_path):
    make_stress(CELLS, tmp_path / "s.parquet", FFMPEG)
    assert sha256_of(tmp_path / "s.parquet") == sha256_of(made[0])


def test_a_failed_cell_is_named_and_finished_ones_are_not_made_again(tmp_path):
    out = tmp_path / "s.parquet"
    broken = StressCell(CARD, Distortion("blur", "broken", "gblur=sigma=wide"))
    table, failures = make_stress([CELLS[0], broken], out, FFMPEG)
    assert table is None
    assert not out.exists()
    assert len(failures) == 1
    assert failures[0].startswith("card: blur, broken: ")
    kept = tmp_path / "s.parquet.cells" / "0000.json"
    rows = json.loads(kept.read_text())
    # A mark that only a row taken from there can bear.
    rows[0]["vmaf"] = 12.5
    kept.write_text(json.dumps(rows))
    table, failures = make_stress(CELLS[:2], out, FFMPEG)
    assert failures == []
    assert table["vmaf"].iloc[0] == 12.5
    assert table["cell"].unique().tolist() == [CELLS[0].name, CELLS[1].name]
    assert [p.name for p in tmp_path.iterdir()] == ["s.parquet"]


def test_what_another_plan_left_is_made_again(tmp_path):
    out = tmp_path / "s.parquet"
    broken = StressCell(CARD, Distortion("blur", "broken", "gblur=sigma=wide"))
    make_stress([CELLS[1], broken], out, FFMPEG)
    table, _ = make_stress(CELLS[:2], out, FFMPEG)
    assert table["kind"].unique().tolist() == ["identical", "blur"]
    assert table["vmaf"].iloc[1] > 97


def test_lost_frames_are_refused(tmp_path):
    lossy = StressCell(CARD, Distortion("frozen frames", "lost", "trim=end_frame=5"))
    failures = make_stress([lossy], tmp_path / "s.parquet", FFMPEG)[1]
    assert len(failures) == 1
    assert "card: frozen frames, lost" in failures[0]
    assert f"5 frames 176x144 yuv420p; allowed: {FRAMES} frames" in failures[0]


def test_rows_of_another_teacher_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        stress, "score", partial(stress.score, teachers=[replace(V061, name="vmaf_4k_v0.6.1")])
    )
    monkeypatch.setattr(stress, "SCORED_BY", replace(V061, name="vmaf_4k_v0.6.1"))
    reference = tmp_path / "reference.y4m"
    lavfi = Source("card", CARD.graph + ",trim=end_frame=6", "", ("-f", "lavfi"))
    decode_y4m(FFMPEG, lavfi, reference, "yuv420p")
    with pytest.raises(EncodeError, match=r"card: blur, gaussian, sigma 2: .*differ by"):
        run_stress_cell(CELLS[1], FFMPEG, reference, tmp_path)


@pytest.mark.parametrize(("off", "refused"), [(0.009, False), (0.011, True)])
def test_the_teacher_may_differ_by_a_hundredth(made, off, refused):
    rows = made[1].query("20 < vmaf < 80").copy()
    rows["vmaf"] = vmaf_from_features(rows[FEATURES].to_numpy())
    stress._check_teacher("a cell", rows)
    rows.iloc[-1, rows.columns.get_loc("vmaf")] += off
    if refused:
        with pytest.raises(EncodeError, match="a cell: libvmaf and the formula"):
            stress._check_teacher("a cell", rows)
    else:
        stress._check_teacher("a cell", rows)


def test_the_rate_of_a_clip(clip, tmp_path):
    assert clip_rate(FFMPEG, find_sources([str(clip)])[0]) == "29.97"
    text = tmp_path / "no.mkv"
    text.write_text("no clip")
    with pytest.raises(EncodeError, match=r"no\.mkv"):
        clip_rate(FFMPEG, find_sources([str(text)])[0])


def test_provenance_says_where_clips_come_from_and_what_was_done(made, clip, tmp_path):
    manifest = tmp_path / "m.json"
    manifest.write_text(
        json.dumps([{"name": "Known", "sha256": sha256_of(clip), "licence": "CC0"}])
    )
    out, table = made
    sources = find_sources([str(clip)], str(manifest))
    path = write_stress_provenance(out, table, sources, ["make", "a b"], str(manifest))
    facts = json.loads(path.read_text())
    path.unlink()
    assert path.name == "s.provenance.json"
    assert facts["stress"] == {"file": "s.parquet", "rows": 168, "sha256": sha256_of(out)}
    assert facts["command"] == "make 'a b'"
    assert facts["cells"] == 7
    assert sum(facts["cells_by_kind"].values()) == 7
    assert facts["cells_by_kind"]["blur"] == 2
    assert facts["sources"][0]["name"] == "Known"
    assert facts["sources"][0]["licence"] == "CC0"
    assert facts["sources"][0]["repo"] is None
    assert facts["generated"] == {"card": CARD.graph, "still card": STILL.graph}


# --- the command line


def test_the_command_makes_a_set_from_a_clip(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stress, "PER_CONTENT", 2)
    monkeypatch.setattr(stress, "_GENERATED", ())
    out = tmp_path / "s.parquet"
    arguments = ["stress", "--source", str(clip), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["fr_lib", *arguments])
    assert main(arguments) == 0
    assert f"4 cells, 96 rows; {out}" in capsys.readouterr().out
    table = read_stress(out)
    assert set(table["src"]) == {"Pattern"}
    assert set(table["src_sha256"]) == {sha256_of(clip)}
    facts = json.loads((tmp_path / "s.provenance.json").read_text())
    assert facts["command"] == "python -m fr_lib stress --source Pattern.mkv --out s.parquet"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "nothing.mkv"], "nothing.mkv: no such file"),
        (["--source", "nothing.mkv", "--out", "s.csv"], "--out: s.csv"),
        (["--source", "nothing.mkv", "--ffmpeg", sys.executable], "not FFmpeg"),
        (["--source", "nothing.mkv", "--manifest", "none.json"], "none.json: missing"),
    ],
)
def test_bad_arguments_end_with_two_and_a_sentence(arguments, message, tmp_path, capsys):
    if "--out" not in arguments:
        arguments = [*arguments, "--out", str(tmp_path / "s.parquet")]
    assert main(["stress", *arguments]) == 2
    assert message in capsys.readouterr().err


# --- the reader


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["kind", "adm2"]), "missing kind, adm2"),
        (lambda t: t.iloc[:0], "no rows|not a number"),
        (lambda t: t.assign(vmaf=100.001), r"vmaf outside 0\.\.100"),
        (lambda t: t.assign(vmaf=-0.001), r"vmaf outside 0\.\.100"),
        (lambda t: t.assign(adm2=np.nan), "adm2 is not finite"),
        (lambda t: t.assign(motion2=np.inf), "motion2 is not finite"),
        (lambda t: t.assign(fps="25"), "fps is not a number"),
        (lambda t: t.assign(kind="magic"), "unknown kind magic"),
        (lambda t: t.assign(cell=[["a"]] * len(t)), "cell is not text"),
        (lambda t: t.assign(recipe=7), "recipe is not text"),
        (lambda t: t.assign(content="film"), "unknown content film"),
        (lambda t: t.assign(frame_index=0), "a frame of a cell twice"),
        (lambda t: t.assign(vmaf=101.0, kind="magic"), r"vmaf outside 0\.\.100; unknown kind"),
    ],
)
def test_bad_tables_are_refused_with_every_fault(made, tmp_path, change, message):
    path = tmp_path / "bad.parquet"
    write_table(change(made[1]), path)
    with pytest.raises(InputError, match=message):
        read_stress(path)


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_the_ends_of_the_scale_are_allowed(made, tmp_path, value):
    path = tmp_path / "ends.parquet"
    write_table(made[1].assign(vmaf=value), path)
    assert (read_stress(path)["vmaf"] == value).all()


def test_a_file_that_is_missing_or_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_stress(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(InputError, match="not Parquet"):
        read_stress(tmp_path / "text.parquet")


# --- the file that ships


def test_the_shipped_set_is_as_large_and_as_wide_as_promised(shipped):
    assert shipped["cell"].nunique() >= 300
    assert len(shipped) >= 6_000
    assert set(shipped["width"]) == {320, 480, 640, 960, 1280, 1920}
    assert {24, 25, 30, 50, 60} <= set(shipped["fps"])
    assert set(shipped["kind"]) == set(KINDS)
    assert set(shipped["content"]) == {"clip", "generated"}
    assert STRESS_SET.stat().st_size < 1_500_000


def test_the_shipped_set_covers_the_scale(shipped):
    share = np.histogram(shipped["vmaf"], bins=np.arange(0, 101, 10))[0] / len(shipped)
    assert share.min() > 0.02


def test_the_shipped_set_goes_where_models_break(shipped):
    def cells(condition: str) -> int:
        return shipped.query(f"frame_index > 0 and {condition}")["cell"].nunique()

    assert cells("motion2 < 0.3 and vmaf < 20") >= 10
    assert cells("motion2 < 0.3 and vmaf > 80") >= 10
    assert cells("motion2 > 20 and vmaf < 40") >= 10
    assert cells("motion2 > 20 and vmaf > 80") >= 10
    assert cells("motion2 > 40") >= 10
    assert cells("adm2 > 1") >= 10


def test_the_shipped_rows_agree_with_the_formula(shipped):
    formula = vmaf_from_features(shipped[FEATURES].to_numpy())
    assert np.abs(formula - shipped["vmaf"]).max() < 1e-2
    assert set(shipped["teacher"]) == {V061.name}


def test_only_clips_have_a_hash(shipped):
    assert (shipped["src_sha256"].notna() == (shipped["content"] == "clip")).all()


def test_the_shipped_file_is_the_one_of_its_provenance(shipped, provenance):
    once = shipped.drop_duplicates("cell")
    assert provenance["stress"] == {
        "file": "stress.parquet",
        "rows": len(shipped),
        "sha256": sha256_of(STRESS_SET),
    }
    assert provenance["cells"] == len(once)
    assert provenance["cells_by_kind"] == once["kind"].value_counts().to_dict()
    assert {s["sha256"] for s in provenance["sources"]} == set(once["src_sha256"].dropna())
    assert all(s["licence"] for s in provenance["sources"])
    assert provenance["ffmpeg_version"] == sorted(once["ffmpeg_version"].unique())


def test_the_shipped_file_holds_what_the_code_plans(shipped, provenance):
    sources = [Source(s["name"], s["name"], s["sha256"]) for s in provenance["sources"]]
    once = shipped.drop_duplicates("cell")
    rates = {src: f"{fps:g}" for src, fps in zip(once["src"], once["fps"], strict=True)}
    planned = pd.DataFrame([cell.origin for cell in plan(sources, rates)])
    told = once[list(planned)].reset_index(drop=True)
    pd.testing.assert_frame_equal(told, planned, check_dtype=False)


def test_the_set_has_the_columns_that_are_promised(shipped):
    assert tuple(shipped) == COLUMNS
    assert shipped[["vmaf", *FEATURES]].dtypes.eq("float64").all()
