"""Another teacher's scores read off rows of v0.6.1: the fit, its graph, its papers, its answers."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper
from test_predict_formula import write_log

from fr_lib.__main__ import main
from fr_lib.corpus import Corpus, load_corpus, synthetic_table, vmaf_from_features, write_table
from fr_lib.errors import ArtefactError, GateFailed, InputError
from fr_lib.evaluate import make_translation
from fr_lib.evaluate.translation import CORRECTED, MAP_ALONE
from fr_lib.files import ROOT, read_json, write_json
from fr_lib.release import Translator, open_session, translate_logs, verify
from fr_lib.release.translate import publish_translation, publish_translations
from fr_lib.release.translation import (
    TRANSLATION_ATOL,
    check_translation,
    export_translation,
    translation_id,
)
from fr_lib.runs import ANOTHER
from fr_lib.schema import NEWEST_VOCAB, codec_block
from fr_lib.train import HIGHEST, Translation, draw_domain, fit_translation

NEAR, FAR = ANOTHER
NEAR_ID, FAR_ID = map(translation_id, ANOTHER)
OFFSET = {"libx264": -6.0, "libsvtav1": 6.0}
TINY = ROOT / "model" / "tiny"
MADE_BY = {"python": "3.11"}


def scored_table() -> pd.DataFrame:
    """Return rows whose near score parts by codec from a line of v0.6.1's, and whose far does not.

    The far one has an offset of each source instead, which no other source tells.
    """
    table = synthetic_table([*OFFSET], [20, 30, 40, 50], sources=4, frames=6, seed=0)
    line = 15 + 0.7 * table["vmaf"]
    of_source = table["src"].map(dict(zip(sorted(set(table["src"])), (-5, 5, 5, -5), strict=True)))
    return table.drop(columns="synthetic").assign(
        **{NEAR: line + table["encoder"].map(OFFSET), FAR: line + of_source}
    )


def loaded(table: pd.DataFrame, folder: Path) -> Corpus:
    write_table(table, folder / "c.jsonl")
    return load_corpus(folder / "c.jsonl")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return loaded(scored_table(), tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def made(corpus) -> tuple[Translation, dict]:
    return make_translation(corpus, NEAR)


@pytest.fixture(scope="module")
def released(corpus, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("released")
    for teacher in ANOTHER:
        publish_translation(corpus, teacher, folder, MADE_BY)
    return folder


@pytest.fixture
def folder(released, tmp_path) -> Path:
    return Path(shutil.copytree(released, tmp_path / "tiny"))


# --- the fit ----------------------------------------------------------------------------------


def test_the_map_rises_and_the_score_stays_in_the_teachers_range(made):
    model, _ = made
    scores = model.mapped(np.linspace(-20, 120, 500))
    assert (np.diff(scores) >= 0).all()
    assert np.ptp(scores) > 10
    wild = draw_domain(np.random.default_rng(0), 500, HIGHEST)
    answers = model(wild, np.zeros(500, dtype=int), np.ones(500))
    assert ((answers >= 0) & (answers <= 100)).all()


def test_the_correction_learns_what_parts_codecs_and_the_map_cannot(made):
    _, facts = made
    assert facts["method"] == CORRECTED
    assert facts["map"]["rmse"] > 4
    # Not to nothing: with so few rows the ridge holds it back.
    assert facts["summary"]["rmse"] < 0.75 * facts["map"]["rmse"]
    assert facts["against_map"]["high"] < 0
    assert facts["gate"]["gate_passed"] is True


def test_a_codec_without_rows_gets_what_the_others_share(made, corpus):
    model, facts = made
    x, n = corpus.features()[:50], 50
    low, high, unseen = (
        model(x, np.full(n, slot), np.ones(n))
        for slot in (NEWEST_VOCAB.index("libx264"), NEWEST_VOCAB.index("libsvtav1"), -1)
    )
    assert (low < unseen).mean() > 0.9
    assert (unseen < high).mean() > 0.9
    assert facts["interval"]["untrained"] > facts["interval"]["encode"]


def test_where_the_correction_does_not_beat_the_map_the_map_answers_alone(corpus):
    model, facts = make_translation(corpus, FAR)
    assert facts["against_map"]["mean"] > 0
    assert facts["method"] == MAP_ALONE
    assert not model.weights.any()
    assert facts["summary"] == facts["map"]
    assert "RMSE against a rival" not in [clause["name"] for clause in facts["gate"]["clauses"]]


def test_a_held_out_source_has_no_part_in_its_own_answer(corpus):
    """Other scores of one source leave its own answer as it was."""
    table = scored_table()
    source = sorted(set(table["src"]))[0]
    own = (table["src"] == source).to_numpy()
    given = corpus.features().astype(float), corpus.codec_block()[:, :-2].argmax(axis=1)
    target = table[NEAR].to_numpy()
    models = [
        fit_translation(*(v[~own] for v in given), np.ones((~own).sum()), scores[~own], (0, 100))
        for scores in (target, np.where(own, 0.0, target))
    ]
    answers = [model(*(v[own] for v in given), np.ones(own.sum())) for model in models]
    assert np.array_equal(*answers)
    _, facts = make_translation(corpus, NEAR)
    (fold,) = (fold for fold in facts["folds"] if fold["held_out"] == source)
    expected = np.sqrt(np.mean((answers[0] - target[own]) ** 2))
    assert fold["rmse"] == pytest.approx(expected)


def test_the_interval_holds_that_share_of_held_out_encodes(made, corpus):
    _, facts = made
    table, off = corpus.table, np.empty(len(corpus.table))
    slots, ones = corpus.codec_block()[:, :-2].argmax(axis=1), np.ones(len(off))
    target = table[NEAR].to_numpy()
    for source in corpus.sources():
        held = (table["src"] == source).to_numpy()
        x = corpus.features().astype(float)
        model = fit_translation(x[~held], slots[~held], ones[~held], target[~held], (0, 100))
        off[held] = model(x[held], slots[held], ones[held]) - target[held]
    means = table.assign(off=off).groupby(["src", "encoder", "quality"])["off"].mean().abs()
    assert (means <= facts["interval"]["encode"]).mean() == pytest.approx(0.95, abs=0.04)
    assert facts["interval"]["frame"] == pytest.approx(np.quantile(np.abs(off), 0.95))


def test_a_corpus_without_that_teachers_scores_is_refused(tmp_path):
    table = scored_table().drop(columns=[NEAR])
    with pytest.raises(InputError, match=f"rows without a score of {NEAR}"):
        make_translation(loaded(table, tmp_path), NEAR)


# --- the graph --------------------------------------------------------------------------------


def asked(session, features: np.ndarray, encoders: list[str], scale: np.ndarray) -> np.ndarray:
    n = len(features)
    block = codec_block(encoders, np.full(n, 3.0), np.full(n, 30.0))
    inputs = {"features": features, "codec_block": block, "src_scale": scale[:, None]}
    inputs = {key: value.astype(np.float32) for key, value in inputs.items()}
    return session.run(["vmaf"], inputs)[0]


def numbers_of(path: Path) -> Translation:
    """Return the translation that a file's own numbers make."""
    graph = onnx.load(path).graph
    value = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    return Translation(
        floor=float(value["floor"]),
        steps=value["steps"][:, 0],
        mean=value["input_mean"],
        std=value["input_std"],
        places=value["places"].T,
        place_slots=value["place_slots"],
        weights=value["place_weights"][:, 0],
        range=(float(value["within.least"]), float(value["within.most"])),
    )


