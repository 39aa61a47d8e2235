"""What parameters and options may be: the table, the notebooks that agree with it, bad values."""

from __future__ import annotations

import json
import math
import os
import re

import nbformat
import pytest
from chain import ROOT
from hypothesis import given
from hypothesis import strategies as st

from fr_lib.__main__ import main
from fr_lib.errors import InputError
from fr_lib.evaluate import reference_table
from fr_lib.pipeline import declared_parameters, parse_settings, run_notebook
from fr_lib.runs import CHAPTERS, PARAMETERS, RunDir, fault_of, judge_parameters
from fr_lib.train import RECIPES

# Jupyter's own packages warn of each other's future; nothing of ours may.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|papermill|nbclient|jupyter_).*")

SOURCES = tuple(chapter.name for chapter in CHAPTERS)
each = pytest.mark.parametrize("name", SOURCES)
FREE = [name for name, known in PARAMETERS.items() if not known.instead]


def cells(name: str) -> list[str]:
    """Return the code of a notebook up to the cell after its parameters."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    (at,) = [i for i, c in enumerate(code) if "parameters" in c.metadata.get("tags", [])]
    return [cell.source for cell in code[: at + 2]]


# --- the table and what is written from it


def test_the_notebooks_declare_what_the_table_has():
    declared = {}
    for name in SOURCES:
        declared |= declared_parameters(name)
    found = {name: (type(value), value) for name, value in declared.items()}
    assert found == {n: (type(p.default), p.default) for n, p in PARAMETERS.items()}


@each
def test_the_defaults_of_a_notebook_pass_beside_what_it_imports(name):
    imports, parameters, _ = cells(name)
    space: dict = {}
    exec(imports, space)
    exec(parameters, space)
    judge_parameters(space)


def test_each_choice_is_one_that_its_user_knows():
    assert PARAMETERS["recipe_name"].choices == tuple(RECIPES)
    for choice in PARAMETERS["reference"].choices:
        reference_table(choice)


@pytest.mark.parametrize("name", [n for n, p in PARAMETERS.items() if p.span])
def test_a_span_has_two_ends(name):
    least, most = PARAMETERS[name].span
    for good in (least, most):
        assert fault_of(name, good) is None
    for bad in (least - 1, most + 1):
        fault = fault_of(name, bad)
        assert fault.startswith(f"parameter {name}: {bad}; allowed: a whole number from {least:,} ")


def test_the_default_that_stands_for_the_recipes_own_number_is_not_given_by_hand():
    assert fault_of("epochs", 0, given=False) is None
    assert fault_of("epochs", 0) is not None
    assert fault_of("epochs", -1, given=False) is not None


def test_help_names_each_parameter_with_what_it_may_be(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = capsys.readouterr().out
    for name in FREE:
        assert f"  {name}: {PARAMETERS[name].meaning}; {PARAMETERS[name].allowed}\n" in shown


@given(st.text())
def test_any_text_is_a_value_or_a_fault_of_one_line(text):
    for name in FREE:
        known = PARAMETERS[name]
        value = known.read(text)
        assert isinstance(value, type(known.default) | str)
        if name != "logs":
            fault = fault_of(name, value, where="--set")
            assert (fault is None) == known.accepts(value)
            assert fault is None or (fault.count("; allowed: ") == 1 and len(fault) < 420)
            assert fault is None or len(fault.splitlines()) == 1


@given(st.integers())
def test_a_number_is_read_as_it_is_written(number):
    expected = number if abs(number) < 10**18 else str(number)
    assert PARAMETERS["seeds"].read(str(number)) == expected


# --- settings of a whole run

BAD_SETTINGS = [
    *(f"epochs={v}" for v in ("0", "-1", "10001", "1.5", "1e3", "nan", "inf", "", "None", "True")),
    *(
        f"epochs={v}"
        for v in ("many", "\uff11", " 3", "0x10", "1_000", "9" * 40, "__import__('os')")
    ),
    *(f"seeds={v}" for v in ("0", "-3", "1001", "2.0", "[1,2]", "a", "")),
    *(f"seed={v}" for v in ("-1", "2147483648", "0.5", "nan", "'0'", "")),
    *(f"device={v}" for v in ("gpu", "cuda:0", "CPU", "7", "", "auto ", "cpu\n")),
    *(f"recipe_name={v}" for v in ("../../x", "Taught", "", "none", "taught,adr0319", "0")),
    *(f"reference={v}" for v in ("v9", "V2", "v2 ", "v1", "None", "../v2")),
    *(f"measure={v}" for v in ("yes", "1", "0", "true", "", "None")),
    *(f"logs={v}" for v in ("/nowhere/*.json", "no\0thing", "[", "nowhere.json")),
    *("batch=0", "lr=-1", "weight_decay=nan", "hidden=0", "dropout=1", "schedule=x", "epoch=3"),
    *("EPOCHS=3", "epochs =3", "=3", "=", "", "epochs", "a" * 500 + "=1", "é=1"),
    *("corpus=x", "run_dir=x", "stop_on_fail=True", "stop_on_fail=x", "globals=1", "seeds\n=1"),
]


def test_these_are_distinct():
    assert len(BAD_SETTINGS) == len(set(BAD_SETTINGS)) >= 70


@pytest.mark.parametrize("setting", BAD_SETTINGS)
def test_a_bad_setting_ends_with_2_and_writes_nothing(setting, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["run", "--smoke", "--run-dir", str(run), "--set", setting]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("command line" if "\0" in setting else "--set")
    assert "; allowed: " in said.err
    assert said.err.count("\n") == 1
    assert not run.exists()


def test_all_that_is_wrong_is_told_at_once(tmp_path, capsys):
    bad = ["epochs=0", "seeds=-3", "device=gpu", "recipe_name=../../x", "reference=v9", "batch=0"]
    options = [word for setting in bad for word in ("--set", setting)]
    assert main(["run", "--run-dir", "", "--corpus", "", *options, "--set", "seed=1"]) == 2
    said = capsys.readouterr().err.splitlines()
    names = [line.partition(":")[0] for line in said]
    assert names == [
        *("parameter run_dir", "parameter corpus", "--set epochs", "--set seeds", "--set device"),
        *("--set recipe_name", "--set reference", "--set"),
    ]


def test_one_parameter_has_one_value():
    assert parse_settings(["epochs=3", "epochs=3"]) == {"epochs": 3}
    with pytest.raises(InputError, match=r"^--set epochs: 3 and 4; allowed: one value; remove"):
        parse_settings(["epochs=3", "epochs=4"])


def test_a_log_that_is_none_is_refused_before_the_training(tmp_path):
    (tmp_path / "a.json").write_text('{"frames": []}')
    with pytest.raises(InputError, match=r"--set logs: .*a\.json: libvmaf JSON with no frames"):
        parse_settings([f"logs={tmp_path}/*.json"])
    (tmp_path / "a.json").write_text(json.dumps(_log()))
    assert parse_settings([f"logs={tmp_path}/*.json"]) == {"logs": f"{tmp_path}/*.json"}


def _log() -> dict:
    names = ("adm2", "vif_scale0", "vif_scale1", "vif_scale2", "vif_scale3", "motion2", "vmaf")
    return {"frames": [{"frameNum": 0, "metrics": dict.fromkeys(names, 0.5)}]}


# --- values that a notebook is given

BAD_VALUES = [
    *(("epochs", v) for v in (-5, 1.0, "5", True, None, [1], math.nan, 10**30)),
    *(("seeds", v) for v in (0, -3, 1.0, "1", False, None, math.inf)),
    *(("seed", v) for v in (-1, 0.0, "0", 2**31, None)),
    *(("device", v) for v in ("gpu", "", 0, None, ["cpu"])),
    *(("recipe_name", v) for v in ("../../x", "", 1, None, {"name": "taught"})),
    *(("reference", v) for v in ("v9", None, 2, True)),
    *(("measure", v) for v in ("yes", 1, 0, None, "True")),
    *(("stop_on_fail", v) for v in ("no", 1, 0, None)),
    *(("run_dir", v) for v in ("", None, 3, "a\0b")),
    *(("corpus", v) for v in ("", None, 3, "a\0b")),
    *(("logs", v) for v in (None, 3, "/nowhere/*.json", "a\0b")),
]


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_refused_by_name(name, value):
    with pytest.raises(InputError, match=f"^parameter {name}: "):
        judge_parameters({name: value, "elsewhere": object()})


@each
def test_a_notebook_alone_judges_its_parameters_first(name, tmp_path, monkeypatch):
    """Its first cells are run here as papermill would, without a kernel."""
    monkeypatch.chdir(tmp_path)
    imports, parameters, first = cells(name)
    for parameter in declared_parameters(name):
        space: dict = {}
        exec(imports, space)
        exec(parameters, space)
        space["run_dir"] = str(tmp_path / "run")
        space[parameter] = ["no parameter is a list"]
        with pytest.raises(InputError, match=f"^parameter {parameter}: "):
            exec(first, space)
    assert os.listdir(tmp_path) == []
    # What opens the run judges them before all else.
    assert re.match(rf'run(, \w+)? = open_run\("{name}", globals\(\)\)', first)


def test_a_notebook_is_not_started_with_a_bad_value_and_harms_nothing(tmp_path):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    (run / "loso.json").write_text("{}")
    bad = {"run_dir": str(run.path), "epochs": -1, "seeds": 0, "device": "gpu"}
    with pytest.raises(InputError) as refused:
        run_notebook("02_loso", run, bad)
    lines = str(refused.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"parameter {name}" for name in ("epochs", "seeds", "device")
    ]
    assert os.listdir(run.path) == ["loso.json"]


# --- options of the other commands

CORPUS = {"--source": "clip.yuv", "--encoder": "libx264", "--quality": "30", "--out": "o.jsonl"}
RAW = {"--width": "16", "--height": "16", "--pix-fmt": "yuv420p", "--fps": "25"}
BAD_OPTIONS = [
    *(("--every", v) for v in ("0", "-1", "x", "1.5", "nan", "")),
    *(("--threads", v) for v in ("0", "-2", "x")),
    *(("--workers", v) for v in ("0", "-1", "x")),
    *(("--width", v) for v in ("0", "-1", "x", "100000", "")),
    *(("--height", v) for v in ("0", "-16", "1e2")),
    *(("--pix-fmt", v) for v in ("", "yuv420p;x", "-i", "a b")),
    *(("--fps", v) for v in ("0", "-1", "x", "1/0", "nan", "", "25; rm", "0/1", "1//2", "٢")),
    *(
        ("--quality", v)
        for v in ("nan", "inf", "", "a", "libx264=", "=", "libx264=64", "64", "30,")
    ),
    *(("--quality", v) for v in ("libx265=3", "0x10", "1e400", "-1")),
    *(("--encoder", v) for v in ("x", "", "libx264 ", "LIBX264", "../x")),
    *(("--preset", v) for v in ("x", "", "libx264=", "libx265=fast", "medium,")),
    *(("--out", v) for v in ("x.csv", "", "o", ".")),
    *(("--source", v) for v in ("none.mkv", "", ".")),
    *(("--manifest", v) for v in ("none.json", "clip.yuv", "o.json")),
    ("--ffmpeg", "/nowhere/ffmpeg"),
]


@pytest.mark.parametrize(("option", "value"), BAD_OPTIONS)
def test_a_bad_option_of_corpus_ends_with_2_before_any_work(
    option, value, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.yuv").write_bytes(bytes(384))
    (tmp_path / "o.json").write_text("[1]")
    given = [f"{key}={text}" for key, text in (CORPUS | RAW | {option: value}).items()]
    try:
        code = main(["corpus", *given])
    except SystemExit as usage:
        code = usage.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert "; allowed: " in said.err or f"argument {option}: " in said.err
    assert sorted(os.listdir(tmp_path)) == ["clip.yuv", "o.json"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--quality", v) for v in ("nan", "inf", "-inf", "-1", "64", "1e999", "x", "")),
        *(("--encoder", v) for v in ("x", "", "LIBX264")),
        *(("--preset", v) for v in ("x", "")),
    ],
)
def test_a_bad_option_of_predict_ends_with_2_and_no_score(option, value, tmp_path, capsys):
    (tmp_path / "log.json").write_text(json.dumps(_log()))
    given = {"--encoder": "libx264", "--quality": "30", "--preset": "medium"} | {option: value}
    words = [f"{key}={text}" for key, text in given.items()]
    model = str(ROOT / "model" / "tiny")
    try:
        code = main(["predict", "--model-dir", model, *words, str(tmp_path / "log.json")])
    except SystemExit as usage:
        code = usage.code
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert "; allowed: " in said.err or "argument --quality: " in said.err


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_settings_give_values_or_one_message(texts):
    lines = []
    try:
        given = parse_settings(texts)
    except InputError as refused:
        lines = str(refused).split("\n")
    else:
        judge_parameters(given)
    assert len(lines) >= sum(text.partition("=")[0] not in FREE for text in texts)
