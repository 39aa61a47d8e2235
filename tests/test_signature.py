"""Signatures: what cosign is asked, by a stand-in that keeps its arguments. Not real cosign."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hostile_models import write
from modelkit import make_folder

from fr_lib.__main__ import main
from fr_lib.release.signature import ANYONE, NO_COSIGN

# Signs by writing down what it was asked and the digest of what it signed; checks that digest.
COSIGN = """#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
case "$1" in
sign-blob) sha256sum < "$5" > "$4" ;;
verify-blob) sha256sum | cmp -s - "$3" || {{ echo "no match" >&2; exit 1; }} ;;
esac
"""
BUNDLES = ["fr_regressor_v3.onnx.sigstore.json", "vmaf_v0_6_1_formula.onnx.sigstore.json"]


@pytest.fixture
def no_cosign(monkeypatch):
    """A PATH without cosign, wherever the tests run."""
    kept = [p for p in ("/usr/bin", "/bin") if not Path(p, "cosign").exists()]
    monkeypatch.setenv("PATH", ":".join(kept))


@pytest.fixture
def cosign(tmp_path, monkeypatch, no_cosign) -> Path:
    """A stand-in for cosign; returns the file with its arguments."""
    program, log = tmp_path / "bin" / "cosign", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(COSIGN.format(log=log))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return log


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    make_folder(folder / "model")
    return folder


@pytest.fixture
def arguments(run, tmp_path) -> list[str]:
    return ["--run-dir", str(run), "--model-dir", str(tmp_path / "tiny")]


def test_without_cosign_signing_is_refused_in_one_line(no_cosign, arguments, tmp_path, capsys):
    assert main(["release", *arguments, "--sign"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("--sign: no cosign on PATH; allowed: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "tiny").exists()


def test_a_release_is_signed_and_its_row_names_the_bundle(cosign, arguments, tmp_path, capsys):
    assert main(["release", *arguments, "--sign"]) == 0
    rows = json.loads((tmp_path / "tiny" / "registry.json").read_text())["models"]
    assert [row["sigstore_bundle"] for row in rows] == BUNDLES
    asked = cosign.read_text().splitlines()
    assert len(asked) == 2
    for line, bundle in zip(asked, BUNDLES, strict=True):
        words = line.split()
        assert words[:3] == ["sign-blob", "--yes", "--bundle"]
        assert [Path(word).name for word in words[3:]] == [
            bundle,
            bundle.removesuffix(".sigstore.json"),
        ]
    capsys.readouterr()
    folder = ["--model-dir", str(tmp_path / "tiny")]
    assert main(["verify", *folder]) == 0
    assert capsys.readouterr().out.count(ANYONE) == 2
    who = ["--signer", "me@example.org", "--issuer", "https://issuer.example.org"]
    assert main(["verify", *folder, "--id", "fr_regressor_v3", *who]) == 0
    assert ANYONE not in capsys.readouterr().out
    wanted = "--certificate-identity me@example.org --certificate-oidc-issuer https://issuer.ex"
    bundle = tmp_path / "tiny" / BUNDLES[0]
    assert cosign.read_text().splitlines()[-1].startswith(f"verify-blob --bundle {bundle} {wanted}")


def test_a_bundle_of_other_bytes_is_refused_and_a_new_model_leaves_it(
    cosign, arguments, tmp_path, capsys
):
    assert main(["release", *arguments, "--sign"]) == 0
    tiny = tmp_path / "tiny"
    (tiny / BUNDLES[0]).write_text("0" * 64 + "  -\n")
    assert main(["verify", "--model-dir", str(tiny)]) == 1
    assert f"{BUNDLES[0]}: cosign refuses it (no match)" in capsys.readouterr().err
    make_folder(tmp_path / "other" / "model", seed=1)
    assert main(["release", "--run-dir", str(tmp_path / "other"), "--model-dir", str(tiny)]) == 0
    rows = json.loads((tiny / "registry.json").read_text())["models"]
    assert ["sigstore_bundle" in row for row in rows] == [False, True]
    assert main(["verify", "--model-dir", str(tiny)]) == 0


def test_cosign_that_fails_changes_nothing(cosign, arguments, tmp_path, capsys):
    shutil.copy("/bin/false", cosign.parent / "bin" / "cosign")
    assert main(["release", *arguments, "--sign"]) == 2
    assert "fr_regressor_v3.onnx: cosign sign-blob ended with 1" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


def test_without_cosign_a_bundle_is_not_checked_and_verify_says_so(no_cosign, tmp_path, capsys):
    folder = write(tmp_path / "tiny")
    registry = folder / "registry.json"
    value = json.loads(registry.read_text())
    value["models"][0]["sigstore_bundle"] = "m.sigstore.json"
    registry.write_text(json.dumps(value))
    (folder / "m.sigstore.json").write_text("{}")
    assert main(["verify", "--model-dir", str(folder)]) == 0
    assert f"m.sigstore.json: {NO_COSIGN}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["--signer", "--issuer"])
def test_signer_and_issuer_come_together(name, tmp_path, capsys):
    assert main(["verify", "--model-dir", str(tmp_path), name, "x"]) == 2
    assert "one alone; allowed: both or neither" in capsys.readouterr().err


# --- release --dry-run ------------------------------------------------------------------------


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_a_dry_run_shows_the_difference_and_writes_nothing(cosign, arguments, tmp_path, capsys):
    tiny = tmp_path / "tiny"
    assert main(["release", *arguments, "--dry-run", "--sign"]) == 0
    said = capsys.readouterr().out
    assert not tiny.exists()
    assert not cosign.exists()
    assert f"+++ {tiny / 'registry.json'}, released\n" in said
    assert '+      "sigstore_bundle": "fr_regressor_v3.onnx.sigstore.json"' in said
    assert main(["release", *arguments]) == 0
    before = state(tiny)
    make_folder(tmp_path / "other" / "model", seed=1)
    capsys.readouterr()
    other = ["--run-dir", str(tmp_path / "other"), "--model-dir", str(tiny)]
    assert main(["release", *other, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert state(tiny) == before
    assert main(["release", *other]) == 0
    for name in ("registry.json", "fr_regressor_v3.json"):
        old, new = (before[name][0].decode(), (tiny / name).read_text())
        changed = set(old.splitlines()) ^ set(new.splitlines())
        assert changed
        assert all(f"{'-' if line in old else '+'}{line}\n" in said for line in changed)
    assert f"{tiny / 'vmaf_v0_6_1_formula.onnx'}: no change\n" in said
    assert "-sha256 " in said
    assert "+sha256 " in said
