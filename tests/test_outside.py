"""Evidence beyond LOSO on answers that are written down here, so that each figure is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from fr_lib.arms import ARMS
from fr_lib.corpus import (
    Corpus,
    load_corpus,
    read_log,
    read_stress,
    synthetic_table,
    vmaf_from_features,
    write_table,
)
from fr_lib.corpus.stress_set import COLUMNS
from fr_lib.errors import ArtefactError, InputError
from fr_lib.evaluate import shipped_report
from fr_lib.evaluate.outside import (
    QUALITIES,
    SWAP_ROWS,
    Answer,
    answers,
    domain_of,
    domain_report,
    formula_of,
    legal_blocks,
    logs_report,
    read_logs,
    stress_report,
    swap_report,
    worst_frame,
    worst_frames_report,
)
from fr_lib.files import json_text, sha256_of
from fr_lib.report import outside, tables
from fr_lib.report.plots.recipes import plot_outside
from fr_lib.runs import plain
from fr_lib.schema import ADAPTERS, CANONICAL_6, NEWEST_VOCAB, codec_block
from fr_lib.train import HIGHEST, MOTION_MAX, Scaler, Trained, draw_domain, into_domain

matplotlib.use("Agg")
FEATURES = list(CANONICAL_6)
BLIND = Answer()
TWO = ["libx264", "libvvenc"]
VVENC = NEWEST_VOCAB.index("libvvenc")
Rule = Callable[[Tensor, Tensor], Tensor]


class Written(nn.Module):
    """A network whose answer to raw features and a codec block is a rule."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(x[:, :6].double(), x[:, 6:].double()).float().unsqueeze(1)


def network(rule: Rule, arm: str = "v3") -> Trained:
    plain_scaler = Scaler(np.zeros(6, dtype=np.float32), np.ones(6, dtype=np.float32))
    return Trained(Written(rule), plain_scaler, ARMS[arm].columns, 0.0)


def quality_of(block: Tensor) -> Tensor:
    return block[:, -1] * 63


def exact(features: Tensor, block: Tensor) -> Tensor:
    return formula_of(features)


def off_by(offset: float) -> Rule:
    return lambda features, block: formula_of(features) + offset


def corpus_of(table: pd.DataFrame, folder: Path) -> Corpus:
    write_table(table, folder / "c.parquet")
    return load_corpus(folder / "c.parquet")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Return 5 frames of 3 sources at 2 quality values of 2 encoders, in this order."""
    rows = synthetic_table(TWO, [20, 40], sources=3, frames=5, seed=0)
    return corpus_of(rows, tmp_path_factory.mktemp("corpus"))


def with_quality(corpus: Corpus, quality: np.ndarray) -> Corpus:
    return replace(corpus, table=corpus.table.assign(quality=quality))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Spare the many small steps of the search the handing out to threads, which costs more."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(usual)


# --- how a network is asked -----------------------------------------------------------------------


def test_a_blind_arm_is_asked_once_and_another_as_every_encoder_at_three_qualities():
    assert answers("v1", TWO) == [Answer()]
    asked = [(a.encoder, a.quality) for a in answers("v3", TWO)]
    assert asked == [(encoder, quality) for encoder in TWO for quality in QUALITIES]
    for encoder in NEWEST_VOCAB:
        for quality in QUALITIES:
            ADAPTERS[encoder].check_quality(quality)


def test_labels():
    assert (Answer().label, Answer("libx264", 18).label) == ("codec-blind", "libx264 18")
    assert Answer("libx264", 8.5, "fast").label == "libx264 8.5"


@pytest.mark.parametrize(
    ("answer", "ordinal"),
    [(Answer("libvvenc", 45), 1.0), (Answer("libvvenc", 45, "slower"), 8.0)],
)
def test_the_block_of_an_answer_is_the_codec_block_of_its_row(answer, ordinal):
    expected = codec_block(["libvvenc"], np.array([ordinal]), np.array([45.0]))[0]
    assert np.array_equal(answer.block(network(exact)), expected)
    assert Answer().block(network(exact, "v1")).shape == (0,)


def test_scores_are_clipped_as_the_graph_does_and_do_not_depend_on_the_chunk():
    net = network(lambda features, block: features[:, 0], "v1")
    rows = np.zeros((45_000, 6))
    rows[:, 0] = np.linspace(-50, 150, len(rows))
    scores = BLIND.ask(net, rows)
    np.testing.assert_allclose(scores, rows[:, 0].clip(0, 100), rtol=0, atol=1e-4)
    assert (scores.min(), scores.max(), scores.dtype) == (0.0, 100.0, np.float64)


def test_features_are_standardised_before_they_are_seen():
    net = network(lambda features, block: features[:, 5], "v1")
    scaler = Scaler(np.full(6, 2.0, np.float32), np.full(6, 0.5, np.float32))
    assert BLIND.ask(replace(net, scaler=scaler), np.full((1, 6), 12.0)).tolist() == [20.0]


# --- the block swap -------------------------------------------------------------------------------


def test_a_codec_blind_answer_does_not_move_at_all(corpus):
    net = network(lambda features, block: 50 + features.sum(dim=1))
    found = swap_report(net, corpus, TWO)
    assert (found["mean"], found["p99"], found["max"]) == (0.0, 0.0, 0.0)
    assert (found["rows"], found["blocks"]) == (60, 35)


@pytest.mark.parametrize(("far_rows", "p99"), [(1, 31), (10, 51)])
def test_moves_of_an_answer_that_is_the_quality_value(corpus, far_rows, p99):
    """Blocks of libx264 have the qualities 0, 8.5 .. 51; rows are at 20, but for some at 51."""
    quality = np.array([51.0] * far_rows + [20.0] * (60 - far_rows))
    net = network(lambda features, block: quality_of(block))
    found = swap_report(net, with_quality(corpus, quality), ["libx264"])
    near = np.mean([20, 11.5, 3, 5.5, 14, 22.5, 31])
    far = np.mean([51, 42.5, 34, 25.5, 17, 8.5, 0])
    mean = ((60 - far_rows) * near + far_rows * far) / 60
    assert found["mean"] == pytest.approx(mean, abs=1e-5)
    # Beyond 31 lie three of a far row's seven moves: 0.7 % of all, or 7 %, 2.4 % of them at 51.
    assert found["p99"] == pytest.approx(p99, abs=1e-5)
    assert found["max"] == pytest.approx(51, abs=1e-5)
    assert found["at"] == "libx264 0"


def test_moves_of_an_answer_that_is_the_preset(corpus):
    """Presets are tried at both ends and the default; rows are at libx264's default, ordinal 5."""
    net = network(lambda f, block: 50 + 9 * block[:, -2])
    own = replace(corpus, table=corpus.table.query("encoder == 'libx264'"))
    found = swap_report(net, own, ["libx264"])
    assert found["mean"] == pytest.approx((5 + 0 + 4) / 3, abs=1e-5)
    assert found["max"] == pytest.approx(5, abs=1e-5)