@pytest.mark.parametrize("folder_of", ["released", "shipped"])
@pytest.mark.parametrize("model_id", [NEAR_ID, FAR_ID])
def test_the_file_gives_what_python_gives(released, folder_of, model_id):
    path = (released if folder_of == "released" else TINY) / f"{model_id}.onnx"
    rng = np.random.default_rng(5)
    x = draw_domain(rng, 3000, HIGHEST).astype(np.float32)
    encoders = [NEWEST_VOCAB[k % len(NEWEST_VOCAB)] for k in range(len(x))]
    scale = rng.choice([0.5, 1.0, 1.5, 2.0], len(x)).astype(np.float32)
    slots = np.arange(len(x)) % len(NEWEST_VOCAB)
    expected = numbers_of(path)(x, slots, scale)
    found = asked(open_session(path), x, encoders, scale)
    assert np.ptp(expected) > 20
    assert np.abs(found - expected).max() < TRANSLATION_ATOL
    assert asked(open_session(path), x[:0], [], scale[:0]).shape == (0,)


def test_the_exported_file_is_the_fit(made, corpus, tmp_path):
    model, _ = made
    path = tmp_path / f"{NEAR_ID}.onnx"
    facts = export_translation(model, NEAR, path)
    n, encoders = len(corpus.table), corpus.table["encoder"].tolist()
    slots = np.array([NEWEST_VOCAB.index(name) for name in encoders])
    expected = model(corpus.features(), slots, np.ones(n))
    found = asked(open_session(path), corpus.features(), encoders, np.ones(n))
    assert np.abs(found - expected).max() < TRANSLATION_ATOL
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert export_translation(model, NEAR, tmp_path / "again.onnx") == facts


