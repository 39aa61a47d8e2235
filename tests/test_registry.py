"""Sidecar, registry text, verification and publishing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from chain import tree
from modelkit import DOMAIN, FEATURE_MEAN, FEATURE_STD, SLOTS, make_card, make_folder
from onnx import TensorProto, helper, numpy_helper

from fr_lib import system
from fr_lib.__main__ import main
from fr_lib.errors import ArtefactError, GateFailed
from fr_lib.files import ROOT, json_text, read_json, sha256_of, write_json
from fr_lib.release import publish, publish_formula, verify
from fr_lib.release.checks import find_row
from fr_lib.release.registry import registry_row, upsert_row
from fr_lib.release.sense import card_problems
from fr_lib.schema import CANONICAL_6, NEWEST_VOCAB, VOCABULARIES, BlockNorm, codec_block_layout

FACTS = {
    "sha256": "a" * 64,
    "opset": 17,
    "input_names": ["features", "codec_block"],
    "output_names": ["vmaf"],
}
NEIGHBOURS = ("fr_regressor_v2_ensemble_v1_seed4", "learned_filter_v1")
MODEL_FILES = ("fr_regressor_v3.onnx", "fr_regressor_v3.json")
FORMULA_FILES = ("vmaf_v0_6_1_formula.onnx", "vmaf_v0_6_1_formula.json")


@pytest.fixture(scope="module")
def passed(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("passed"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("failed"), passed=False, seed=1)


@pytest.fixture
def folder(passed, tmp_path) -> Path:
    return shutil.copytree(passed, tmp_path / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def row(name: str = "fr_regressor_v3", **more) -> dict:
    return {"id": name, "kind": "fr", "onnx": f"{name}.onnx", "sha256": "b" * 64, **more}


def foreign_model(folder: Path, name: str, op: str = "Relu") -> dict:
    """Write somebody else's model and sidecar and return its row."""
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 6]) for n in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    write_json(folder / f"{name}.json", {"id": name, "sha256": sha256_of(path), "other": 1})
    return row(name, sha256=sha256_of(path))


def edit(path: Path, change) -> None:
    value = read_json(path, made_by="the test")
    change(value)
    path.write_text(json_text(value))


# --- sidecar ----------------------------------------------------------------------------------


def test_the_sidecar_has_the_keys_that_hosts_read():
    card = make_card(FACTS)
    assert set(card) == set(
        "id kind onnx opset sha256 notes input_names output_names feature_order feature_mean "
        "feature_std codec_aware encoder_vocab encoder_vocab_version codec_block_layout training "
        "corpus corpus_sha256 loso_mean_plcc gate_passed codec_preset_norm codec_crf_norm "
        "trained_slots domain recipe run_provenance".split()
    )
    assert set(card["training"]) == set(
        "dataset n_rows loso_mean_plcc loso_std_plcc loso_min_plcc loso_max_plcc loso_mean_srocc "
        "loso_mean_rmse loso_folds ship_gate_mean_plcc gate_passed smoke".split()
    )
    assert card["training"]["dataset"] == "rows.jsonl"
    assert card["training"]["ship_gate_mean_plcc"] == 0.95
    assert card["feature_order"] == list(CANONICAL_6)
    assert card["feature_mean"] == FEATURE_MEAN
    assert card["encoder_vocab"] == list(NEWEST_VOCAB)
    assert card["codec_block_layout"] == codec_block_layout()
    assert card["domain"] == DOMAIN
    assert card["trained_slots"] == dict.fromkeys(NEWEST_VOCAB, 0) | SLOTS
    assert "no scaler" in card["notes"]


def test_a_feature_that_was_constant_in_training_is_a_domain():
    scaler = {"feature_mean": [1, *FEATURE_MEAN[1:]], "feature_std": [1, *FEATURE_STD[1:]]}
    card = make_card(FACTS, domain=DOMAIN | {"adm2": [1, 1]}, **scaler)
    assert card["domain"]["adm2"] == [1.0, 1.0]


def test_an_undefined_metric_is_null_and_the_text_has_no_nan():
    card = make_card(FACTS, passed=False)
    assert card["training"]["loso_mean_srocc"] is None
    assert card["training"]["loso_folds"][1] == {
        "held_out": "b",
        "n_train": 650,
        "n_val": 350,
        "plcc": None,
        "srocc": None,
        "rmse": 0.75,
    }
    assert "NaN" not in json_text(card)


