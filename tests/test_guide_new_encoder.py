"""The guide for a new encoder, followed word by word in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDE = ROOT / "docs" / "guides" / "new-encoder.md"
SCHEMA, STYLE = "fr_lib/schema.py", "fr_lib/report/plots/style.py"
LITERAL = "tests/test_schema.py"
# Where each piece of code of the guide goes: file, start and end of the list that it is put at.
PLACES = (
    (SCHEMA, "VOCABULARIES: Mapping", "\n}\n"),
    (SCHEMA, "    rows = [", "\n    ]\n"),
    (STYLE, "PALETTE: Mapping", "\n}\n"),
    (LITERAL, "VERSIONS = {", "\n}\n"),
    (LITERAL, "COMMANDS = {", "\n}\n"),
    (LITERAL, "    expected = {", "\n    }\n"),
)
# What a maintainer of that copy asks it.
QUESTIONS = """
import json, sys
from pathlib import Path

import numpy as np

sys.path.insert(0, "tests")
from modelkit import make_folder

from fr_lib.corpus import load_corpus, synthetic_table, write_table
from fr_lib.errors import InputError
from fr_lib.release import Predictor, verify
from fr_lib.schema import codec_block

FRAMES = np.array([[0.95, 0.5, 0.8, 0.9, 0.93, 5.0], [0.6, 0.1, 0.3, 0.4, 0.5, 9.0]])


def refused(ask):
    try:
        ask()
    except InputError as said:
        return str(said)


def answers(model):
    return {
        "version": model.card["encoder_vocab_version"],
        "block": len(model.card["codec_block_layout"]),
        "old": model.score(FRAMES, "libx264", 30).tolist(),
    }


shipped = Predictor.load("model/tiny")
newer = Predictor.load(make_folder(Path("newer")))
write_table(synthetic_table(["libx264", "librav1e"], [20, 45], 3, 2, 0), "rows.jsonl")
corpus = load_corpus("rows.jsonl")
rows = corpus.table.query("encoder == 'librav1e'")
print(json.dumps({
    "shipped": answers(shipped)
    | {"score": refused(lambda: shipped.score(FRAMES, "librav1e", 30)),
       "is_trained": refused(lambda: shipped.is_trained("librav1e"))},
    "newer": answers(newer)
    | {"problems": verify("newer"), "trained": newer.is_trained("librav1e"),
       "new": newer.score(FRAMES, "librav1e", 255).tolist(),
       "other untrained": newer.score(FRAMES, "libvvenc", 20).tolist()},
    "rows": corpus.rows_per_slot(),
    "dropped": corpus.dropped,
    "ordinals": sorted(set(rows["preset_ordinal"])),
    "column": codec_block(["librav1e"], [0.0], [0.0])[0].tolist(),
}))
"""


def pieces() -> list[str]:
    return re.findall(r"```python\n(.*?)\n```", GUIDE.read_text(), re.DOTALL)


def appended(text: str, start: str, end: str, piece: str) -> str:
    """Put `piece` at the end of the list that opens with `start`, which has to be there once."""
    assert text.count(start) == 1, start
    at = text.index(end, text.index(start))
    return f"{text[:at]}\n{piece}{text[at:]}"


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the project in which someone has followed the guide."""
    there = tmp_path_factory.mktemp("copy")
    # With what is compiled already: times of change come along, by which Python judges it.
    shutil.copytree(ROOT / "tests", there / "tests", ignore=shutil.ignore_patterns("data"))
    shutil.copytree(ROOT / "fr_lib", there / "fr_lib")
    shutil.copytree(ROOT / "model", there / "model")
    shutil.copy(ROOT / "pyproject.toml", there)
    for (name, start, end), piece in zip(PLACES, pieces(), strict=True):
        path = there / name
        path.write_text(appended(path.read_text(), start, end, piece))
    return there


def asked(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the copy, with its package and not this one's."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def found(copy) -> dict:
    ended = asked(copy, "-c", QUESTIONS)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_it_touches_three_files():
    assert len({name for name, _, _ in PLACES}) == 3
    assert all(f"`{name}`" in GUIDE.read_text() for name, _, _ in PLACES)


def test_the_shipped_model_still_verifies(copy):
    ended = asked(copy, "-m", "fr_lib", "verify")
    assert ended.returncode == 0, ended.stderr
    assert "every row of the registry verified" in ended.stdout


def test_the_shipped_model_scores_what_it_scored(found):
    from fr_lib.release import Predictor

    frames = [[0.95, 0.5, 0.8, 0.9, 0.93, 5.0], [0.6, 0.1, 0.3, 0.4, 0.5, 9.0]]
    before = Predictor.load(ROOT / "model" / "tiny").score(frames, "libx264", 30).tolist()
    card = json.loads((ROOT / "model" / "tiny" / "fr_regressor_v3.json").read_text())
    shipped = found["shipped"]
    assert shipped["old"] == before
    assert (shipped["version"], shipped["block"]) == (3, len(card["codec_block_layout"]))


def test_the_shipped_model_has_no_column_for_the_new_encoder(found):
    for said in (found["shipped"]["score"], found["shipped"]["is_trained"]):
        assert said.startswith("encoder: 'librav1e' is not in the vocabulary; allowed: libx264, ")
        assert "No default slot is used" in said


def test_a_model_trained_from_now_on_has_the_slot(found):
    shipped, newer = found["shipped"], found["newer"]
    assert newer["problems"] == []
    assert (newer["version"], newer["block"]) == (4, shipped["block"] + 1)


def test_without_rows_the_codec_blind_network_answers_for_it(found):
    newer = found["newer"]
    assert newer["trained"] is False
    assert newer["new"] == newer["other untrained"] != newer["old"]


def test_a_corpus_may_have_rows_of_it(found):
    assert found["rows"]["librav1e"] == found["rows"]["libx264"] == 12
    assert found["dropped"] == []
    assert found["ordinals"] == [9 * (10 - 6) / 10]
    assert found["column"].index(1.0) == len(found["column"]) - 3


def test_the_copys_own_tests_pass(copy):
    """The literal, and what the guide says that others check."""
    chosen = "test_schema or palette or marker or stay_apart"
    files = ("tests/test_schema.py", "tests/test_plots.py", "tests/test_registry.py")
    quietly = ("-q", "-p", "no:cacheprovider", "-p", "no:nbval")
    ended = asked(copy, "-m", "pytest", *quietly, *files, "-k", f"{chosen} or sidecar")
    assert ended.returncode == 0, ended.stdout
