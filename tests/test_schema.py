"""The vocabulary, the codec block and the adapters: what weights and encodes depend on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fr_lib import schema
from fr_lib.corpus import V061
from fr_lib.errors import FrError, InputError, say
from fr_lib.schema import (
    ADAPTERS,
    ENCODER_VOCAB_V2,
    N_CODEC_BLOCK,
    NEWEST_VOCAB,
    VOCABULARIES,
    BlockNorm,
    adapter,
    codec_block,
    codec_block_layout,
    encoder_index,
    trained_mask,
)

V3 = [
    "libx264",
    "libaom-av1",
    "libx265",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_amf",
    "hevc_amf",
    "av1_amf",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "libvvenc",
    "libsvtav1",
    "h264_videotoolbox",
    "hevc_videotoolbox",
]
V2 = [
    "libx264",
    "libx265",
    "libsvtav1",
    "libvvenc",
    "libvpx-vp9",
    "h264_nvenc",
    "hevc_nvenc",
    "av1_nvenc",
    "h264_qsv",
    "hevc_qsv",
    "av1_qsv",
    "unknown",
]
# A new encoder is one more line, as in the schema.
VERSIONS = {
    3: V3,
}
NEWEST = VERSIONS[max(VERSIONS)]
SIX = ["adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2"]


# --- frozen names ---------------------------------------------------------------------------------


def test_vocabularies_and_features_keep_their_order():
    assert {version: list(names) for version, names in VOCABULARIES.items()} == VERSIONS
    assert list(NEWEST_VOCAB) == NEWEST
    assert list(ENCODER_VOCAB_V2) == V2
    assert list(schema.CANONICAL_6) == SIX


def test_v2_stays_authoritative_and_v3_is_parallel():
    assert schema.ENCODER_VOCAB_VERSION == 2
    assert schema.ENCODER_VOCAB_V3_VERSION == 3
    assert max(VERSIONS) == schema.NEWEST_VOCAB_VERSION
    assert (schema.MODEL_ID, V061.name) == ("fr_regressor_v3", "vmaf_v0.6.1")


def test_a_version_only_appends_to_the_one_before_it():
    assert list(VOCABULARIES) == list(range(3, 3 + len(VOCABULARIES)))
    assert len(set(NEWEST_VOCAB)) == len(NEWEST_VOCAB)
    for older, newer in itertools.pairwise(VOCABULARIES.values()):
        assert newer[: len(older)] == older
        assert len(newer) > len(older)


def test_no_version_has_a_slot_for_unknown_encoders():
    assert "unknown" not in NEWEST_VOCAB


def test_block_layout():
    layout = codec_block_layout()
    assert layout == [*(f"encoder_onehot[{name}]" for name in NEWEST), "preset_norm", "crf_norm"]
    assert len(layout) == N_CODEC_BLOCK
    assert len(codec_block_layout(V3)) == 18
    assert codec_block_layout(ENCODER_VOCAB_V2)[11:] == [
        "encoder_onehot[unknown]",
        "preset_norm",
        "crf_norm",
    ]


# --- codec block ----------------------------------------------------------------------------------


def test_block_values_of_four_encoders():
    block = codec_block(
        ["libx264", "h264_nvenc", "libsvtav1", "hevc_videotoolbox"],
        [5.0, 5.0, 9.0 * 5 / 13, 5.0],
        [23, 31, 63, 100],
    )
    assert block.shape == (4, N_CODEC_BLOCK)
    assert block.dtype == np.float32
    assert block[:, :-2].argmax(axis=1).tolist() == [0, 3, 13, 15]
    assert block[:, :-2].sum(axis=1).tolist() == [1, 1, 1, 1]
    np.testing.assert_allclose(block[:, -2], [5 / 9, 5 / 9, 5 / 13, 5 / 9], rtol=1e-6)
    # div63 divides by 63 whatever the encoder's range: a videotoolbox quality goes above 1.
    np.testing.assert_allclose(block[:, -1], [23 / 63, 31 / 63, 1.0, 100 / 63], rtol=1e-6)


@given(
    st.lists(
        st.tuples(st.sampled_from(NEWEST), st.floats(0, 9), st.floats(0, 63)),
        min_size=0,
        max_size=20,
    )
)
def test_every_row_is_one_hot_and_normalised(rows):
    block = codec_block([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    assert block.shape == (len(rows), N_CODEC_BLOCK)
    assert set(np.unique(block[:, :-2])) <= {0.0, 1.0}
    assert (block[:, :-2].sum(axis=1) == 1).all()
    assert [NEWEST[i] for i in block[:, :-2].argmax(axis=1)] == [r[0] for r in rows]
    assert ((block[:, -2:] >= 0) & (block[:, -2:] <= 1)).all()


def test_v2_block_sends_encoders_it_does_not_name_to_its_own_unknown_slot():
    block = codec_block(["libaom-av1", "libx265"], [0, 9], [0, 63], vocab=ENCODER_VOCAB_V2)
    assert block.shape == (2, 14)
    assert block[:, :12].argmax(axis=1).tolist() == [11, 1]
    assert block[:, 12:].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("x264", "libx264"),
        ("h264-nvenc", "h264_nvenc"),
        ("libsvt-av1", "libsvtav1"),
        ("LIBVVENC", "libvvenc"),
        ("hevc_videotolbox", "hevc_videotoolbox"),
    ],
)
def test_an_unknown_encoder_names_the_nearest_slot(wrong, near):
    for refuse in (encoder_index, adapter, lambda name: codec_block([name], [0], [0])):
        with pytest.raises(InputError, match=f"{wrong!r} is not in the vocabulary") as caught:
            refuse(wrong)
        if near != "libvvenc":
            assert f"did you mean {near!r}?" in str(caught.value)
        assert "No default slot" in str(caught.value)


@pytest.mark.parametrize("wrong", ["", "unknown", None, 3])
def test_nothing_stands_for_an_encoder_by_default(wrong):
    with pytest.raises(InputError, match="not in the vocabulary"):
        encoder_index(wrong)


def test_trained_mask_counts_rows_only():
    mask = trained_mask({"libx264": 3, "libsvtav1": 1, "libvvenc": 0})
    assert mask.dtype == np.float32
    assert mask.tolist() == [name in ("libx264", "libsvtav1") for name in NEWEST]


# --- normalisation --------------------------------------------------------------------------------


def test_minmax_and_constant_norm():
    norm = BlockNorm("constant", 0.5, "minmax", 20, 40)
    block = codec_block(["libx264"] * 3, [0, 5, 9], [20, 30, 45], norm)
    assert block[:, -2].tolist() == [0.5, 0.5, 0.5]
    assert block[:, -1].tolist() == [0.0, 0.5, 1.25]


def test_minmax_of_one_value_is_zero_and_finite():
    norm = BlockNorm(crf_norm="minmax", crf_min=30, crf_max=30)
    assert norm.crf(np.array([30.0])).tolist() == [0.0]


@pytest.mark.parametrize(
    ("norm", "keys"),
    [
        (BlockNorm(), {"codec_preset_norm": "ordinal", "codec_crf_norm": "div63"}),
        (
            BlockNorm("constant", 0.25, "minmax", 19, 37),
            {
                "codec_preset_norm": "constant",
                "codec_preset_value": 0.25,
                "codec_crf_norm": "minmax",
                "codec_crf_min": 19,
                "codec_crf_max": 37,
            },
        ),
    ],
)
def test_sidecar_keys_go_there_and_back(norm, keys):
    assert norm.sidecar_keys() == keys
    assert BlockNorm.from_sidecar(keys) == norm


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"preset_norm": "log"}, "codec_preset_norm"),
        ({"crf_norm": "div51"}, "codec_crf_norm"),
        ({"preset_norm": "constant"}, "codec_preset_value"),
        ({"crf_norm": "minmax", "crf_min": 1}, "codec_crf_min / codec_crf_max"),
        ({"crf_norm": "minmax", "crf_max": 1}, "codec_crf_min / codec_crf_max"),
    ],
)
def test_incomplete_norms_are_refused(given, named):
    with pytest.raises(InputError, match=named):
        BlockNorm(**given)


# --- adapters -------------------------------------------------------------------------------------

NVENC = {"p1": 0, "p2": 2, "p3": 3, "p4": 5, "p5": 6, "p6": 7, "p7": 9}
QSV = {"veryfast": 2, "faster": 3, "fast": 4, "medium": 5, "slow": 6, "slower": 7, "veryslow": 8}
X26X = {
    "ultrafast": 0,
    "superfast": 1,
    "veryfast": 2,
    "faster": 3,
    "fast": 4,
    "medium": 5,
    "slow": 6,
    "slower": 7,
    "veryslow": 8,
    "placebo": 9,
}
# Encoder: lowest and highest quality value, standard, command for quality 30 at the default preset.
COMMANDS = {
    "libx264": (0, 51, "h264", "-c:v libx264 -preset medium -crf 30"),
    "libaom-av1": (0, 63, "av1", "-c:v libaom-av1 -b:v 0 -cpu-used 6 -crf 30"),
    "libx265": (
        0,
        51,
        "hevc",
        "-c:v libx265 -x265-params log-level=error -preset medium -crf 30",
    ),
    "h264_nvenc": (0, 51, "h264", "-c:v h264_nvenc -rc vbr -b:v 0 -preset p4 -cq 30"),
    "hevc_nvenc": (0, 51, "hevc", "-c:v hevc_nvenc -rc vbr -b:v 0 -preset p4 -cq 30"),
    "av1_nvenc": (0, 51, "av1", "-c:v av1_nvenc -rc vbr -b:v 0 -preset p4 -cq 30"),
    "h264_amf": (0, 51, "h264", "-c:v h264_amf -rc cqp -quality balanced -qp_i 30 -qp_p 30"),
    "hevc_amf": (0, 51, "hevc", "-c:v hevc_amf -rc cqp -quality balanced -qp_i 30 -qp_p 30"),
    "av1_amf": (0, 51, "av1", "-c:v av1_amf -rc cqp -quality balanced -qp_i 30 -qp_p 30"),
    "h264_qsv": (1, 51, "h264", "-c:v h264_qsv -preset medium -global_quality 30"),
    "hevc_qsv": (1, 51, "hevc", "-c:v hevc_qsv -preset medium -global_quality 30"),
    "av1_qsv": (1, 51, "av1", "-c:v av1_qsv -preset medium -global_quality 30"),
    "libvvenc": (0, 63, "vvc", "-c:v libvvenc -pix_fmt yuv420p10le -preset faster -qp 30"),
    "libsvtav1": (0, 63, "av1", "-c:v libsvtav1 -preset 8 -crf 30"),
    "h264_videotoolbox": (1, 100, "h264", "-c:v h264_videotoolbox -q:v 30"),
    "hevc_videotoolbox": (1, 100, "hevc", "-c:v hevc_videotoolbox -q:v 30"),
}


def test_every_slot_has_an_adapter_in_vocabulary_order():
    assert list(ADAPTERS) == NEWEST == list(COMMANDS)
    assert all(unit.encoder == name for name, unit in ADAPTERS.items())


@pytest.mark.parametrize("name", NEWEST)
def test_command_and_range(name):
    lo, hi, standard, command = COMMANDS[name]
    unit = adapter(name)
    assert (unit.lo, unit.hi, unit.standard) == (lo, hi, standard)
    assert " ".join(unit.command(30, unit.default_preset)) == command


@pytest.mark.parametrize("name", NEWEST)
def test_quality_is_refused_just_outside_its_range(name):
    unit = adapter(name)
    unit.check_quality(unit.lo)
    unit.check_quality(unit.hi)
    for outside in (unit.lo - 1, unit.lo - 0.01, unit.hi + 0.01, unit.hi + 1, float("nan")):
        with pytest.raises(InputError, match=rf"allowed: {unit.lo}\.\.{unit.hi}"):
            unit.command(outside, unit.default_preset)


def test_fractional_quality_is_written_as_given():
    assert adapter("libx264").command(23.5, "fast")[-2:] == ["-crf", "23.5"]


@pytest.mark.parametrize("name", NEWEST)
def test_presets(name):
    unit = adapter(name)
    vendor = name.rpartition("_")[2]
    expected = {
        "nvenc": NVENC,
        "qsv": QSV,
        "libx264": X26X,
        "libx265": X26X,
        "libvvenc": {"faster": 1, "fast": 3, "medium": 5, "slow": 7, "slower": 8},
        "libsvtav1": {str(p): 9 * (13 - p) / 13 for p in range(14)},
        "libaom-av1": {str(p): 9 * (8 - p) / 8 for p in range(9)},
        "amf": {"speed": 2, "balanced": 5, "quality": 8},
        "videotoolbox": {"default": 5},
    }
    assert dict(unit.presets) == pytest.approx(expected[vendor])
    assert unit.default_preset in unit.presets
    assert all(0 <= ordinal <= 9 for ordinal in unit.presets.values())


def test_numbered_presets_are_inverted_so_that_zero_is_slowest():
    for name, fastest in (("libsvtav1", "13"), ("libaom-av1", "8")):
        assert adapter(name).preset_ordinal("0") == 9.0
        assert adapter(name).preset_ordinal(fastest) == 0.0


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(InputError, match=r"libvvenc preset: 'medum'.*faster fast medium") as caught:
        adapter("libvvenc").preset_ordinal("medum")
    assert caught.value.exit_code == 2
    with pytest.raises(InputError, match="libsvtav1 preset: '14'"):
        adapter("libsvtav1").command(30, "14")


def test_direction_and_vendor():
    higher = [n for n, a in ADAPTERS.items() if a.higher_is_better]
    assert higher == ["h264_videotoolbox", "hevc_videotoolbox"]
    makers = {"nvenc": "NVIDIA", "amf": "AMD", "qsv": "Intel", "videotoolbox": "Apple"}
    for name, unit in ADAPTERS.items():
        assert unit.hardware == makers.get(name.rpartition("_")[2])


def test_a_message_says_where_what_allowed_and_what_to_do():
    assert say("a", "b", "c", "d") == "a: b; allowed: c; d"
    assert issubclass(InputError, FrError)
