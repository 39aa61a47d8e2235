"""The what-if explorer: its data, its arithmetic against onnxruntime, and its page in a browser."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import HOSTILE_NAMES, NVENC_ONLY, Done
from hostile_logs import log_cases

from fr_lib.corpus import load_corpus, read_log, vmaf_from_features
from fr_lib.errors import ArtefactError
from fr_lib.files import ROOT, read_json, write_json
from fr_lib.release import Predictor, open_session
from fr_lib.report.explorer import (
    encoder_data,
    explorer_data,
    formula_data,
    model_data,
    nearness,
    residuals,
    write_explorer,
)
from fr_lib.runs import RunDir, plain
from fr_lib.schema import ADAPTERS, CANONICAL_6, NEWEST_VOCAB, BlockNorm, codec_block

SCRIPTS = ROOT / "book" / "extra" / "explorer"
TINY = ROOT / "model" / "tiny"
EQUAL = 1e-3  # VMAF points
SHOWN = 1e-3  # what a score of three decimals may be off


# --- the data -------------------------------------------------------------------------------------


def unpacked(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


@pytest.fixture(scope="module")
def data(smoke) -> dict:
    return plain(explorer_data(RunDir(smoke.path)))


def test_frames_are_those_of_the_corpus_to_the_last_digit(smoke, data):
    sample = data["sample"]
    columns = [
        unpacked(column, "<i4") / unit
        for column, unit in zip(sample["columns"], sample["units"], strict=True)
    ]
    shown = pd.DataFrame(np.round(np.transpose(columns[:7]), 6), columns=[*CANONICAL_6, "vmaf"])
    shown["frame_index"] = unpacked(sample["frame"], "<i4")
    for name in ("src", "encoder", "preset"):
        known = sample["cells"][name]
        at = np.array(known["at"])[unpacked(sample["of_cell"], "<u2")]
        shown[name] = np.array(known["names"])[at]
    shown["quality"] = np.array(sample["cells"]["quality"])[unpacked(sample["of_cell"], "<u2")]
    table = RunDir(smoke.path).corpus().table
    table = table.assign(**{name: table[name].round(6) for name in (*CANONICAL_6, "vmaf")})
    found = shown.merge(table, on=list(shown))
    assert len(found) == len(shown) == sample["n_kept"] > 20


def test_each_cell_keeps_as_many_frames_evenly_spaced(smoke):
    sample = explorer_data(RunDir(smoke.path), frames=60)["sample"]
    of_cell = unpacked(sample["of_cell"], "<u2")
    counts = np.bincount(of_cell, minlength=len(sample["cells"]["n"]))
    assert set(counts) == {sample["each"]}
    assert len(of_cell) == sample["n_kept"] <= 60
    frames = unpacked(sample["frame"], "<i4")[of_cell == 0]
    assert len(set(np.diff(frames))) <= 2
    assert sample["n_rows"] == sum(sample["cells"]["n"])


def test_residuals_are_those_of_held_out_frames(smoke, data):
    oof = RunDir(smoke.path).read_table("oof.parquet")
    off = (oof["pred_v3"] - oof["vmaf"]).to_numpy()
    found = data["residuals"]["aware"]
    assert found["all"]["n"] == len(off)
    assert found["all"]["most"] == pytest.approx(np.abs(off).max())
    inside = (off >= found["all"]["p05"]) & (off <= found["all"]["p95"])
    assert inside.mean() == pytest.approx(0.9, abs=0.02)


def test_a_bar_is_of_the_frames_that_scored_alike():
    rows = pd.DataFrame({"vmaf": [5.0] * 60 + [95.0] * 60 + [50.0] * 10})
    rows["pred_v3"] = rows["vmaf"] + np.repeat([1.0, -2.0, 9.0], [60, 60, 10])
    found = residuals(rows, "v3")
    assert [(b["low"], b["p05"], b["n"]) for b in found["bins"]] == [(0, 1.0, 60), (90, -2.0, 60)]
    assert found["all"]["most"] == 9.0


def test_nearness_is_measured_to_frames_of_other_titles():
    kept = pd.DataFrame(0.0, index=range(4), columns=list(CANONICAL_6))
    kept["src"] = ["a", "a2", "b", "b"]
    kept["motion2"] = [0.0, 0.1, 4.0, 6.0]
    card = {"feature_std": [1.0] * 5 + [2.0]}
    groups = {"a": "A", "a2": "A", "b": "B"}
    # From a: 2.0; from its part: 1.95; from b: 1.95 and 2.95.
    assert nearness(kept, groups, card)["p50"] == pytest.approx(1.975)
    assert nearness(kept, dict.fromkeys(groups, "one"), card) is None


def test_another_model_than_the_sidecar_describes_is_refused(smoke, tmp_path):
    shutil.copytree(smoke.path / "model", tmp_path / "model")
    card = read_json(tmp_path / "model" / "fr_regressor_v3.json", made_by="04_export")
    with pytest.raises(ArtefactError, match=r"fr_regressor_v3\.onnx: sha256 .* run 04_export"):
        model_data(tmp_path / "model", card | {"sha256": "0" * 64})


def test_no_name_can_end_the_script(hopeless):
    data = explorer_data(RunDir(hopeless.path))
    assert {*data["sample"]["cells"]["src"]["names"]} == {*HOSTILE_NAMES}
    text = (hopeless.page().parent / "explorer" / "data.js").read_text()
    assert text.isascii()
    assert not {"<", ">", "&"} & {*text}
    given = text.partition("window.FR_EXPLORER = ")[2].removesuffix(";\n")
    assert json.loads(given) == plain(data)


# --- the arithmetic, without the page -------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(browser) -> Iterator:
    """A page with the explorer's arithmetic and nothing else."""
    page = browser.new_page()
    for name in ("model", "logs"):
        page.add_script_tag(path=SCRIPTS / f"{name}.js")
    yield page
    page.close()