def test_moves_of_an_answer_that_is_the_encoder(corpus):
    """Half of the rows are libvvenc's, 21 of 35 blocks libx264's, and 14 libvvenc's."""
    net = network(lambda f, block: 50 + 10 * block[:, VVENC])
    found = swap_report(net, corpus, TWO)
    assert found["mean"] == pytest.approx(10 * (0.5 * 14 + 0.5 * 21) / 35, abs=1e-5)
    assert found["p99"] == found["max"] == pytest.approx(10, abs=1e-5)
    only = swap_report(net, corpus, ["libvvenc"])
    assert only["mean"] == pytest.approx(5, abs=1e-5)


def test_moves_are_of_what_the_graph_gives_clip_included(corpus):
    beyond = swap_report(network(lambda f, block: 101 + quality_of(block)), corpus, TWO)
    assert beyond["max"] == 0.0
    # 20 and 40 become 95 and 100; blocks give 75 (quality 0) to 100.
    across = swap_report(network(lambda f, block: 75 + quality_of(block)), corpus, ["libx264"])
    assert across["max"] == pytest.approx(25, abs=1e-5)


def test_a_large_corpus_is_asked_at_evenly_spaced_rows_with_both_ends(corpus):
    table = pd.concat([corpus.table] * 40, ignore_index=True)
    big = replace(corpus, table=table.assign(quality=20.0))
    assert swap_report(network(exact), big, ["libx264"])["rows"] == SWAP_ROWS == 2000
    for end in (0, len(table) - 1):
        quality = np.where(np.arange(len(table)) == end, 51.0, 20.0)
        marked = with_quality(big, quality)
        found = swap_report(network(lambda f, block: quality_of(block)), marked, ["libx264"])
        assert found["max"] == pytest.approx(51, abs=1e-5)


def test_blocks_are_legal_and_reach_the_ends_of_every_encoders_range():
    for encoder, unit in ADAPTERS.items():
        blocks = legal_blocks([encoder])
        for block in blocks:
            unit.check_quality(block.quality)
        presets = {block.preset for block in blocks}
        ordinals = sorted(unit.presets.values())
        found = {unit.presets[preset] for preset in presets}
        assert {ordinals[0], ordinals[-1], unit.presets[unit.default_preset]} == found
        assert len(blocks) == 7 * len(presets)
        assert {unit.lo, unit.hi} <= {block.quality for block in blocks}


# --- the stress set -------------------------------------------------------------------------------

OFFSETS = [3.0, 3.0, -5.0, 0.0, 1.0, -1.0]