@pytest.mark.parametrize(
    ("passed", "synthetic", "smoke"),
    [(True, False, False), (True, True, True), (False, False, True), (False, True, True)],
)
def test_smoke_marks_a_failed_gate_and_synthetic_rows(passed, synthetic, smoke):
    card = make_card(FACTS, passed=passed, synthetic=synthetic)
    assert card["training"]["smoke"] is registry_row(card)["smoke"] is smoke
    assert card["gate_passed"] is card["training"]["gate_passed"] is passed
    assert card["run_provenance"]["synthetic"] is synthetic
    assert ("v3 retrain pending" in card["notes"]) is (not passed)
    assert ("mean LOSO PLCC" in card["notes"]) is (not passed)
    assert "multi-codec lift" not in card["notes"]


def test_notes_fit_the_registry_with_all_slots_and_a_failed_gate():
    slots = dict.fromkeys(NEWEST_VOCAB, 1) | {NEWEST_VOCAB[0]: 1001 - len(NEWEST_VOCAB)}
    assert len(make_card(FACTS, passed=False, rows_per_slot=slots)["notes"]) <= 512


def test_the_normalisation_of_the_block_is_declared():
    card = make_card(FACTS)
    assert (card["codec_preset_norm"], card["codec_crf_norm"]) == ("ordinal", "div63")
    assert BlockNorm.from_sidecar(card) == BlockNorm()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_mean": [0.0] * 5}, "length of feature_mean: 5; allowed: 6"),
        ({"feature_std": [1.0] * 5 + [0.0]}, r"\$\.feature_std\[5\]"),
        (
            {"feature_mean": [0.0] * 5 + [math.nan]},
            r'feature_mean\[5\]: null is not of type "number"',
        ),
        ({"corpus_sha256": "abc"}, r"\$\.corpus_sha256"),
        ({"recipe": {"epochs": 1}}, r"\$\.recipe: \"seed\" is a required property"),
        ({"facts": FACTS | {"input_names": ["x"]}}, r"\$\.input_names"),
        ({"n_rows": 0}, r"\$\.training\.n_rows"),
        ({"domain": {}}, r"domain: \[\]; allowed: \['adm2'"),
        ({"domain": DOMAIN | {"aim": [0, 1]}}, r"domain: .*'aim'"),
        ({"domain": DOMAIN | {"adm2": [0.5]}}, r"\$\.domain\.adm2"),
        ({"domain": DOMAIN | {"adm2": [0.5, 0.4]}}, r"or not finite: \['adm2'\]; allowed: \[\]"),
        ({"domain": DOMAIN | {"adm2": [0.5, math.inf]}}, r"\$\.domain\.adm2\[1\]: null is not"),
        ({"domain": DOMAIN | {"adm2": [math.nan, 1.0]}}, r"\$\.domain\.adm2\[0\]: null is not"),
    ],
)
def test_parts_that_make_no_valid_sidecar_are_refused(changes, message):
    with pytest.raises(ArtefactError, match=message):
        make_card(FACTS, **changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("recipe"), '"recipe" is a required property'),
        (lambda c: c.update(extra=1), "'extra' was unexpected"),
        (lambda c: c["encoder_vocab"].reverse(), "encoder_vocab"),
        (lambda c: c["feature_order"].reverse(), "feature_order"),
        (lambda c: c["codec_block_layout"].reverse(), "codec_block_layout"),
        (lambda c: c["trained_slots"].pop("libx264"), "trained_slots"),
        (lambda c: c["encoder_vocab"].append("librav1e"), "encoder_vocab"),
        (
            lambda c: c.update(encoder_vocab_version=max(VOCABULARIES) + 1),
            f"encoder_vocab_version: {max(VOCABULARIES) + 1}; allowed: "
            f"{', '.join(map(str, VOCABULARIES))}; use a version of fr_lib that has",
        ),
        (lambda c: c.update(encoder_vocab_version=2), "2 is less than the minimum of 3"),
        (lambda c: c.update(encoder_vocab_version="3"), '"3" is not of type "integer"'),
        (lambda c: c["training"].update(smoke=True), "training.smoke: True; allowed: False"),
        (lambda c: c.update(gate_passed=False), "training.gate_passed"),
        (
            lambda c: c["training"].update(dataset="other.jsonl"),
            "training.dataset: other.jsonl; allowed: rows.jsonl",
        ),
        (
            lambda c: c["training"].update(loso_mean_plcc=0.91),
            "training.loso_mean_plcc: 0.91; allowed: 0.98",
        ),
        (
            lambda c: c.update(loso_mean_plcc=None),
            "training.loso_mean_plcc: 0.98; allowed: None",
        ),
        (lambda c: c.update(codec_crf_norm="minmax"), "codec_crf_min"),
        (lambda c: c.update(notes="v3 retrain pending"), "notes"),
    ],
)
def test_a_fault_of_a_sidecar_is_named(change, message):
    card = make_card(FACTS)
    assert card_problems(card, "c.json") == []
    change(card)
    problems = card_problems(card, "c.json")
    assert any(message in line for line in problems), problems
    assert all(line.startswith("c.json: ") for line in problems)