@pytest.fixture(scope="module")
def tiny() -> dict:
    """The shipped model, as the explorer has it."""
    card = read_json(TINY / "fr_regressor_v3.json", made_by="release")
    parts = {"encoders": encoder_data(card), "formula": formula_data()}
    return plain({"model": model_data(TINY, card)} | parts)


def drawn_rows(domain: dict) -> pd.DataFrame:
    """Return 500 rows of the shipped corpus and 500 drawn in and beyond its range, all slots."""
    rng = np.random.default_rng(0)
    real = load_corpus(ROOT / "data" / "corpus.jsonl.gz").table.sample(500, random_state=0)
    low, high = np.array([domain[name] for name in CANONICAL_6]).T
    beyond = (high - low) / 4
    made = pd.DataFrame(rng.uniform(low - beyond, high + beyond, (500, 6)), columns=CANONICAL_6)
    made["encoder"] = [NEWEST_VOCAB[i % len(NEWEST_VOCAB)] for i in range(len(made))]
    known = made["encoder"].map(ADAPTERS)
    made["preset"] = [rng.choice(list(a.presets)) for a in known]
    made["quality"] = [float(rng.integers(a.lo, a.hi + 1)) for a in known]
    return pd.concat([real[list(made)], made], ignore_index=True)


def test_a_thousand_rows_score_as_in_onnxruntime(bare, tiny):
    model = Predictor.load(TINY)
    rows = drawn_rows(model.card["domain"])
    settings = list(zip(rows["encoder"], rows["preset"], rows["quality"], strict=True))
    features = rows[list(CANONICAL_6)].to_numpy()
    found = bare.evaluate(
        """([data, rows]) => {
            const model = new FRExplorer.Model(data);
            return rows.map(([x, ...settings]) =>
                [model.shipped(x, ...settings), model.blind(x), model.formula(x)]);
        }""",
        [tiny, [[x.tolist(), *setting] for x, setting in zip(features, settings, strict=True)]],
    )
    shipped, blind, formula = np.array(found).T
    assert len(shipped) == 1000
    expected = np.concatenate(
        [
            model.score(x[None], encoder, quality, preset)
            for x, (encoder, preset, quality) in zip(features, settings, strict=True)
        ]
    )
    assert np.abs(shipped - expected).max() < EQUAL
    # The codec-blind network answers for any slot without rows, whatever else is set.
    assert not model.is_trained("h264_amf")
    assert np.abs(blind - model.score(features, "h264_amf", 30)).max() < EQUAL
    exact = open_session(TINY / "vmaf_v0_6_1_formula.onnx")
    graph = exact.run(["vmaf"], {"features": features.astype(np.float32)})[0]
    assert np.abs(formula - graph).max() < EQUAL
    assert np.abs(formula - vmaf_from_features(features)).max() < 1e-9
    # The rows try what they are to try: both networks, and scores on and between the bounds.
    trained = rows["encoder"].map(model.is_trained)
    assert 600 < trained.sum() < 900
    assert {0.0, 100.0} < {*expected}
    assert ((expected > 0) & (expected < 100)).sum() > 500


