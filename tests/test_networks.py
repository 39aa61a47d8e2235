"""The networks that were judged come back as they were, or not at all."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny import rows_of

from fr_lib.arms import ARMS
from fr_lib.corpus import audit_corpus, load_corpus, write_table
from fr_lib.errors import ArtefactError
from fr_lib.evaluate import input_table
from fr_lib.evaluate.loso import refit
from fr_lib.files import read_json, sha256_of, write_json
from fr_lib.runs import RunDir, load_networks, save_networks
from fr_lib.runs.networks import FILE
from fr_lib.train import Recipe

# Dropout, so that a network that comes back ready to train would show.
SHORT = Recipe(name="test", hidden=8, lr=5e-3, epochs=2, batch=8, dropout=0.3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "c.jsonl"
    write_table(rows_of(("libx264", "libvvenc")), path)
    return load_corpus(path)


@pytest.fixture(scope="module")
def networks(corpus):
    return refit(corpus, SHORT, device="cpu")


def saved(folder, corpus, networks) -> RunDir:
    """Return a run as far as these networks."""
    run = RunDir(folder)
    run.begin(corpus)
    run.write("audit.json", audit_corpus(corpus))
    run.write("loso.json", {"networks_sha256": save_networks(run, networks)})
    return run


@pytest.fixture(scope="module")
def base(corpus, networks, tmp_path_factory) -> RunDir:
    return saved(tmp_path_factory.mktemp("base") / "run", corpus, networks)


@pytest.fixture
def run(base, tmp_path) -> RunDir:
    shutil.copytree(base.path, tmp_path / base.run_id)
    return RunDir(tmp_path / base.run_id)


def refusal(run: RunDir, found: str) -> str:
    return f"{run / FILE}: {found}; allowed: the file of loso.json; run 02_loso again"


# --- there and back -------------------------------------------------------------------------------


def test_what_comes_back_predicts_the_same_to_the_last_bit(run, networks, corpus):
    table = input_table(corpus)
    restored = load_networks(run)
    assert list(restored) == list(ARMS) == list(networks)
    for arm, net in restored.items():
        assert net.predict(table).tobytes() == networks[arm].predict(table).tobytes()
        # No row scores as another, and no arm as another.
        assert len(np.unique(net.predict(table))) == len(table)
    scores = [net.predict(table).tobytes() for net in restored.values()]
    assert len(set(scores)) == 3


def test_every_part_comes_back(run, networks):
    for arm, net in load_networks(run).items():
        before = networks[arm]
        for name in ("mean", "std"):
            old, new = getattr(before.scaler, name), getattr(net.scaler, name)
            assert new.dtype == np.float32
            assert new.tobytes() == old.tobytes()
        assert net.columns == before.columns == ARMS[arm].columns
        assert net.loss == pytest.approx(before.loss, abs=0)
        old, new = before.model.state_dict(), net.model.state_dict()
        assert list(new) == list(old)
        assert all(new[key].equal(old[key]) for key in old)
        assert not net.model.training


def test_the_width_is_that_of_the_file(corpus, tmp_path):
    wide = Recipe(name="test", hidden=24, epochs=1)
    run = saved(tmp_path / "wide", corpus, refit(corpus, wide, arms=["v1"], device="cpu"))
    [(arm, net)] = load_networks(run).items()
    assert (arm, net.model.layers[0].weight.shape) == ("v1", (24, 6))


def test_the_hash_is_of_the_file_and_nothing_else_is_left_behind(base):
    assert base.read("loso.json")["networks_sha256"] == sha256_of(base / FILE)
    assert not [p.name for p in base.path.iterdir() if p.name.startswith(".")]


def test_the_same_networks_have_the_same_hash_wherever_they_are_kept(run, networks, tmp_path):
    """Else two runs of one corpus would differ in ``loso.json``."""
    other = RunDir(tmp_path / "of another name")
    assert save_networks(other, networks) == save_networks(run, networks)


def test_saving_again_replaces_the_file(run, networks):
    save_networks(run, {"v1": networks["v1"]})
    # The file is sound, but not the one that the evidence is of.
    with pytest.raises(ArtefactError, match=r"networks\.pt: altered;"):
        load_networks(run)
    run.write("loso.json", {"networks_sha256": sha256_of(run / FILE)})
    assert list(load_networks(run)) == ["v1"]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first", "middle", "last"])
def test_one_altered_byte_is_refused_and_put_back_accepted(run, place):
    whole = (run / FILE).read_bytes()
    at = int(place * len(whole)) if place == 0.5 else place
    altered = bytearray(whole)
    altered[at] ^= 1
    (run / FILE).write_bytes(altered)
    with pytest.raises(ArtefactError) as refused:
        load_networks(run)
    assert str(refused.value) == refusal(run, "altered")
    (run / FILE).write_bytes(whole)
    assert list(load_networks(run)) == list(ARMS)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b""])
def test_a_file_of_another_length_is_refused(run, change):
    (run / FILE).write_bytes(change((run / FILE).read_bytes()))
    with pytest.raises(ArtefactError) as refused:
        load_networks(run)
    assert str(refused.value) == refusal(run, "altered")


def test_a_missing_file_is_refused(run):
    (run / FILE).unlink()
    with pytest.raises(ArtefactError) as refused:
        load_networks(run)
    assert str(refused.value) == refusal(run, "missing")


def test_a_folder_of_that_name_is_no_file(run):
    (run / FILE).unlink()
    (run / FILE).mkdir()
    with pytest.raises(ArtefactError, match=r"networks\.pt: missing"):
        load_networks(run)


def test_evidence_without_a_hash_vouches_for_no_file(run):
    """As in a run that began before networks were kept."""
    loso = read_json(run / "loso.json", made_by="02_loso")
    del loso["networks_sha256"]
    write_json(run / "loso.json", loso)
    with pytest.raises(ArtefactError, match=r"networks\.pt: altered"):
        load_networks(run)


def test_without_evidence_there_are_no_networks(run):
    (run / "loso.json").unlink()
    with pytest.raises(ArtefactError, match=r"loso\.json: missing; .*run 02_loso first"):
        load_networks(run)


def test_networks_of_another_corpus_are_refused_by_their_evidence(run, corpus, networks, tmp_path):
    write_table(rows_of(("libx264", "libvvenc"), seed=1), tmp_path / "other.jsonl")
    other_corpus = load_corpus(tmp_path / "other.jsonl")
    other = saved(tmp_path / "other" / run.run_id, other_corpus, networks)
    for name in ("loso.json", FILE):
        shutil.copy(other / name, run / name)
    with pytest.raises(ArtefactError, match=r"loso\.json: corpus_sha256"):
        load_networks(run)


def test_a_rerun_of_the_audit_drops_the_networks(run, corpus):
    run.write("audit.json", audit_corpus(corpus))
    assert not (run / FILE).exists()


def test_a_file_with_code_in_it_is_not_run(run, tmp_path):
    """Its hash may be right and it still has nothing but numbers to give."""
    import torch

    torch.save({"v1": RunsCode(tmp_path / "ran")}, run / FILE)
    run.write("loso.json", {"networks_sha256": sha256_of(run / FILE)})
    with pytest.raises(Exception, match="Weights only load failed"):
        load_networks(run)
    assert not (tmp_path / "ran").exists()


class RunsCode:
    """What makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)