@pytest.fixture(scope="module")
def stress(tmp_path_factory) -> pd.DataFrame:
    """Return six frames of three cells; adm2 is the score in 0..1, motion2 the wanted residual."""
    table = pd.DataFrame(
        {
            "cell": ["soft", "soft", "grain", "grain", "shrunk", "shrunk"],
            "src": "card",
            "content": "generated",
            "kind": ["blur", "blur", "noise", "noise", "blur", "blur"],
            "distortion": "some",
            "recipe": "gblur",
            "width": [320, 320, 640, 640, 640, 640],
            "height": 180,
            "fps": 25.0,
            "frame_index": [0, 1] * 3,
            "vmaf": [5.0, 15.0, 95.0, 100.0, 40.0, 60.0],
        }
    )
    for name in FEATURES:
        table[name] = 0.5
    table["adm2"], table["motion2"] = table["vmaf"] / 100, OFFSETS
    for name in set(COLUMNS) - set(table):
        table[name] = "stamp"
    path = tmp_path_factory.mktemp("stress") / "s.parquet"
    write_table(table, path)
    return read_stress(path)


DOMAIN = dict.fromkeys(FEATURES, (0.0, 1.0)) | {"motion2": (-1.0, 3.0)}


def shown(features: Tensor, block: Tensor) -> Tensor:
    """Answer the true score plus the wanted residual, times quality over 18 if a codec is seen."""
    times = quality_of(block) / 18 if block.shape[1] else 1.0
    return 100 * features[:, 0] + features[:, 5] * times


def by_name(records: list[dict]) -> dict:
    return {record["name"]: record for record in records}


def test_errors_of_one_answer_in_all_and_at_their_largest(stress):
    found = stress_report(network(shown, "v1"), [BLIND], stress, DOMAIN)
    assert (found["rows"], found["cells"]) == (6, 3)
    assert found["rmse"] == pytest.approx(math.sqrt(45 / 6), abs=1e-5)
    assert found["max_abs"] == pytest.approx(5, abs=1e-5)
    # By cell: 3, the root of 12.5, 1; the bias is largest in the first.
    assert found["median_cell"] == pytest.approx(3, abs=1e-5)
    assert found["worst_cell"] == {
        "cell": "grain",
        "answer": "codec-blind",
        "rmse": pytest.approx(math.sqrt(12.5), abs=1e-5),
    }


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("kinds", {"blur": (4, math.sqrt(20 / 4), 1.5), "noise": (2, math.sqrt(12.5), -2.5)}),
        ("widths", {320: (2, 3, 3), 640: (4, math.sqrt(27 / 4), -1.25)}),
        # The highest range includes 100.
        (
            "bins",
            {
                0: (1, 3, 3),
                10: (1, 3, 3),
                40: (1, 1, 1),
                60: (1, 1, -1),
                90: (2, math.sqrt(12.5), -2.5),
            },
        ),
    ],
)
def test_errors_by_kind_by_width_and_by_range_of_vmaf(stress, groups, expected):
    found = stress_report(network(shown, "v1"), [BLIND], stress, DOMAIN)[groups]
    assert [record["name"] for record in found] == list(expected)
    for record in found:
        rows, rmse, bias = expected[record["name"]]
        assert record["rows"] == rows
        assert record["rmse"] == record["worst_rmse"] == pytest.approx(rmse, abs=1e-5)
        assert record["bias"] == pytest.approx(bias, abs=1e-5)


def test_errors_of_several_answers_are_pooled_and_the_worst_is_named(stress):
    """The second answer errs 2.5 times as much as the first."""
    asked = [Answer("libx264", 18), Answer("libvvenc", 45)]
    found = stress_report(network(shown), asked, stress, DOMAIN)
    both = math.sqrt((1 + 2.5**2) / 2)
    assert found["rmse"] == pytest.approx(math.sqrt(45 / 6) * both, abs=1e-4)
    assert found["max_abs"] == pytest.approx(12.5, abs=1e-4)
    assert found["worst_cell"] == {
        "cell": "grain",
        "answer": "libvvenc 45",
        "rmse": pytest.approx(math.sqrt(12.5) * 2.5, abs=1e-4),
    }
    noise = by_name(found["kinds"])["noise"]
    assert noise["rows"] == 2
    assert noise["rmse"] == pytest.approx(math.sqrt(12.5) * both, abs=1e-4)
    assert noise["worst_rmse"] == pytest.approx(math.sqrt(12.5) * 2.5, abs=1e-4)
    assert noise["worst_answer"] == "libvvenc 45"
    assert noise["bias"] == pytest.approx(-2.5 * (1 + 2.5) / 2, abs=1e-4)
    first, second = found["by_answer"]
    assert (first["answer"], second["answer"]) == ("libx264 18", "libvvenc 45")
    assert first["rmse"] == pytest.approx(math.sqrt(45 / 6), abs=1e-4)
    assert second["rmse"] == pytest.approx(2.5 * math.sqrt(45 / 6), abs=1e-4)
    assert (first["bias"], second["bias"]) == pytest.approx((1 / 6, 2.5 / 6), abs=1e-4)