def test_the_codec_block_follows_the_norms_of_the_sidecar(bare, tiny):
    keys = {
        "codec_preset_norm": "constant",
        "codec_preset_value": 0.25,
        "codec_crf_norm": "minmax",
        "codec_crf_min": 10.0,
        "codec_crf_max": 50.0,
    }
    card = read_json(TINY / "fr_regressor_v3.json", made_by="release")
    for own in (card, card | keys):
        given = plain(tiny | {"model": model_data(TINY, own)})
        found = bare.evaluate(
            "data => [...new FRExplorer.Model(data).block('libsvtav1', '3', 44)]", given
        )
        expected = codec_block(
            ["libsvtav1"],
            [ADAPTERS["libsvtav1"].presets["3"]],
            [44.0],
            BlockNorm.from_sidecar(own),
        )
        np.testing.assert_allclose(found, expected[0], atol=1e-7)


# --- logs -----------------------------------------------------------------------------------------

READ = """async ([files, logs]) => Promise.all(files.map(async text => {
    const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
    try { return FRExplorer.readLog(await FRExplorer.textOf(new File([bytes], "log")), logs); }
    catch (fault) {
        return fault instanceof FRExplorer.LogError || fault instanceof TypeError
            ? {refused: fault.message} : {broken: String(fault.stack)};
    }
}))"""
# What JavaScript's JSON takes: the last of two equal keys. And its gzip: one member.
MILDER = {"shape: metrics twice", "shape: a feature twice"}
STRICTER = {"sound: two members of gzip"}


def read_in_browser(bare, files: list[bytes], data: dict) -> list[dict]:
    return bare.evaluate(READ, [[base64.b64encode(file).decode() for file in files], data["logs"]])


def test_bad_logs_are_refused_and_sound_ones_read(bare, data):
    cases = log_cases()
    found = read_in_browser(bare, [case.data for case in cases], data)
    assert len(cases) > 150
    wrong = {}
    for case, log in zip(cases, found, strict=True):
        refused = (case.message is not None) != (str(case) in MILDER | STRICTER)
        if "broken" in log or ("refused" in log) != refused:
            wrong[str(case)] = log
    assert not wrong