def changed(name: str, value) -> bytes:
    """Return the shipped file with another weight."""
    model = onnx.load(TINY / f"{NEAR_ID}.onnx")
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    new = value(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(new, name))
    return model.SerializeToString()


def first(value):
    def change(array):
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("place_weights", first(np.nan), "not finite"),
        ("place_slots", first(16), "outside the vocabulary"),
        ("place_slots", first(3), "places of "),
        ("steps", first(-1.0), "a map that falls"),
        ("input_std", first(0.0), "input_std of 0"),
        ("width", lambda a: a * 2, "width is"),
        ("gamma", lambda a: a * 2, "gamma is"),
        ("within.most", lambda a: a * 2, "within.most is"),
        ("places", lambda a: a[:, :-1], "shape"),
    ],
)
def test_a_file_that_is_no_translation_is_refused(name, value, said):
    card = read_json(TINY / f"{NEAR_ID}.json", made_by="release")
    with pytest.raises(ArtefactError, match=said):
        check_translation(changed(name, value), Path("x.onnx"), card, NEAR)


def test_the_formula_is_no_translation():
    data = (TINY / "vmaf_v0_6_1_formula.onnx").read_bytes()
    with pytest.raises(ArtefactError, match="inputs"):
        check_translation(data, Path("x.onnx"), {}, NEAR)


# --- the model folder -------------------------------------------------------------------------


def test_what_is_published_verifies_and_says_what_it_is(released):
    assert verify(released) == []
    near, far = (read_json(released / f"{name}.json", made_by="") for name in (NEAR_ID, FAR_ID))
    assert (near["method"], far["method"]) == (CORRECTED, MAP_ALONE)
    assert near["teacher"] == NEAR
    assert "no formula" in near["not_applicable"]["block swap, stress set"]
    rows = read_json(released / "registry.json", made_by="")["models"]
    assert [row["id"] for row in rows] == [NEAR_ID, FAR_ID]
    assert "near" not in rows[0]["description"]
    assert "3 heights" in rows[0]["description"]


def test_neighbours_keep_every_byte_and_a_dry_run_writes_nothing(corpus, tmp_path):
    folder = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    said = publish_translation(corpus, NEAR, folder, MADE_BY, dry_run=True)
    assert f"+++ {folder / f'{NEAR_ID}.json'}, released\n" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    publish_translation(corpus, NEAR, folder, MADE_BY)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    differ = {name for name in before if before[name] != after[name]}
    assert differ == {f"{NEAR_ID}.json", f"{NEAR_ID}.onnx", "registry.json"}
    assert verify(folder) == []


def test_scores_that_nothing_tells_are_not_published(tmp_path):
    table = scored_table()
    noise = np.random.default_rng(0).uniform(0, 100, len(table))
    hopeless = loaded(table.assign(**{NEAR: noise}), tmp_path)
    with pytest.raises(GateFailed, match="mean LOSO PLCC"):
        publish_translation(hopeless, NEAR, tmp_path / "tiny", MADE_BY)
    assert not (tmp_path / "tiny").exists()