@pytest.mark.parametrize("offset", [2.0, -0.25])
def test_a_constant_offset_is_the_error_everywhere_and_its_sign_the_bias(stress, offset):
    inner = stress[stress["vmaf"].between(10, 95)]
    net = network(lambda features, block: 100 * features[:, 0] + offset, "v1")
    found = stress_report(net, [BLIND], inner, DOMAIN)
    for record in (*found["kinds"], *found["widths"], *found["bins"]):
        assert record["rmse"] == pytest.approx(abs(offset), abs=1e-4)
        assert record["bias"] == pytest.approx(offset, abs=1e-4)
    assert found["median_cell"] == pytest.approx(abs(offset), abs=1e-4)


def test_frames_outside_the_training_range_are_told_apart(stress):
    """One frame in six has less motion than was trained on; it is the one missed by 5."""
    found = stress_report(network(shown, "v1"), [BLIND], stress, DOMAIN)["domain"]
    assert found["share_outside"] == pytest.approx(1 / 6)
    assert found["rmse_outside"] == pytest.approx(5, abs=1e-5)
    assert found["rmse_inside"] == pytest.approx(math.sqrt(20 / 5), abs=1e-5)


def test_where_no_frame_is_inside_or_outside_there_is_no_error_there():
    features = np.array([[0.0] * 6, [1.0] * 6])
    residuals = np.array([[3.0, 4.0]])
    ends = dict.fromkeys(FEATURES, (0.0, 1.0))
    found = domain_report(features, residuals, ends)
    assert (found["share_outside"], found["rmse_outside"]) == (0.0, None)
    assert found["rmse_inside"] == pytest.approx(math.sqrt(12.5))
    # A single feature beyond its range is enough.
    narrow = domain_report(features, residuals, ends | {"adm2": (0.25, 0.75)})
    assert (narrow["share_outside"], narrow["rmse_inside"]) == (1.0, None)
    assert domain_report(features, residuals, ends | {"adm2": (0.0, 0.9)})["rmse_outside"] == 4.0


def test_the_domain_of_a_corpus_is_its_rows_least_and_greatest(corpus):
    found = domain_of(corpus)
    assert list(found) == FEATURES
    for name, (low, high) in found.items():
        assert (low, high) == (corpus.table[name].min(), corpus.table[name].max())
    assert not domain_report(corpus.table[FEATURES].to_numpy(), np.zeros((1, 60)), found)[
        "share_outside"
    ]


def test_a_set_of_lines_is_read_too_and_columns_beyond_its_own_are_left_out(stress, tmp_path):
    write_table(stress.assign(psnr=1.0), tmp_path / "s.jsonl")
    again = read_stress(tmp_path / "s.jsonl")
    pd.testing.assert_frame_equal(again, stress, check_dtype=False)
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(InputError, match=r"none\.jsonl: missing cell, .*make stress"):
        read_stress(tmp_path / "none.jsonl")


# --- the worst frame ------------------------------------------------------------------------------

# A frame inside the domain, and how far a spoilt network's error reaches around it.
CENTRE = np.array([0.80, 0.55, 0.68, 0.76, 0.80, 12.0])
REACH = np.array([0.08] * 5 + [6.0])
HEIGHT = 15.0


def bump(features: Tensor, block: Tensor) -> Tensor:
    away = (features - torch.from_numpy(CENTRE)) / torch.from_numpy(REACH)
    return formula_of(features) + HEIGHT * torch.exp(-0.5 * away.square().sum(dim=1))


def drawn(count: int = 4_000, highest: float = 1.0, seed: int = 1) -> np.ndarray:
    points = draw_domain(np.random.default_rng(seed), count, highest)
    return into_domain(points, highest)


def search(rule: Rule, highest: float = 1.0) -> dict:
    points = drawn(highest=highest)
    return worst_frame(network(rule, "v1"), BLIND, points, vmaf_from_features(points), highest)


def place(found: dict) -> np.ndarray:
    return np.array([[found["features"][name] for name in FEATURES]])