def logs_of(folder: Path) -> Iterator[Path]:
    """Write one log in each form, with gaps in what it counts and names of different ages."""
    features = np.random.default_rng(3).uniform(0.2, 1, (4, 6)).round(6)
    old = {name: f"VMAF_feature_{name}_score" for name in CANONICAL_6}
    frames = [dict(zip(CANONICAL_6, map(float, x), strict=True)) for x in features]
    fixed = [
        {f"integer_{k}": v for k, v in f.items()} | {"vmaf": 90.5 + i, "adm2": 0.1}
        for i, f in enumerate(frames)
    ]
    whole = {"frames": [{"frameNum": 5 * i, "metrics": f} for i, f in enumerate(fixed)]}
    python = {
        "executorId": "x",
        "frames": [
            {"frameNum": i, "VMAF_score": 70.0} | {old[k]: v for k, v in f.items()}
            for i, f in enumerate(frames)
        ],
    }
    ffqm = {"vmaf": [{"n": i + 1} | f for i, f in enumerate(fixed)], "psnr": []}
    xml = "".join(
        f'<frame frameNum="{i}" {" ".join(f"""{k}="{v}" """ for k, v in f.items())}/>'
        for i, f in enumerate(fixed)
    )
    names = [*CANONICAL_6, "vmaf"]
    lines = [",".join(str(v) for v in (i, *f.values(), 33.0)) for i, f in enumerate(frames)]
    texts = {
        "libvmaf.json": json.dumps(whole),
        "python.json": json.dumps(python),
        "ffqm.json": json.dumps(ffqm),
        "libvmaf.xml": f'<?xml version="1.0"?><VMAF version="3"><frames>{xml}</frames></VMAF>',
        "libvmaf.csv": f"Frame,{','.join(names)},\n" + "".join(f"{x},\n" for x in lines),
        "ffqm.csv": f"n,{','.join(names)}\r\n"
        + "".join(f"{i + 1}{x[1:]}\r\n" for i, x in enumerate(lines)),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        yield folder / name
    (folder / "packed.json.gz").write_bytes(gzip.compress(texts["libvmaf.json"].encode()))
    yield folder / "packed.json.gz"


def test_a_log_reads_as_the_command_reads_it(bare, data, tmp_path):
    paths = list(logs_of(tmp_path))
    found = read_in_browser(bare, [path.read_bytes() for path in paths], data)
    for path, log in zip(paths, found, strict=True):
        known = read_log(path)
        assert "refused" not in log, (path.name, log)
        assert (log["form"], log["numbers"]) == (known.form, known.frames.tolist()), path.name
        assert log["features"] == known.features.tolist(), path.name
        assert log["vmaf"] == known.vmaf.tolist(), path.name


# --- the page -------------------------------------------------------------------------------------

# jupyter-book's live-code extension declares its constants twice on each page; nothing uses them.
KNOWN = "THEBE_JS_URL"


class Explorer:
    """The page as somebody uses it."""

    def __init__(self, browser, path: Path, width: int = 1400) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.faults.append("dialog"), dialog.dismiss()))
        self.url = path.as_uri()
        self.open("")

    def open(self, address: str) -> None:
        self.page.goto("about:blank")
        self.page.goto(self.url + address, wait_until="load")
        self.page.wait_for_selector("#explorer:visible")

    def text(self, name: str) -> str:
        return self.page.inner_text(f"#fx-{name}")

    def set(self, name: str, value: str | float) -> None:
        element = self.page.locator(f"#fx-{name}")
        if element.evaluate("e => e.tagName") == "SELECT":
            element.select_option(value)
        else:
            element.fill(str(value))
        self.drawn()

    def choose(self, encoder: str) -> None:
        self.page.click(f'.fx-slot:has([value="{encoder}"])')
        self.drawn()

    def drawn(self) -> None:
        """Wait for the picture that a change asks for."""
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
        )

    def scores(self) -> dict[str, str]:
        kinds = ("network", "blind", "formula")
        return {k: self.page.inner_text(f".fx-score-{k} .fx-score-value") for k in kinds}

    def state(self) -> dict[str, str]:
        words = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"
        return self.page.evaluate(words)

    def features(self) -> list[float]:
        return [float(x) for x in self.state()["features"].split(",")]

    def close(self) -> None:
        self.page.close()
        assert not [fault for fault in self.faults if KNOWN not in fault]


@pytest.fixture
def explorer(browser, smoke) -> Iterator[Explorer]:
    page = Explorer(browser, smoke.page("explorer"))
    yield page
    page.close()


def expected(done: Done, page: Explorer) -> dict[str, float]:
    """Return what onnxruntime and the formula say of the state that the address has."""
    card = done.json("model/fr_regressor_v3.json")
    state, x = page.state(), np.array([page.features()])
    mean, std = (np.float32(card[key]) for key in ("feature_mean", "feature_std"))
    session = open_session(done.path / "model" / card["onnx"])
    empty = next(name for name, rows in card["trained_slots"].items() if not rows)

    def run(encoder: str) -> float:
        block = codec_block(
            [encoder],
            [ADAPTERS[state["encoder"]].presets[state["preset"]]],
            [float(state["quality"])],
            BlockNorm.from_sidecar(card),
        )
        inputs = {"features": (x.astype(np.float32) - mean) / std, "codec_block": block}
        return float(session.run(["vmaf"], inputs)[0][0])

    formula = float(vmaf_from_features(x)[0])
    return {"network": run(state["encoder"]), "blind": run(empty), "formula": formula}


def assert_scores_are_right(done: Done, page: Explorer) -> None:
    known = expected(done, page)
    shown = {kind: float(text) for kind, text in page.scores().items() if text != "none"}
    assert {"network", "blind"} <= set(shown)
    assert shown == pytest.approx({kind: known[kind] for kind in shown}, abs=EQUAL + SHOWN)


def test_what_the_page_shows_is_what_the_model_says(smoke, explorer):
    assert_scores_are_right(smoke, explorer)
    first = explorer.scores()
    assert "none" not in first.values()
    explorer.set("feature-0", 0.93)
    explorer.set("quality", 33)
    assert explorer.scores() != first
    assert explorer.features()[0] == 0.93
    assert_scores_are_right(smoke, explorer)
    trained = smoke.json("model/fr_regressor_v3.json")["trained_slots"]
    other = [e for e, n in trained.items() if n and e != explorer.state()["encoder"]]
    explorer.choose(other[0])
    assert explorer.state()["preset"] == ADAPTERS[other[0]].default_preset
    assert_scores_are_right(smoke, explorer)