def test_made_up_rows_are_not_published(tmp_path):
    table = scored_table().assign(synthetic=True)
    with pytest.raises(ArtefactError, match="made-up rows"):
        publish_translation(loaded(table, tmp_path), NEAR, tmp_path / "tiny", MADE_BY)


def test_an_unknown_teacher_is_refused_before_the_corpus_is_read(tmp_path):
    for name in ("vmaf_v9", "vmaf_v0.6.1"):
        with pytest.raises(InputError, match=f"'{name}'; allowed: vmaf_v0.6.1neg"):
            list(publish_translations(tmp_path / "none.jsonl", [NEAR, name], tmp_path))


def test_the_command_makes_both(corpus, tmp_path, capsys):
    write_table(scored_table(), tmp_path / "c.jsonl")
    arguments = ["--corpus", str(tmp_path / "c.jsonl"), "--model-dir", str(tmp_path / "tiny")]
    assert main(["translate", *arguments]) == 0
    near, far = capsys.readouterr().out.splitlines()
    assert near.startswith(f"{NEAR_ID} ({CORRECTED}, RMSE ")
    assert far.startswith(f"{FAR_ID} ({MAP_ALONE}, RMSE ")
    assert main(["verify", "--model-dir", str(tmp_path / "tiny")]) == 0


def test_a_file_of_the_other_teacher_is_refused(folder):
    for suffix in ("json", "onnx"):
        shutil.copy(folder / f"{FAR_ID}.{suffix}", folder / f"{NEAR_ID}.{suffix}")
    problems = "\n".join(verify(folder, NEAR_ID))
    assert "sha256" in problems
    assert f"id {FAR_ID}" in problems
    with pytest.raises(ArtefactError, match="sha256"):
        Translator.load(folder, NEAR)


def refused_card(folder: Path, change) -> str:
    path = folder / f"{NEAR_ID}.json"
    card = read_json(path, made_by="")
    change(card)
    write_json(path, card)
    return "\n".join(verify(folder, NEAR_ID))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda card: card.update(gate_passed=False), "$.gate_passed"),
        (lambda card: card["gate"][0].update(status="fail"), "gate_passed: True"),
        (lambda card: card["training"].update(loso_mean_rmse=0.1), "loso_mean_rmse: 0.1"),
        (lambda card: card["interval"].pop("encode"), "$.interval"),
        (lambda card: card.update(teacher=FAR), f"teacher: {FAR}"),
        (lambda card: card["training"].update(smoke=True), "smoke True"),
        (lambda card: card["trained_slots"].update(libx265=9), "rows of trained_slots"),
    ],
)
def test_a_sidecar_that_says_otherwise_is_refused(folder, change, said):
    assert said in refused_card(folder, change)


# --- answers ----------------------------------------------------------------------------------


@pytest.fixture
def log(corpus, tmp_path) -> Path:
    rows = corpus.table.query("encoder == 'libx264' and quality == 30").index[:6]
    return write_log(tmp_path / "log.json", corpus.features()[rows].astype(float))


def called(folder: Path, *arguments) -> int:
    return main(["predict", "--model-dir", str(folder), *map(str, arguments)])


def test_a_log_gets_a_score_its_interval_and_the_method(released, log, capsys):
    assert called(released, "--teacher", NEAR, "--encoder", "libx264", log) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    card = read_json(released / f"{NEAR_ID}.json", made_by="")
    assert (row["teacher"], row["model"], row["method"]) == (NEAR, NEAR_ID, CORRECTED)
    half = card["interval"]["encode"]
    low, high = row["interval"]
    assert (low, high) == pytest.approx((row["mean"] - half, row["mean"] + half))
    assert row["interval_share"] == 0.95
    features = json.loads(log.read_text())["frames"]
    x = np.array([list(frame["metrics"].values()) for frame in features])
    assert row["formula_mean"] == pytest.approx(vmaf_from_features(x).mean())
    # Nearer to the line of libx264 than to that of libsvtav1.
    line = 15 + 0.7 * row["formula_mean"]
    assert row["mean"] == pytest.approx(line + OFFSET["libx264"], abs=4)


