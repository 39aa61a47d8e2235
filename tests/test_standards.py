"""Files beside the book, as those read them who know nothing of this project."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import islice
from pathlib import Path

import jsonschema_rs
import mlcroissant
import numpy as np
import pandas as pd
import pytest
import yaml
from chain import ROOT, Done
from huggingface_hub import ModelCard

from fr_lib import __version__
from fr_lib.files import sha256_of
from fr_lib.report.book import page_values
from fr_lib.report.downloads import stale_files
from fr_lib.report.standards import Table, croissant
from fr_lib.runs import RunDir

# Jupyter's own packages warn of each other's future, rdflib of its own.
pytestmark = pytest.mark.filterwarnings("ignore:::(nbformat|jupyter_|rdflib|mlcroissant).*")
# The schema of the Citation File Format 1.2.0 as its authors publish it (CC BY 4.0).
CFF = jsonschema_rs.validator_for(
    json.loads((ROOT / "tests" / "data" / "citation-file-format-1.2.0.json").read_text())
)


def files(done: Done) -> Path:
    return done.page().parent / "files"


# --- Hugging Face


def test_the_hub_reads_every_metric_of_the_card(smoke):
    card = ModelCard.load(files(smoke) / "README.md")
    own = smoke.json("loso.json")["arms"]["v3"]["summary"]
    stress = smoke.json("outside.json")["arms"]["v3"]["stress"]
    read = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert read == {
        "mean PLCC over held-out sources": own["mean_plcc"],
        "PLCC of the worst held-out source": own["min_plcc"],
        "mean SROCC over held-out sources": own["mean_srocc"],
        "mean RMSE over held-out sources, VMAF points": own["mean_rmse"],
        "RMSE of the worst held-out source, VMAF points": own["max_rmse"],
        "RMSE over all rows, VMAF points": stress["rmse"],
        "RMSE of the worst cell, VMAF points": stress["worst_cell"]["rmse"],
    }
    assert (card.data.license, card.data.license_name) == ("other", "bsd-2-clause-patent")
    assert card.data.pipeline_tag == "tabular-regression"
    assert card.data.model_name == "fr_regressor_v3"
    revisions = {result.dataset_revision for result in card.data.eval_results}
    assert revisions == {smoke.json("audit.json")["corpus_sha256"], None}


def test_the_card_for_the_hub_says_first_what_no_tool_may_score_with(smoke, hopeless):
    for done, tag, words in (
        (smoke, "gate-synthetic", "Synthetic rows."),
        (hopeless, "gate-failed", "Gate failed: this model does not ship."),
    ):
        card = ModelCard.load(files(done) / "README.md")
        assert {tag, "not-for-scoring"} <= {*card.data.tags}
        assert card.text.index(words) < card.text.index("## How good")


def test_the_example_of_the_card_gives_the_score_it_names(smoke, monkeypatch):
    monkeypatch.chdir(files(smoke))
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    given: dict = {}
    exec(compile(code, "README.md", "exec"), given)
    expected = smoke.json("export.json")["example"]["predicted"]
    assert given["vmaf"][0] == pytest.approx(expected, abs=1e-3)


# --- citation


def test_the_citation_is_valid_and_names_version_model_and_day(smoke, hopeless):
    for done in (smoke, hopeless):
        cited = yaml.safe_load((files(done) / "CITATION.cff").read_text())
        assert list(CFF.iter_errors(cited)) == []
        assert cited["version"] == __version__
        assert cited["license"] == "BSD-2-Clause-Patent"
        sha256 = done.json("model/fr_regressor_v3.json")["sha256"]
        assert f"sha256:{sha256}" in {entry["value"] for entry in cited["identifiers"]}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", cited["date-released"])
        assert list(CFF.iter_errors(cited | {"license": "ours"}))


# --- Croissant


def test_croissant_describes_corpus_and_stress_set(smoke):
    dataset = mlcroissant.Dataset(jsonld=files(smoke) / "croissant.json")
    assert dataset.metadata.ctx.issues.errors == set()
    # Whose corpus it is says what others may do with it; this one is nobody's.
    (warning,) = dataset.metadata.ctx.issues.warnings
    assert "license" in warning
    for name in ("corpus", "stress"):
        table = pd.read_parquet(files(smoke) / f"{name}.parquet")
        read = list(islice(dataset.records(name), 3))
        assert [key.removeprefix(f"{name}/") for key in read[0]] == list(table.columns)
        for record, row in zip(read, table.to_dict(orient="records"), strict=False):
            assert record[f"{name}/vmaf"] == pytest.approx(row["vmaf"])
            assert record[f"{name}/src"].decode() == row["src"]


def test_croissant_of_a_corpus_whose_licence_is_known_lacks_nothing(smoke, tmp_path):
    shutil.copy(files(smoke) / "corpus.parquet", tmp_path)
    run = RunDir(smoke.path)
    tables = [Table(tmp_path / "corpus.parquet", "rows")]
    described = croissant(page_values(run), tables, "2026-01-31", "BSD-2-Clause-Patent")
    (tmp_path / "croissant.json").write_text(json.dumps(described))
    issues = mlcroissant.Dataset(jsonld=tmp_path / "croissant.json").metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())


def test_croissant_that_points_nowhere_is_refused(smoke, tmp_path):
    described = json.loads((files(smoke) / "croissant.json").read_text())
    described["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "other.parquet"
    (tmp_path / "croissant.json").write_text(json.dumps(described))
    with pytest.raises(mlcroissant.ValidationError, match=r"other\.parquet"):
        mlcroissant.Dataset(jsonld=tmp_path / "croissant.json")


def test_croissant_names_files_by_their_hashes(smoke):
    described = json.loads((files(smoke) / "croissant.json").read_text())
    assert {f["contentUrl"]: f["sha256"] for f in described["distribution"]} == {
        name: sha256_of(files(smoke) / name) for name in ("corpus.parquet", "stress.parquet")
    }
    for record_set in described["recordSet"]:
        assert all(field["description"] for field in record_set["field"])


# --- the folder and its page


def links(done: Done) -> list[str]:
    page = done.page("downloads").read_text()
    return re.findall(r'<a href="([^"]+)" download', page)


def test_every_download_is_there_and_its_sum_is_right(smoke, hopeless):
    for done in (smoke, hopeless):
        found = links(done)
        assert len(found) > 20
        assert all((done.page().parent / href).is_file() for href in found)
        ended = subprocess.run(
            ["sha256sum", "--check", "--strict", "SHA256SUMS"],
            cwd=files(done),
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        listed = {line.split("  ", 1)[1] for line in sums(done)}
        there = {str(p.relative_to(files(done))) for p in files(done).rglob("*") if p.is_file()}
        assert listed == there - {"SHA256SUMS"}
        assert {f"files/{name}" for name in listed} == {*found}


def sums(done: Done) -> list[str]:
    return (files(done) / "SHA256SUMS").read_text().splitlines()


def test_downloads_are_the_files_of_the_run(smoke):
    assert stale_files(RunDir(smoke.path), files(smoke)) == []
    for name in ("oof.parquet", "model/fr_regressor_v3.onnx", "gate.json"):
        copy = files(smoke) / Path(name).name
        assert copy.read_bytes() == (smoke.path / name).read_bytes()


def test_every_figure_has_the_data_behind_it(hopeless):
    """A new figure needs its line in ``FIGURES`` of ``report/figure_data``."""
    drawn = {path.stem for path in (hopeless.path / "figures").iterdir()}
    shown = {Path(href).stem for href in links(hopeless) if "/figures/" in href}
    assert shown | {"fold_grid", "residuals"} == drawn
    folds = pd.read_csv(files(hopeless) / "figures" / "per_source_rmse.csv")
    assert len(folds) == len(pd.read_parquet(hopeless.path / "folds.parquet"))
    kinds = pd.read_csv(files(hopeless) / "figures" / "outside_kinds.csv")
    beyond = hopeless.json("evidence/beyond.json")
    own = beyond["recipes"][beyond["shipped"]]["arms"]["v3"]["stress"]["kinds"]
    read = kinds.query("recipe == @beyond['shipped'] and arm == 'v3'")
    assert read["name"].tolist() == [kind["name"] for kind in own]
    assert np.allclose(read["rmse"], [kind["rmse"] for kind in own])
    coverage = pd.read_csv(files(hopeless) / "figures" / "coverage.csv", index_col="src")
    assert (
        coverage.loc[hopeless.json("audit.json")["sources"][0]["src"]].sum()
        == (hopeless.json("audit.json")["sources"][0]["n_rows"])
    )


def test_a_chapter_that_was_not_run_has_no_figures_to_offer(smoke):
    assert not any("transfer" in href for href in links(smoke))