def test_an_encoder_without_rows_is_answered_by_the_codec_blind_network(smoke, explorer):
    trained = smoke.json("model/fr_regressor_v3.json")["trained_slots"]
    slots = {e: explorer.page.locator(f'.fx-slots-checked [value="{e}"]').count() for e in trained}
    assert slots == {e: int(n > 0) for e, n in trained.items()}
    assert explorer.page.locator("[name=fx-encoder]").count() == len(NEWEST_VOCAB)
    explorer.choose("hevc_videotoolbox")
    shown = explorer.scores()
    assert shown["network"] == shown["blind"]
    assert "codec-blind here" in explorer.text("scores")
    assert "hevc_videotoolbox they are borrowed" in explorer.text("bar")
    assert "-q:v 100 is best, 1 worst" in explorer.text("scale")
    assert "libvpx-vp9" in explorer.text("encoders")


def test_a_feature_beyond_the_training_range_is_warned_of(smoke, explorer):
    domain = smoke.json("model/fr_regressor_v3.json")["domain"]
    assert explorer.page.is_hidden("#fx-warning")
    explorer.set("feature-5", domain["motion2"][1] * 3 + 60)
    assert "motion2 beyond the trained range" in explorer.text("warning")
    assert "farther from any training row" in explorer.text("warning")
    assert "▲ outside" in explorer.text("sliders")
    assert_scores_are_right(smoke, explorer)
    explorer.page.click("#fx-reset")
    explorer.drawn()
    assert explorer.page.is_hidden("#fx-warning")
    assert "This is a training row" in explorer.text("near-text")


def test_what_is_no_number_moves_nothing(explorer):
    before = explorer.state()
    for name, value in (("feature-0", ""), ("feature-1", "1e9"), ("quality", "500")):
        explorer.set(name, value)
        assert explorer.page.get_attribute(f"#fx-{name}", "aria-invalid") == "true"
    assert explorer.state() == before


def test_the_address_holds_the_state(explorer):
    explorer.page.click("#fx-random")
    explorer.drawn()
    explorer.set("feature-2", 0.71)
    explorer.choose("av1_qsv")
    explorer.set("preset", "slow")
    explorer.set("quality", 17)
    explorer.page.check("[name=fx-curve][value=difference]")
    explorer.drawn()
    state, shown, held = explorer.state(), explorer.scores(), explorer.text("held")
    assert (state["encoder"], state["preset"], state["quality"]) == ("av1_qsv", "slow", "17")
    address = explorer.page.evaluate("location.hash")
    explorer.open(address)
    assert (explorer.state(), explorer.scores(), explorer.text("held")) == (state, shown, held)
    # Another link in the same window.
    explorer.page.evaluate("location.hash = location.hash.replace('quality=17', 'quality=40')")
    explorer.page.wait_for_function("document.querySelector('#fx-quality').value === '40'")


def test_an_address_of_another_run_or_of_nothing_does_no_harm(smoke, explorer):
    for address in (
        "#nothing",
        "#clip=%3Cscript%3E&cell=x&frame=-9&encoder=nobody&preset=&quality=NaN&features=1,2",
        "#features=a,b,c,d,e,f&curve=no&encoder=libx264&quality=9999&preset=p9",
        "#%E0%A4%A&features=1e99,0,0,0,0,0",
    ):
        explorer.open(address)
        assert_scores_are_right(smoke, explorer)
        assert len(explorer.features()) == 6, address


def test_the_keyboard_moves_a_slider(explorer):
    before = explorer.features()
    explorer.page.focus("#fx-feature-3-range")
    explorer.page.keyboard.press("ArrowLeft")
    explorer.drawn()
    assert explorer.features()[3] < before[3]
    explorer.page.keyboard.press("Shift+ArrowRight")
    explorer.drawn()
    assert explorer.features()[3] < before[3]
    assert explorer.features()[:3] == before[:3]