# --- registry text ----------------------------------------------------------------------------

ODD = (
    '{ "note" : [1.50,\t"\\u00e9"],\r\n  "models":[\r\n'
    '\t{"id" : "fr_regressor_v2_ensemble_v1_seed4", "kind":"fr","x": 1e-3 } ,\r\n\r\n'
    '\t{"onnx":"]},{","id":"learned_filter_v1"}\r\n ] , "schema_version": 1}\n\n'
)


def test_a_row_lands_between_its_neighbours_and_leaves_every_other_byte(tmp_path):
    path = tmp_path / "registry.json"
    path.write_bytes(ODD.encode())
    upsert_row(path, row())
    text = path.read_bytes().decode()
    before, after = ODD.split('\t{"onnx"')
    assert text.startswith(before)
    assert text.endswith('\t{"onnx"' + after)
    ids = [r["id"] for r in json.loads(text)["models"]]
    assert ids == [NEIGHBOURS[0], "fr_regressor_v3", NEIGHBOURS[1]]


@pytest.mark.parametrize("indent", [None, 2, 4, "\t"])
@pytest.mark.parametrize(
    ("others", "place"),
    [((), 0), (("a",), 1), (("z",), 0), (("a", "z"), 1), (("fr_regressor_v2", "fr_x"), 1)],
)
def test_a_row_is_put_in_at_its_place_in_any_layout(tmp_path, indent, others, place):
    path = tmp_path / "registry.json"
    rows = [row(name) for name in others]
    path.write_text(json.dumps({"schema_version": 1, "models": rows}, indent=indent))
    upsert_row(path, row())
    rows.insert(place, row())
    assert json.loads(path.read_text()) == {"schema_version": 1, "models": rows}
    if others and indent in (None, 2, "\t"):  # as if the whole had been written at once
        assert path.read_text() == json.dumps({"schema_version": 1, "models": rows}, indent=indent)


BOUND = {
    "sigstore_bundle": "fr_regressor_v3.sigstore",
    "quant_mode": "dynamic",
    "int8_sha256": "d" * 64,
    "quant_calibration_set": "calibration.npz",
    "quant_accuracy_budget_plcc": 0.005,
}


@pytest.mark.parametrize("same", [True, False])
def test_a_row_keeps_what_it_does_not_own_unless_that_belonged_to_other_bytes(tmp_path, same):
    path = tmp_path / "registry.json"
    new = registry_row(make_card(FACTS))
    licence = {"license": new["license"], "license_url": "https://example.org/licence"}
    mine = row(**licence, **BOUND, notes="old") | ({"sha256": new["sha256"]} if same else {})
    old = [row("a", **BOUND), mine, row("z", **BOUND)]
    path.write_text(json.dumps({"models": old}, indent=1))
    head, _, tail = path.read_text().partition(json.dumps(mine, indent=1).replace("\n", "\n  "))
    upsert_row(path, new)
    text = path.read_text()
    assert json.loads(text)["models"][1] == licence | (BOUND if same else {}) | new
    assert text.startswith(head)
    assert text.endswith(tail)
    upsert_row(path, new)
    assert path.read_text() == text


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("stays", [True, False])
def test_the_address_of_another_licence_leaves_the_row(tmp_path, same, stays):
    path = tmp_path / "registry.json"
    new = registry_row(make_card(FACTS))
    old = row(license=new["license"] if stays else "MIT", license_url="https://example.org/mit")
    old |= {"sha256": new["sha256"]} if same else {}
    path.write_text(json.dumps({"models": [old]}))
    upsert_row(path, new)
    assert ("license_url" in json.loads(path.read_text())["models"][0]) is stays


