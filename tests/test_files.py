"""Files are written whole or not at all."""

from __future__ import annotations

import hashlib
import math
import stat

import pytest

from fr_lib.errors import ArtefactError
from fr_lib.files import atomic_path, json_text, read_json, sha256_of, write_bytes, write_json


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_write_makes_folders_and_replaces(tmp_path):
    target = tmp_path / "a" / "b" / "x.json"
    write_json(target, {"b": 1, "a": [1.5, None]})
    assert target.read_text() == '{\n  "a": [\n    1.5,\n    null\n  ],\n  "b": 1\n}\n'
    write_json(target, {})
    assert target.read_text() == "{}\n"
    assert names(target.parent) == ["x.json"]


def test_everyone_may_read_what_was_written(tmp_path):
    write_bytes(tmp_path / "x.bin", b"1")
    assert stat.S_IMODE((tmp_path / "x.bin").stat().st_mode) == 0o644


@pytest.mark.parametrize("stop", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, stop):
    target = tmp_path / "x.jsonl.gz"
    target.write_bytes(b"old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"half of the new")
            raise stop

    with pytest.raises(stop):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["x.jsonl.gz"]


def test_a_failure_without_an_old_file_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert names(tmp_path) == []


def test_the_temporary_name_is_hidden_beside_the_target_and_keeps_the_suffix(tmp_path):
    with atomic_path(tmp_path / "corpus.jsonl.gz") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".corpus.jsonl.gz.")
        assert temporary.name.endswith(".jsonl.gz")
        temporary.write_bytes(b"")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_without_nan(tmp_path, value):
    target = tmp_path / "x.json"
    write_json(target, {"kept": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(target, {"deep": [{"x": value}]})
    assert read_json(target, made_by="the test") == {"kept": 1}
    assert names(tmp_path) == ["x.json"]


def test_equal_values_have_equal_text():
    assert json_text({"a": 1, "b": 2}) == json_text({"b": 2, "a": 1})


def test_a_missing_file_names_its_maker(tmp_path):
    with pytest.raises(ArtefactError, match=r"loso\.json: missing.*run 02_loso first") as caught:
        read_json(tmp_path / "loso.json", made_by="02_loso")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_a_broken_file_names_its_maker(tmp_path, content):
    (tmp_path / "gate.json").write_bytes(content)
    with pytest.raises(ArtefactError, match=r"not JSON.*run 03_gate again"):
        read_json(tmp_path / "gate.json", made_by="03_gate")


def test_sha256_of_a_file_of_several_blocks(tmp_path):
    data = bytes(range(256)) * 4096
    write_bytes(tmp_path / "x", data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    write_bytes(tmp_path / "x", b"")
    assert sha256_of(tmp_path / "x") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