def test_a_frame_is_found_by_its_clip_and_a_click_in_a_chart_goes_there(smoke, explorer):
    clips = explorer.page.locator("#fx-clip option").all_inner_texts()
    assert {*clips} == {*RunDir(smoke.path).corpus().table["src"]}
    explorer.set("clip", "1")
    assert explorer.state()["clip"] == clips[1]
    points = explorer.page.locator("#fx-ladder .fx-pick")
    qualities = explorer.page.locator("#fx-cell option").count()
    assert points.count() == qualities >= 3
    points.last.click()
    explorer.drawn()
    assert float(explorer.state()["quality"]) == max(
        float(x.split()[1].rstrip(","))
        for x in explorer.page.locator("#fx-cell option").all_inner_texts()
    )
    before = explorer.features()
    explorer.page.locator("#fx-curves svg").nth(4).click(position={"x": 80, "y": 60})
    explorer.drawn()
    after = explorer.features()
    assert after[4] != before[4]
    assert after[:4] == before[:4]


def test_a_log_is_scored_frame_by_frame(explorer, tmp_path):
    explorer.page.click("#fx-example")
    assert "agrees with the formula" in explorer.text("log-said")
    rows = explorer.page.locator("#fx-log-table tbody tr")
    path = next(path for path in logs_of(tmp_path) if path.name == "libvmaf.xml")
    explorer.page.set_input_files("#fx-file", path)
    explorer.page.wait_for_function("document.querySelector('#fx-log').value.startsWith('<?xml')")
    log = read_log(path)
    assert rows.count() == len(log.features)
    truth = vmaf_from_features(log.features)
    for i in range(rows.count()):
        cells = rows.nth(i).locator("td").all_inner_texts()
        assert int(cells[0]) == log.frames[i]
        assert float(cells[2]) == pytest.approx(truth[i], abs=SHOWN)
        assert float(cells[4]) == log.vmaf[i]
    assert "is not that of VMAF v0.6.1" in explorer.text("log-said")
    rows.nth(2).locator("button").click()
    explorer.drawn()
    assert explorer.features() == log.features[2].tolist()
    shown = explorer.page.locator("#fx-log-table tbody tr").nth(2).locator("td").all_inner_texts()
    assert explorer.scores()["network"] == shown[1]
    explorer.choose("h264_amf")
    assert "as h264_amf, balanced" in explorer.text("log-said")
    with explorer.page.expect_download() as saved:
        explorer.page.click("#fx-log-save")
    assert len(pd.read_csv(saved.value.path())) == len(log.features)
    explorer.page.fill("#fx-log", "{")
    assert "Not read: broken JSON" in explorer.text("log-said")
    assert explorer.page.is_hidden("#fx-log-result")


def test_a_dropped_file_is_read(explorer, tmp_path):
    text = next(logs_of(tmp_path)).read_text()
    dropped = explorer.page.evaluate_handle(
        """text => { const held = new DataTransfer();
        held.items.add(new File([text], "log.json")); return held; }""",
        text,
    )
    explorer.page.dispatch_event("#fx-drop", "drop", {"dataTransfer": dropped})
    explorer.page.wait_for_selector("#fx-log-table tbody tr")
    assert explorer.page.locator("#fx-log-table tbody tr").count() == 4


def page_with(done: Done, folder: Path, change: dict) -> Path:
    """Return a copy of a run's explorer whose data is changed."""
    html = done.page().parent
    shutil.copytree(html / "explorer", folder / "explorer")
    shutil.copytree(html / "_static", folder / "_static")
    for name in ("explorer.html", "searchindex.js"):
        if (html / name).is_file():
            shutil.copy(html / name, folder)
    write_explorer(plain(explorer_data(RunDir(done.path))) | change, folder / "explorer")
    return folder / "explorer.html"


def test_what_is_copied_runs_and_gives_what_stands_on_the_page(browser, smoke, tiny, tmp_path):
    released = {"folder": str(TINY), "ships": True, "gate_passed": True, "synthetic": False}
    page = Explorer(browser, page_with(smoke, tmp_path, tiny | released))
    page.choose("libsvtav1")
    shown, code, command = page.scores(), page.text("python"), page.text("command")
    assert page.page.is_hidden("#fx-banner")
    page.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.page.click("[data-copy=fx-python]")
    page.page.wait_for_function(
        "document.querySelector('[data-copy=fx-python]').textContent === 'Copied'"
    )
    assert page.page.evaluate("navigator.clipboard.readText()") == code
    page.close()
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    ran = [
        subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
        for words in (
            [sys.executable, "-c", code],
            ["bash", "-c", command.replace(".venv/bin/python", sys.executable)],
        )
    ]
    assert [done.returncode for done in ran] == [0, 0], [done.stderr for done in ran]
    network, formula = (float(line.strip("[]")) for line in ran[0].stdout.splitlines())
    assert network == pytest.approx(float(shown["network"]), abs=EQUAL + SHOWN)
    assert formula == pytest.approx(float(shown["formula"]), abs=SHOWN)
    told = json.loads(ran[1].stdout)
    assert told["mean"] == pytest.approx(float(shown["network"]), abs=EQUAL + SHOWN)
    assert told["formula_mean"] == pytest.approx(float(shown["formula"]), abs=SHOWN)