def test_the_formula_with_its_gradient_is_the_teachers():
    points = drawn(500)
    asked = torch.from_numpy(points).requires_grad_(True)
    scores = formula_of(asked)
    expected = vmaf_from_features(points)
    np.testing.assert_allclose(scores.detach().numpy(), expected, rtol=0, atol=1e-6)
    (slope,) = torch.autograd.grad(scores.sum(), asked)
    # Against finite differences, where the clip is far.
    inner = (expected > 5) & (expected < 95)
    assert inner.sum() > 100
    for k in range(6):
        step = np.eye(6)[k] * 1e-6
        rise = vmaf_from_features(points + step) - vmaf_from_features(points - step)
        np.testing.assert_allclose(slope[inner, k], rise[inner] / 2e-6, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
def test_the_formula_itself_has_no_frame_that_it_misses(highest):
    found = search(exact, highest)
    assert found["difference"] < 1e-3
    assert found["random"] < 1e-3


def test_a_bump_that_no_random_point_meets_is_climbed():
    assert np.array_equal(into_domain(CENTRE[None], 1.0), CENTRE[None])
    assert 30 < vmaf_from_features(CENTRE[None])[0] < 100 - HEIGHT
    found = search(bump)
    assert found["random"] < 0.9 * HEIGHT
    assert found["difference"] == pytest.approx(HEIGHT, abs=0.1)
    assert (np.abs(place(found) - CENTRE) < 0.25 * REACH).all()
    assert found["predicted"] - found["vmaf"] == pytest.approx(found["difference"])
    assert found["vmaf"] == pytest.approx(vmaf_from_features(place(found))[0])
    assert found["answer"] == "codec-blind"


def test_a_dent_counts_as_much_as_a_bump():
    found = search(lambda f, block: 2 * formula_of(f) - bump(f, block))
    assert found["difference"] == pytest.approx(HEIGHT, abs=0.1)
    assert found["predicted"] < found["vmaf"]


def test_figures_of_the_random_points_are_those_before_the_ascent():
    points = drawn()
    truth = vmaf_from_features(points)
    net = network(bump, "v1")
    difference = np.abs(BLIND.ask(net, points) - truth)
    found = search(bump)
    assert found["random"] == difference.max()
    assert found["mean"] == pytest.approx(difference.mean())
    assert found["p99"] == pytest.approx(np.quantile(difference, 0.99))
    assert found["difference"] >= found["random"]


# Each error grows on beyond the domain, so that the climb ends at its edge.
AWAY = {
    "more motion": lambda f: 0.2 * f[:, 5],
    "less adm2": lambda f: 20 * (1 - f[:, 0]),
    "a finer scale far above the next": lambda f: 60 * (f[:, 3] - f[:, 4]).clamp(min=0),
    "more of all": lambda f: 10 * f[:, :5].sum(dim=1),
}


@pytest.mark.parametrize("highest", [1.0, HIGHEST])
@pytest.mark.parametrize("error", AWAY.values(), ids=AWAY)
def test_the_frame_that_is_found_lies_in_the_domain(error, highest):
    found = search(lambda f, block: formula_of(f) - error(f), highest)
    frame = place(found)
    assert found["difference"] > 5
    np.testing.assert_allclose(into_domain(frame, highest), frame, rtol=0, atol=1e-9)


def test_the_climb_reaches_the_edge_of_the_domain():
    found = search(lambda f, block: formula_of(f) - 0.2 * f[:, 5])
    assert found["features"]["motion2"] == pytest.approx(MOTION_MAX)
    assert found["difference"] == pytest.approx(0.2 * MOTION_MAX, abs=1e-3)


@contextmanager
def short_climb() -> Iterator[None]:
    """Let a search take few steps, where it matters who is asked and not what is found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fr_lib.evaluate.outside.ASCENT_STEPS", 10)
        yield


def worst_of(corpus: Corpus, seed: int) -> dict:
    """Search the domain with few points."""
    nets = {"v1": network(bump, "v1"), "v3": network(bump)}
    with short_climb():
        return worst_frames_report(nets, corpus, seed, 400)


@pytest.fixture(scope="module")
def worst(corpus) -> dict:
    return worst_of(corpus, 0)


def test_the_search_is_the_same_each_time_and_another_with_another_seed(corpus, worst):
    assert json_text(plain(worst)) == json_text(plain(worst_of(corpus, 0)))
    other = worst_of(corpus, 1)
    assert [f["random"] for f in worst["v1"]] != [f["random"] for f in other["v1"]]


def test_every_slot_is_searched_up_to_1_and_up_to_the_highest(worst):
    assert [(f["answer"], f["highest"]) for f in worst["v1"]] == [
        ("codec-blind", 1.0),
        ("codec-blind", HIGHEST),
    ]
    assert [(f["answer"], f["highest"]) for f in worst["v3"]] == [
        (f"{encoder} 30", highest) for highest in (1.0, HIGHEST) for encoder in TWO
    ]
    # Both arms give one answer here, and were shown the same points.
    assert worst["v1"][0]["random"] == worst["v3"][0]["random"]


def test_no_point_of_the_search_lies_outside_the_domain(corpus):
    """This error is largest where a coarser scale lies further below a finer one than it may."""

    def steep(features: Tensor, block: Tensor) -> Tensor:
        return formula_of(features) + 100 * (features[:, 3] - features[:, 4]).clamp(min=0)

    for found in worst_frames_report({"v1": network(steep, "v1")}, corpus, 0, 4_000)["v1"]:
        frame = place(found)
        np.testing.assert_allclose(into_domain(frame, found["highest"]), frame, atol=1e-9)


# --- logs from elsewhere --------------------------------------------------------------------------


def write_log(path: Path, features: np.ndarray, vmaf=None) -> Path:
    frames = [
        {"metrics": dict(zip(FEATURES, row, strict=True)) | ({} if v is None else {"vmaf": v})}
        for row, v in zip(features.tolist(), vmaf or [None] * len(features), strict=True)
    ]
    path.write_text(json.dumps({"frames": frames}))
    return path


@pytest.fixture
def some_logs(corpus, tmp_path) -> list[Path]:
    """Return logs of rows of the corpus; in the second one frame in four has too much motion."""
    inside = corpus.table[FEATURES].to_numpy()[[3, 8, 33, 38]]
    beyond = inside + np.outer([0, 0, 0, 1], [0, 0, 0, 0, 0, 30.0])
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, rows in zip(paths, (inside, beyond), strict=True):
        write_log(path, rows, vmaf_from_features(rows).tolist())
    return paths


def test_logs_show_the_worst_answer_of_each_arm(corpus, some_logs):
    """The codec-aware answer errs by a tenth of its quality value, at most by 4.5."""
    assert (vmaf_from_features(read_log(some_logs[0]).features) < 95).all()
    nets = {
        "v1": network(off_by(-1), "v1"),
        "v3": network(lambda f, block: formula_of(f) + quality_of(block) / 10),
    }
    first, second = logs_report(nets, corpus, [read_log(path) for path in some_logs])
    assert (first["name"], first["frames"], second["name"]) == ("a.json", 4, "b.json")
    assert first["rmse"] == pytest.approx({"v1": 1.0, "v3": 4.5}, abs=1e-3)
    assert first["sha256"] == sha256_of(some_logs[0])
    assert first["vmaf"] == pytest.approx(np.mean(read_log(some_logs[0]).vmaf))
    assert (first["share_outside"], second["share_outside"]) == (0.0, 0.25)


def test_a_log_of_another_score_is_missed_by_its_difference(corpus, tmp_path):
    rows = corpus.table[FEATURES].to_numpy()[:6]
    scores = vmaf_from_features(rows) + 3 * np.array([1, -1, 1, -1, 1, -1])
    log = read_log(write_log(tmp_path / "l.json", rows, scores.tolist()))
    (found,) = logs_report({"v1": network(exact, "v1")}, corpus, [log])
    assert found["rmse"]["v1"] == pytest.approx(3, abs=1e-3)


def test_logs_are_read_in_order_of_name_and_none_without_a_pattern(some_logs):
    read = read_logs(str(some_logs[0].parent / "?.json"))
    assert [Path(log.path).name for log in read] == ["a.json", "b.json"]
    for letter in "hdgfce":  # so many that no folder lists them in order by chance
        (some_logs[0].parent / f"{letter}.json").write_bytes(some_logs[0].read_bytes())
    read = read_logs(str(some_logs[0].parent / "?.json"))
    assert [Path(log.path).stem for log in read] == [*"abcdefgh"]
    assert read_logs("") == []


def test_logs_that_cannot_be_used_are_refused_with_a_sentence(corpus, tmp_path):
    pattern = str(tmp_path / "*.json")
    with pytest.raises(InputError, match=r"logs: no file matches .*libvmaf logs"):
        read_logs(pattern)
    rows = corpus.table[FEATURES].to_numpy()[:2]
    write_log(tmp_path / "fine.json", rows, [50.0, 60.0])
    bare = write_log(tmp_path / "none.json", rows)
    with pytest.raises(InputError, match=r"none\.json: no score; allowed: a log with vmaf"):
        read_logs(pattern)
    write_log(bare, rows, [50.0, None])
    with pytest.raises(InputError, match=r"none\.json: no score"):
        read_logs(pattern)
    write_log(bare, rows, [50.0, 60.0])
    assert len(read_logs(pattern)) == 2
    bare.write_text("{")
    with pytest.raises(ArtefactError, match=r"none\.json: broken JSON"):
        read_logs(pattern)


# --- reports, tables and plot ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def nets() -> dict[str, Trained]:
    rules = {"v1": off_by(-0.5), "v2": exact, "v3": shown_moves}
    return {arm: network(rule, arm) for arm, rule in rules.items()}


def half_wrong(features: Tensor, block: Tensor) -> Tensor:
    """Answer 8 too low as libx264, which is the first slot, and 4 too low as anything else."""
    return formula_of(features) - 4 - 4 * block[:, 0]


def shown_moves(features: Tensor, block: Tensor) -> Tensor:
    return formula_of(features) + quality_of(block) / 100


@pytest.fixture(scope="module")
def real_stress(stress) -> pd.DataFrame:
    """Return the small set with features that its scores follow from."""
    rng = np.random.default_rng(0)
    features = 1 - rng.uniform(0.05, 0.4, (6, 1)) * np.array([0.5, 1.2, 0.8, 0.6, 0.5, 0])
    features[:, 5] = rng.uniform(0, 4, 6)
    table = stress.assign(**dict(zip(FEATURES, features.T, strict=True)))
    return table.assign(vmaf=vmaf_from_features(features))


@pytest.fixture(scope="module")
def facts(nets, corpus, real_stress, tmp_path_factory) -> dict:
    """Return what ``beyond`` evidence holds, of two recipes with the same networks but for v3."""
    rows = corpus.table[FEATURES].to_numpy()[[3, 8]]
    path = write_log(
        tmp_path_factory.mktemp("logs") / "l.json", rows, vmaf_from_features(rows).tolist()
    )
    recipes = {}
    for name, of in (("taught", nets), ("adr0319", nets | {"v3": network(half_wrong)})):
        with short_climb():
            worst = worst_frames_report(of, corpus, 0, 300)
        logs = logs_report(of, corpus, [read_log(path)])
        recipes[name] = shipped_report(of, corpus, real_stress) | {"worst": worst, "logs": logs}
    return plain({"shipped": "taught", "recipes": recipes})


def test_the_shipped_report_asks_every_trained_slot_and_swaps_no_block_of_a_blind_arm(
    facts, corpus
):
    report = facts["recipes"]["taught"]
    assert list(report["arms"]) == ["v1", "v2", "v3"]
    assert report["arms"]["v1"]["swap"] is None
    assert report["arms"]["v2"]["swap"]["max"] == pytest.approx(0, abs=1e-4)
    # Of libx264's blocks and libvvenc's 0..63, rows at 20 and 40.
    assert report["arms"]["v3"]["swap"]["max"] == pytest.approx(0.43, abs=1e-3)
    assert report["qualities"] == list(QUALITIES)
    assert report["domain"]["adm2"] == list(domain_of(corpus)["adm2"])
    assert corpus.encoders() == TWO
    asked = [row["answer"] for row in report["arms"]["v3"]["stress"]["by_answer"]]
    assert asked == [f"{encoder} {quality}" for encoder in TWO for quality in QUALITIES]


def test_the_stress_table_has_a_line_per_recipe_and_arm(facts):
    table = tables.outside_table(facts)
    assert table["recipe"].tolist() == ["taught"] * 3 + ["adr0319"] * 3
    assert table["swap, p99"].tolist()[0] == "no block"
    assert table["RMSE"].tolist()[0] == "0.500"
    assert table["RMSE"].tolist()[5] == table["median cell"].tolist()[5] == f"{40**0.5:.3f}"
    assert table["largest error"].tolist()[5] == "8.00"


def test_the_slots_table_is_of_the_shipped_recipes_blind_and_aware_arms(facts):
    table = tables.outside_slots_table(facts)
    assert table["asked as"].tolist()[:3] == ["codec-blind", "libx264 18", "libx264 30"]
    assert table["bias"].tolist() == ["-0.500", *["+0.180", "+0.300", "+0.450"] * 2]
    assert table["RMSE"].tolist() == ["0.500", *["0.180", "0.300", "0.450"] * 2]


def test_the_swap_table_leaves_out_arms_without_a_block(facts):
    table = tables.swap_table(facts)
    assert table["arm"].tolist() == [ARMS[a].label for a in ("v2", "v3")] * 2
    assert table["rows x blocks"].tolist() == ["60 x 35"] * 4
    assert table["largest"].tolist()[:2] == ["0.00", "0.43"]
    assert table["largest at"].tolist()[1] == "libvvenc 63"


def test_the_worst_table_has_the_worst_slot_once_per_end_of_the_domain(facts):
    table = tables.worst_table(facts)
    assert table["features up to"].tolist() == ["1", "1.4"] * 6
    assert table["arm"].tolist() == [arm for arm in ("v1", "v2", "v3") for _ in "ab"] * 2
    # Of adr0319's two slots one errs by 8, the other by 4.
    assert table["error"].tolist()[-2:] == ["8.00", "8.00"]
    assert table["asked as"].tolist()[-2:] == ["libx264 30", "libx264 30"]
    assert table["error"].tolist()[:2] == ["0.50", "0.50"]


@pytest.mark.parametrize("table", [tables.outside_table, tables.swap_table, tables.domain_table])
def test_the_shipped_recipe_comes_first_in_facts_that_were_kept(facts, table):
    """A file has its keys sorted; its table is the one of the day it was measured."""
    kept = json.loads(json_text(facts))
    assert table(kept)["recipe"].tolist()[0] == "taught"
    pd.testing.assert_frame_equal(table(kept), table(facts))


def test_each_feature_of_the_worst_frame_stands_in_its_column_in_facts_that_were_kept(facts):
    frames = [f for arm in ("v1", "v2", "v3") for f in facts["recipes"]["taught"]["worst"][arm]]
    for found in (facts, json.loads(json_text(facts))):
        table = tables.worst_features_table(found)
        assert table["feature"].tolist() == FEATURES
        assert list(table)[1:] == [
            f"{arm}, to {end}" for arm in ("v1", "v2", "v3") for end in (1, 1.4)
        ]
        first = [f"{frames[0]['features'][name]:.3g}" for name in FEATURES]
        assert table["v1, to 1"].tolist() == first


def test_the_domain_table_says_not_measured_where_no_frame_is(facts):
    table = tables.domain_table(facts)
    stress = facts["recipes"]["taught"]["arms"]["v1"]["stress"]["domain"]
    assert table["frames outside"].tolist()[0] == f"{stress['share_outside']:.1%}"
    assert table["RMSE outside"].tolist()[0] == "0.500"
    stress = stress | {"rmse_inside": None}
    alone = {"taught": {"arms": {"v1": {"stress": {"domain": stress}}}}}
    assert tables.domain_table({"shipped": "taught", "recipes": alone})["RMSE inside"].tolist() == [
        "not measured"
    ]


def test_the_logs_table_and_its_sentence(facts):
    table = tables.logs_table(facts)
    assert list(table) == tables.LOG_COLUMNS
    (line,) = table.to_dict(orient="records")
    assert (line["log"], line["frames"], line["outside"]) == ("l", "2", "0%")
    assert (line["v1"], line["v3"], line["adr0319 v3"]) == ("0.500", "0.450", "8.00")
    assert outside.logs_sentence(facts).startswith(
        "Over 1 logs the network that ships errs by 0.450"
    )


def test_without_logs_the_table_is_empty_and_the_sentence_says_so():
    none = {"shipped": "taught", "recipes": {n: {"logs": []} for n in ("taught", "adr0319")}}
    assert list(tables.logs_table(none)) == tables.LOG_COLUMNS
    assert len(tables.logs_table(none)) == 0
    assert outside.logs_sentence(none) == "No logs were given when this was measured."


def test_figures_of_networks_from_another_machine_say_so(facts):
    own = facts["recipes"]["taught"]
    same = outside.own_networks_sentence(facts, own)
    assert same == "What was measured are the networks of this run."
    other = json.loads(json_text(own))
    other["arms"]["v3"]["stress"]["rmse"] = 0.51
    assert outside.own_networks_sentence(facts, other).endswith(
        "those of this run, which the gate asks, have an RMSE of 0.510."
    )
    other["arms"]["v3"]["stress"]["rmse"] = None
    assert outside.own_networks_sentence(facts, other).endswith("have an RMSE of not measured.")


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ("kinds", ["blur", "noise"]),
        ("widths", ["320 pixels wide", "640 pixels wide"]),
    ],
)
def test_the_plot_has_a_line_of_markers_per_group_and_a_series_per_recipe(facts, groups, names):
    ax = plot_outside(facts, groups, ax=Figure().add_subplot())
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert ax.get_xscale() == "log"
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [
        "taught, codec-aware (ships)",
        "taught, codec-blind",
        "adr0319, codec-aware",
    ]
    drawn_at = {line.get_label(): line.get_xdata() for line in ax.get_lines()}
    assert drawn_at["taught, codec-blind"] == pytest.approx([0.5, 0.5], abs=1e-3)
    assert drawn_at["adr0319, codec-aware"] == pytest.approx([40**0.5] * 2, abs=1e-3)


def test_the_plot_says_which_range_of_vmaf_and_draws_an_error_of_zero(facts):
    ax = plot_outside(facts, "bins", ax=Figure().add_subplot())
    bins = facts["recipes"]["taught"]["arms"]["v3"]["stress"]["bins"]
    expected = [f"VMAF {b['name']} to {b['name'] + 10}" for b in bins]
    assert [label.get_text() for label in ax.get_yticklabels()] == expected
    none = json.loads(json.dumps(facts))
    for group in none["recipes"]["taught"]["arms"]["v3"]["stress"]["bins"]:
        group["rmse"] = 0.0
    ax = plot_outside(none, "bins", ax=Figure().add_subplot())
    assert min(ax.get_lines()[0].get_xdata()) > 0