def test_members_that_stay_keep_their_characters(tmp_path):
    path = tmp_path / "registry.json"
    new = row(notes="new", opset=17)
    text = (
        '{"models":[{ "notes" : "old" ,"quant_mode": "dynamic",\n\t"kind":"fr",  "id" :'
        '"fr_regressor_v3", "onnx":"fr_regressor_v3.onnx","license":"M\\u0049T",\n"sha256":"%s" }]}'
    )
    path.write_text(text % ("a" * 64))
    upsert_row(path, new)
    assert path.read_text() == (
        '{"models":[{ "notes" : "new" ,"kind":"fr" ,"id" :"fr_regressor_v3" ,'
        '"onnx":"fr_regressor_v3.onnx" ,"license":"M\\u0049T" ,"sha256":"%s" ,"opset": 17 }]}'
    ) % ("b" * 64)


def test_a_new_registry_comes_with_its_schema(tmp_path):
    upsert_row(tmp_path / "new" / "registry.json", row())
    written = contents(tmp_path / "new")
    assert set(written) == {"registry.json", "registry.schema.json"}
    assert written["registry.json"].decode() == json_text({"schema_version": 1, "models": [row()]})


def test_a_schema_that_is_there_belongs_to_the_folder(tmp_path):
    (tmp_path / "registry.schema.json").write_text("{}")
    upsert_row(tmp_path / "registry.json", row())
    assert (tmp_path / "registry.schema.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "a JSON list"),
        ("{", "not JSON"),
        ('{"models": [], "x": NaN}', "NaN is not JSON"),
        ('{"models": {}}', "no list 'models'"),
        ("{}", "no list 'models'"),
        ('{"models": [{"id": 3}]}', "no list 'models' of rows with an id"),
        ('{"models": [{"id": "fr_regressor_v3"}, {"id": "fr_regressor_v3"}]}', "several rows"),
    ],
)
def test_a_registry_that_cannot_be_merged_is_left_alone(tmp_path, text, message):
    path = tmp_path / "registry.json"
    path.write_text(text)
    with pytest.raises(ArtefactError, match=message):
        upsert_row(path, row())
    assert contents(tmp_path) == {"registry.json": text.encode()}


@pytest.mark.parametrize(
    ("change", "ok"),
    [
        ({}, True),
        ({"id": "a" * 64}, True),
        ({"id": "a" * 65}, False),
        ({"id": "Upper"}, False),
        ({"kind": "other"}, False),
        ({"onnx": "sub/a..b.onnx"}, True),
        ({"onnx": "../m.onnx"}, False),
        ({"onnx": "a/../m.onnx"}, False),
        ({"onnx": "/m.onnx"}, False),
        ({"onnx": "C:\\m.onnx"}, False),
        ({"onnx": "a\\..\\m.onnx"}, False),
        ({"sha256": "b" * 63}, False),
        ({"sha256": "B" * 64}, False),
        ({"opset": 7}, True),
        ({"opset": 6}, False),
        ({"opset": 21}, True),
        ({"opset": 22}, False),
        ({"notes": "n" * 512}, True),
        ({"notes": "n" * 513}, False),
        ({"description": "d" * 256}, True),
        ({"description": "d" * 257}, False),
        ({"smoke": "no"}, False),
        ({"anything": 1}, False),
    ],
)
def test_a_row_has_to_keep_the_schema(tmp_path, change, ok):
    path = tmp_path / "registry.json"
    if ok:
        upsert_row(path, row() | change)
        assert json.loads(path.read_text())["models"] == [row() | change]
        return
    with pytest.raises(ArtefactError, match=f"row .*{next(iter(change))}"):
        upsert_row(path, row() | change)
    assert not path.exists()


def test_the_published_schema_is_the_one_in_the_package():
    published = ROOT / "model" / "tiny" / "registry.schema.json"
    packaged = ROOT / "fr_lib" / "data" / "registry.schema.json"
    assert published.read_bytes() == packaged.read_bytes()


# --- verify -----------------------------------------------------------------------------------


def test_a_run_folder_verifies(passed, failed):
    assert verify(passed) == []
    assert verify(failed) == []
    assert sorted(contents(passed)) == [
        "fr_regressor_v3.json",
        "fr_regressor_v3.onnx",
        "registry.json",
        "registry.schema.json",
    ]