def test_a_model_that_does_not_ship_says_so(browser, smoke, hopeless):
    for done, said in ((smoke, "Synthetic rows"), (hopeless, "The gate failed")):
        page = Explorer(browser, done.page("explorer"))
        assert said in page.text("banner")
        assert "both refuse it" in page.text("code-note")
        page.close()


def test_names_of_any_kind_are_text(browser, hopeless):
    page = Explorer(browser, hopeless.page("explorer"))
    known = page.page.locator("#fx-clip option").evaluate_all("all => all.map(o => o.textContent)")
    assert {*known} == {*HOSTILE_NAMES}
    for i in range(len(known)):
        page.set("clip", str(i))
        assert page.state()["clip"] == known[i]
        assert (
            page.page.evaluate("document.querySelector('#fx-ladder-text bdi').textContent") in known
        )
    assert compile(page.text("python"), "page", "exec")
    assert page.page.evaluate("[document.documentElement.scrollWidth]")[0] <= 1401
    page.close()


def test_rows_of_whole_encodes_and_one_maker_have_an_explorer(browser, nvenc):
    page = Explorer(browser, nvenc.page("explorer"))
    assert page.page.locator("#fx-frame option").all_inner_texts() == ["whole encode"]
    trained = page.page.locator(".fx-slots-checked input").evaluate_all(
        "all => all.map(i => i.value)"
    )
    assert {*trained} == {*load_corpus(NVENC_ONLY).table["encoder"]}
    assert page.scores()["formula"] == "none"
    assert "the formula holds per frame" in page.text("scores")
    assert_scores_are_right(nvenc, page)
    page.close()


def test_without_a_formula_none_is_shown(browser, smoke, tmp_path):
    run = tmp_path / smoke.path.name
    shutil.copytree(smoke.path, run, ignore=shutil.ignore_patterns("book", "notebooks"))
    audit = smoke.json("audit.json")
    audit["identity"]["teacher"] = "vmaf_v0.6.1neg"
    audit["teacher_check"] |= {"status": "not applicable", "reason": "no formula"}
    write_json(run / "audit.json", audit)
    data = plain(explorer_data(RunDir(run)))
    assert data["formula"] is None
    page = Explorer(browser, page_with(smoke, tmp_path / "html", data))
    assert "No formula" in page.text("scores")
    assert (
        page.page.locator(".fx-formula.fx-line, #fx-apart .fx-formula").count() == 1
    )  # the ladder
    assert "vmaf_from_features" not in page.text("python")
    page.page.check("[name=fx-curve][value=difference]")
    page.page.click("#fx-example")
    page.drawn()
    assert "own vmaf" in page.text("log-said")
    assert "Formula" not in page.text("apart")
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone_and_keeps_the_scores_in_sight(browser, smoke, theme):
    page = Explorer(browser, smoke.page("explorer"), width=400)
    page.page.emulate_media(color_scheme=theme)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 401
    page.page.locator("#fx-feature-5").scroll_into_view_if_needed()
    box = page.page.locator(".fx-score-network").bounding_box()
    assert 0 <= box["y"] < 300
    colours = page.page.evaluate(
        """[".fx-line.fx-network", ".fx-line.fx-formula"].map(s =>
            getComputedStyle(document.querySelector(s)).stroke)"""
    )
    assert len({*colours}) == 2
    page.page.emulate_media(media="print")
    assert page.page.is_hidden("#fx-log")
    assert page.page.is_visible("#fx-ladder svg")
    page.close()


def test_the_page_and_what_it_loads_stay_small(smoke):
    html = smoke.page().parent
    files = [html / "explorer.html", *(html / "explorer").iterdir()]
    code = sum(file.stat().st_size for file in files if file.name != "data.js")
    assert code < 150_000
    # Of 6,000 frames no run has more; a frame has nine numbers of four bytes, in base64.
    assert (html / "explorer" / "data.js").stat().st_size + 6_000 * 64 + code < 1_500_000
