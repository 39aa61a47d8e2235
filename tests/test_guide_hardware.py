"""The guide for hardware rows: its commands are the adapters', and lead to the maker's rows."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pandas as pd
import pytest
from hardware_guide import REFERENCE, SCORE, encode, qualities, score_loop, sections

from fr_lib.__main__ import main
from fr_lib.corpus import load_corpus, read_table
from fr_lib.corpus.listing import COLUMNS
from fr_lib.encode import build_grid, default_ffmpeg, ffmpeg_version, find_sources, make_corpus
from fr_lib.files import ROOT, sha256_of
from fr_lib.schema import ADAPTERS

GUIDE = (ROOT / "docs" / "guides" / "hardware-rows.md").read_text()
SOFTWARE = ("libx264", "libsvtav1", "libvvenc")
QUALITY = ("30", "45")
# What a list of logs says only where somebody fills it in.
SIZES = ("width", "height", "src_scale", "enc_scale")


def run(folder: Path, command: str) -> None:
    """Run a command of the guide with the environment's FFmpeg, on one thread as the maker."""
    words = shlex.split(command)
    assert words[0] == "ffmpeg"
    at = -1 if words[-1] != "-" else -3
    whole = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *words[1:at], "-threads", "1"]
    subprocess.run([*whole, *words[at:]], cwd=folder, check=True)


@pytest.fixture(scope="module")
def box(tmp_path_factory) -> Path:
    """What the guide leaves on the other machine, with encoders that every machine has."""
    folder = tmp_path_factory.mktemp("box")
    card = "testsrc2=size=176x144:rate=25"
    run(folder, f"ffmpeg -f lavfi -i {card} -frames:v 9 -pix_fmt yuv420p -c:v ffv1 clip.mkv")
    run(folder, REFERENCE)
    (folder / "logs").mkdir()
    rows = []
    for encoder in SOFTWARE:
        unit = ADAPTERS[encoder]
        for quality, form in zip(QUALITY, ("json", "xml"), strict=True):
            command = encode(unit, quality)
            run(folder, command)
            made = folder / command.split()[-1]
            log = f"logs/{made.stem}.{form}"
            score = SCORE.format(encode=made.name, reference="clip.y4m", log=log)
            run(folder, score.replace("log_fmt=json", f"log_fmt={form}"))
            rows.append((log, "clip", encoder, quality, made.stat().st_size))
    table = pd.DataFrame(rows, columns=["path", "src", "encoder", "quality", "enc_bytes"])
    table["ffmpeg_version"] = ffmpeg_version(default_ffmpeg())
    table["src_sha256"] = sha256_of(folder / "clip.mkv")
    table.to_csv(folder / "table.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def maker(box) -> pd.DataFrame:
    sources = find_sources([str(box / "clip.mkv")], None, {})
    cells = build_grid(sources, SOFTWARE, [",".join(QUALITY)], threads=1)
    _, failures = make_corpus(cells, box / "maker.jsonl", default_ffmpeg(), lambda _: None)
    assert failures == []
    return read_table(box / "maker.jsonl")


def test_every_command_is_the_adapters():
    assert sections() in GUIDE
    assert f"```bash\n{score_loop()}\n```" in GUIDE
    assert f"```bash\n{REFERENCE}\n```" in GUIDE
    assert GUIDE.count("\n### ") == sum(1 for unit in ADAPTERS.values() if unit.hardware) == 11


def test_quality_values_lie_in_the_range_and_end_at_the_worst():
    for unit in ADAPTERS.values():
        for value in qualities(unit):
            unit.check_quality(value)
        assert qualities(unit)[-1] == (unit.lo if unit.higher_is_better else unit.hi)


def test_the_guide_names_every_column():
    table = GUIDE.split("| column | |")[1].split("\n\n")[0]
    assert all(f"`{name}`" in table for name in COLUMNS)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_its_rows_are_the_corpus_makers(box, maker, suffix, capsys):
    out = box / f"mine{suffix}"
    assert main(["collect", "--table", str(box / "table.csv"), "--out", str(out)]) == 0
    assert capsys.readouterr().out.startswith("54 rows, 0 frames without a score left out; ")
    mine = read_table(out)
    pd.testing.assert_frame_equal(mine, maker[list(mine)], check_exact=True)
    assert list(mine) == [name for name in maker if name not in ("enc_time_ms", *SIZES)]
    assert load_corpus(out).notes == []


def test_names_alone_are_enough(box, maker, monkeypatch):
    monkeypatch.chdir(box)
    os.makedirs("plain", exist_ok=True)
    for log in Path("logs").iterdir():
        (Path("plain") / log.name).write_bytes(log.read_bytes())
    pattern = "plain/{src}_{encoder}_{preset}_{quality}.*"
    assert main(["collect", "--pattern", pattern, "--out", "named.jsonl"]) == 0
    mine = read_table("named.jsonl")
    lacking = ["enc_bytes", "enc_time_ms", "ffmpeg_version", "src_sha256", *SIZES]
    pd.testing.assert_frame_equal(mine, maker.drop(columns=lacking), check_exact=True)
    assert json.loads(Path("named.provenance.json").read_text())["pattern"] == pattern