def test_other_peoples_models_verify_without_our_sidecar_schema(folder):
    for name in NEIGHBOURS:
        upsert_row(folder / "registry.json", foreign_model(folder, name))
    assert verify(folder) == []


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_one_changed_byte_is_noticed_and_the_file_named(folder, mask):
    path = folder / "fr_regressor_v3.onnx"
    data = path.read_bytes()
    # Weights, and the names and lengths at either end that make the file unreadable.
    for at in (0, 1, 2, 9, 10, 40, 97, len(data) // 2, *range(len(data) - 400, len(data), 23)):
        path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
        problems = verify(folder)
        assert f"{path}: sha256 " in problems[0]
        assert all(line.startswith(str(path)) and "\n" not in line for line in problems)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("registry.json", lambda v: v["models"][0].update(sha256="0" * 64), "onnx: sha256"),
        ("registry.json", lambda v: v["models"][0].update(opset=16), "opset 17; allowed: 16"),
        ("registry.json", lambda v: v["models"][0].update(colour=1), "'colour' was unexpected"),
        ("registry.json", lambda v: v["models"][0].update(onnx="x.onnx"), "x.onnx: missing"),
        ("registry.json", lambda v: v["models"][0].update(onnx="../x.onnx"), "does not match"),
        ("registry.json", lambda v: v["models"][0].update(smoke=True), "json: smoke False"),
        ("registry.json", lambda v: v["models"].append(v["models"][0]), "several rows"),
        ("registry.json", lambda v: v.update(modles=[]), "'modles' was unexpected"),
        ("registry.json", lambda v: v.pop("models"), '"models" is a required property'),
        ("registry.json", lambda v: v.update(models=3), '3 is not of type "array"'),
        ("registry.json", lambda v: v.update(models=["row"]), 'not of type "object"'),
        ("fr_regressor_v3.json", lambda v: v.update(sha256="0" * 64), "as in registry.json"),
        ("fr_regressor_v3.json", lambda v: v.pop("feature_mean"), '"feature_mean" is a required'),
        ("fr_regressor_v3.json", lambda v: v.update(id="fr_regressor_v4"), "json: id "),
    ],
)
def test_a_wrong_entry_is_named(folder, name, change, message):
    edit(folder / name, change)
    problems = verify(folder)
    assert any(message in line for line in problems), problems
    assert all(line.startswith(str(folder)) and "\n" not in line for line in problems)


def test_missing_files_are_named(folder):
    (folder / "fr_regressor_v3.json").unlink()
    assert ["fr_regressor_v3.json: missing" in line for line in verify(folder)] == [True]
    (folder / "fr_regressor_v3.onnx").unlink()
    assert any("fr_regressor_v3.onnx: missing" in line for line in verify(folder))
    (folder / "registry.json").unlink()
    assert ["registry.json: missing" in line for line in verify(folder)] == [True]


def test_a_smoke_row_needs_no_sidecar(tmp_path):
    model = foreign_model(tmp_path, "probe")
    (tmp_path / "probe.json").unlink()
    upsert_row(tmp_path / "registry.json", model | {"smoke": True})
    assert verify(tmp_path) == []
    upsert_row(tmp_path / "registry.json", model | {"smoke": False})
    assert ["probe.json: missing" in line for line in verify(tmp_path)] == [True]


def test_a_sidecar_with_nan_is_refused(folder):
    path = folder / "fr_regressor_v3.json"
    path.write_text(path.read_text().replace('"loso_mean_plcc": 0.98', '"loso_mean_plcc": NaN'))
    assert ["NaN is not JSON" in line for line in verify(folder)] == [True]


def test_rows_out_of_order_are_noticed(folder):
    upsert_row(folder / "registry.json", foreign_model(folder, "aaa"))
    edit(folder / "registry.json", lambda v: v["models"].reverse())
    assert ["out of order" in line for line in verify(folder)] == [True]


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    outside = (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(outside)
    assert [f"{name}: lies outside" in line for line in verify(folder)] == [True]


def test_a_link_within_the_folder_is_allowed(folder):
    (folder / "fr_regressor_v3.onnx").rename(folder / "real.onnx")
    (folder / "fr_regressor_v3.onnx").symlink_to("real.onnx")
    assert verify(folder) == []


def test_an_operator_off_the_list_is_named(folder):
    upsert_row(folder / "registry.json", foreign_model(folder, "odd", op="Sin"))
    assert ["odd.onnx: operators Sin" in line for line in verify(folder)] == [True]


def test_weights_outside_the_file_are_refused_even_with_the_right_digest(folder):
    path = folder / "fr_regressor_v3.onnx"
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        location="fr_regressor_v3.onnx.data",
        size_threshold=1024,
    )
    digest = sha256_of(path)
    edit(folder / "fr_regressor_v3.json", lambda v: v.update(sha256=digest))
    edit(folder / "registry.json", lambda v: v["models"][0].update(sha256=digest))
    assert any("onnx: external data (" in line for line in verify(folder))


