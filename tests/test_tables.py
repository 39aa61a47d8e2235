"""Tables as the notebooks show them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from fr_lib.report import tables
from fr_lib.schema import CANONICAL_6, NEWEST_VOCAB

FOLD = {"n_train": 6000, "n_val": 1234, "plcc": 0.123456, "srocc": 0.5, "rmse": 1.25, "bias": -0.5}
SUMMARY = {
    "mean_plcc": 0.99,
    "min_plcc": 0.9,
    "mean_srocc": 0.98,
    "mean_rmse": 0.25,
    "max_rmse": 1.5,
}
LOSO = {
    "arms": {
        "v1": {
            "folds": [{"held_out": "a", **FOLD}],
            "summary": SUMMARY,
            "intervals": {"plcc": [0.95, 1.0], "rmse": [0.2, 0.3]},
        },
        "v3": {
            "folds": [
                {"held_out": "a", **FOLD},
                {"held_out": "b", **FOLD, "plcc": None, "srocc": None},
            ],
            "summary": SUMMARY | {"mean_plcc": None},
            "intervals": {"plcc": [None, None], "rmse": [0.2, 0.3]},
        },
    }
}


def test_a_figure_that_is_missing_says_so():
    assert tables.text(None, ".3f") == "not measured"
    assert tables.text(0.0, ".3f") == "0.000"


def test_arms_stand_one_per_line_with_their_interval():
    table = tables.arms_table(LOSO)
    assert table["arm"].tolist() == ["v1: six features", f"v3: + {len(NEWEST_VOCAB)}-slot block"]
    assert table["mean PLCC"].tolist() == ["0.99000", "not measured"]
    assert table["95 % interval"].tolist() == ["0.95000 to 1.00000", "not measured"]
    assert table["worst RMSE"].tolist() == ["1.50", "1.50"]


def test_correlations_near_one_are_told_from_it_and_from_each_other():
    facts = {"folds": [{"held_out": str(v), **FOLD, "plcc": v} for v in (0.9999979, 0.99999941)]}
    table = tables.folds_table({"arms": {"v3": facts}}, "v3")
    assert table["PLCC"].tolist() == ["0.9999979", "0.9999994"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (123.456, "123"),
        (21.6587, "21.7"),
        (1.25, "1.25"),
        (0.0304, "0.0304"),
        (0.00036, "0.0004"),
        (0.0, "0.0000"),
        (5.7e-5, "5.7e-05"),
        (None, "not measured"),
        (float("nan"), "not measured"),
    ],
)
def test_points_have_digits_for_people(value, shown):
    assert tables.points(value) == shown


def test_folds_stand_one_per_line_with_fixed_digits():
    table = tables.folds_table(LOSO, "v3")
    assert table["held-out source"].tolist() == ["a", "b"]
    assert table["PLCC"].tolist() == ["0.12346", "not measured"]
    assert table["held-out rows"].tolist() == ["1,234", "1,234"]
    assert table["RMSE"].tolist() == ["1.25", "1.25"]
    assert table["bias"].tolist() == ["-0.500", "-0.500"]


def test_clauses_show_their_status_in_a_word_too():
    def clause(status: str, value: float | None, blocks: bool) -> dict:
        return {"name": "n", "limit": ">= 1", "value": value, "status": status, "blocks": blocks}

    table = tables.gate_table(
        **{
            "clauses": [
                clause("pass", 0.99999, True),
                clause("fail", 0.5, True),
                clause("not measured", None, False),
            ]
        }
    )
    assert table["status"].tolist() == ["✓ pass", "✗ fail", "not measured"]
    assert table["measured"].tolist() == ["0.99999", "0.5", "not measured"]
    assert table["blocks shipping"].tolist() == ["yes", "yes", "no"]


@pytest.mark.parametrize(("value", "limit"), [(0.94999, 0.95), (0.0050004, 0.005)])
def test_a_figure_just_off_its_limit_does_not_read_as_the_limit(value, limit):
    clause = {"name": "n", "limit": f"{limit}", "value": value, "status": "fail", "blocks": True}
    shown = tables.gate_table([clause])["measured"][0]
    assert float(shown) != limit


def test_parity_stands_one_batch_per_line():
    table = tables.parity_table({"atol": 1e-4, "max_abs_diff": {"1": 1.5e-5, "7": 2e-5, "all": 0}})
    assert table["batch"].tolist() == ["1", "7", "all"]
    shown = table["largest difference (VMAF points)"].tolist()
    assert shown == ["1.50e-05", "2.00e-05", "0.00e+00"]
    assert set(table["allowed"]) == {"1e-04"}


def test_a_slot_without_rows_is_answered_codec_blind():
    table = tables.slots_table({"trained_slots": {"libx264": 1400, "h264_qsv": 0}})
    assert table["training rows"].tolist() == ["1,400", "0"]
    assert table["answered by"].tolist() == ["v3, codec-aware", "v1, codec-blind"]


def test_the_model_table_names_file_and_verdict():
    card = {
        "id": "m",
        "sha256": "a" * 64,
        "opset": 17,
        "input_names": ["features", "codec_block"],
        "output_names": ["vmaf"],
        "gate_passed": False,
        "training": {"smoke": True},
        "notes": "v3 retrain pending",
    }
    table = tables.model_table(card, {"n_bytes": 51234, "ops": {"MatMul": 6, "Add": 2}})
    shown = dict(zip(table["key"], table["value"], strict=True))
    assert shown["size (bytes)"] == "51,234"
    assert shown["operators"] == "MatMul, Add"
    assert (shown["gate passed"], shown["smoke"]) == ("False", "True")


def test_a_shown_table_has_no_row_numbers_and_words_for_what_is_missing():
    html = tables.show(pd.DataFrame({"a": [1.0, None], "b": ["x", "y"]})).to_html()
    assert "not measured" in html
    assert "nan" not in html.lower()
    assert "row_heading" not in html


def test_a_shown_figure_has_no_zeros_that_say_nothing():
    html = tables.show(pd.DataFrame({"quality": [50.0, 88.8668824], "src": ["a", "b"]})).to_html()
    assert re.findall(r">([\w.]+)</td>", html) == ["50", "a", "88.87", "b"]


def test_an_empty_table_says_so_under_its_headings():
    html = tables.show(pd.DataFrame([], columns=["reason", "count"])).to_html()
    assert re.findall(r">(\w+)</t[hd]>", html) == ["reason", "count", "none"]


OOF = pd.DataFrame(
    {
        "encoder": ["libsvtav1", "libx264", "libx264"],
        "vmaf": [95.0, 5.0, 100.0],
        "pred_v3": [95.5, 4.0, 100.0],
    },
    index=[7, 3, 5],
)


def test_errors_stand_by_codec_size_and_range_in_their_own_order():
    rows = pd.DataFrame({"width": [960, 640, 640], "height": [540, 360, 360]}, index=[5, 7, 3])
    table = tables.errors_table(rows, OOF, "v3")
    assert table[["by", "group", "rows", "bias", "largest"]].to_numpy().tolist() == [
        ["codec", "libx264", "2", "-0.500", "1.00"],
        ["codec", "libsvtav1", "1", "+0.500", "0.500"],
        ["size", "640x360", "2", "-0.250", "1.00"],
        ["size", "960x540", "1", "+0.0000", "0.0000"],
        ["VMAF", "0 to 10", "1", "-1.00", "1.00"],
        ["VMAF", "90 to 100", "2", "+0.250", "0.500"],
    ]
    assert table["RMSE"][0] == "0.707"
    assert table["5 % to 95 %"][5] == "+0.0250 to +0.475"


def test_errors_of_pictures_without_a_size_stand_by_the_rest():
    table = tables.errors_table(pd.DataFrame(index=OOF.index), OOF, "v3")
    assert table["by"].unique().tolist() == ["codec", "VMAF"]


def test_frames_are_rounded_for_reading_and_name_their_size():
    frames = pd.DataFrame(
        {"src": ["a", "a"], "encoder": "libx264", "preset": "fast", "quality": [30.0, 30.5]}
        | {"frame_index": [12, 3], "vmaf": 21.6587, "residual": [-1, 0.125]}
        | dict.fromkeys(CANONICAL_6, 0.98765),
        index=[4, 2],
    )
    rows = pd.DataFrame({"width": [640, 960], "height": [360, 540]}, index=[2, 4])
    table = tables.frames_table(frames, rows)
    assert list(table) == ["source", "encode", "frame", "VMAF", "residual", *CANONICAL_6]
    assert table["source"].tolist() == ["a\n960x540", "a\n640x360"]
    assert table["encode"].tolist() == ["libx264\nfast, 30", "libx264\nfast, 30.5"]
    assert table.iloc[0, 2:6].tolist() == ["12", "21.66", "-1.00", "0.988"]
    assert tables.frames_table(frames, rows[[]])["source"].tolist() == ["a", "a"]


def pair(trained_on, scored_on, rmse, scheme="train on one codec", answer="ours"):
    names = {"scheme": scheme, "trained_on": trained_on, "scored_on": scored_on}
    names["seen"] = trained_on in (scored_on, "every codec")
    return names | {"answer": answer, "rmse": rmse, "bias": -rmse}


TRANSFER = {
    "encoders": ["libx264", "libaom-av1"],
    "seen": {
        **{"ours": {"rmse": 9.0}, "codec-blind": {"rmse": 7.0}},
        "reference": {"rmse": None},
    },
    "pairs": [
        pair("libaom-av1", "libx264", 3.0),
        pair("libaom-av1", "libaom-av1", 4.0),
        pair("libx264", "libaom-av1", 2.0),
        pair("libx264", "libx264", 1.0),
        pair("libx264", "libaom-av1", 22.0, answer="reference"),
        pair("every codec", "libx264", 9.0, scheme="train on every codec"),
        pair("all but libx264", "libx264", 8.0, scheme="leave one codec out"),
    ],
    "headline": {
        "leave one codec out": {
            "ours": {
                **{"rmse": 0.214, "rmse_low": 0.1, "rmse_high": 0.3, "abs_bias": 0.05},
                **{"worst_rmse": 0.4, "worst_set": "all but libx264"},
            },
            "reference": {
                **{"rmse": 19.8, "rmse_low": None, "rmse_high": None, "abs_bias": None},
                **{"worst_rmse": None, "worst_set": "all but libvvenc"},
            },
        },
    },
}


def test_the_cost_of_an_unseen_codec_stands_one_answer_per_line():
    assert tables.transfer_table(TRANSFER).to_dict(orient="records") == [
        {
            "situation": "leave one codec out",
            "answer": "ours",
            "RMSE, seen codecs": "7.00",
            "RMSE, unseen codecs": "0.214",
            "95 % interval": "0.100 to 0.300",
            "mean |bias|": "0.0500",
            "worst RMSE": "0.400 (all but libx264)",
        },
        {
            "situation": "leave one codec out",
            "answer": "reference recipe",
            "RMSE, seen codecs": "not measured",
            "RMSE, unseen codecs": "19.8",
            "95 % interval": "not measured",
            "mean |bias|": "not measured",
            "worst RMSE": "not measured (all but libvvenc)",
        },
    ]


def test_the_matrix_is_of_one_codec_trainings_in_the_order_of_slots():
    matrix = tables.transfer_matrix(TRANSFER, "ours", "rmse")
    assert list(matrix.index) == list(matrix) == ["libx264", "libaom-av1"]
    assert matrix.to_numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert tables.transfer_matrix(TRANSFER, "ours", "bias").loc["libaom-av1", "libx264"] == -3.0


def test_each_codec_has_what_it_costs_seen_beside_what_it_costs_left_out():
    seen = pair("every codec", "libx264", 0.1, "train on every codec") | {"seen": True}
    left = pair("all but libx264", "libx264", 0.2, "leave one codec out") | {"seen": False}
    both = [seen, left, left | {"answer": "reference", "rmse": 5.8}]
    alone = pair("libx264", "libx264", 9.0) | {"seen": True}
    facts = {"encoders": ["libx264"], "pairs": [*both, alone]}
    assert tables.unseen_table(facts).to_dict(orient="records") == [
        {
            "codec": "libx264",
            "ours, seen": "0.100",
            "ours, left out": "0.200",
            "reference recipe, seen": "not measured",
            "reference recipe, left out": "5.80",
        }
    ]


def variant(name, rmse, low=0.0, high=9.0, choice="batch"):
    return {"choice": choice, "name": name, "rmse": rmse, "low": low, "high": high} | {
        "worst_rmse": rmse * 2,
        "plcc": 0.99979,
        "worst_plcc": None,
    }


def test_variants_stand_one_per_line():
    rows = [variant("as it ships", 0.2468, 0.1, 0.4, "default"), variant("lr 10", 1.0)]
    rows[1] |= {"rmse": None, "worst_rmse": None, "low": None, "high": None}
    assert tables.ablation_table(rows).to_dict(orient="records") == [
        {
            "choice": "default",
            "variant": "as it ships",
            "mean RMSE": "0.247",
            "95 % interval": "0.100 to 0.400",
            "worst RMSE": "0.494",
            "mean PLCC": "0.99979",
            "worst PLCC": "not measured",
        },
        {
            "choice": "batch",
            "variant": "lr 10",
            "mean RMSE": "not measured",
            "95 % interval": "not measured",
            "worst RMSE": "not measured",
            "mean PLCC": "0.99979",
            "worst PLCC": "not measured",
        },
    ]


DEFAULT = variant("as it ships", 0.25, choice="default")


@pytest.mark.parametrize("best", [0.25, 0.3])
def test_a_recipe_that_nothing_beats_is_kept(best):
    said = tables.recommendation({"rows": [DEFAULT, variant("batch 16", best), variant("x", 0.9)]})
    assert said == (
        "Keep the recipe: no single change lowers the mean RMSE "
        f"({best:.3f} against 0.250 VMAF points at best)."
    )


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.3), (0.1, 0.25), (0.2, 0.26)])
def test_a_better_figure_whose_interval_holds_the_default_decides_nothing(low, high):
    rows = [DEFAULT, variant("x", 0.9), variant("batch 16", 0.2, low, high)]
    assert tables.recommendation({"rows": rows}) == (
        "The lowest mean RMSE is that of 'batch 16' (0.200 against 0.250 VMAF points), but the "
        "interval over sources holds both: on these clips nothing decides between them."
    )


STAYS = (
    "What ships is the recipe as it stands all the same: these folds judge it, and would judge "
    "nothing any more had they chosen it."
)


@pytest.mark.parametrize(
    ("choice", "steps", "why"),
    [
        ("batch", 10_000, ""),
        ("epochs", 0, ""),
        (
            "epochs",
            10_000,
            " The recipe takes 10,000 steps at most, here 15 epochs, so that a larger corpus "
            "trains no fold longer.",
        ),
    ],
)
def test_a_better_figure_is_named_and_so_is_why_it_does_not_ship(choice, steps, why):
    best = variant("best", 0.2, 0.15, 0.2499, choice)
    rows = [DEFAULT, best, variant("x", 0.21, 0.1, 0.3)]
    stamps = {"recipe": {"steps": steps, "epochs": 15}}
    assert tables.recommendation({"rows": rows, "stamps": stamps}) == (
        "'best' lowers the mean RMSE (0.200 against 0.250 VMAF points) beyond what the "
        f"sources' spread hides. {STAYS}{why}"
    )
