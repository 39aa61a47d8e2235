"""Refit, export and everything that a run puts into its own model folder."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version

import numpy as np
import pytest
from chain import ROOT, hopeless_table, judged, tiny_table

from fr_lib.errors import ArtefactError
from fr_lib.files import read_json, sha256_of
from fr_lib.release import open_session, ship_model, verify
from fr_lib.release.ship import provenance
from fr_lib.runs import RunDir
from fr_lib.schema import CANONICAL_6, NEWEST_VOCAB


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run on synthetic rows, after 03_gate; tests copy it."""
    return judged(tmp_path_factory.mktemp("base") / "run", tiny_table(), epochs=1, seed=5)


@pytest.fixture
def run(base, tmp_path) -> RunDir:
    shutil.copytree(base.path, tmp_path / base.run_id)
    return RunDir(tmp_path / base.run_id)


@pytest.fixture(scope="module")
def shipped(base, tmp_path_factory):
    """The facts of a shipped run, and its run directory; not to be changed."""
    folder = tmp_path_factory.mktemp("shipped") / base.run_id
    shutil.copytree(base.path, folder)
    return ship_model(RunDir(folder)), RunDir(folder)


def test_the_model_folder_is_complete_and_verifies(shipped):
    facts, run = shipped
    assert {file.name for file in (run / "model").iterdir()} == {
        "fr_regressor_v3.onnx",
        "fr_regressor_v3.json",
        "registry.json",
        "registry.schema.json",
    }
    assert verify(run / "model") == facts["problems"] == []


def test_export_json_is_what_was_returned(shipped):
    facts, run = shipped
    assert run.read("export.json") == facts
    assert facts["run_id"] == run.run_id


def test_one_digest_names_the_file_everywhere(shipped):
    facts, run = shipped
    digest = sha256_of(run / "model" / "fr_regressor_v3.onnx")
    card = read_json(run / "model" / "fr_regressor_v3.json", made_by="ship")
    (row,) = read_json(run / "model" / "registry.json", made_by="ship")["models"]
    assert {digest} == {facts["facts"]["sha256"], card["sha256"], row["sha256"]}
    assert (card, row) == (facts["card"], facts["row"])


def test_the_sidecar_repeats_recipe_seed_rows_and_evidence(shipped):
    facts, run = shipped
    card, corpus, evidence = facts["card"], run.corpus(), run.read("loso.json")
    assert card["recipe"] == evidence["recipe"] | {"seed": 5, "made_rows": 0}
    assert card["corpus_sha256"] == corpus.sha256
    assert card["training"]["n_rows"] == len(corpus.table) == 72
    assert card["trained_slots"] == dict.fromkeys(NEWEST_VOCAB, 0) | {
        "libx264": 24,
        "libx265": 24,
        "libsvtav1": 24,
    }
    assert card["loso_mean_plcc"] == evidence["arms"]["v3"]["summary"]["mean_plcc"]
    np.testing.assert_allclose(card["feature_mean"], corpus.features().mean(axis=0), rtol=1e-6)


def test_the_sidecar_states_the_range_of_each_feature(shipped):
    facts, run = shipped
    table = run.corpus().table
    assert facts["card"]["domain"] == {
        name: [min(table[name]), max(table[name])] for name in CANONICAL_6
    }


def test_parity_was_measured_on_every_row_of_a_small_corpus(shipped):
    parity = shipped[0]["parity"]
    assert parity["rows"] == 72
    assert max(parity["max_abs_diff"].values()) <= parity["atol"] == 1e-4


def test_the_example_is_a_real_row_and_its_score_the_files_own(shipped):
    facts, run = shipped
    example, table = facts["example"], run.corpus().table
    row = table[(table["src"] == example["src"]) & (table["vmaf"] == example["vmaf"])]
    assert row[list(CANONICAL_6)].iloc[0].tolist() == example["features"]
    assert (row["encoder"].iloc[0], row["quality"].iloc[0]) == (
        example["encoder"],
        example["quality"],
    )
    at = row.index[0]
    card = facts["card"]
    mean, std = (np.float32(card[key]) for key in ("feature_mean", "feature_std"))
    inputs = {
        "features": (run.corpus().features()[[at]] - mean) / std,
        "codec_block": run.corpus().codec_block()[[at]],
    }
    session = open_session(run / "model" / "fr_regressor_v3.onnx")
    assert session.run(["vmaf"], inputs)[0][0] == pytest.approx(example["predicted"], abs=1e-3)


def test_synthetic_rows_are_marked_as_such(shipped):
    card = shipped[0]["card"]
    assert card["training"]["smoke"] is True
    assert card["run_provenance"]["synthetic"] is True
    assert shipped[0]["row"]["smoke"] is True


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(shipped, run, tmp_path):
    assert ship_model(run)["facts"] == shipped[0]["facts"]
    other = judged(tmp_path / "other", tiny_table(), epochs=1, seed=6)
    assert ship_model(other)["facts"]["sha256"] != shipped[0]["facts"]["sha256"]


def test_a_failed_gate_ships_its_audit_trail(tmp_path):
    run = judged(tmp_path / "hopeless", hopeless_table(), epochs=1)
    assert run.read("gate.json")["gate_passed"] is False
    facts = ship_model(run)
    card = facts["card"]
    assert (card["gate_passed"], card["training"]["smoke"]) == (False, True)
    assert card["run_provenance"]["synthetic"] is False
    assert "v3 retrain pending" in card["notes"]
    assert facts["row"]["smoke"] is True
    assert facts["problems"] == []


@pytest.mark.parametrize(
    ("name", "maker"),
    [("audit.json", "01_corpus_audit"), ("loso.json", "02_loso"), ("gate.json", "03_gate")],
)
def test_a_missing_upstream_file_names_the_notebook(run, name, maker):
    (run / name).unlink()
    with pytest.raises(ArtefactError, match=f"{name}: missing; .*run {maker} first"):
        ship_model(run)
    assert not (run / "model").exists()


def test_provenance_states_versions_platform_and_revision():
    stated = provenance()
    assert stated["versions"]["torch"] == version("torch")
    assert stated["python"].startswith("3.")
    known = r"[0-9a-f]{40}(\+changes)?" if (ROOT / ".git").exists() else "not a git checkout"
    assert re.fullmatch(known, stated["git_revision"])