def test_the_map_says_that_it_is_a_map(released, log):
    (row,) = translate_logs(Translator.load(released, FAR), [log], "libx264")
    assert row["method"] == MAP_ALONE


def test_an_encoder_without_rows_is_told_and_has_its_own_interval(released, log):
    translator = Translator.load(released, NEAR)
    known, unseen = (translate_logs(translator, [log], e)[0] for e in ("libx264", "av1_nvenc"))
    assert unseen["method"].startswith(f"{CORRECTED}, what all trained codecs share")
    width = np.ptp(unseen["interval"]), np.ptp(known["interval"])
    assert width[0] > width[1]


def test_an_interval_ends_where_the_teachers_range_does(released, tmp_path):
    path = write_log(tmp_path / "same.json", np.array([[1.0, 1, 1, 1, 1, 5]] * 3))
    (row,) = translate_logs(Translator.load(TINY, NEAR), [path], "libx264")
    assert row["interval"][1] == 100


def test_a_log_that_has_the_teachers_own_score_shows_the_difference(released, log):
    content = json.loads(log.read_text())
    for frame in content["frames"]:
        frame["metrics"][NEAR] = 50.0
    log.write_text(json.dumps(content))
    (row,) = translate_logs(Translator.load(released, NEAR), [log], "libx264", frames=True)
    assert row["log_mean"] == 50
    assert row["log_difference"] == pytest.approx(row["mean"] - 50)
    assert [frame["frame"] for frame in row["per_frame"]] == [*range(row["frames"])]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--teacher", "vmaf_v9"), "'vmaf_v9'; allowed: vmaf_v0.6.1neg"),
        (("--teacher", "vmaf_v0.6.1"), "'vmaf_v0.6.1'; allowed"),
        (("--teacher", "vmaf_v0.6.1neg"), "no vmaf_v0_6_1neg_from_v0_6_1 in"),
        (("--teacher", NEAR, "--src-scale", "nan"), "src_scale: nan"),
        (("--teacher", NEAR, "--src-scale", "0"), "src_scale: 0.0"),
        ((), "no --quality"),
    ],
)
def test_what_cannot_be_answered_is_one_line_and_exit_2(released, log, arguments, said, capsys):
    assert called(released, "--encoder", "libx264", *arguments, log) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert len(printed.err.splitlines()) == 1


def test_estimating_loads_neither_pandas_nor_torch_nor_sklearn(released, log):
    code = (
        "import sys\n"
        "from fr_lib.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(*{'pandas', 'torch', 'sklearn', 'scipy'} & {*sys.modules}, file=sys.stderr)\n"
    )
    settings = ["--teacher", NEAR, "--encoder", "libx264", "--model-dir", str(released)]
    command = [sys.executable, "-c", code, "predict", *settings, str(log)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["frames"] == 6
    assert ended.stderr.split() == []


# --- what ships -------------------------------------------------------------------------------


@pytest.mark.parametrize("teacher", ANOTHER)
def test_what_ships_beats_the_map_beyond_the_spread_of_sources(teacher):
    card = read_json(TINY / f"{translation_id(teacher)}.json", made_by="release")
    assert card["method"] == CORRECTED
    assert card["training"]["loso_mean_rmse"] < card["map"]["rmse"]
    assert card["against_map"]["high"] < 0
    corpus = ROOT / "data" / card["corpus"]
    assert card["corpus_sha256"] == hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert card["interval"]["encode"] < card["interval"]["untrained"]
    (clause,) = (c for c in card["gate"] if c["name"] == "RMSE against a rival")
    assert f"of a {MAP_ALONE} on" in clause["reason"]
    assert clause["status"] == "pass"


def test_the_near_one_keeps_its_limit():
    card = read_json(TINY / f"{NEAR_ID}.json", made_by="release")
    assert card["training"]["loso_mean_rmse"] <= 3.6