def test_the_file_is_named_after_the_model(folder):
    (folder / "fr_regressor_v3.onnx").rename(folder / "fr_regressor_v2.onnx")
    (folder / "fr_regressor_v3.json").rename(folder / "fr_regressor_v2.json")
    edit(folder / "registry.json", lambda v: v["models"][0].update(onnx="fr_regressor_v2.onnx"))
    assert any("fr_regressor_v2.onnx: named unlike its row" in line for line in verify(folder))


def test_find_row_names_what_is_there(folder):
    assert find_row(folder)["id"] == "fr_regressor_v3"
    with pytest.raises(ArtefactError, match="no row other; allowed: fr_regressor_v3"):
        find_row(folder, "other")
    edit(folder / "registry.json", lambda v: v["models"][0].pop("kind"))
    with pytest.raises(ArtefactError, match='"kind" is a required property'):
        find_row(folder)


# --- publish ----------------------------------------------------------------------------------


def test_a_passed_model_is_published_into_a_new_folder(passed, tmp_path):
    said = publish(passed, tmp_path / "tiny")
    assert "gate passed" in said
    assert verify(tmp_path / "tiny") == []
    assert contents(tmp_path / "tiny") == contents(passed)


def test_neighbours_keep_every_byte(passed, tmp_path):
    for name in (*NEIGHBOURS, "fr_regressor_v2"):
        upsert_row(tmp_path / "registry.json", foreign_model(tmp_path, name))
    before = contents(tmp_path)
    publish(passed, tmp_path)
    after = contents(tmp_path)
    assert set(after) - set(before) == set(MODEL_FILES)
    assert all(after[name] == before[name] for name in before if name != "registry.json")
    old, new = (json.loads(files["registry.json"])["models"] for files in (before, after))
    ids = [r["id"] for r in new]
    assert ids == ["fr_regressor_v2", NEIGHBOURS[0], "fr_regressor_v3", NEIGHBOURS[1]]
    assert [r for r in new if r["id"] != "fr_regressor_v3"] == old
    assert verify(tmp_path) == []


def test_a_failed_model_is_an_audit_trail_where_none_passed(failed, passed, tmp_path):
    assert "not for scoring" in publish(failed, tmp_path)
    assert find_row(tmp_path)["smoke"] is True
    assert "v3 retrain pending" in find_row(tmp_path)["notes"]
    assert verify(tmp_path) == []
    publish(failed, tmp_path)
    publish(passed, tmp_path)
    assert find_row(tmp_path)["smoke"] is False
    assert contents(tmp_path)["fr_regressor_v3.onnx"] == contents(passed)["fr_regressor_v3.onnx"]


def test_a_failed_model_never_replaces_one_that_passed(failed, folder):
    before = contents(folder)
    with pytest.raises(GateFailed, match="holds a fr_regressor_v3 that passed"):
        publish(failed, folder)
    assert contents(folder) == before


@pytest.mark.parametrize("gone", ["registry.json", "fr_regressor_v3.json"])
def test_row_or_sidecar_alone_show_that_a_model_passed(failed, folder, gone):
    (folder / gone).unlink()
    before = contents(folder)
    with pytest.raises(GateFailed):
        publish(failed, folder)
    assert contents(folder) == before


