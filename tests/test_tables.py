"""Tables as the notebooks show them."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from fr_lib import tables

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
    assert table["arm"].tolist() == ["v1: six features", "v3: + 16-slot block"]
    assert table["mean PLCC"].tolist() == ["0.99000", "not measured"]
    assert table["95 % interval"].tolist() == ["0.95000 to 1.00000", "not measured"]
    assert table["worst RMSE"].tolist() == ["1.500", "1.500"]


def test_folds_stand_one_per_line_with_fixed_digits():
    table = tables.folds_table(LOSO, "v3")
    assert table["held-out source"].tolist() == ["a", "b"]
    assert table["PLCC"].tolist() == ["0.12346", "not measured"]
    assert table["held-out rows"].tolist() == ["1,234", "1,234"]
    assert table["bias"].tolist() == ["-0.500", "-0.500"]


def test_clauses_show_their_status_in_a_word_too():
    def clause(status: str, value: float | None, blocks: bool) -> dict:
        return {"name": "n", "limit": ">= 1", "value": value, "status": status, "blocks": blocks}

    table = tables.gate_table(
        {
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
    shown = tables.gate_table({"clauses": [clause]})["measured"][0]
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


def test_an_empty_table_says_so_under_its_headings():
    html = tables.show(pd.DataFrame([], columns=["reason", "count"])).to_html()
    assert re.findall(r">(\w+)</t[hd]>", html) == ["reason", "count", "none"]