def test_a_model_of_another_teachers_scores_is_not_released(tmp_path):
    source = make_folder(tmp_path / "run")
    card = json.loads((source / "fr_regressor_v3.json").read_text())
    card["run_provenance"]["teacher"] = "vmaf_v1.0.16_3d0h"
    (source / "fr_regressor_v3.json").write_text(json_text(card))
    with pytest.raises(ArtefactError, match=r"it learned the scores of vmaf_v1\.0\.16_3d0h; allow"):
        publish(source, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    card["run_provenance"]["teacher"] = "vmaf_v0.6.1"
    (source / "fr_regressor_v3.json").write_text(json_text(card))
    assert "gate passed" in publish(source, tmp_path / "tiny")


@pytest.mark.parametrize("gate_passed", [True, False])
def test_a_smoke_run_is_never_published(tmp_path, gate_passed):
    source = make_folder(tmp_path / "smoke", passed=gate_passed, synthetic=True)
    assert verify(source) == []
    with pytest.raises(ArtefactError, match="smoke run on synthetic rows"):
        publish(source, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()


def test_a_source_that_does_not_verify_is_not_published(folder, tmp_path):
    (folder / "fr_regressor_v3.onnx").write_bytes(b"altered")
    with pytest.raises(ArtefactError, match=r"fr_regressor_v3\.onnx: sha256"):
        publish(folder, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_target_whose_registry_is_broken_is_left_alone(passed, tmp_path):
    (tmp_path / "registry.json").write_text("{broken")
    with pytest.raises(ArtefactError, match="not JSON"):
        publish(passed, tmp_path)
    assert contents(tmp_path) == {"registry.json": b"{broken"}


@pytest.mark.parametrize("done", [MODEL_FILES[:1], MODEL_FILES])
def test_an_interrupted_release_is_refused_and_mended_by_the_next(folder, failed, tmp_path, done):
    newer = make_folder(tmp_path / "newer", seed=2)
    for name in done:  # the renames before the interruption
        shutil.copy(newer / name, folder / name)
    assert verify(folder) != []
    with pytest.raises(GateFailed):
        publish(failed, folder)
    publish(newer, folder)
    assert contents(folder) == contents(newer)


def test_a_file_that_cannot_be_written_leaves_all_as_it_was(folder, tmp_path):
    newer = make_folder(tmp_path / "newer", seed=2)
    (folder / "fr_regressor_v3.json").unlink()
    (folder / "fr_regressor_v3.json").mkdir()
    before = tree(folder)
    with pytest.raises(IsADirectoryError):
        publish(newer, folder)
    assert tree(folder) == before
    assert not [*folder.parent.glob(".*")]


@pytest.mark.parametrize("can", [True, False])
def test_a_release_keeps_every_other_file_and_mends_what_a_killed_one_left(
    folder, tmp_path, monkeypatch, can
):
    """Where folders cannot change places, too."""
    if not can:
        monkeypatch.setattr(system, "_exchange", lambda one, other: False)
    newer = make_folder(tmp_path / "newer", seed=2)
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("my own")
    (folder / "link").symlink_to("notes/mine.txt")
    (folder.parent / f".{folder.name}.new-x").mkdir()
    publish(newer, folder)
    assert verify(folder) == []
    assert (folder / "link").is_symlink()
    assert (folder / "notes" / "mine.txt").read_text() == "my own"
    for name in MODEL_FILES:
        assert (folder / name).read_bytes() == (newer / name).read_bytes()
    assert not [*folder.parent.glob(".*")]


def test_a_release_into_the_working_directory_leaves_its_process_there(tmp_path, monkeypatch):
    make_folder(tmp_path / "run" / "model")
    (tmp_path / "tiny" / "below").mkdir(parents=True)
    for place, name in (("tiny", "."), ("tiny/below", "..")):
        monkeypatch.chdir(tmp_path / place)
        assert main(["release", "--run-dir", str(tmp_path / "run"), "--model-dir", name]) == 0
        assert verify(name) == verify(tmp_path / "tiny") == []
        assert Path.cwd() == tmp_path / place
    names = {path.name for path in (tmp_path / "tiny").iterdir()}
    assert names == {*MODEL_FILES, *FORMULA_FILES, "registry.json", "registry.schema.json", "below"}


def test_a_release_into_the_root_of_all_files_is_refused(tmp_path, capsys):
    make_folder(tmp_path / "run" / "model")
    assert main(["release", "--run-dir", str(tmp_path / "run"), "--model-dir", "/"]) == 2
    assert capsys.readouterr().err.startswith("/: the root of all files; allowed: a folder")


# --- the formula ------------------------------------------------------------------------------


@pytest.fixture
def with_formula(folder) -> Path:
    publish_formula(folder)
    return folder


def test_the_formula_needs_no_model_beside_it(tmp_path):
    said = publish_formula(tmp_path / "tiny")
    assert "vmaf_v0_6_1_formula (VMAF v0.6.1 itself" in said
    assert set(contents(tmp_path / "tiny")) == {
        *FORMULA_FILES,
        "registry.json",
        "registry.schema.json",
    }
    assert verify(tmp_path / "tiny") == []
    found = find_row(tmp_path / "tiny", "vmaf_v0_6_1_formula")
    assert (found["kind"], found["smoke"], found["opset"]) == ("fr", False, 17)
    assert found["license"] == "BSD-2-Clause-Patent"
    assert "wherever the six features are at hand" in found["notes"]


def test_the_formula_leaves_every_other_byte(passed, tmp_path):
    upsert_row(tmp_path / "registry.json", foreign_model(tmp_path, NEIGHBOURS[1]))
    publish(passed, tmp_path)
    before = contents(tmp_path)
    publish_formula(tmp_path)
    after = contents(tmp_path)
    assert set(after) - set(before) == set(FORMULA_FILES)
    assert all(after[name] == before[name] for name in before if name != "registry.json")
    old, new = (json.loads(files["registry.json"])["models"] for files in (before, after))
    assert new[:-1] == old
    ids = [r["id"] for r in new]
    assert ids == ["fr_regressor_v3", NEIGHBOURS[1], "vmaf_v0_6_1_formula"]
    assert verify(tmp_path) == []


def test_the_formula_released_again_is_the_same_bytes(with_formula):
    before = contents(with_formula)
    publish_formula(with_formula)
    assert contents(with_formula) == before


def test_a_released_model_keeps_the_formula_beside_it(with_formula, tmp_path):
    before = contents(with_formula)
    newer = make_folder(tmp_path / "newer", seed=2)
    publish(newer, with_formula)
    after = contents(with_formula)
    assert all(after[name] == before[name] for name in FORMULA_FILES)
    assert verify(with_formula) == []


def test_the_formula_leaves_a_broken_registry_alone(tmp_path):
    (tmp_path / "registry.json").write_text("{broken")
    with pytest.raises(ArtefactError, match="not JSON"):
        publish_formula(tmp_path)
    assert contents(tmp_path) == {"registry.json": b"{broken"}


def test_a_formula_with_another_constant_is_refused_though_all_digests_are_right(with_formula):
    path = with_formula / FORMULA_FILES[0]
    model = onnx.load(path)
    weights = next(t for t in model.graph.initializer if t.name == "weights")
    values = numpy_helper.to_array(weights).copy()
    values[17] *= 0.99
    weights.CopyFrom(numpy_helper.from_array(values, "weights"))
    path.write_bytes(model.SerializeToString())
    digest = sha256_of(path)
    edit(with_formula / FORMULA_FILES[1], lambda v: v.update(sha256=digest))
    edit(with_formula / "registry.json", lambda v: v["models"][-1].update(sha256=digest))
    (line,) = verify(with_formula)
    assert line.startswith(f"{path}: differs from VMAF v0.6.1 by ")


def test_another_model_under_the_formulas_name_is_refused(with_formula):
    path = with_formula / FORMULA_FILES[0]
    shutil.copy(with_formula / MODEL_FILES[0], path)
    digest = sha256_of(path)
    edit(with_formula / FORMULA_FILES[1], lambda v: v.update(sha256=digest))
    edit(with_formula / "registry.json", lambda v: v["models"][-1].update(sha256=digest))
    assert verify(with_formula)[0].startswith(f"{path}: inputs ")


def test_one_changed_byte_of_the_formula_is_noticed(with_formula):
    path = with_formula / FORMULA_FILES[0]
    data = path.read_bytes()
    for at in np.linspace(0, len(data) - 1, 40, dtype=int):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        problems = verify(with_formula)
        assert f"{path}: sha256 " in problems[0]
        assert all(line.startswith(str(path)) and "\n" not in line for line in problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("source"), '"source" is a required property'),
        (lambda v: v.update(extra=1), "'extra' was unexpected"),
        (lambda v: v.update(codec_aware=True), "$.codec_aware"),
        (lambda v: v["feature_order"].reverse(), "$.feature_order"),
        (lambda v: v["source"].update(sha256="abc"), "$.source.sha256"),
        (lambda v: v.update(teacher="vmaf_v0.6.1neg"), "$.teacher"),
        (lambda v: v.update(sha256="0" * 64), "as in registry.json"),
    ],
)
def test_a_fault_of_the_formulas_sidecar_is_named(with_formula, change, message):
    path = with_formula / FORMULA_FILES[1]
    edit(path, change)
    problems = verify(with_formula)
    assert any(message in line for line in problems), problems
    assert all(line.startswith(f"{path}: ") for line in problems)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(smoke=True), "smoke False; allowed: True"),
        (lambda row: row.update(kind="nr"), "kind fr; allowed: nr"),
        (lambda row: row.update(opset=16), "opset 17; allowed: 16"),
    ],
)
def test_a_row_that_says_other_than_the_formula_is_named(with_formula, change, message):
    edit(with_formula / "registry.json", lambda v: change(v["models"][-1]))
    (line,) = verify(with_formula)
    assert message in line
    assert "vmaf_v0_6_1_formula" in line


def test_the_order_of_features_in_the_schema_is_the_canonical_one():
    schema = ROOT / "fr_lib" / "data" / "formula.schema.json"
    properties = json.loads(schema.read_text())["properties"]
    assert properties["feature_order"] == {"const": list(CANONICAL_6)}
